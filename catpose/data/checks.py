"""All faults of a data set: those its annotation files show, then those its pictures show."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np

from catpose.data.coco import examine_file
from catpose.data.coco_split import CocoSplit, Image
from catpose.data.copies import RECORD, Fingerprint, fingerprints, known_copies, near_pairs
from catpose.data.finding import Finding, Severity
from catpose.data.inversions import suspicious_swaps
from catpose.data.layout import SPLITS, annotation_files, other_spellings
from catpose.data.structure import MANY
from catpose.data.turned import orientations, turned_findings
from catpose.data.whole import FEW, GEOMETRY, WHOLE, Labels, geometry_faults
from catpose.errors import InputError
from catpose.geometry import PADDING
from catpose.instances import AreaRule


class Examined(NamedTuple):
    """A data folder without a look at its pictures."""

    splits: dict[str, CocoSplit]  # the sound entries of each file that can be read
    findings: list[Finding]
    others: list[Path]  # JSON files in annotations/ that aren't looked at


def all_findings(root: Path) -> list[Finding]:
    """`examine_folder`'s and `picture_findings`."""
    splits, findings, _ = examine_folder(root)
    return findings + picture_findings(root, splits)


def picture_findings(root: Path, splits: dict[str, CocoSplit]) -> list[Finding]:
    """What every picture shows: unreadable, of another size, or there twice."""
    findings: list[Finding] = []
    places = [(name, image) for name, split in splits.items() for image in split.images if image.path.is_file()]
    copies: dict[tuple[str, bytes], list[tuple[str, Image]]] = defaultdict(list)
    seen: dict[str, list[tuple[str, Image, Fingerprint]]] = defaultdict(list)
    looks = fingerprints([image.path for _, image in places])
    sizes: dict[tuple[str, str], list[tuple[Image, tuple[int, int]]]] = defaultdict(list)
    for (name, image), look in zip(places, looks, strict=True):
        if isinstance(look, InputError):
            findings.append(Finding("unreadable image", "error", name, f"image {image.id}", str(look)))
            continue
        if look.size != (image.width, image.height):
            sizes[name, _difference(image, look.size)].append((image, look.size))
        pool = _pool(name, splits)
        copies[pool, look.digest].append((name, image))
        if len(copies[pool, look.digest]) == 1:
            seen[pool].append((name, image, look))
    findings += [found for (name, why), group in sizes.items() for found in _sizes_disagree(name, why, group)]
    findings += turned_findings(splits)
    known = known_copies(root)
    # Of the same file listed twice the annotation files told already.
    groups = [group for group in copies.values() if len({image.path for _, image in group}) > 1]
    findings += _all_twice(splits, [_twice(group, known) for group in groups])
    for pictures in seen.values():
        findings += _near_copies(pictures)
    return findings


def examine_folder(root: Path, area: AreaRule = "box") -> Examined:
    """What the annotation files show and whether the pictures are there; no picture is opened.

    Raises:
        InputError: where ROOT/annotations holds no JSON file.
    """
    files, others = annotation_files(root)
    splits: dict[str, CocoSplit] = {}
    findings: list[Finding] = []
    for file in files:
        try:
            split, found = examine_file(file, root / "images", area=area)
        except InputError as error:
            findings.append(Finding("unreadable file", "error", file.stem, file.name, str(error)))
            continue
        splits[file.stem] = split
        findings += found
        unused = {finding.where for finding in found if finding.kind == "image without instance"}
        findings += _missing_pictures(split, root / "images", unused)
    misnamed = list(_skeleton_findings(splits))
    findings = _joined(splits, findings) + misnamed
    for name, split in splits.items():
        if any(finding.split == name for finding in misnamed):
            continue  # its keypoints are called what they aren't
        of_all = [finding for finding in findings if name in finding.split.split("+") and finding.where == WHOLE]
        if all(finding.severity == "warning" for finding in of_all):
            findings += _entry_findings(split, {finding.kind for finding in of_all})
    same: dict[tuple[str, Path], list[tuple[str, Image]]] = defaultdict(list)
    for name, split in splits.items():
        for image in split.images:
            same[_pool(name, splits), image.path].append((name, image))
    findings += _all_twice(splits, [_twice(group, []) for group in same.values() if len(group) > 1])
    return Examined(splits, findings, others)


def _skeleton_findings(splits: dict[str, CocoSplit]) -> Iterator[Finding]:
    """Splits whose keypoints are others than those of the first one that has some."""
    labelled = {name: split for name, split in splits.items() if split.has_keypoints}
    first = next(iter(labelled), "")
    for name, split in labelled.items():
        difference = split.skeleton.difference(labelled[first].skeleton)
        if difference:
            message = f"its keypoints are others than {first}'s: {difference}; all splits need one skeleton"
            yield Finding("keypoint names", "error", name, "categories", message)


def _joined(splits: dict[str, CocoSplit], findings: list[Finding]) -> list[Finding]:
    """The findings with one for what all files share, which small files may give away only together."""
    labels = {name: Labels.of(split) for name, split in splits.items() if len(split) and not _pool(name, splits)}
    faulty = {finding.split for finding in findings if finding.kind in GEOMETRY}
    other = {finding.split for finding in findings if finding.where == WHOLE and finding.kind not in GEOMETRY}
    if len({splits[name].skeleton.names for name in labels}) > 1:
        return findings
    if len(labels) < 2 or other & labels.keys() or any(len(labels[name].ids) >= FEW for name in labels.keys() - faulty):
        return findings
    joint = [
        Finding(fault.kind, fault.severity, "+".join(labels), WHOLE, fault.message)
        for fault in geometry_faults(reduce(Labels.joined, labels.values()))
    ]
    others = [finding for finding in findings if finding.kind not in GEOMETRY or finding.split not in labels]
    return others + joint if joint else findings


def _missing_pictures(split: CocoSplit, image_dir: Path, unused: set[str]) -> Iterator[Finding]:
    """Pictures that aren't in images/; `unused`: those that nobody misses, as "image 7"."""
    name = split.file.stem
    missing = [image for image in split.images if not os.path.isfile(image.path)]
    spellings = other_spellings(image_dir, [image.file_name for image in missing])
    groups: dict[tuple[Severity, str], list[Image]] = defaultdict(list)
    for image in missing:
        _, difference = spellings.get(image.file_name, ("", ""))
        groups["warning" if f"image {image.id}" in unused else "error", difference].append(image)
    for (severity, difference), images in groups.items():
        of_all = len(images) == len(split.images) >= MANY
        for image in images[:1] if difference or of_all else images:
            others = f" and {'all ' if of_all else ''}{len(images) - 1} others" if len(images) > 1 else ""
            where = f"image {image.id}{others if difference or of_all else ''}"
            message = f"{image.file_name} is not in images/; restore it or drop its entry"
            if difference:
                present = spellings[image.file_name][0]
                message = (
                    f"{image.file_name} is not in images/, but {present} is, which differs in {difference}; name it so"
                )
            yield Finding("misnamed image" if difference else "missing image", severity, name, where, message)


def _entry_findings(split: CocoSplit, reported: set[str]) -> Iterator[Finding]:
    """What the places of single instances show, but for the kinds `reported` of the file as a whole."""
    name = split.file.stem
    yield from _box_findings(split)
    if split.has_keypoints:
        skipped = {"left and right"} if "left and right throughout" in reported else set()
        yield from (finding for finding in _keypoint_findings(split) if finding.kind not in skipped)
    elif name in ("train", "val") and len(split):
        message = "no annotation has 'keypoints'; only test_info.json may hold boxes alone"
        yield Finding("no keypoints", "error", name, split.file.name, message)


def _box_findings(split: CocoSplit) -> Iterator[Finding]:
    sizes = np.array([(image.width, image.height) for image in split.images], dtype=np.float64).reshape(-1, 2)
    sizes = sizes[split.image_index]
    start, end = split.boxes[:, :2], split.boxes[:, :2] + split.boxes[:, 2:]
    off = ((end <= 0) | (start >= sizes)).any(axis=1)
    over = np.maximum(-start, end - sizes).max(axis=1, initial=0)
    for i in np.flatnonzero(off | (over > 1)):
        where = f"annotation {split.ids[i]}"
        box = ", ".join(f"{value:g}" for value in split.boxes[i])
        if off[i]:
            message = f"'bbox' {box} lies off its image of {sizes[i, 0]:g}×{sizes[i, 1]:g} px; correct or drop it"
            yield Finding("box off the image", "error", split.file.stem, where, message)
        else:
            message = f"'bbox' {box} reaches {over[i]:g} px over the edge of its image"
            yield Finding("box over the edge", "warning", split.file.stem, where, message)


def _keypoint_findings(split: CocoSplit) -> Iterator[Finding]:
    """Only instances that count: a crowd's keypoints are never looked at."""
    name, ids, keypoints = split.file.stem, split.ids, split.keypoints
    sizes = np.array([(image.width, image.height) for image in split.images], dtype=np.float64).reshape(-1, 2)
    start, side = split.boxes[:, None, :2], split.boxes[:, None, 2:]
    # Pictures end half a px beyond the centres of their outermost px; another half is left to rounding.
    outside = np.maximum(-1 - keypoints, keypoints - sizes[split.image_index][:, None]).max(axis=-1)
    beyond = np.maximum(start - keypoints, keypoints - start - side) / side  # in sides of the box
    lost = beyond.max(axis=-1) > (PADDING - 1) / 2  # (N, K)
    scale = np.sqrt(split.boxes[:, 2] * split.boxes[:, 3])
    eyes = split.skeleton.indices("left_eye", "right_eye")
    if not split.visibility[~split.crowd].any() and (len(split) >= MANY or (name in ("train", "val") and len(split))):
        message = "no instance has a labelled keypoint, so there is nothing to train on or to score"
        yield Finding("no labelled keypoint", "error" if name in ("train", "val") else "warning", name,
                      split.file.name, message)  # fmt: skip
        return
    close = _coincident(keypoints, split.visibility, scale, eyes)
    unlabelled = split.labelled.sum(axis=1) == 0
    suspicious = unlabelled | ((outside > 0) | lost | close.any(axis=2)).any(axis=1)
    for i in np.flatnonzero(suspicious & ~split.crowd).tolist():
        where = f"annotation {ids[i]}"
        if unlabelled[i]:
            message = "has no labelled keypoint, so it neither trains nor scores anything"
            yield Finding("no labelled keypoint", "warning", name, where, message)
        for k in np.flatnonzero(outside[i] > 0).tolist():
            message = f"{_place(split, i, k)} is outside its image"
            yield Finding("keypoint outside the image", "warning", name, where, message)
        for k in np.flatnonzero(lost[i]).tolist():
            message = f"{_place(split, i, k)} is so far outside its box that the crop does not hold it"
            yield Finding("keypoint outside the crop", "warning", name, where, message)
        for a, b in np.argwhere(close[i]).tolist():
            message = f"{_place(split, i, a)} and {split.skeleton.names[b]} are at one place"
            yield Finding("keypoints at one place", "warning", name, where, message)
    for i, message in suspicious_swaps(
        np.where(split.crowd[:, None, None], np.nan, keypoints), split.visibility, scale, split.skeleton
    ):
        yield Finding("left and right", "warning", name, f"annotation {ids[i]}", message)


def _coincident(keypoints: np.ndarray, visibility: np.ndarray, scale_px: np.ndarray, eyes: list[int]) -> np.ndarray:
    """(N, K, K) bool, in the upper triangle: pairs of keypoints at exactly one place, and eyes, both visible, closer
    than a hundredth of the scale (N,)."""
    close = np.zeros((*visibility.shape, visibility.shape[1]), dtype=bool)
    for start in range(0, len(keypoints), 1000):  # which bounds the memory
        some = slice(start, start + 1000)
        distance = np.linalg.norm(keypoints[some, :, None] - keypoints[some, None], axis=-1)
        close[some] = distance == 0
        if len(eyes) == 2:
            a, b = sorted(eyes)
            both = (visibility[some, a] == 2) & (visibility[some, b] == 2)
            close[some, a, b] |= (distance[:, a, b] < 0.01 * scale_px[some]) & both
    return np.triu(close, k=1)


def _place(split: CocoSplit, i: int, k: int) -> str:
    x, y = split.keypoints[i, k]
    return f"{split.skeleton.names[k]} at ({x:g}, {y:g})"


def _difference(image: Image, size: tuple[int, int]) -> str:
    """Why the size in the JSON may not be the upright picture's (width, height); empty where that doesn't show."""
    if (image.height, image.width) == size:
        stored = orientations([image])[0] >= 5
        return "the stored size: were labels made on unrotated pixels?" if stored else "width and height exchanged"
    factor = size[0] / image.width
    same = abs(image.height * factor - size[1]) <= 1
    return f"{factor:.3g} times as large: were pictures resized after they were labelled?" if same else ""


def _sizes_disagree(name: str, why: str, group: list[tuple[Image, tuple[int, int]]]) -> Iterator[Finding]:
    """One finding for each picture, or one for all that disagree for the same reason."""
    remedy = why or "correct the size and see whether the labels fit"
    for image, size in group[:1] if why else group:
        others = f" and {len(group) - 1} others" if why and len(group) > 1 else ""
        stated, upright = f"{image.width}×{image.height}", f"{size[0]}×{size[1]}"
        message = f"the JSON says {stated} px, but {image.file_name}, upright, is {upright}; {remedy}"
        yield Finding("size disagrees", "error", name, f"image {image.id}{others}", message)


def _twice(group: list[tuple[str, Image]], known: list[dict[str, list[str]]]) -> Finding:
    """What to say of one picture in several places; `known` copies of a published split are no news."""
    where = " = ".join(f"{name} image {image.id}" for name, image in group)
    files = ", ".join(sorted({image.file_name for _, image in group}))
    names = sorted({name for name, _ in group}, key=_rank)
    if len(names) == 1:
        return Finding("same picture twice", "warning", names[0], where, f"{files}: one picture, so it counts twice")
    both = f"{files}: one picture in {' and '.join(names)}"
    if any(all(image.file_name in listed.get(name, ()) for name, image in group) for listed in known):
        message = f"{both}, as {RECORD} says; `python -m catpose.test` scores with and without it"
        return Finding("known copy in two splits", "warning", "+".join(names), where, message)
    message = f"{both}, so the score is no longer honest; keep it in one"
    return Finding("same picture in two splits", "error", "+".join(names), where, message)


def _all_twice(splits: dict[str, CocoSplit], found: list[Finding]) -> Iterator[Finding]:
    """`_twice`'s findings; where a split is another one's copy as a whole, one."""
    by_splits: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in found:
        by_splits[finding.kind, finding.split].append(finding)
    for (kind, names), group in by_splits.items():
        n = min(len(splits[name].images) for name in names.split("+"))
        if "+" in names and len(group) == n >= MANY:
            where = f"{group[0].where} and all {n - 1} others"
            yield Finding(kind, group[0].severity, names, where, group[0].message)
        else:
            yield from group


def _near_copies(pool: list[tuple[str, Image, Fingerprint]]) -> Iterator[Finding]:
    for i, j in near_pairs([look for _, _, look in pool]):
        (name, image, _), (other_name, other, _) = pool[i], pool[j]
        where = f"{name} image {image.id} ~ {other_name} image {other.id}"
        message = f"{image.file_name} and {other.file_name} look alike; is one a copy of the other?"
        names = "+".join(sorted({name, other_name}, key=_rank))
        yield Finding("nearly the same picture", "warning", names, where, message)


def _pool(name: str, splits: dict[str, CocoSplit]) -> str:
    """Splits of one pool must not share a picture: the three, and each other file of annotations/ by itself."""
    apart = name in ("train", "val", "test") or (name == "test_info" and "test" not in splits)
    return "" if apart else name


def _rank(name: str) -> int:
    return SPLITS.index(name) if name in SPLITS else len(SPLITS)
