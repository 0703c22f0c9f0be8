from __future__ import annotations

import copy
import itertools
from pathlib import Path

import pytest
import torch

from catpose.data.coco import read_split
from catpose.data.datamodule import CatDataModule
from catpose.errors import InputError
from catpose.model.pyramid import FeaturePyramid
from catpose.run.timing import made_up_batch
from catpose.run.training_step import (
    LEAST,
    PHASES,
    Learner,
    endless,
    largest_prediction_batch,
    largest_training_batch,
    opened,
    time_training,
)

CPU = torch.device("cpu")
SIZE = (64, 64)


@pytest.fixture
def small() -> FeaturePyramid:
    return FeaturePyramid("test_resnet", head_channels=8, weights=None, optimizer="adamw", weight_decay=0.1)


def of(root: Path, cache: Path, batch_size: int = 8) -> CatDataModule:
    return CatDataModule(str(root), input_size=SIZE, batch_size=batch_size, cache_dir=str(cache))


def test_a_step_is_that_of_plain_torch(small: FeaturePyramid) -> None:
    batch, by_hand = made_up_batch(4, SIZE), copy.deepcopy(small).train()
    learner = Learner(small, CPU)
    for _ in range(2):
        moments = learner.step(batch)
    assert moments == sorted(moments)
    assert len(moments) == len(PHASES)
    by_hand.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=by_hand.lr, weight_decay=0.1)
    for _ in range(2):
        by_hand.loss(by_hand(batch["crop"]), batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    ours, theirs = small.state_dict(), by_hand.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_step_in_mixed_precision_learns(small: FeaturePyramid, dtype: torch.dtype) -> None:
    before = {name: value.clone() for name, value in small.named_parameters()}
    Learner(small, CPU, dtype).step(made_up_batch(2, SIZE))
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in small.parameters())
    assert any(not torch.equal(value, before[name]) for name, value in small.named_parameters())


def test_on_real_crops(small: FeaturePyramid, drawn: Path, tmp_path: Path) -> None:
    step = time_training(small, of(drawn, tmp_path), CPU, seconds=0)
    assert [phase.name for phase in step.phases] == list(PHASES)
    assert sum(phase.share for phase in step.phases) == pytest.approx(1)
    assert all(phase.median_ms > 0 for phase in step.phases)
    assert (step.data, step.workers, step.batch_size, step.n) == (str(drawn), 0, 8, LEAST)
    assert 0 < step.p50_ms <= step.p95_ms
    assert step.precision == "float32"
    assert "resident" in step.peak_is


def test_a_budget_allows_more_steps(small: FeaturePyramid, drawn: Path, tmp_path: Path) -> None:
    step = time_training(small, of(drawn, tmp_path, batch_size=2), CPU, seconds=0.5)
    assert step.n >= LEAST
    assert step.n * step.batch_size / step.images_per_s >= 0.5  # seconds, of the steps that were timed


def test_smaller_batches_are_not_timed(small: FeaturePyramid, drawn: Path, tmp_path: Path) -> None:
    """An epoch's last batch is what the others leave; and there is no batch of more than there are cats."""
    n = len(read_split(drawn, "train"))
    sizes = [len(batch["crop"]) for batch in itertools.islice(endless(opened(of(drawn, tmp_path, 10), CPU)), 6)]
    assert sizes == [10, 10, n - 20] * 2
    assert time_training(small, of(drawn, tmp_path, 10), CPU, seconds=0).batch_size == 10
    assert time_training(small, of(drawn, tmp_path, 100), CPU, seconds=0).batch_size == n


def test_epochs_follow_each_other(drawn: Path, tmp_path: Path) -> None:
    n = len(read_split(drawn, "train"))
    samples = [
        i
        for b in itertools.islice(endless(opened(of(drawn, tmp_path, 1), CPU)), 2 * n)
        for i in b["annotation_id"].tolist()
    ]
    first, second = samples[:n], samples[n:]
    assert len(set(first)) == n
    assert sorted(first) == sorted(second)
    assert first != second


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
