"""All faults of a data set: those its annotation files show, then those its pictures show."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from catpose.data.coco import CocoSplit, Image, examine_file
from catpose.data.images import read_image, usable_cores
from catpose.data.structure import Finding
from catpose.data.swaps import suspicious_swaps
from catpose.errors import InputError
from catpose.geometry import PADDING
from catpose.skeleton import KEYPOINTS

#: Bits of 256 in which two pictures' gradients may differ and still count as nearly the same: among the 1324 cats of
#: Animal-Pose, copies differ in at most 1 and different pictures in at least 47.
NEAR_BITS = 20


@dataclass(frozen=True)
class _Seen:
    """What is kept of a picture once it was decoded."""

    digest: bytes  # of size and pixels
    size: tuple[int, int]  # width, height
    gradients: np.ndarray  # (256,) bool: brighter to the right?
    contrast: float  # standard deviation of its thumbnail, grey levels


def quick_findings(root: Path) -> list[Finding]:
    """What the annotation files show and whether the pictures are there; no picture is opened.

    Raises:
        InputError: where ROOT/annotations holds no JSON file.
    """
    return _read(root)[1]


def all_findings(root: Path) -> list[Finding]:
    """`quick_findings`, then what every picture shows: unreadable, of another size, or there twice.

    Raises:
        InputError: as `quick_findings`.
    """
    splits, findings = _read(root)
    places = [(name, image) for name, split in splits.items() for image in split.images if image.path.is_file()]
    copies: dict[tuple[str, bytes], list[tuple[str, Image]]] = defaultdict(list)
    seen: dict[str, list[tuple[str, Image, _Seen]]] = defaultdict(list)
    with ThreadPoolExecutor(min(8, usable_cores())) as threads:
        looks = threads.map(_look, [image for _, image in places])
        progress = tqdm(looks, "pictures", len(places), unit="", delay=2, mininterval=1, leave=False)
        for (name, image), look in zip(places, progress, strict=True):
            if isinstance(look, str):
                findings.append(Finding("unreadable image", "error", name, f"image {image.id}", look))
                continue
            if look.size != (image.width, image.height):
                findings.append(_size_disagrees(name, image, look.size))
            pool = _pool(name, splits)
            copies[pool, look.digest].append((name, image))
            if len(copies[pool, look.digest]) == 1:
                seen[pool].append((name, image, look))
    # Of the same file listed twice the annotation files told already.
    findings += [_twice(group) for group in copies.values() if len({image.path for _, image in group}) > 1]
    for pictures in seen.values():
        findings += _near_copies(pictures)
    return findings


def _read(root: Path) -> tuple[dict[str, CocoSplit], list[Finding]]:
    """The sound entries of each annotation file, and all that is wrong without opening a picture."""
    files = sorted((root / "annotations").glob("*.json"), key=lambda file: (_rank(file.stem), file.stem))
    if not files:
        raise InputError(
            f"{root / 'annotations'}: no such folder or no .json in it; make the data (drawn cats:"
            f" `python -m catpose.prepare drawn --out {root}`)"
        )
    splits: dict[str, CocoSplit] = {}
    findings: list[Finding] = []
    for file in files:
        try:
            split, found = examine_file(file, root / "images")
        except InputError as error:
            findings.append(Finding("unreadable file", "error", file.stem, file.name, str(error)))
            continue
        splits[file.stem] = split
        findings += found
        findings += _image_findings(split)
        findings += _box_findings(split)
        if split.has_keypoints:
            findings += _keypoint_findings(split)
        elif file.stem in ("train", "val"):
            message = "no annotation has 'keypoints'; only test_info.json may hold boxes alone"
            findings.append(Finding("no keypoints", "error", file.stem, file.name, message))
    same: dict[tuple[str, Path], list[tuple[str, Image]]] = defaultdict(list)
    for name, split in splits.items():
        for image in split.images:
            same[_pool(name, splits), image.path].append((name, image))
    findings += [_twice(group) for group in same.values() if len(group) > 1]
    return splits, findings


def _image_findings(split: CocoSplit) -> Iterator[Finding]:
    name = split.file.stem
    annotations = split.coco.get("annotations")
    entries = [entry for entry in annotations if isinstance(entry, dict)] if isinstance(annotations, list) else []
    used = {entry["image_id"] for entry in entries if type(entry.get("image_id")) is int}  # broken ones told already
    for image in split.images:
        if not os.path.isfile(image.path):
            message = f"{image.file_name} is not in images/; restore it or drop its entry"
            yield Finding("missing image", "error", name, f"image {image.id}", message)
        if image.id not in used:
            message = f"{image.file_name} has no instance, so it neither trains nor scores anything"
            yield Finding("image without instance", "warning", name, f"image {image.id}", message)


def _box_findings(split: CocoSplit) -> Iterator[Finding]:
    sizes = np.array([(image.width, image.height) for image in split.images], dtype=np.float64).reshape(-1, 2)
    sizes = sizes[split.image_index]
    start, end = split.boxes[:, :2], split.boxes[:, :2] + split.boxes[:, 2:]
    off = ((end <= 0) | (start >= sizes)).any(axis=1)
    over = np.maximum(-start, end - sizes).max(axis=1, initial=0)
    for i in np.flatnonzero(off | (over > 1)):
        where = f"annotation {split.annotation_ids[i]}"
        box = ", ".join(f"{value:g}" for value in split.boxes[i])
        if off[i]:
            message = f"'bbox' {box} lies off its image of {sizes[i, 0]:g}×{sizes[i, 1]:g} px; correct or drop it"
            yield Finding("box off the image", "error", split.file.stem, where, message)
        else:
            message = f"'bbox' {box} reaches {over[i]:g} px over the edge of its image"
            yield Finding("box over the edge", "warning", split.file.stem, where, message)
    if 0 in split.annotation_ids:
        message = "pycocotools takes the id 0 for no match; number annotations from 1"
        yield Finding("annotation id 0", "warning", split.file.stem, "annotation 0", message)


def _keypoint_findings(split: CocoSplit) -> Iterator[Finding]:
    """Only instances that count: a crowd's keypoints are never looked at."""
    name, ids, keypoints = split.file.stem, split.annotation_ids, split.keypoints
    sizes = np.array([(image.width, image.height) for image in split.images], dtype=np.float64).reshape(-1, 2)
    start, side = split.boxes[:, None, :2], split.boxes[:, None, 2:]
    # Pictures end half a px beyond the centres of their outermost px; another half is left to rounding.
    outside = np.maximum(-1 - keypoints, keypoints - sizes[split.image_index][:, None]).max(axis=-1)
    beyond = np.maximum(start - keypoints, keypoints - start - side) / side  # in sides of the box
    lost = beyond.max(axis=-1) > (PADDING - 1) / 2
    scale = np.sqrt(split.boxes[:, 2] * split.boxes[:, 3])
    for i in np.flatnonzero(~split.crowd).tolist():
        where = f"annotation {ids[i]}"
        if not split.visibility[i].any():
            message = "has no labelled keypoint, so it neither trains nor scores anything"
            yield Finding("no labelled keypoint", "warning", name, where, message)
        for k in np.flatnonzero(outside[i] > 0).tolist():
            message = f"{_place(split, i, k)} is outside its image"
            yield Finding("keypoint outside the image", "warning", name, where, message)
        for k in np.flatnonzero(lost[i]).tolist():
            message = f"{_place(split, i, k)} is so far outside its box that the crop does not hold it"
            yield Finding("keypoint outside the crop", "warning", name, where, message)
        for a, b in _coincident(keypoints[i], split.visibility[i], scale[i]):
            message = f"{_place(split, i, a)} and {KEYPOINTS[b]} are at one place"
            yield Finding("keypoints at one place", "warning", name, where, message)
    for i, message in suspicious_swaps(
        np.where(split.crowd[:, None, None], np.nan, keypoints), split.visibility, scale
    ):
        yield Finding("left and right", "warning", name, f"annotation {ids[i]}", message)


def _coincident(keypoints: np.ndarray, visibility: np.ndarray, scale_px: float) -> Iterator[tuple[int, int]]:
    """Pairs of keypoints at exactly one place, and eyes, both visible, closer than a hundredth of the scale."""
    distance = np.linalg.norm(keypoints[:, None] - keypoints[None], axis=-1)
    close = distance == 0
    close[0, 1] |= distance[0, 1] < 0.01 * scale_px and visibility[0] == visibility[1] == 2
    yield from ((int(a), int(b)) for a, b in np.argwhere(np.triu(close, k=1)))


def _place(split: CocoSplit, i: int, k: int) -> str:
    x, y = split.keypoints[i, k]
    return f"{KEYPOINTS[k]} at ({x:g}, {y:g})"


def _look(image: Image) -> _Seen | str:
    """What is kept of a picture, or why it can't be read."""
    try:
        picture = read_image(image.path)
    except InputError as error:
        return str(error)
    height, width = picture.shape[:2]
    digest = hashlib.sha256(f"{width} {height} ".encode() + picture.tobytes()).digest()
    thumbnail = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (17, 16), interpolation=cv2.INTER_AREA)
    thumbnail = thumbnail.astype(np.int16)
    return _Seen(digest, (width, height), (thumbnail[:, 1:] > thumbnail[:, :-1]).ravel(), float(thumbnail.std()))


def _size_disagrees(name: str, image: Image, size: tuple[int, int]) -> Finding:
    message = (
        f"the JSON says {image.width}×{image.height} px, but {image.file_name}, upright, is {size[0]}×{size[1]}; "
        f"correct the size and see whether the labels fit"
    )
    return Finding("size disagrees", "error", name, f"image {image.id}", message)


def _twice(group: list[tuple[str, Image]]) -> Finding:
    """What to say of one picture in several places."""
    where = " = ".join(f"{name} image {image.id}" for name, image in group)
    files = ", ".join(sorted({image.file_name for _, image in group}))
    names = sorted({name for name, _ in group}, key=_rank)
    if len(names) > 1:
        message = f"{files}: one picture in {' and '.join(names)}, so the score is no longer honest; keep it in one"
        return Finding("same picture in two splits", "error", "+".join(names), where, message)
    return Finding("same picture twice", "warning", names[0], where, f"{files}: one picture, so it counts twice")


def _near_copies(pool: list[tuple[str, Image, _Seen]]) -> Iterator[Finding]:
    """Pairs of pictures that differ in few gradients; pictures without contrast have none to compare."""
    pool = [entry for entry in pool if entry[2].contrast > 2]
    signs = np.array([np.where(look.gradients, 1, -1) for _, _, look in pool], dtype=np.float32).reshape(len(pool), -1)
    block = 1024  # rows at once, which bounds the memory
    for start in range(0, len(pool), block):
        differing = (signs.shape[1] - signs[start : start + block] @ signs.T) / 2
        for i, j in np.argwhere(differing <= NEAR_BITS):
            if start + i < j:
                (name, image, _), (other_name, other, _) = pool[start + i], pool[j]
                where = f"{name} image {image.id} ~ {other_name} image {other.id}"
                message = f"{image.file_name} and {other.file_name} look alike; is one a copy of the other?"
                names = "+".join(sorted({name, other_name}, key=_rank))
                yield Finding("nearly the same picture", "warning", names, where, message)


def _pool(name: str, splits: dict[str, CocoSplit]) -> str:
    """Splits of one pool must not share a picture: the three, and each other file of annotations/ by itself."""
    apart = name in ("train", "val", "test") or (name == "test_info" and "test" not in splits)
    return "" if apart else name


def _rank(name: str) -> int:
    order = ("train", "val", "test", "test_info")
    return order.index(name) if name in order else len(order)
