"""What is said of a validation is true of one moment: score, weights, row, and the instances it looked at."""

from __future__ import annotations

import csv
import functools
import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from refused import exit_code, refused, says

from catpose.data.coco import read_split
from catpose.data.coco_split import labelled
from catpose.fit import main
from catpose.report import main as report
from catpose.run.checkpoint import load_model, read_checkpoint
from catpose.run.directory import RunDirectory
from catpose.run.network import Network
from catpose.run.prediction import detect
from catpose.score.metric import metric_values
from catpose.score.protocol import Score

fit = functools.partial(exit_code, main)
AVERAGED = '{"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.5}}'
BATCHES = 4  # in an epoch of the tiny configuration's 26 instances, the last batch with 2
VALIDATION = 9  # instances, in two batches
slow = functools.partial(pytest.param, marks=pytest.mark.slow)


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def scored(run: Path) -> list[dict[str, str]]:
    return [row for row in rows(run) if row.get("val/AP")]


class Rising(pl.Callback):
    """Each validation's AP is higher than the one before, whatever the model learns, or lower from a step on."""

    def __init__(self, best_step: int) -> None:
        self.best_step = best_step

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log("val/AP", 1.0 - abs(trainer.global_step - self.best_step) / 100)


def same_weights(a: Path, b: Path) -> bool:
    one, other = (read_checkpoint(path)["state_dict"] for path in (a, b))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "steps"),
    [
        slow(["--trainer.val_check_interval=0.5"], [2, 4, 6, 8]),
        (["--trainer.val_check_interval=3"], [3, 7]),  # none at an epoch's end
        slow(["--trainer.val_check_interval=1"], [1, 2, 3, 4, 5, 6, 7, 8]),
        slow(["--trainer.val_check_interval=3", "--trainer.check_val_every_n_epoch=null"], [3, 6]),
        slow(["--trainer.check_val_every_n_epoch=2"], [8]),
        slow(["--trainer.val_check_interval=2", "--trainer.accumulate_grad_batches=4"], [0, 1, 1, 2]),
        ([f"--trainer.callbacks+={AVERAGED}"], [4, 8]),
    ],
    ids=lambda option: " ".join(map(str, option)),
)
def test_score_row_and_weights_are_of_one_moment(
    options: list[str], steps: list[int], tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert fit("--config", tiny, "--out", out, "--wandb.mode=disabled", *options) == 0
    assert [int(row["step"]) for row in scored(out)] == steps
    ended = RunDirectory(out).history()
    assert [row["epoch"] for row in ended] == ["0", "1"]
    assert all(row["train/loss"] for row in ended)
    assert all(row in ended or not row["train/loss"] for row in rows(out))
    score, last = Score.read(out / "val_score.json"), scored(out)[-1]
    assert score.checkpoint == {"epoch": int(last["epoch"]), "step": int(last["step"])}
    assert score.values["AP"] == pytest.approx(float(last["val/AP"]), abs=1e-7)
    best = max(scored(out), key=lambda row: float(row["val/AP"]))  # the first of equals
    checkpoint = read_checkpoint(out / "best.ckpt")
    assert (checkpoint["epoch"], checkpoint["global_step"]) == (int(best["epoch"]), int(best["step"]))
    assert found_by(out / "best.ckpt", tiny)["AP"] == pytest.approx(float(best["val/AP"]), abs=1e-6)
    stdout = capsys.readouterr().out
    assert f"(epoch {last['epoch']}, step {last['step']} of {ended[-1]['step']})" in stdout
    assert f"best val/AP {float(best['val/AP']):.4f} in epoch {best['epoch']}, step {best['step']}\n" in stdout


def found_by(checkpoint: Path, config: Path) -> dict[str, float]:
    """AP and its family of a checkpoint's model on the tiny configuration's validation split."""
    split = read_split(load_model(checkpoint)[1]["data"]["root"], "val")
    return metric_values(split, detect(Network.load(checkpoint, "cpu"), split, 8, labelled_only=True))


@pytest.mark.slow
@pytest.mark.parametrize("best_step", [2, 4, 6])
def test_the_best_checkpoint_has_the_weights_of_its_step(
    best_step: int, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that stops there has no others."""
    common = ["--config", tiny, "--wandb.mode=disabled"]
    rising = f'{{"class_path": "{__name__}.Rising", "init_args": {{"best_step": {best_step}}}}}'
    validated = ["--trainer.val_check_interval=2", f"--trainer.callbacks+={rising}"]
    assert fit(*common, "--out", tmp_path / "run", *validated) == 0
    assert fit(*common, "--out", tmp_path / "stopped", f"--trainer.max_steps={best_step}") == 0
    assert same_weights(tmp_path / "run" / "best.ckpt", tmp_path / "stopped" / "last.ckpt")


PARTIAL = {
    "limit_val_batches 1": (["--trainer.limit_val_batches=1"], 8),
    "limit_val_batches 0.5": (["--trainer.limit_val_batches=0.5"], 8),
    "fast_dev_run": (["--trainer.fast_dev_run=1"], 8),
    "overfit_batches": (["--trainer.overfit_batches=1"], 8),
    "each batch": (["--trainer.limit_val_batches=1", "--trainer.val_check_interval=1"], 8),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["limit_val_batches 1", *map(slow, [*PARTIAL][1:])])
def test_a_part_of_the_split_has_no_ap_of_the_split(
    kind: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, seen = PARTIAL[kind]
    out = tmp_path / "run"
    assert fit("--config", tiny, "--out", out, "--wandb.mode=disabled", *options) == 0
    assert not [name for row in rows(out) for name in row if name.startswith("val/")]
    assert {"val_partial/AP", "val_partial/loss", "val_partial/n", "val_partial/AP/neck"} <= rows(out)[-1].keys()
    assert not (out / "best.ckpt").exists()
    score = Score.read(out / "val_score.json")
    assert (score.protocol.seen, score.protocol.instances) == (seen, VALIDATION)
    assert score.values["n"] == seen, "those that nobody looked at count as missed"
    stdout = capsys.readouterr().out
    assert f" on {seen} of {VALIDATION} instances" in stdout
    assert "validation AP" not in stdout
    assert "best.ckpt: none" in stdout
    log = (out / "log.txt").read_text()
    assert f"looked at {seen} of {VALIDATION} instances" in log
    assert " val/AP" not in log
    says(
        refused(report, [out, "--out", tmp_path / "page.html"], capsys, out), f"{seen} of {VALIDATION}", "catpose.test"
    )


@pytest.mark.slow
def test_a_part_that_is_the_whole_is_the_whole(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--trainer.limit_val_batches=2", "--trainer.max_epochs=1"]
    assert fit("--config", tiny, "--out", out, "--wandb.mode=disabled", *options) == 0
    assert scored(out)
    assert not Score.read(out / "val_score.json").protocol.is_partial


def test_a_partial_ap_is_that_of_the_instances_seen(tiny: Path, tmp_path: Path) -> None:
    """The same model on a split that holds nothing else."""
    out, part = tmp_path / "run", tmp_path / "part"
    options = ["--trainer.limit_val_batches=1", "--trainer.max_epochs=1"]
    assert fit("--config", tiny, "--out", out, "--wandb.mode=disabled", *options) == 0
    _, settings = load_model(out / "last.ckpt")
    split = read_split(settings["data"]["root"], "val")
    shown = set(split.ids[labelled(split)][:8].tolist())
    kept = [annotation for annotation in split.coco["annotations"] if annotation["id"] in shown]
    (part / "annotations").mkdir(parents=True)
    (part / "annotations" / "val.json").write_text(json.dumps({**split.coco, "annotations": kept}))
    (part / "images").symlink_to(Path(settings["data"]["root"]).resolve() / "images")
    split = read_split(part, "val")
    values = metric_values(split, detect(Network.load(out / "last.ckpt", "cpu"), split, 8))
    assert Score.read(out / "val_score.json").values == pytest.approx(values, abs=1e-6, nan_ok=True)


@pytest.mark.slow
def test_a_sanity_check_is_no_validation(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither of a new run nor of one that is finished."""
    options = ["--config", tiny, "--wandb.mode=disabled", "--trainer.num_sanity_val_steps=1"]
    assert fit(*options, "--out", tmp_path / "run") == 0
    assert fit("--config", tiny, "--wandb.mode=disabled", "--out", tmp_path / "plain") == 0
    written = {name: (tmp_path / "run" / name).read_bytes() for name in ("val_results.json", "val_score.json")}
    assert written == {name: (tmp_path / "plain" / name).read_bytes() for name in written}
    assert same_weights(tmp_path / "run" / "last.ckpt", tmp_path / "plain" / "last.ckpt")
    table = closing(capsys.readouterr().out)
    assert fit(*options, "--out", tmp_path / "run") == 0
    assert written == {name: (tmp_path / "run" / name).read_bytes() for name in written}
    assert closing(capsys.readouterr().out) == table


def closing(stdout: str) -> str:
    """The last closing table, without files, whose sizes differ, and the lines of epochs, which are trained once."""
    table = stdout.split("value\n")[-1].split("files:")[0]
    return "\n".join(line for line in table.splitlines() if not line.startswith("epoch "))


@pytest.mark.parametrize(
    ("options", "moment"),
    [
        slow([], "epoch 1, step 8 of 8"),
        slow(["--trainer.max_steps=6", "--trainer.max_epochs=-1"], "epoch 0, step 4 of 6"),
        slow(["--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=2"], "epoch 1, step 8 of 12"),
        slow(["--trainer.max_steps=2", "--trainer.max_epochs=-1"], "nothing was validated"),
        slow(["--trainer.limit_val_batches=0"], "nothing was validated"),
    ],
)
def test_a_finished_run_repeated_says_the_same(
    options: list[str], moment: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for _ in range(2):
        assert fit("--config", tiny, "--out", tmp_path / "run", "--wandb.mode=disabled", *options) == 0
        said.append(closing(capsys.readouterr().out))
    assert said[0] == said[1]
    assert moment in said[0]
    if scored(tmp_path / "run"):
        assert f"last {float(scored(tmp_path / 'run')[-1]['val/AP']):.4f} on 9 of 9" in said[0]
        assert "left_back_paw" in said[0]


class Interrupt(pl.Callback):
    """Ctrl-C in a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "options",
    [
        slow(["--trainer.max_steps=14", "--trainer.max_epochs=-1"]),
        slow(["--trainer.max_epochs=4", "--trainer.val_check_interval=2"]),
        slow(["--trainer.max_epochs=4", "--trainer.val_check_interval=3", "--trainer.check_val_every_n_epoch=null"]),
        slow(["--trainer.max_epochs=4", "--trainer.accumulate_grad_batches=3", "--trainer.limit_train_batches=3"]),
        slow(["--trainer.max_epochs=4", "--trainer.overfit_batches=2"]),
        slow(["--trainer.max_epochs=4", "--trainer.num_sanity_val_steps=1", "--model.schedule=cosine"]),
    ],
    ids=lambda options: " ".join(options),
)
def test_a_run_interrupted_within_an_epoch_ends_as_one_left_alone(
    options: list[str], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ["--config", tiny, "--wandb.mode=disabled", *options]
    assert fit(*common, "--out", tmp_path / "whole") == 0
    steps = int(rows(tmp_path / "whole")[-1]["step"])
    with monkeypatch.context() as patched:
        interrupt = Interrupt(steps * 3 // 4)
        patched.setattr(pl.Trainer, "fit", functools.partialmethod(interrupted, pl.Trainer.fit, interrupt))
        assert fit(*common, "--out", tmp_path / "run") == 130
    assert fit(*common, "--out", tmp_path / "run") == 0
    plain = [
        {k: v for k, v in row.items() if "second" not in k} for run in ("run", "whole") for row in rows(tmp_path / run)
    ]
    assert plain[: len(plain) // 2] == plain[len(plain) // 2 :]
    for name in ("last.ckpt", "best.ckpt"):
        if (tmp_path / "whole" / name).exists():
            assert same_weights(tmp_path / "run" / name, tmp_path / "whole" / name), name


def interrupted(trainer: pl.Trainer, original: Any, interrupt: Interrupt, *arguments: Any, **named: Any) -> None:
    """`Trainer.fit` with a callback more, which is no setting of the run."""
    trainer.callbacks.append(interrupt)
    original(trainer, *arguments, **named)
