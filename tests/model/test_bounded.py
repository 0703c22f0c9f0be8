"""Settings of strangers that describe networks too large for their file: refused soon, and in one line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from catpose.errors import InputError
from catpose.model.bounded import MOST_OUTPUT, bounded_outputs
from catpose.model.pose import PoseModel
from catpose.model.stored import described_model
from catpose.plain_yaml import dump_yaml
from catpose.run.checkpoint import load_model

RESNET = "catpose.model.backbones.timm_backbone.TimmBackbone"
VIT = "catpose.model.backbones.vit.ViT"
CODEC = {"class_path": "catpose.model.codec.UDPHeatmap", "init_args": {"sigma": 1.0}}


def saved(file: Path, class_path: str, size: tuple[int, int] = (64, 64), **arguments: object) -> Path:
    """A checkpoint of such settings, with a hundred tensors of ten numbers in it."""
    settings = {
        "model": {"class_path": class_path, "init_args": {"codec": CODEC, **arguments}},
        "data": {"input_size": list(size)},
    }
    states = {f"x{i}": torch.zeros(10) for i in range(100)}
    torch.save({"catpose": dump_yaml(settings), "state_dict": states}, file)
    return file


LARGE: dict[str, tuple[str, dict[str, Any]]] = {
    "wide": (RESNET, {"name": "test_resnet", "options": {"channels": [10**4] * 4}}),
    "deep": (RESNET, {"name": "test_resnet", "options": {"layers": [10**6] * 4}}),
    "wide stages": (RESNET, {"name": "convnext_atto", "options": {"dims": [99_999] * 4}}),
    "deep stages": (RESNET, {"name": "convnext_atto", "options": {"depths": [10**6] * 4}}),
    "stages of billions": (RESNET, {"name": "convnext_atto", "options": {"depths": [10**12] * 4}}),
    "another network": (VIT, {"name": "vit_giant_patch14_224"}),
    "a wide head": (RESNET, {"name": "test_resnet", "head_channels": 4096}),
    "deep windows": (RESNET, {"name": "swinv2_tiny_window8_256", "options": {"depths": [10**5] * 4}}),
    "wide windows": (RESNET, {"name": "swin_tiny_patch4_window7_224", "options": {"window_size": 4096}}),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", LARGE)
def test_a_network_too_large_for_its_file(kind: str, tmp_path: Path) -> None:
    class_path, arguments = LARGE[kind]
    file = saved(tmp_path / "x.ckpt", class_path, **arguments)
    begun = time.process_time()
    with pytest.raises(InputError) as caught:
        load_model(file)
    assert time.process_time() - begun < 60
    assert str(caught.value).startswith(f"{file}: ")
    assert "another checkpoint" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_crops_too_large_for_memory(tmp_path: Path) -> None:
    model, _ = described_model(
        dump_yaml({
            "model": {"class_path": RESNET, "init_args": {"name": "test_resnet", "codec": CODEC, "head_channels": 16}},
            "data": {"input_size": [64, 64]},
        }),
        PoseModel,
    )  # fmt: skip
    with bounded_outputs(), torch.inference_mode():
        model(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
        with pytest.raises(InputError, match="too large"):
            model(torch.zeros(1, 8192, 4096, 3, dtype=torch.uint8))


@pytest.mark.parametrize("make", [torch.zeros, torch.ones, torch.empty, torch.rand, torch.randn])
def test_what_is_too_large_is_never_made(make: Any) -> None:
    with bounded_outputs():
        made = make(10, 10)
        assert made.sum().isfinite() or make is torch.empty
        with pytest.raises(InputError, match="too large"):
            make(10**6, 10**9)
        with pytest.raises(InputError, match="too large"):
            torch.linspace(0, 1, MOST_OUTPUT + 1)
        with pytest.raises(InputError, match="too large"):
            torch.arange(10**12)


def test_random_weights_are_the_same_within_bounds() -> None:
    torch.manual_seed(0)
    free = torch.nn.Linear(3, 4).weight
    torch.manual_seed(0)
    with bounded_outputs():
        bounded = torch.nn.Linear(3, 4).weight
    assert torch.equal(free, bounded)
