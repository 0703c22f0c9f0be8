"""Mean and standard deviation that pictures are scaled by: the backbone's own, from timm's `pretrained_cfg`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
from torch import Tensor, nn

from catpose.errors import InputError, one_line

#: For networks outside timm, published pose checkpoints and those of catpose 0.1.0.
IMAGENET = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
#: For the original JAX release of vision transformers (big_vision's and vit_jax's `value_range(-1, 1)`).
JAX_VIT = {"mean": IMAGENET_INCEPTION_MEAN, "std": IMAGENET_INCEPTION_STD}


def normalisation(config: Mapping[str, Any], whose: str = "the backbone") -> dict[str, Tensor]:
    """`mean` and `std` of red, green and blue, (1, 3, 1, 1) float32, 0–255.

    Args:
        config: timm's `pretrained_cfg`, with both in 0–1; where it has none, they are ImageNet's, as with timm.
        whose: the owner's name, for the error message.

    Raises:
        InputError: values that aren't three numbers each, or deviations that aren't above 0.
    """
    mean, std = (IMAGENET[name] if config.get(name) is None else config[name] for name in ("mean", "std"))
    try:
        usable = len(mean) == len(std) == 3 and all(map(math.isfinite, mean)) and all(0 < s < math.inf for s in std)
    except TypeError:  # no sequences, or not of numbers
        usable = False
    if not usable:
        raise InputError(
            f"{whose} asks for mean {one_line(mean)[:60]} and std {one_line(std)[:60]} in its pretrained_cfg;"
            " three numbers each are needed, std above 0; use another backbone"
        )
    return {
        name: torch.tensor([255 * float(value) for value in values], dtype=torch.float32).view(1, 3, 1, 1)
        for name, values in (("mean", mean), ("std", std))
    }


def config_of(backbone: nn.Module) -> Mapping[str, Any]:
    """timm's `pretrained_cfg` of a backbone, or of the first network within it that has one; empty where none has."""
    configs = (getattr(module, "pretrained_cfg", None) for module in backbone.modules())
    return next((config for config in configs if isinstance(config, Mapping)), {})


def with_normalisation(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's `state_dict` with `mean` and `std` (1, 3, 1, 1); 0.1.0 saved neither and used ImageNet's."""
    return normalisation(IMAGENET) | dict(state)


def described(values: Mapping[str, Tensor]) -> str:
    """`mean` and `std`, (1, 3, 1, 1) each, as text: `mean 123.675 116.28 103.53, std 58.395 57.12 57.375`."""
    return ", ".join(
        f"{name} {' '.join(f'{v:g}' for v in values[name].flatten().tolist())}" for name in ("mean", "std")
    )
