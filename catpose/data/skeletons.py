"""The skeleton of a data set: a COCO category's `keypoints` and `skeleton`, and what skeleton.yaml beside it states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from catpose.errors import InputError, nearest, one_line
from catpose.plain_yaml import dump_yaml, read_yaml
from catpose.skeleton import AP10K, Skeleton, skeleton_of

#: In the data folder, beside annotations/ and images/.
FILE = "skeleton.yaml"
_KEYS = ("name", "sigmas", "flip_pairs", "limbs", "upper", "lower")


def stated_in(root: Path) -> dict[str, Any]:
    """What ROOT/skeleton.yaml states, unchecked but for its keys; nothing where there is no such file.

    All keypoints are named: `sigmas: {left_ear: 0.03}`, `flip_pairs: [[left_ear, right_ear]]`, `limbs` likewise,
    `upper` and `lower: [chin]`, and the skeleton's `name`.

    Raises:
        InputError: it can't be read, or has another key.
    """
    return read_statement(root / FILE) if (root / FILE).exists() else {}


def read_statement(file: Path) -> dict[str, Any]:
    """What a skeleton.yaml states, as `stated_in`."""
    content = read_yaml(file, f"it may hold {', '.join(_KEYS)}")
    if not isinstance(content, dict):
        raise InputError(f"{file}: holds no settings; it may hold {', '.join(_KEYS)}")
    unknown = next((key for key in content if key not in _KEYS), None)
    if unknown is not None:
        raise InputError(f"{file}: {one_line(unknown)} is not known.{nearest(str(unknown), _KEYS)}")
    return content


def skeleton_of_category(category: Mapping[str, Any], stated: Mapping[str, Any]) -> Skeleton:
    """The skeleton of a COCO category.

    AP-10K's names have AP-10K's limbs, whatever the category's `skeleton` is; those of other names are the category's,
    pairs that count from 1, or else AP-10K's between the names that both have.

    Args:
        category: has a list `keypoints`.
        stated: of `stated_in`, which comes before all else.

    Raises:
        InputError: names, limbs or statements that make no skeleton.
    """
    names = tuple(category["keypoints"])
    limbs = category.get("skeleton") if names != AP10K.names else None
    if limbs is not None and not all(
        isinstance(limb, list) and len(limb) == 2 and all(type(end) is int and 0 < end <= len(names) for end in limb)
        for limb in (limbs if isinstance(limbs, list) else [limbs])
    ):
        raise InputError(
            "'skeleton' is not a list of pairs of keypoints, which count from 1; correct it or leave it out"
        )
    sigmas = stated.get("sigmas") or {}
    if not isinstance(sigmas, dict) or not all(type(value) in (int, float) for value in sigmas.values()):
        raise InputError(f"{FILE}: sigmas is no list of numbers by name, such as nose: 0.026")
    _indices(sigmas, names, "sigmas")
    pairs = {key: _pairs(stated[key], names, key) for key in ("flip_pairs", "limbs") if stated.get(key) is not None}
    halves = {key: _indices(stated[key], names, key) for key in ("upper", "lower") if stated.get(key) is not None}
    name = stated.get("name")
    return skeleton_of(
        names,
        flip_pairs=pairs.get("flip_pairs"),
        limbs=pairs.get("limbs", None if limbs is None else [(a - 1, b - 1) for a, b in limbs]),
        sigmas=sigmas,
        upper=halves.get("upper"),
        lower=halves.get("lower"),
        name=None if name is None else one_line(name),
    )


def statement(skeleton: Skeleton) -> str:
    """The text of a skeleton.yaml that states all of a skeleton but its keypoints' order."""
    names = skeleton.names
    return dump_yaml(
        {
            "name": skeleton.name,
            "sigmas": dict(zip(names, skeleton.sigmas, strict=True)),
            "flip_pairs": [[names[a], names[b]] for a, b in skeleton.flip_pairs],
            "limbs": [[names[a], names[b]] for a, b in skeleton.limbs],
            "upper": [names[k] for k in skeleton.upper],
            "lower": [names[k] for k in skeleton.lower],
        }
    )


def in_ap10k_order(keypoints: np.ndarray, visibility: np.ndarray, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints as AP-10K orders them, for rules of an animal's anatomy: those of its names, the others not labelled.

    Args:
        keypoints: (N, K, 2), nan where not labelled. visibility: (N, K).

    Returns:
        (N, 17, 2), nan where the skeleton has no keypoint of that name, and (N, 17), 0 there.
    """
    if skeleton.names == AP10K.names:
        return keypoints, visibility
    shared = [name for name in AP10K.names if name in skeleton.names]
    to, of = AP10K.indices(*shared), skeleton.indices(*shared)
    points = np.full((len(keypoints), len(AP10K), 2), np.nan)
    seen = np.zeros((len(keypoints), len(AP10K)), dtype=visibility.dtype)
    points[:, to], seen[:, to] = keypoints[:, of], visibility[:, of]
    return points, seen


def _pairs(stated: Any, names: Sequence[str], key: str) -> list[tuple[int, int]]:
    if not isinstance(stated, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in stated):
        raise InputError(f"{FILE}: {key} is not a list of pairs of names, such as [[left_ear, right_ear]]")
    return [(a, b) for a, b in (_indices(pair, names, key) for pair in stated)]


def _indices(stated: Any, names: Sequence[str], key: str) -> list[int]:
    if not isinstance(stated, list | dict):
        raise InputError(f"{FILE}: {key} is not a list of names")
    unknown = next((name for name in stated if name not in names), None)
    if unknown is not None:
        hint = nearest(str(unknown), [str(name) for name in names])
        raise InputError(f"{FILE}: {key} names {one_line(unknown)[:60]}, which is no keypoint of the data.{hint}")
    return [names.index(name) for name in stated]
