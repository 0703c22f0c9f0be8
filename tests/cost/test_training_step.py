from __future__ import annotations

from pathlib import Path

import pytest
import torch

from catpose.cost.training_step import (
    LEAST,
    PHASES,
    largest_prediction_batch,
    largest_training_batch,
    time_training,
)
from catpose.data.coco import read_split
from catpose.data.datamodule import CatDataModule
from catpose.errors import InputError
from catpose.model.backbones.pyramid import FeaturePyramid

CPU = torch.device("cpu")
SIZE = (64, 64)


@pytest.fixture
def small() -> FeaturePyramid:
    return FeaturePyramid("test_resnet", head_channels=8, weights=None, optimizer="adamw", weight_decay=0.1)


def of(root: Path, cache: Path, batch_size: int = 8) -> CatDataModule:
    return CatDataModule(str(root), input_size=SIZE, batch_size=batch_size, cache_dir=str(cache))


def test_it_is_fit_that_trains(small: FeaturePyramid, drawn: Path, tmp_path: Path) -> None:
    """The model learns, by its own hooks, as many steps as were timed and those before."""
    before = {name: value.clone() for name, value in small.named_parameters()}
    step = time_training(small, of(drawn, tmp_path), CPU, seconds=0)
    assert small.trainer.global_step >= step.n
    assert any(not torch.equal(value, before[name]) for name, value in small.named_parameters())


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_the_precision_is_the_trainers(small: FeaturePyramid, precision: str, tmp_path: Path) -> None:
    settings = {"precision": precision, "gradient_clip_val": 1.0, "accumulate_grad_batches": 2}
    step = time_training(small, of(tmp_path / "none", tmp_path), CPU, 0, settings)
    assert step.precision == precision
    assert all(value.isfinite().all() for value in small.parameters())


def test_on_real_crops(small: FeaturePyramid, drawn: Path, tmp_path: Path) -> None:
    step = time_training(small, of(drawn, tmp_path), CPU, seconds=0)
    assert [phase.name for phase in step.phases] == list(PHASES)
    assert sum(phase.share for phase in step.phases) == pytest.approx(1)
    assert all(phase.median_ms > 0 for phase in step.phases if phase.name != "in between")
    assert (step.data, step.workers, step.batch_size, step.n) == (str(drawn), 0, 8, LEAST)
    assert 0 < step.p50_ms <= step.p95_ms
    assert step.precision == "32-true"
    assert "resident" in step.peak_is


def test_a_budget_allows_more_steps(small: FeaturePyramid, drawn: Path, tmp_path: Path) -> None:
    step = time_training(small, of(drawn, tmp_path, batch_size=2), CPU, seconds=0.5)
    assert step.n >= LEAST
    assert step.n * step.batch_size / step.images_per_s >= 0.5  # seconds, of the steps that were timed


@pytest.mark.slow
def test_smaller_batches_are_not_timed(small: FeaturePyramid, drawn: Path, tmp_path: Path) -> None:
    """An epoch's last batch is what the others leave; and there is no batch of more than there are cats."""
    n = len(read_split(drawn, "train"))
    assert time_training(small, of(drawn, tmp_path, 10), CPU, seconds=0).batch_size == 10
    assert small.trainer.current_epoch >= 2  # of three batches each, of which the last is smaller: steps 4, 5 and 7
    assert time_training(small, of(drawn, tmp_path, 100), CPU, seconds=0).batch_size == n


def test_made_up_crops_where_there_is_no_folder(small: FeaturePyramid, tmp_path: Path) -> None:
    step = time_training(small, of(tmp_path / "none", tmp_path), CPU, seconds=0)
    assert step.data is None
    assert step.workers is None
    assert [phase.name for phase in step.phases] == list(PHASES[1:])
    assert list(tmp_path.iterdir()) == []


def test_a_broken_folder_is_refused(small: FeaturePyramid, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="annotations"):
        time_training(small, of(tmp_path, tmp_path), CPU, seconds=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_largest_batches_of_a_gpu(small: FeaturePyramid) -> None:
    device = torch.device("cuda")
    torch.cuda.set_per_process_memory_fraction(0.01)
    try:
        training = largest_training_batch(small, (256, 256), device)
        prediction = largest_prediction_batch(small, (256, 256), device)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 1 <= training <= prediction
