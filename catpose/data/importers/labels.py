"""Labels as every importer hands them over: in the source's own keypoints, names of pictures and units of px."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

_SPLITS = {
    "train": "train", "training": "train", "trainset": "train",
    "val": "val", "valid": "val", "validation": "val", "valset": "val",
    "test": "test", "testing": "test", "testset": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Animal:
    """One labelled animal."""

    category: str
    points: tuple[tuple[float, float, int], ...]  # x, y, v as in COCO, of each of the source's keypoints
    box: tuple[float, float, float, float] | None = None  # x, y, width, height
    area: float | None = None


@dataclass
class Picture:
    """One picture with its animals; `size` (width, height) is None where the source doesn't say it."""

    name: str  # as the source calls it, with whatever folders
    labels: Path  # the file that its labels are in
    animals: list[Animal] = field(default_factory=list)
    rectangles: list[tuple[float, float, float, float]] = field(default_factory=list)  # boxes that are nobody's yet
    size: tuple[int, int] | None = None
    split: str | None = None  # "train", "val" or "test", where the source has it in one
    group: str | None = None  # the video or picture that it was made from, where the source says it


@dataclass
class Labels:
    """What a source holds."""

    tool: str
    keypoints: dict[str, tuple[str, ...]]  # names by category
    pictures: list[Picture]
    files: list[Path]  # that the labels are in
    left_out: Counter[str] = field(default_factory=Counter)  # why animals aren't in it, and how many
    only_seen: bool = False  # whether the format doesn't say which keypoints are hidden, and all count as seen
    one_a_picture: bool = False  # whether the format makes one animal of all keypoints of a picture
    #: By category, pairs of places in `keypoints`: limbs, and (left, right) of mirror images, where the source says.
    limbs: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    flip_pairs: list[tuple[int, int]] = field(default_factory=list)


def made_from(name: str) -> str | None:
    """The picture from which Roboflow made one by augmentation or resizing, NAME.rf.HASH.jpg; None for others."""
    found = re.fullmatch(r"(.+)\.rf\.[0-9A-Za-z]{16,}(\.\w+)?", name.replace("\\", "/").rsplit("/", 1)[-1])
    return found[1] if found else None


def split_in(text: str) -> str | None:
    """The split that a file's or folder's name speaks of: "val" for `person_keypoints_Validation` or `valid`."""
    found = {_SPLITS[word] for word in re.split(r"[\W_]+", text.casefold()) if word in _SPLITS}
    return found.pop() if len(found) == 1 else None
