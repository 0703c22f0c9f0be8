"""Lightning's precisions: geometry, loss and metrics stay float32, checkpoints are read again, overflow is named."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, get_args

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.fabric.plugins.precision import precision as lightnings
from refused import exit_code
from torch import nn
from torch.utils.data import DataLoader

from catpose.data.coco import read_split
from catpose.errors import InputError
from catpose.fit import main
from catpose.model.codec import UDPHeatmap
from catpose.model.pose import OPTIMIZERS, PoseModel
from catpose.run.callbacks import overlays
from catpose.run.checkpoint import load_model
from catpose.run.directory import RunDirectory
from catpose.run.divergence import Divergence
from catpose.run.network import Network, default_precision, find_device
from catpose.run.prediction import detect
from catpose.score.ap import average_precision, match
from catpose.score.detections import Detections
from catpose.skeleton import AP10K

fit = functools.partial(exit_code, main)
EVERY = sorted({*get_args(lightnings._PRECISION_INPUT_STR), *get_args(lightnings._PRECISION_INPUT_STR_ALIAS)})
ON_THE_CPU = ["32-true", "64-true", "bf16-mixed", "bf16-true"]
TRAINED = ["32", "64", "bf16", *ON_THE_CPU]


def rows(run: Path) -> list[dict[str, str]]:
    head, *rest = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    return [{k: v for k, v in zip(head, row, strict=True) if "second" not in k} for row in rest]


@pytest.mark.parametrize(
    "precision",
    [pytest.param(each, marks=[pytest.mark.slow] if each in TRAINED else []) for each in EVERY],
)
def test_every_precision_of_lightnings_trains_or_is_one_line(
    precision: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--trainer.max_epochs=1", "--wandb.mode=disabled", "--trainer.precision", precision)
    code = fit("--config", tiny, "--out", tmp_path / "run", *options)
    error = capsys.readouterr().err
    if code == 0:
        assert precision in TRAINED
        (row,) = rows(tmp_path / "run")
        assert 0.005 < float(row["train/loss"]) < 0.02  # what empty heatmaps come to: any precision has it
        (start,) = RunDirectory(tmp_path / "run").starts
        assert start.precision in (precision, f"{precision}-true", f"{precision}-mixed")
        assert load_model(tmp_path / "run" / "last.ckpt")[0].mean.dtype == torch.float32
    else:
        assert code == 2
        line = error.strip().splitlines()[-1]
        assert line.startswith(f"catpose.fit: error: trainer.precision: {precision}: ")
        assert "set " in line
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("device", "computes_in_bf16", "expected"),
    [("cuda", True, "bf16-mixed"), ("cuda", False, "32-true"), ("cpu", True, "32-true"), ("mps", True, "32-true")],
)
def test_a_gpu_that_computes_in_bfloat16_trains_in_it(
    device: str, computes_in_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: computes_in_bf16)
    assert default_precision(device) == expected


def test_a_device_trains_in_its_default_where_no_precision_is_set(tmp_path: Path, tiny: Path) -> None:
    assert fit("--config", tiny, "--out", tmp_path / "run", "--trainer.max_epochs=1", "--wandb.mode=disabled") == 0
    (start,) = RunDirectory(tmp_path / "run").starts
    assert start.settings is not None
    assert start.settings["trainer"]["precision"] is None
    assert start.precision == default_precision(find_device("auto").type)


def test_what_16_true_is_refused_for_is_true() -> None:
    for name, optimizer in OPTIMIZERS.items():
        weight = nn.Parameter(torch.full((3,), 0.05, dtype=torch.float16))
        weight.grad = torch.zeros(3, dtype=torch.float16)
        optimizer([weight], lr=1e-4).step()  # type: ignore[call-arg]
        assert weight.isnan().all(), name


class Oracle(PoseModel):
    """Gives heatmaps whose keypoints are known, whatever it sees."""

    def __init__(self, heatmaps: torch.Tensor) -> None:
        super().__init__(nn.Identity(), nn.Identity(), codec=UDPHeatmap(1.0), weights=None, flip_test=False)
        self.heatmaps = heatmaps
        self.batches: list[dict[str, torch.Tensor]] = []

    def features(self, picture: torch.Tensor) -> torch.Tensor:
        return self.heatmaps.to(picture.dtype)

    def predict_step(self, batch: Any, batch_index: int = 0) -> Any:
        self.batches.append(batch)
        return super().predict_step(batch, batch_index)


def batch(n: int = 3) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        "crop": torch.zeros(n, 64, 64, 3, dtype=torch.uint8),
        "keypoints_crop": 12 + 40 * torch.rand(n, 17, 2, generator=random),
        "visibility": torch.full((n, 17), 2),
        "crop_to_image": torch.tensor([[2.5, 0.5, 3001.25], [-0.5, 2.5, 4003.5]]).expand(n, 2, 3).clone(),
        "annotation_id": torch.arange(n),
        "image_id": 2**24 + torch.arange(n),
        "category_id": torch.ones(n, dtype=torch.int64),
        "box": torch.tensor([3001.25, 4003.5, 333.3, 257.7]).expand(n, 4).clone(),
        "area": torch.full((n,), 85891.41),
    }


@pytest.mark.one_in(3)
@pytest.mark.parametrize("precision", [*ON_THE_CPU, "16-true"])
def test_geometry_is_float32_in_any_precision(precision: Any, tmp_path: Path) -> None:
    """Bfloat16 counts by sixteens from 2048 px; the heatmaps here are the same in all, so must the keypoints be."""
    given = batch()
    heatmaps, _ = UDPHeatmap(1.0).encode(given["keypoints_crop"], given["visibility"], (64, 64), (16, 16))
    heatmaps = heatmaps.bfloat16().half().float()  # what every precision can say
    found = {}
    for each in ("32-true", precision):
        model = Oracle(heatmaps)
        runner = pl.Trainer(
            precision=each, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
        )
        (found[each],) = runner.predict(model, DataLoader([given], batch_size=None))  # type: ignore[misc]
        for name, value in given.items():
            assert torch.equal(model.batches[0][name], value), name
            assert model.batches[0][name].dtype == value.dtype, name
    assert found[precision]["keypoints"].dtype == torch.float32
    for name, value in found["32-true"].items():
        assert torch.equal(found[precision][name], value), name
    assert len(overlays(found[precision], given, AP10K)) == 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_losses_are_means_of_all_samples_in_any_precision(dtype: torch.dtype) -> None:
    """Counted in bfloat16, the 257th sample and all later ones would be none."""
    model = Oracle(torch.zeros(1)).to(dtype)
    for metric in (model.train_loss, model.val_loss):
        for value in range(1, 1001):
            metric.update(torch.tensor(float(value)))
        assert metric.compute().dtype == torch.float32
        assert metric.compute().item() == pytest.approx(500.5)


@pytest.mark.slow
def test_a_run_in_bfloat16_is_scored_resumed_and_read_again_as_validated(
    tiny: Path, drawn: Path, tmp_path: Path
) -> None:
    options = ("--config", tiny, "--trainer.precision=bf16-true")
    assert fit(*options, "--out", tmp_path / "whole", "--trainer.max_epochs=2") == 0  # W&B offline: with overlays
    assert fit(*options, "--out", tmp_path / "run", "--trainer.max_epochs=1") == 0
    assert fit(*options, "--out", tmp_path / "run", "--trainer.max_epochs=2") == 0
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    split = read_split(drawn, "val")
    validated = json.loads((tmp_path / "run" / "val_results.json").read_text())
    score = average_precision(match(split, Detections.from_results(validated, split)))["AP"]
    assert score == pytest.approx(float(rows(tmp_path / "run")[-1]["val/AP"]), abs=1e-6)
    detections = detect(Network.load(tmp_path / "run" / "last.ckpt", "cpu"), split, 8, labelled_only=True)
    again = {entry["annotation_id"]: entry["keypoints"] for entry in detections.to_results()}
    assert again.keys() == {entry["annotation_id"] for entry in validated}
    for entry in validated:
        np.testing.assert_allclose(again[entry["annotation_id"]], entry["keypoints"], atol=1e-3)


# Overflow


class Strategy:
    def reduce_boolean_decision(self, decision: bool) -> bool:
        return decision


class At:
    """What a callback is told of a trainer at an epoch's end."""

    sanity_checking = False
    current_epoch = 3
    strategy = Strategy()

    def __init__(self, precision: str, **metrics: float) -> None:
        self.precision = precision
        self.callback_metrics = {k.replace("_", "/"): torch.tensor(v) for k, v in metrics.items()}


@pytest.mark.parametrize("precision", ["16-mixed", "16-true", "32-true", "bf16-true"])
@pytest.mark.parametrize("what", ["inf", "nan", "weights"])
def test_what_is_not_finite_ends_in_one_line_with_the_precision(precision: str, what: str, tmp_path: Path) -> None:
    model = Oracle(torch.zeros(1))
    model.add_module("layer", nn.Linear(2, 2))
    callback = Divergence(RunDirectory(tmp_path))
    callback.on_train_epoch_end(At(precision, train_loss=0.1), model)  # type: ignore[arg-type]
    trainer = At(precision, train_loss=0.1 if what == "weights" else float(what))
    if what == "weights":
        nn.init.constant_(model.layer.bias, float("inf"))
    with pytest.raises(InputError) as caught:
        callback.on_train_epoch_end(trainer, model)  # type: ignore[arg-type]
    line = str(caught.value)
    assert ("layer.bias holds" if what == "weights" else f"loss is {what}") in line
    assert "\n" not in line
    assert (f"trainer.precision {precision} ends at 65504: set bf16-mixed" in line) == precision.startswith("16")
    assert "lower model.lr" in line


def test_a_validation_loss_that_is_not_finite_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = Oracle(torch.zeros(1))
    model.train_loss.update(torch.tensor(0.1))
    with caplog.at_level("WARNING", logger="catpose"):
        Divergence(RunDirectory(tmp_path)).on_validation_end(At("16-mixed", val_loss=float("inf")), model)  # type: ignore[arg-type]
    (message,) = caplog.messages
    assert message.startswith("val/loss is inf after epoch 3")
    assert "trainer.precision 16-mixed ends at 65504" in message
