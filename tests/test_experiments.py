"""Every experiment is a test case: two steps of training and of validation on drawn cats; two of them on real ones."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import yaml
from skeletons import KEYPOINTS

from catpose.fit import main
from catpose.run.checkpoint import read_checkpoint

REPOSITORY = Path(__file__).parents[1]
EXPERIMENTS = sorted((REPOSITORY / "experiments").glob("*.yaml"))
#: The others take seconds rather than tenths of them, most of them for checkpoints of up to 0.8 GB.
QUICK = ("quickstart",)

SHORT = [
    "--trainer.limit_train_batches=2",
    *("--model.weights=null", "--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--wandb.mode=disabled"),
    *("--trainer.val_check_interval=1.0", "--trainer.check_val_every_n_epoch=1"),
    *("--trainer.enable_progress_bar=false", "--data.cache=off"),
]


class Start(pl.Callback):
    """Keeps the weights that a training starts from."""

    weights: dict[str, torch.Tensor]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        type(self).weights = {name: value.clone() for name, value in pl_module.state_dict().items()}


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """A run's folder, removed at once: checkpoints of all experiments together are gigabytes."""
    yield tmp_path / "run"
    shutil.rmtree(tmp_path)


def the_row(run: Path) -> dict[str, str]:
    with (run / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    return row


@pytest.mark.parametrize(
    "experiment",
    [pytest.param(file, id=file.stem, marks=[] if file.stem in QUICK else [pytest.mark.slow]) for file in EXPERIMENTS],
)
def test_an_experiment_trains_and_validates(experiment: Path, drawn: Path, out: Path) -> None:
    small = ["--data.input_size=[64, 64]", "--data.batch_size=2"]
    main(["--config", str(experiment), "--data.root", str(drawn), "--out", str(out), *small, *SHORT])
    row = the_row(out)
    assert row["step"] == "2"
    for name in ("train/loss", "val/loss"):
        assert 0 < float(row[name]) < math.inf
    assert {"val/AP", *(f"val/AP/{name}" for name in KEYPOINTS)} <= row.keys()
    asked = yaml.safe_load(experiment.read_text())["model"]
    settings = yaml.safe_load((out / "config.yaml").read_text())["model"]
    assert settings["class_path"].split(".")[-1] == asked["class_path"]
    assert settings["init_args"] | {"weights": None} == settings["init_args"]
    assert (out / "last.ckpt").stat().st_size > 1e6


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "batch_size"), [("baseline", 4), ("hrnet", 2)])
def test_a_published_experiment_trains_on_the_real_cats(name: str, batch_size: int, cats17: Path, out: Path) -> None:
    """At its own input size."""
    file = REPOSITORY / "experiments" / f"{name}.yaml"
    limits = [f"--data.batch_size={batch_size}", "--trainer.limit_val_batches=2"]
    start = f"--trainer.callbacks+={__name__}.Start"
    main(["--config", str(file), "--data.root", str(cats17), "--out", str(out), *limits, start, *SHORT])
    row = the_row(out)
    assert row["step"] == "2"
    assert 0 < float(row["train/loss"]) < math.inf
    assert 0 < float(row["val_partial/loss"]) < math.inf
    assert int(float(row["val_partial/n"])) == 2 * batch_size
    size = yaml.safe_load((out / "config.yaml").read_text())["data"]["input_size"]
    assert size == ([128, 128] if name == "baseline" else [256, 256])
    trained = read_checkpoint(out / "last.ckpt")["state_dict"]
    learnt = [name for name, value in trained.items() if value.is_floating_point()]
    moved = {name for name in learnt if not torch.equal(trained[name], Start.weights[name])}
    assert all(trained[name].isfinite().all() for name in learnt)
    assert {"backbone.conv1.weight", "head.final.weight", "head.final.bias"} <= moved
    assert len(moved) > 0.8 * len(learnt)  # a ResNet block's last norm starts at 0, and hides the block at first
