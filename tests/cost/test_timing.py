from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from catpose.cost.timing import KINDS, LEAST, half_of, made_up_batch, percentiles, rate, time_predictions
from catpose.data.datamodule import CatDataModule
from catpose.errors import InputError
from catpose.model.backbones.pyramid import FeaturePyramid
from catpose.model.pose import Batch
from catpose.run.network import find_device

CPU = torch.device("cpu")
SIZE = (64, 96)


@pytest.fixture
def small() -> FeaturePyramid:
    return FeaturePyramid("test_resnet", head_channels=8, weights=None)


def test_devices_by_name() -> None:
    assert find_device("cpu") == CPU
    there = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    assert find_device("auto") == (there or CPU)


@pytest.mark.parametrize(
    ("name", "words"), [("cdua", "Did you mean cuda?"), ("", "cuda:1"), ("a\nb", "a b"), ("cuda:99", "which has cpu")]
)
def test_other_names_are_one_line(name: str, words: str) -> None:
    with pytest.raises(InputError) as refusal:
        find_device(name)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_made_up_crops_are_like_those_of_the_loader(drawn: Path, tmp_path: Path) -> None:
    datamodule = CatDataModule(str(drawn), input_size=SIZE, batch_size=4, cache_dir=str(tmp_path))
    datamodule.setup("fit")
    real, ours = next(iter(datamodule.train_dataloader())), made_up_batch(4, SIZE, 17)
    assert {key: (value.dtype, value.shape) for key, value in ours.items()} == {
        key: (value.dtype, value.shape) for key, value in real.items()
    }
    assert all(torch.equal(value, made_up_batch(4, SIZE, 17)[key]) for key, value in ours.items())


def test_every_kind_is_timed_and_the_model_is_as_before(small: FeaturePyramid) -> None:
    small.train()
    small.backbone.eval()
    small.flip_test = False
    flags = [module.training for module in small.modules()]
    said: list[str] = []
    timings, notes = time_predictions(small, SIZE, CPU, [1, 3], seconds=0, progress=said.append)
    assert notes == []
    assert [(t.kind, t.batch_size) for t in timings] == [(kind, n) for n in (1, 3) for kind in KINDS]
    assert len(said) == 2
    for timing in timings:
        assert timing.n == LEAST
        assert 0 < timing.p50_ms <= timing.p95_ms
        assert (timing.precision, timing.compiled, timing.peak_mb) == ("float32", False, None)
    assert [module.training for module in small.modules()] == flags
    assert not small.flip_test
    assert "forward" not in vars(small)


class Watched(FeaturePyramid):
    """Notes each forward pass, and says that memory is short from some batch on."""

    def __init__(self, room: int = 10**9) -> None:
        super().__init__("test_resnet", head_channels=8, weights=None)
        self.seen: list[tuple[int, torch.dtype, bool]] = []
        self.room = room

    def forward(self, crop: Tensor) -> Tensor:
        if len(crop) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        heatmaps = super().forward(crop)
        self.seen.append((len(crop), heatmaps.dtype, torch.is_grad_enabled()))
        return heatmaps

    def poses(self, heatmaps: Tensor, batch: Batch) -> Batch:
        assert batch["crop"].dtype == torch.uint8
        return super().poses(heatmaps, batch)


@pytest.mark.parametrize("dtype", [torch.float32, half_of(CPU)])
def test_what_is_timed_is_what_is_said(dtype: torch.dtype) -> None:
    """The flip test is a second pass; half precision reaches the network; nothing learns."""
    model = Watched()
    timings, _ = time_predictions(model, SIZE, CPU, [2], 0, dtype)
    passes = len(timings) + sum(timing.kind == "keypoints, flip test" for timing in timings)
    assert len(model.seen) == passes * (LEAST + 3)
    assert set(model.seen) == {(2, dtype, False)}
    assert {timing.precision for timing in timings} == {str(dtype).removeprefix("torch.")}


def test_unasked_sizes_end_with_the_budget() -> None:
    model = Watched()
    timings, notes = time_predictions(model, SIZE, CPU, None, seconds=0)
    assert {timing.batch_size for timing in timings} == {1}
    assert notes == []
    timings, notes = time_predictions(Watched(room=2), SIZE, CPU, None, seconds=1e-9)
    assert {timing.batch_size for timing in timings} == {1}


def test_where_the_memory_ends_a_line_says_so() -> None:
    timings, notes = time_predictions(Watched(room=2), SIZE, CPU, [1, 2, 3, 4], seconds=0)
    assert {timing.batch_size for timing in timings} == {1, 2}
    (note,) = notes
    assert "no room for predictions in batches of 3" in note


def test_a_bug_is_no_lack_of_memory(small: FeaturePyramid) -> None:
    def broken(crop: Tensor) -> Any:
        raise RuntimeError("broken")

    small.forward = broken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="broken"):
        time_predictions(small, SIZE, CPU, [1], seconds=0)


@pytest.mark.slow
def test_where_there_is_no_compiler_a_line_says_so(
    small: FeaturePyramid, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with torch._inductor.config.patch({"cpp.cxx": (None, str(tmp_path / "none"))}):
        timings, notes = time_predictions(small, (32, 32), CPU, [1], seconds=0, compiled=True)
    assert timings == []
    (note,) = notes
    assert note.startswith("torch.compile can't be timed here")
    assert "\n" not in note
    assert "forward" not in vars(small)


@pytest.mark.slow
def test_compiled_predictions(small: FeaturePyramid) -> None:
    timings, notes = time_predictions(small, (32, 32), CPU, [2], seconds=0, compiled=True)
    assert notes == []
    assert [timing.kind for timing in timings if timing.compiled] == list(KINDS)


def test_figures_of_times() -> None:
    times = [5.0, 1.0, 2.0, 4.0, 3.0]
    assert percentiles(times) == (3.0, np.percentile(times, 95))
    assert rate(8, times) == pytest.approx(8 * 5 / 0.015)
