"""Boxes that come from elsewhere (a detector, a COCO file, a first pass), as a split of the same pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from catpose.data.coco_split import CocoSplit, Image
from catpose.data.values import are_coordinates, id_fault, is_number
from catpose.errors import InputError, one_line
from catpose.files import read_json
from catpose.instances import Instances
from catpose.text import counted, first

#: Of boxes that are no matter for a picture, and of pictures without one: names that a message lists.
_NAMED = 3


@dataclass(frozen=True, eq=False)
class Boxes:
    """M boxes of pictures, in the order of these; a picture may have none or several."""

    image_index: np.ndarray  # (M,) int64, places of the pictures
    boxes: np.ndarray  # (M, 4) float64: x, y, width, height, image px
    scores: np.ndarray  # (M,) float64, 0..1: how sure a detector is; 1 where nothing is said

    @classmethod
    def of(cls, rows: Sequence[tuple[int, Sequence[float], float]]) -> Boxes:
        """Rows of picture, box and score, in any order; a picture's boxes keep theirs."""
        rows = sorted(rows, key=lambda row: row[0])
        return cls(
            np.array([row[0] for row in rows], dtype=np.int64),
            np.array([row[1] for row in rows], dtype=np.float64).reshape(-1, 4),
            np.array([row[2] for row in rows], dtype=np.float64),
        )


def with_boxes(split: CocoSplit, boxes: Boxes) -> CocoSplit:
    """A split of the same pictures with these boxes, numbered from 1 in their order, and nothing labelled."""
    used = np.unique(split.category_id)
    category = int(used[0] if len(used) else split.category_ids[0])
    annotations = [
        {"id": i, "image_id": split.images[index].id, "category_id": category, "bbox": box}
        for i, (index, box) in enumerate(zip(boxes.image_index.tolist(), boxes.boxes.tolist(), strict=True), start=1)
    ]
    coco = split.coco | {"annotations": annotations}
    return CocoSplit(
        **vars(Instances.from_coco(coco, skeleton=split.skeleton)),
        file=split.file,
        coco=coco,
        images=split.images,
        stated_areas=np.full(len(annotations), np.nan),
        has_keypoints=False,
    )


def read_boxes(file: Path, images: Sequence[Image], named_only: bool = False) -> tuple[Boxes, int]:
    """The boxes that a file has for some pictures, and how many it has for others.

    It is a COCO file (pictures are found by `file_name`, or by its last part where only one picture has that, here and
    there) or COCO detection results: a list of `{"image_id", "bbox": [x, y, width, height], "score"}`, whose
    `file_name` says the picture where it is there. Crowds are no boxes.

    Args:
        named_only: the pictures' ids are numbers that nobody else knows, so that a `file_name` is needed.

    Raises:
        InputError: it can't be read, is neither, has a box that is none or lies outside of its picture, states another
            size of a picture, or has no box for any of these pictures.
    """
    content = read_json(file)
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        entries, listed = content["annotations"], _listed(content, file)
    elif isinstance(content, list):
        entries, listed = content, {}
    else:
        raise InputError(f"{file}: holds no boxes; give a COCO file, or a list of COCO results with bbox")
    for i, entry in enumerate(entries):
        _require_entry(entry, f"{file}: entry {i}")
    names: dict[int | None, Any] = {id_: image["file_name"] for id_, image in listed.items()}
    place_of = _Places(images, [*names.values(), *(entry.get("file_name") for entry in entries)])
    rows, others = [], 0
    for i, entry in enumerate(entries):
        if entry.get("iscrowd"):
            continue
        id_ = entry["image_id"] if type(entry.get("image_id")) is int else None
        place = place_of(entry.get("file_name") or names.get(id_), None if listed or named_only else id_)
        if place is None:
            others += 1
            continue
        _require_size(listed.get(id_, {}), images[place], file)
        require_box(entry["bbox"], images[place], f'{file}: entry {i}: "bbox"')
        rows.append((place, entry["bbox"], float(entry.get("score", 1.0))))
    if not rows:
        raise InputError(
            f"{file}: has no box for any of the {len(images)} pictures ({one_line(images[0].file_name)[:60]}, …); name"
            " the pictures in file_name as they are named here"
        )
    return Boxes.of(rows), others


def _require_entry(entry: Any, where: str) -> None:
    """InputError where an entry of a file isn't a box of a picture."""
    if not isinstance(entry, dict) or not _is_box(entry.get("bbox")):
        found = one_line(repr(entry.get("bbox") if isinstance(entry, dict) else entry))[:60]
        raise InputError(f'{where}: "bbox" is {found}; give x, y, width, height in px, the last two above 0')
    score = entry.get("score", 1.0)
    if not is_number(score) or not 0 <= score <= 1:
        raise InputError(f'{where}: "score" is {one_line(repr(score))[:40]}, no number from 0 to 1')
    if entry.get("iscrowd") not in (None, 0, 1):
        raise InputError(f'{where}: "iscrowd" is {one_line(repr(entry["iscrowd"]))[:40]}; give 0 or 1')
    fault = None if isinstance(entry.get("file_name"), str) else id_fault(entry, "image_id")
    if fault:
        raise InputError(f"{where}: {fault.message}")


def _require_size(stated: Mapping[str, Any], image: Image, file: Path) -> None:
    """InputError where the file of boxes was made for the picture in another size."""
    size = (stated.get("width") or image.width, stated.get("height") or image.height)
    if size != (image.width, image.height):
        raise InputError(
            f"{file}: image {stated['id']} is {one_line(size[0])[:20]} × {one_line(size[1])[:20]} px there, but"
            f" {image.path} is {image.width} × {image.height}; give boxes in px of the upright picture"
        )


class _Places:
    """Which picture is meant by a name, or by an id where there is no name.

    Args:
        images: the pictures.
        names: all by which a file calls pictures.
    """

    def __init__(self, images: Sequence[Image], names: Sequence[Any]) -> None:
        self._by_name = {name: i for i, image in enumerate(images) for name in (str(image.path), image.file_name)}
        theirs = Counter(map(_base, {name for name in names if isinstance(name, str)}))
        ours = Counter(_base(image.file_name) for image in images)
        self._by_base = {
            base: i
            for i, base in enumerate(_base(image.file_name) for image in images)
            if ours[base] == 1 and theirs[base] == 1
        }
        self._by_id = {image.id: i for i, image in enumerate(images)}

    def __call__(self, name: Any, id_: int | None) -> int | None:
        if isinstance(name, str):
            return self._by_name.get(name, self._by_base.get(_base(name)))
        return None if id_ is None else self._by_id.get(id_)


def _base(name: str) -> str:
    return PureWindowsPath(name).name  # which also takes / for a separator


def _listed(content: Mapping[str, Any], file: Path) -> dict[int | None, Mapping[str, Any]]:
    """The images of a COCO file, by id."""
    listed: dict[int | None, Mapping[str, Any]] = {}
    images = content.get("images")
    for image in images if isinstance(images, list) else [None]:
        if not isinstance(image, dict) or "file_name" not in image:
            raise InputError(f'{file}: "images" must be a list of id and file_name; give a COCO file')
        fault = id_fault(image, "id")
        if fault or image["id"] in listed:
            what = fault.message if fault else f"'id' {image['id']} is there twice; give each its own"
            raise InputError(f"{file}: images: {what}")
        listed[image["id"]] = image
    return listed


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and are_coordinates(value) and min(value[2:]) > 0


def require_box(box: list[float], image: Image, whose: str) -> None:
    """InputError where a box, x, y, width, height in px, is less than a px wide or high, or outside of its picture."""
    if not _is_box(box):
        raise InputError(f"{whose} is {box}; give x, y, width, height in px, the last two above 0")
    x, y, width, height = box
    if x >= image.width or y >= image.height or x + width <= 0 or y + height <= 0:
        raise InputError(f"{whose} is {box}, outside of its {image.width} × {image.height} px; give it in image px")
    if min(width, height) < 1:
        raise InputError(f"{whose} is {box}, less than a px; are these parts of the picture? Give it in image px")


def boxes_lines(split: CocoSplit, boxes: Boxes, input_size: tuple[int, int], unread: Collection[int] = ()) -> list[str]:
    """What a person should know of boxes: pictures with several animals, with none, and animals too small for detail.

    Args:
        split: the pictures.
        input_size: of the crop, px; an animal of less than half its size is small.
        unread: places of pictures that can't be read, and so say nothing.
    """
    per_picture = np.bincount(boxes.image_index, minlength=len(split.images))
    small = np.unique(boxes.image_index[(boxes.boxes[:, 2:] * 2 < np.array(input_size)).all(axis=1)])
    size = f"{input_size[0] // 2} × {input_size[1] // 2} px"
    found = (
        (np.flatnonzero(per_picture > 1), "several animals, each of which is predicted"),
        (np.setdiff1d(np.flatnonzero(per_picture == 0), [*unread]).astype(int), "no animal, which have no prediction"),
        (small, f"an animal of less than {size}, whose keypoints are coarse"),
    )
    lines = []
    for places, what in found:
        if len(places):
            names = first([split.images[place].file_name for place in places.tolist()], _NAMED)
            lines.append(f"{len(places)} of {counted(len(split.images), 'picture')} with {what} ({names})")
    return lines
