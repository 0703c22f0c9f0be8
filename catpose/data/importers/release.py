"""From a tool's labels to a `Release`: which keypoints are kept, where the pictures are, which boxes hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from catpose.data.images import picture_size
from catpose.data.importers.labels import Animal, Labels, Picture
from catpose.data.importers.names import Match, match_keypoints
from catpose.data.importers.own import keep_keypoints
from catpose.data.importers.pictures import PictureFinder, unique_names
from catpose.data.sources import Release, category_entry, make_annotation
from catpose.data.structure import AREA_SHARES
from catpose.errors import InputError, nearest, one_line
from catpose.text import counted

#: What is added on each side of keypoints where a box is made of them, in parts of their longer extent: among 777 cats
#: of Animal-Pose with six keypoints and more, the median box reaches 0.06 to 0.37 beyond them.
MARGIN = 0.2
#: Boxes that end within so many px of the outermost keypoints were made of these.
TIGHT_PX = 1.5
FEW = 3  # keypoints that say whether a box is tight
MOST = 0.75  # share of an animal's keypoints that its rectangle holds at least: people label a tail or paw beyond it
#: Why an animal of Label Studio's COCO export is left out, and what to do.
SEVERAL = "with keypoints in several rectangles"  # which may be of several animals
SEVERAL_REMEDY = "put them into their rectangles in Label Studio's list of regions, and export YOLO with images"


@dataclass(frozen=True)
class Imported:
    """A release with what is known of its pictures' origin."""

    release: Release
    match: Match
    splits: dict[int, str]  # by image id: the source's own split, where it has one
    groups: dict[int, str]  # by image id: the video or picture it was made from, where the source says it
    notes: list[str]  # what was done to boxes


def to_release(labels: Labels, finder: PictureFinder, species: Sequence[str] | None, own: bool) -> Imported:
    """Labels as a release: keypoints by name, ids from 1, pictures under names of their own.

    Args:
        labels: of an importer.
        finder: of the pictures, by base name.
        species: categories to keep, or "all"; None for the only one that has labelled keypoints.
        own: keep the source's keypoints, or else AP-10K's 17 of them, under AP-10K's names.

    Raises:
        InputError: no labelled keypoint, several categories to choose from, keypoints that can't be matched, pictures
            that aren't there.
    """
    source = labels.files[0]
    left_out = Counter(labels.left_out)
    kept_categories = _categories(labels, species, source)
    match = _match(labels, kept_categories[0], own)
    pictures = _kept(labels, kept_categories, match, left_out)
    if not pictures:
        whose = "its own" if own else "AP-10K's 17"
        raise InputError(f"{source}: no animal has one of {whose} keypoints labelled; label some first")
    files = _find(pictures, finder)
    merged = _merged(pictures, files, left_out)
    notes = _make_boxes(merged, left_out)
    merged = {file: picture for file, picture in merged.items() if picture.animals}
    if empty := len(labels.pictures) - len(pictures):
        notes.append(f"left out: {counted(empty, 'picture')} without such an animal")
    if not merged:
        raise InputError(f"{source}: no animal has a box, or keypoints enough to make one; label more of them")
    names = unique_names(list(merged), finder.folders)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for id_, (file, picture) in enumerate(merged.items(), start=1):
        width, height = picture.size or picture_size(file)
        images.append({"id": id_, "file_name": names[file], "width": width, "height": height})
        for animal in picture.animals:
            assert animal.box is not None
            points = [animal.points[place] if place is not None else (0, 0, 0) for place in match.places]
            annotations.append(
                make_annotation(
                    len(annotations) + 1, id_, kept_categories.index(animal.category) + 1, list(animal.box), points,
                    _area(animal),
                )
            )  # fmt: skip
    release = Release(
        f"imported from {labels.tool}",
        finder.folders[0],
        images,
        annotations,
        [category_entry(i, name, match.skeleton) for i, name in enumerate(kept_categories, start=1)],
        left_out=left_out,
        files={images[i]["id"]: file for i, file in enumerate(merged)},
        skeleton=match.skeleton,
    )
    by_id = list(enumerate(merged.values(), start=1))
    splits = {id_: picture.split for id_, picture in by_id if picture.split}
    groups = {id_: picture.group for id_, picture in by_id if picture.group}
    return Imported(release, match, splits, groups, notes)


def _match(labels: Labels, category: str, own: bool) -> Match:
    names, source = labels.keypoints[category], labels.files[0]
    if not own:
        return match_keypoints(names, source)
    return keep_keypoints(names, source, labels.tool, labels.limbs.get(category, []), labels.flip_pairs)


def _categories(labels: Labels, species: Sequence[str] | None, source: Path) -> list[str]:
    """The categories to keep, in their order; all of the same keypoints."""
    times = Counter(
        animal.category
        for picture in labels.pictures
        for animal in picture.animals
        if any(v for _, _, v in animal.points)
    )
    found = [name for name in labels.keypoints if times[name]]
    if not found:
        raise InputError(f"{source}: no keypoint is labelled (v > 0) anywhere; label some first")
    if species is None:
        if len(found) > 1:
            counted = ", ".join(f"{one_line(name)} ({times[name]})" for name in found)
            raise InputError(
                f"{source}: several categories have keypoints: {counted}; choose with --species NAME … or 'all'"
            )
        return found
    for name in species:
        if name not in found and name != "all":
            hint = nearest(name, found) or f" There are: {one_line(', '.join(found))}"
            raise InputError(f"{source}: no labelled animal is of category '{name}'.{hint}")
    chosen = [name for name in found if "all" in species or name in species]
    for name in chosen[1:]:
        if labels.keypoints[name] != labels.keypoints[chosen[0]]:
            raise InputError(
                f"{source}: categories '{one_line(chosen[0])}' and '{one_line(name)}' have different keypoints; import"
                " one at a time"
            )
    return chosen


def _kept(labels: Labels, categories: Sequence[str], match: Match, left_out: Counter[str]) -> list[Picture]:
    """The pictures with the animals that have a keypoint labelled that is kept; the others are counted."""
    ours = [place for place in match.places if place is not None]
    pictures = []
    for picture in labels.pictures:
        animals = []
        for animal in picture.animals:
            if animal.category not in categories:
                left_out[f"of {one_line(animal.category)}"] += 1
            elif not any(animal.points[place][2] for place in ours):
                left_out["without a labelled keypoint"] += 1
            elif labels.one_a_picture and _mixed(animal, picture.rectangles):
                left_out[SEVERAL] += 1
            else:
                animals.append(animal)
        if animals:
            pictures.append(replace(picture, animals=animals))
    if not pictures and left_out[SEVERAL]:
        raise InputError(f"{labels.files[0]}: no animal but {left_out[SEVERAL]} {SEVERAL}; {SEVERAL_REMEDY}")
    return pictures


def _mixed(animal: Animal, rectangles: Sequence[tuple[float, float, float, float]]) -> bool:
    """Whether its keypoints lie in several rectangles, so that they may be of several animals."""
    points = _labelled(animal)
    return sum(bool(_inside(points, box).any()) for box in rectangles) > 1


def _find(pictures: Sequence[Picture], finder: PictureFinder) -> list[Path]:
    files = [finder.find(picture.name, picture.labels) for picture in pictures]
    missing = [picture.name for picture, file in zip(pictures, files, strict=True) if file is None]
    if missing:
        where = " or ".join(str(folder) for folder in finder.folders)
        raise InputError(
            f"{pictures[0].labels}: {len(missing)} of the {len(pictures)} labelled pictures are not below {where},"
            f" '{one_line(missing[0])[:100]}' for one; export the labels with their pictures, or name the pictures'"
            " folder with --images"
        )
    return [file for file in files if file is not None]


def _merged(pictures: Sequence[Picture], files: Sequence[Path], left_out: Counter[str]) -> dict[Path, Picture]:
    """By file: one picture for each, with the animals of all that name it; an animal that is there twice is kept once.

    Raises:
        InputError: a picture that two splits of the source share.
    """
    merged: dict[Path, Picture] = {}
    for picture, file in zip(pictures, files, strict=True):
        first = merged.setdefault(file, replace(picture, animals=[]))
        if first.split and picture.split and first.split != picture.split:
            raise InputError(
                f"{picture.labels}: '{one_line(picture.name)[:100]}' is in {first.split} and in {picture.split}; name"
                " one label file, or leave the picture in one of them"
            )
        first.split = first.split or picture.split
        if first is not picture:
            first.rectangles = list(dict.fromkeys([*first.rectangles, *picture.rectangles]))
        for animal in picture.animals:
            if animal in first.animals:
                left_out["listed twice"] += 1
            else:
                first.animals.append(animal)
    return merged


def _make_boxes(pictures: dict[Path, Picture], left_out: Counter[str]) -> list[str]:
    """Give a box to each animal that has none, in place; those of which none can be made are left out.

    Where all boxes end at the outermost keypoints, the tool made them, and none of them is a box of the animal.
    """
    tight = [is_tight(a) for p in pictures.values() for a in p.animals if a.box and _labelled(a).shape[0] >= FEW]
    all_tight = bool(tight) and all(tight)
    added: Counter[str] = Counter()
    for file, picture in pictures.items():
        animals = []
        for animal in picture.animals:
            box = None if all_tight else animal.box
            if box is None:
                box = around(animal, picture.rectangles)
                added["rectangles"] += box is not None
            if box is None:
                box = _from_keypoints(animal, picture.size or picture_size(file))
                added["keypoints"] += box is not None
            if box is None:
                left_out["with one keypoint and no box"] += 1
            else:
                animals.append(replace(animal, box=box))
        picture.animals = animals
    if all_tight and any(added.values()):
        why = "the source's end at the outermost keypoints"
    else:
        why = "the source has none there, or of no size"
    notes = [f"animals {SEVERAL} are left out; {SEVERAL_REMEDY}"] if left_out[SEVERAL] else []
    if added["rectangles"]:
        left_out["without keypoints"] -= added["rectangles"]
        notes.append(f"{added['rectangles']} boxes taken from the rectangle around the keypoints ({why})")
    if added["keypoints"]:
        notes.append(f"{added['keypoints']} boxes made from keypoints, {MARGIN:.0%} of their extent added ({why})")
    return notes


def _labelled(animal: Animal) -> np.ndarray:
    """(K, 2): its labelled keypoints."""
    return np.array([(x, y) for x, y, v in animal.points if v], dtype=np.float64).reshape(-1, 2)


def is_tight(animal: Animal) -> bool:
    """Whether its box ends at its outermost keypoints."""
    points, (x, y, width, height) = _labelled(animal), animal.box or (0, 0, 0, 0)
    ends = np.concatenate([points.min(axis=0), points.max(axis=0)])
    return bool((np.abs(ends - (x, y, x + width, y + height)) <= TIGHT_PX).all())


def around(
    animal: Animal, rectangles: Sequence[tuple[float, float, float, float]]
) -> tuple[float, float, float, float] | None:
    """The one of some rectangles that holds most of its keypoints; None where none does, or several as many."""
    points = _labelled(animal)
    held = [int(_inside(points, box).sum()) for box in rectangles]
    most = max(held, default=0)
    return rectangles[held.index(most)] if held.count(most) == 1 and most >= MOST * len(points) else None


def _inside(points: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """(N,) bool: which of some points (N, 2) a box holds."""
    start, end = np.array(box[:2]) - TIGHT_PX, np.add(box[:2], box[2:]) + TIGHT_PX
    return np.all((points >= start) & (points <= end), axis=1)


def _from_keypoints(animal: Animal, size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Their extent with the margin, within the picture; None where they are at one place."""
    points = _labelled(animal)
    low, high = points.min(axis=0), points.max(axis=0)
    margin = MARGIN * float((high - low).max())
    start = np.clip(low - margin, 0, size)
    side = np.clip(high + margin, 0, size) - start
    if margin <= 0 or (side <= 0).any():
        return None
    return tuple(round(float(value), 2) for value in (*start, *side))  # type: ignore[return-value]


def _area(animal: Animal) -> float | None:
    """The source's area where it is one of that box (px²); None where the box's is to be taken."""
    assert animal.box is not None
    low, high = (share * animal.box[2] * animal.box[3] for share in AREA_SHARES)
    return animal.area if animal.area is not None and low <= animal.area <= high else None
