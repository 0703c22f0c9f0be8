"""A trial's training: real trainings that end well, badly, are stopped, pruned, killed, taken over."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch

from catpose.fence import SUPERSEDED
from catpose.study.claim import Claim
from catpose.study.directory import StudyDirectory
from catpose.study.environment import environment
from catpose.study.outcome import Ended
from catpose.study.process import Training, kill_leftovers, line
from catpose.study.runner import ShouldStop

REPOSITORY = Path(__file__).parents[2]


def go(
    tiny: Path,
    folder: Path,
    *more: str,
    token: int = 1,
    on_epoch: Callable[[int, float], bool] = lambda epoch, value: False,
    should_stop: ShouldStop = lambda: None,
) -> Ended:
    claim = claim_of(folder, token)
    args = ["--config", str(tiny), f"--out={claim.folder}", "--wandb.mode=disabled", *more]
    return Training(args, claim, "val/AP", environment(1, 0), on_epoch, should_stop).run()


def claim_of(folder: Path, token: int) -> Claim:
    """A claim of the trial that began in this folder."""
    return Claim(StudyDirectory(folder.parents[1]), folder.name, token, "study")


def processes(folder: Path) -> list[int]:
    """Those that have this folder on their command line."""
    each = psutil.process_iter(["cmdline"])
    return [process.pid for process in each if f"--out={folder}" in (process.info["cmdline"] or ())]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "trials").mkdir()
    yield tmp_path / "trials" / "run"
    kill_leftovers([tmp_path / "trials" / name for name in ("run", *(f"run-claim{token}" for token in range(10)))])


@pytest.mark.slow
def test_a_trial_that_ends_brings_its_figures_and_detections(tiny: Path, folder: Path) -> None:
    seen: list[tuple[int, float]] = []
    ended = go(tiny, folder, on_epoch=lambda *epoch: bool(seen.append(epoch)))
    assert ended.how == "complete"
    outcome = ended.outcome
    assert [epoch for epoch, _ in seen] == [0, 1]
    assert outcome.values["val/AP"] == seen[-1][1]
    assert outcome.best_ap == max(value for _, value in seen)
    assert (outcome.epochs, outcome.reason, outcome.run) == (2, None, str(folder))
    assert outcome.protocol["split"] == "val"
    assert ended.results is not None
    assert json.loads(zlib.decompress(ended.results)) == json.loads((folder / "val_results.json").read_text())
    assert (outcome.command or "").startswith("python -m catpose.fit --config ")

    again = go(tiny, folder, token=2)  # its process was killed after the last epoch, before anyone was told
    assert again.how == "complete"
    own = {"run": f"{folder}-claim2", "command": (outcome.command or "").replace(f"{folder}", f"{folder}-claim2")}
    assert again.outcome == outcome.model_copy(update=own)
    assert not folder.exists()
    assert again.results == ended.results


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("--model.lrr=1", "Did you mean model.lr"),
        ("--model.lr=1e30", "the training loss is"),
        ("--trainer.limit_val_batches=1", "looked at 8 of 9 instances"),
    ],
)
def test_what_goes_wrong_is_the_trials_result(tiny: Path, folder: Path, more: str, reason: str) -> None:
    ended = go(tiny, folder, more, "--trainer.enable_progress_bar=true")
    assert ended.how == "failed"
    assert reason in (ended.outcome.reason or "")
    assert "\n" not in (ended.outcome.reason or "")
    assert ended.results is None


CRASHES = """
from catpose.model.backbones.timm_backbone import TimmBackbone

class Crashes(TimmBackbone):
    def loss(self, heatmaps, batch):
        if self.current_epoch == 1:
            raise RuntimeError("of two\\nlines")
        return super().loss(heatmaps, batch)
"""


@pytest.mark.slow
def test_an_exception_below_a_progress_bar_is_the_reason(
    tiny: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crashes.py").write_text(CRASHES)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    ended = go(tiny, folder, "--trainer.enable_progress_bar=true", "--model=crashes.Crashes")
    assert (ended.how, ended.outcome.reason) == ("failed", "exit code 1: RuntimeError: of two lines")


@pytest.mark.slow
def test_a_pruned_trial_with_two_processes_ends_cleanly(tiny: Path, folder: Path) -> None:
    two = ("--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_epochs=50")
    seen: dict[int, float] = {}

    def prune(epoch: int, value: float) -> bool:
        seen[epoch] = value
        return epoch == 1

    ended = go(tiny, folder, *two, on_epoch=prune)
    assert ended.how == "pruned", ended
    assert processes(folder) == []
    assert 2 <= ended.outcome.epochs <= 5  # others may have ended meanwhile
    assert list(seen) == list(range(ended.outcome.epochs))
    assert ended.outcome.reason == f"pruned after epoch {ended.outcome.epochs - 1}"
    log = (folder.parents[1] / "logs" / "run.log").read_text()
    assert "Traceback" not in log, log[-2000:]
    assert "as asked" in (folder / "log.txt").read_text()
    assert not (folder / "stop").exists()


@pytest.mark.parametrize(
    "more",
    [
        pytest.param((), id="a stop file", marks=pytest.mark.slow),
        pytest.param(("--trainer.max_time=00:00:00:01",), id="max_time", marks=pytest.mark.long),
        pytest.param(
            (
                "--trainer.callbacks+=EarlyStopping",
                *(f"--trainer.callbacks.{key}" for key in ("monitor=train/loss", "patience=0", "mode=max")),
            ),
            id="EarlyStopping",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_trial_that_ended_early_is_not_complete(tiny: Path, folder: Path, more: tuple[str, ...]) -> None:
    def stop(epoch: int, value: float) -> bool:
        if not more:
            (folder / "stop").touch()  # by a person
        return False

    ended = go(tiny, folder, "--trainer.max_epochs=50", *more, on_epoch=stop)
    epochs = ended.outcome.epochs
    assert (ended.how, ended.outcome.reason) == ("early", f"{epochs} of 50 epochs"), ended
    assert 0 < epochs < 50
    assert ended.results is not None


@pytest.mark.slow
def test_a_stopped_trial_goes_on_where_it_was(tiny: Path, folder: Path) -> None:
    stop = threading.Event()
    ended = go(
        *(tiny, folder, "--trainer.max_epochs=4"),
        on_epoch=lambda epoch, value: bool(stop.set()),
        should_stop=lambda: "stopped" if stop.is_set() else None,
    )
    assert ended.how == "stopped"
    assert processes(folder) == []
    again = go(tiny, folder, "--trainer.max_epochs=4", token=2)
    assert (again.how, again.outcome.epochs) == ("complete", 4)
    assert "resumed in" in Path(again.outcome.run, "log.txt").read_text()


@pytest.mark.slow
def test_a_process_that_is_killed_has_vanished(tiny: Path, folder: Path) -> None:
    def kill(epoch: int, value: float) -> bool:
        for process in processes(folder):
            os.kill(process, signal.SIGKILL)
        return False

    ended = go(tiny, folder, "--trainer.max_epochs=50", on_epoch=kill)
    assert ended.how == "vanished"
    assert "SIGKILL" in (ended.outcome.reason or "")


@pytest.mark.slow
def test_another_owner_ends_it_at_once(tiny: Path, folder: Path) -> None:
    def taken(epoch: int, value: float) -> bool:
        assert claim_of(folder, 7).stands()
        return False

    ended = go(tiny, folder, "--trainer.max_epochs=50", token=6, on_epoch=taken)
    assert (ended.how, ended.results) == ("fenced", None)
    assert processes(folder.with_name(f"{folder.name}-claim6")) == []


def training(tiny: Path, claim: Claim, cwd: Path, *more: str) -> subprocess.Popen[bytes]:
    """A `fit` whose worker is frozen, for ever, in a place where nobody sees its processes."""
    command = [sys.executable, "-m", "catpose.fit", "--config", str(tiny), f"--out={claim.folder}", *more]
    python_path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    env = {**environment(1, 0), **claim.environment, "WANDB_MODE": "disabled", "PYTHONPATH": python_path}
    claim.log.parent.mkdir(parents=True, exist_ok=True)
    with claim.log.open("ab") as log:
        return subprocess.Popen(command, cwd=cwd, env=env, stdout=log, stderr=log)


def numbers(folder: Path) -> list[dict[str, str]]:
    """A run's history but for its times."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(file)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.slow
def test_two_trainings_of_one_trial_write_no_common_file(tiny: Path, folder: Path, tmp_path: Path) -> None:
    """test_freeze.py does it with data workers."""
    more = ("--trainer.max_epochs=8",)
    alone = go(tiny, folder.with_name("alone"), *more)
    first = claim_of(folder, 1)
    assert first.stands()
    left = training(tiny, first, tmp_path, *more)
    try:
        wait_for(lambda: first.folder.joinpath("last.ckpt").exists() and len(numbers(first.folder)) >= 2)
        left.send_signal(signal.SIGSTOP)
        threading.Timer(1.0, left.send_signal, (signal.SIGCONT,)).start()
        over = go(tiny, folder, *more, token=2)
        assert left.wait(300) == SUPERSEDED
    finally:
        left.kill()
    assert "another worker has taken this training over" in first.log.read_text()
    assert over.how == "complete"
    run = Path(over.outcome.run)
    assert run.name == f"{folder.name}-claim2"
    assert "resumed in" in (run / "log.txt").read_text()
    undisturbed = folder.with_name("alone")
    assert numbers(run) == numbers(undisturbed)
    assert [row["epoch"] for row in numbers(run)] == [str(epoch) for epoch in range(8)]
    assert over.outcome.values == alone.outcome.values
    assert over.results == alone.results
    ours, theirs = weights(run), weights(undisturbed)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.fixture(scope="module")
def finished(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trial with all its epochs."""
    made = tmp_path_factory.mktemp("study") / "trials" / "run"
    assert go(tiny, made).how == "complete"
    return made


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["torn", "no rows", "other settings", "no checkpoint"])
def test_what_cannot_be_gone_on_with_is_begun_with_what_was_before(
    tiny: Path, folder: Path, finished: Path, damage: str
) -> None:
    newer = folder.with_name(f"{folder.name}-claim2")
    for place in (folder, newer):
        shutil.copytree(finished, place)
    checkpoint = newer / "last.ckpt"
    match damage:
        case "torn":
            checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
        case "no rows":
            (newer / "metrics.csv").write_text("epoch,,\n1")
        case "other settings":
            record = newer / "run.json"
            record.write_text(record.read_text().replace('"lr": 0.002', '"lr": 0.02'))
        case "no checkpoint":
            checkpoint.unlink()
    again = go(tiny, folder, token=3)
    assert again.how == "complete", again
    assert "resumed in" in Path(again.outcome.run, "log.txt").read_text()
    assert numbers(Path(again.outcome.run)) == numbers(finished)
    assert [path.name for path in folder.parent.iterdir()] == [f"{folder.name}-claim3"]


@pytest.mark.slow
def test_a_trial_whose_every_checkpoint_is_torn_begins_anew(tiny: Path, folder: Path, finished: Path) -> None:
    shutil.copytree(finished, folder)
    (folder / "last.ckpt").write_bytes(b"")
    anew = go(tiny, folder, token=2)
    assert anew.how == "complete", anew
    run = Path(anew.outcome.run)
    assert "resumed in" not in (run / "log.txt").read_text()
    assert numbers(run) == numbers(finished)
    assert [path.name for path in folder.parent.iterdir()] == [run.name]


WORKER = """
import sys
from pathlib import Path
from catpose.study.claim import Claim
from catpose.study.directory import StudyDirectory
from catpose.study.environment import environment
from catpose.study.process import Training
config, folder = sys.argv[1], Path(sys.argv[2])
args = ["--config", config, f"--out={folder}", "--wandb.mode=disabled", "--trainer.max_epochs=50"]
claim = Claim(StudyDirectory(folder.parents[1]), folder.name, 1, "study")
Training(args, claim, "val/AP", environment(1, 0), lambda e, v: False, lambda: None).run()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a child dies with its parent on Linux only")
def test_a_trial_dies_with_its_worker(tiny: Path, folder: Path) -> None:
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(tiny), str(folder)])
    wait_for((folder / "metrics.csv").exists)
    assert processes(folder)
    worker.kill()
    worker.wait()
    wait_for(lambda: not [p for p in processes(folder) if p != worker.pid])


def test_what_a_dead_worker_left_running_is_killed_first(folder: Path) -> None:
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", f"--out={folder}"])
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", f"--out={folder}2"])
    time.sleep(0.3)
    kill_leftovers([folder])
    assert left.wait(300) == -signal.SIGKILL
    assert other.poll() is None
    other.kill()
    other.wait()


def test_a_line_can_be_pasted_into_a_shell() -> None:
    import shlex

    args = ["--data.input_size=[64, 64]", "--wandb.name=it's"]
    assert shlex.split(line(args)) == ["python", "-m", "catpose.fit", *args]


def wait_for(condition: Callable[[], bool], seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)
