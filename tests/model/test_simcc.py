"""SimCC: bins against closed forms and torch, and a model that learns them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from skeletons import FLIP
from test_pose import one_batch
from test_pose import tiny as tiny_model

from catpose.errors import InputError
from catpose.fit import main
from catpose.model.simcc import SimCC
from catpose.run.checkpoint import load_model

GEOMETRIES = [((192, 256), 2, 6.0), ((256, 192), 2, 6.0), ((64, 64), 3, 4.0), ((96, 128), 1, 2.0)]
every_geometry = pytest.mark.parametrize(("size", "bins", "sigma"), GEOMETRIES)
VISIBLE = torch.full((40, 17), 2)


def points(size: tuple[int, int], low: float = 0.0) -> torch.Tensor:
    drawn = torch.rand(40, 17, 2, generator=torch.Generator().manual_seed(0))
    return low + drawn * (torch.tensor(size) - 1 - 2 * low)


@every_geometry
def test_a_round_trip_stays_within_half_a_bin(size: tuple[int, int], bins: int, sigma: float) -> None:
    codec, where = SimCC(sigma, size, bins), points(size)
    target, weight = codec.encode(where, VISIBLE, size, (1, 1))
    decoded, confidence = codec.decode(target.clamp_min(1e-30).log(), size)
    assert (weight == 1).all()
    assert target.shape == (40, 17, 2, max(size) * bins)
    assert target.sum(-1).sub(1).abs().max() < 1e-5
    assert (decoded - where).abs().max() <= codec.round_trip_px(size, (1, 1)) + 1e-4
    middle = codec.encode(points(size, 3 * sigma / bins), VISIBLE, size, (1, 1))[0]
    assert codec.decode(middle.clamp_min(1e-30).log(), size)[1].min() > 0.9
    assert ((confidence >= 0) & (confidence <= 1)).all()


@every_geometry
def test_unflip_undoes_a_mirrored_crop(size: tuple[int, int], bins: int, sigma: float) -> None:
    codec, where = SimCC(sigma, size, bins), points(size, 5 * sigma / bins)
    mirrored = torch.stack([size[0] - 1 - where[..., 0], where[..., 1]], -1)[:, FLIP]
    target, _ = codec.encode(where, VISIBLE, size, (1, 1))
    back = codec.unflip(codec.encode(mirrored, VISIBLE, size, (1, 1))[0], FLIP)
    torch.testing.assert_close(back, target, atol=1e-5, rtol=0)


def test_the_loss_is_torchs_divergence_of_labelled_keypoints() -> None:
    codec, size = SimCC(3.0, (64, 64)), (64, 64)
    visibility = torch.randint(0, 3, (40, 17), generator=torch.Generator().manual_seed(1))
    target, weight = codec.encode(points(size), visibility, size, (16, 16))
    outputs = torch.randn(target.shape, generator=torch.Generator().manual_seed(2))
    each = torch.nn.functional.kl_div(outputs.log_softmax(-1), target, reduction="none").sum(-1)
    expected = each.mean(-1)[visibility > 0].sum() / visibility.numel()
    torch.testing.assert_close(codec.loss(outputs, target, weight), expected)
    perfect = target.clamp_min(1e-30).log()
    assert codec.loss(perfect, target, weight) < 1e-6


def test_what_is_not_labelled_or_outside_teaches_nothing() -> None:
    codec, size = SimCC(3.0, (64, 64)), (64, 64)
    where = torch.tensor([[[-5.0, 10], [10, 70], [10, 10], [10, 10]]])
    _, weight = codec.encode(where, torch.tensor([[2, 2, 0, 1]]), size, (16, 16))
    assert weight.tolist() == [[0, 0, 0, 1]]


@pytest.mark.parametrize("fill", [0.0, torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_flat_and_broken_logits_decode_to_something_finite(fill: float, dtype: torch.dtype) -> None:
    codec = SimCC(3.0, (64, 96))
    keypoints, confidence = codec.decode(torch.full((2, 17, 2, 192), fill, dtype=dtype), (64, 96))
    assert keypoints.dtype == confidence.dtype == torch.float32
    assert keypoints.isfinite().all()
    assert ((confidence >= 0) & (confidence <= 1)).all()


@pytest.mark.slow
def test_a_model_learns_a_batch_by_heart(tmp_path: Path) -> None:
    model = tiny_model(codec=SimCC(2.0, (32, 32)), lr=0.02, warmup_iterations=0)
    batch = one_batch()
    first = model.loss(model(batch["crop"]), batch).item()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        loss = model.loss(model(batch["crop"]), batch)
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bins_per_px": 0}, r"^model\.codec\.bins_per_px: 0 "),
        ({"input_size": (0, 64)}, r"^model\.codec\.input_size: "),
        ({"sigma": 0.0}, r"^model\.codec\.sigma: "),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_line(settings: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        SimCC(**settings)  # type: ignore[arg-type]


def test_crops_of_another_size_are_one_line() -> None:
    with pytest.raises(InputError, match=r"^model\.codec\.input_size: 64 x 64 px, but data\.input_size is 32 x 32; "):
        tiny_model(codec=SimCC(2.0, (64, 64)))(one_batch()["crop"])


@pytest.mark.slow
def test_it_is_trained_kept_and_loaded_by_its_name(tiny: Path, tmp_path: Path) -> None:
    codec = {"class_path": "SimCC", "init_args": {"sigma": 2.0, "input_size": [64, 64]}}
    out = tmp_path / "run"
    main(["--config", str(tiny), "--out", str(out), f"--model.codec={json.dumps(codec)}", "--trainer.max_epochs=1"])
    model, _ = load_model(out / "best.ckpt")
    assert isinstance(model.codec, SimCC)
    assert model.codec.input_size == (64, 64)
