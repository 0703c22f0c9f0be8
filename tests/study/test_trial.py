"""A trial's process: real trainings that end well, badly, are stopped, pruned, killed, taken over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from catpose.study.trial import Ended, environment, kill_leftovers, last_line, line, run, share

Told = Callable[[], str | None]


def go(
    tiny: Path,
    folder: Path,
    *more: str,
    token: int = 1,
    on_epoch: Callable[[int, float], bool] = lambda epoch, value: False,
    told: Told = lambda: None,
) -> Ended:
    words = ["--config", str(tiny), f"--out={folder}", "--wandb.mode=disabled", *more]
    log = folder.parent / "logs" / "trial.log"
    return run(words, folder, log, "val/AP", token, environment(1, 0), on_epoch, told)  # type: ignore[arg-type]


def processes(folder: Path) -> list[int]:
    """Those that have this folder on their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"--out={folder}".encode() in (process / "cmdline").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "run"
    kill_leftovers(tmp_path / "run")


def test_a_trial_that_ends_brings_its_figures_and_detections(tiny: Path, folder: Path) -> None:
    seen: list[tuple[int, float]] = []
    ended = go(tiny, folder, on_epoch=lambda *epoch: bool(seen.append(epoch)))
    assert ended.how == "complete"
    outcome = ended.outcome
    assert [epoch for epoch, _ in seen] == [0, 1]
    assert outcome["values"]["val/AP"] == seen[-1][1]
    assert outcome["best_ap"] == max(value for _, value in seen)
    assert (outcome["epochs"], outcome["reason"], outcome["run"]) == (2, None, str(folder))
    assert outcome["contract"]["split"] == "val"
    assert ended.results is not None
    assert json.loads(zlib.decompress(ended.results)) == json.loads((folder / "val_results.json").read_text())
    assert outcome["command"].startswith("python -m catpose.fit --config ")

    again = go(tiny, folder, token=2)  # its process was killed after the last epoch, before anyone was told
    assert again.how == "complete"
    assert again.outcome == outcome
    assert again.results == ended.results


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("--model.lrr=1", "Did you mean model.lr"),
        pytest.param("--model.lr=-1", "model.lr", marks=pytest.mark.slow),
        pytest.param("--model.lr=1e30", "the training loss is", marks=pytest.mark.slow),
        pytest.param("--trainer.callbacks+=no.such.Callback", "Callback", marks=pytest.mark.slow),
    ],
)
def test_what_goes_wrong_is_the_trials_result(tiny: Path, folder: Path, more: str, reason: str) -> None:
    ended = go(tiny, folder, more)
    assert ended.how == "failed"
    assert reason in ended.outcome["reason"]
    assert "\n" not in ended.outcome["reason"]
    assert ended.results is None


def test_a_pruned_trial_with_two_processes_ends_cleanly(tiny: Path, folder: Path) -> None:
    two = ("--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_epochs=50")
    seen: dict[int, float] = {}

    def prune(epoch: int, value: float) -> bool:
        seen[epoch] = value
        return epoch == 1

    ended = go(tiny, folder, *two, on_epoch=prune)
    assert ended.how == "pruned", ended
    assert processes(folder) == []
    assert 2 <= ended.outcome["epochs"] <= 5  # others may have ended meanwhile
    assert list(seen) == list(range(ended.outcome["epochs"]))
    assert ended.outcome["reason"] == f"pruned after epoch {ended.outcome['epochs'] - 1}"
    said = (folder.parent / "logs" / "trial.log").read_text()
    assert "Traceback" not in said, said[-2000:]
    assert "as asked" in (folder / "log.txt").read_text()
    assert not (folder / "stop").exists()


def test_a_stopped_trial_goes_on_where_it_was(tiny: Path, folder: Path) -> None:
    stop = threading.Event()
    ended = go(
        *(tiny, folder, "--trainer.max_epochs=4"),
        on_epoch=lambda epoch, value: bool(stop.set()),
        told=lambda: "stopped" if stop.is_set() else None,
    )
    assert ended.how == "stopped"
    assert processes(folder) == []
    again = go(tiny, folder, "--trainer.max_epochs=4", token=2)
    assert (again.how, again.outcome["epochs"]) == ("complete", 4)
    assert "resumed in" in (folder / "log.txt").read_text()


@pytest.mark.slow
def test_a_process_that_is_killed_has_vanished(tiny: Path, folder: Path) -> None:
    def kill(epoch: int, value: float) -> bool:
        for process in processes(folder):
            os.kill(process, signal.SIGKILL)
        return False

    ended = go(tiny, folder, "--trainer.max_epochs=50", on_epoch=kill)
    assert ended.how == "vanished"
    assert "SIGKILL" in ended.outcome["reason"]


def test_another_holder_ends_it_at_once(tiny: Path, folder: Path) -> None:
    def taken(epoch: int, value: float) -> bool:
        (folder.parent / "logs" / "trial.holder").write_text("7")
        return False

    ended = go(tiny, folder, "--trainer.max_epochs=50", token=6, on_epoch=taken)
    assert (ended.how, ended.results) == ("fenced", None)
    assert processes(folder) == []


WORKER = """
import sys
from pathlib import Path
from catpose.study.trial import environment, run
config, folder = sys.argv[1], Path(sys.argv[2])
words = ["--config", config, f"--out={folder}", "--wandb.mode=disabled", "--trainer.max_epochs=50"]
run(words, folder, folder.parent / "log", "val/AP", 1, environment(1, 0), lambda e, v: False, lambda: None)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a child dies with its parent on Linux only")
def test_a_trial_dies_with_its_worker(tiny: Path, folder: Path) -> None:
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(tiny), str(folder)])
    wait_for((folder / "metrics.csv").exists)
    assert processes(folder)
    worker.kill()
    worker.wait()
    wait_for(lambda: not [p for p in processes(folder) if p != worker.pid], 10)


def test_what_a_dead_worker_left_running_is_killed_first(folder: Path) -> None:
    folder.parent.mkdir(exist_ok=True)
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", f"--out={folder}"])
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", f"--out={folder}2"])
    time.sleep(0.3)
    kill_leftovers(folder)
    assert left.wait(10) == -signal.SIGKILL
    assert other.poll() is None
    other.kill()
    other.wait()


def test_nothing_private_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CATPOSE_STORAGE", "PGPASSWORD", "SLURM_NTASKS", "SUBMITIT_EXECUTOR"):
        monkeypatch.setenv(name, "postgresql://cat:secret@host/db")
    assert "secret" not in str(environment(2, 0))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert environment(2, 1)["CUDA_VISIBLE_DEVICES"] == "6,7"
    assert environment(1, 0)["CUDA_VISIBLE_DEVICES"] == "4,5,6,7"


@pytest.mark.parametrize(("gpus", "workers"), [(8, 1), (8, 2), (8, 3), (8, 8), (3, 2), (1, 4), (4, 6)])
def test_gpus_are_shared_out(gpus: int, workers: int) -> None:
    names = [str(i) for i in range(gpus)]
    shares = [share(names, workers, index) for index in range(workers)]
    assert all(shares)
    assert {gpu for part in shares for gpu in part} == set(names)
    if workers <= gpus:
        assert sorted(gpu for part in shares for gpu in part) == names
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_line_can_be_pasted_into_a_shell() -> None:
    import shlex

    words = ["--data.input_size=[64, 64]", "--wandb.name=it's"]
    assert shlex.split(line(words)) == ["python", "-m", "catpose.fit", *words]
    assert last_line("a\ncatpose.fit: error: x: y\n\n") == "x: y"


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)
