"""Slices of a split by what its pictures are like: box size, colour, source and other attributes.

Every attribute splits the instances into named slices by borders that are the same for every data set, so that two data
sets or models can be compared slice by slice. An instance that counts for no score (a crowd, nothing labelled) is in no
slice: its name is empty.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np

from catpose.data.coco_split import CocoSplit
from catpose.data.copies import known_copies
from catpose.data.images import read_pictures
from catpose.data.skeletons import in_ap10k_order
from catpose.geometry import apply, box_to_center_size, image_to_crop
from catpose.skeleton import AP10K

#: Longest side of a box, px. In a crop of 256 px, padded, one of 128 px is enlarged 1.6 times and one of 256 px shrunk.
SIZE_BORDERS_PX = (128, 256)
LABELLED_BORDERS = (5, 10)
#: A box this close to its image's border is taken to be cut off there: boxes are drawn to a pixel or two.
BORDER_PX = 2
#: Distance of colours (see `colour_distance`) up to which cat and background are "alike", and above which "apart":
#: close to the terciles of the cats of Animal-Pose (0.47, 0.60), but the same for every data set.
COLOUR_BORDERS = (0.45, 0.60)
COPIED = "copy in another split"
#: The slices of each attribute in their order; the sources of a data set are its own.
SLICES: dict[str, tuple[str, ...]] = {
    "box size": ("up to 128 px", "129 to 256 px", "over 256 px"),
    "labelled keypoints": ("1 to 5", "6 to 10", "11 to 17"),
    "cut off at the border": ("yes", "no"),
    "several cats": ("yes", "no"),
    "colour": ("alike", "middling", "apart"),
    "part of the cat": ("face only", "no hind legs", "face and hind legs", "no face"),
    COPIED: ("yes", "no"),
    "source": (),
}
#: A family of file names needs this share of the pictures to count as a source.
SOURCE_SHARE = 0.05

_SIDE = 128  # px of the crop that colours are compared in
_LIMB = 0.06  # half a limb's width in long sides of the box
_BINS, _BIN_OF_A = (8, 16, 16), 8  # of L, a, b; a bin of a or b is 8 of OpenCV's 8-bit units wide
_FACE = np.array([name in ("left_eye", "right_eye", "nose") for name in AP10K.names])
_HEAD = _FACE | np.array([name == "neck" for name in AP10K.names])
_HIND = np.array([name.endswith(("_hip", "_knee", "_back_paw")) for name in AP10K.names])


def slices(split: CocoSplit, colours: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """For each attribute, the slice that each instance is in.

    - "box size": the box's long side "up to 128 px", "129 to 256 px" (all above 128), "over 256 px"
    - "labelled keypoints": "1 to 5", "6 to 10", "11 to 17" ("over 10" of another number than 17)
    - "cut off at the border": "yes" where the box comes within 2 px of a border of its image, else "no"
    - "several cats": "yes" where the file has more instances of the same picture, crowds included, else "no"
    - "colour": cat and background "alike", "middling", "apart", see `colour_distance`
    - "part of the cat": "face only" (nothing labelled beyond eyes, nose and neck), "no face" (neither an eye nor the
      nose), "no hind legs" (no hip, knee or back paw), "face and hind legs"
    - "copy in another split": "yes" where ROOT/split.json lists a copy of the picture in another split, else "no"
    - "source": what the image or else the annotation says under "source"; where neither does, see `_family`

    Args:
        split: N instances.
        colours: (N,) as of `colour_distances`; without them the colour is left out.

    Returns:
        by the attribute's name (N,) str in the order of `split`; "" in no slice.

    Raises:
        InputError: ROOT/split.json is damaged.
    """
    counted = ~split.ignored
    sizes = np.array([(image.width, image.height) for image in split.images], dtype=np.float64)[split.image_index]
    start, end = split.boxes[:, :2], split.boxes[:, :2] + split.boxes[:, 2:]
    gap = np.minimum(start, sizes - end).min(axis=1)
    in_picture = np.bincount(split.image_index, minlength=len(split.images))[split.image_index]
    found = {
        "box size": _graded("box size", split.boxes[:, 2:].max(axis=1), SIZE_BORDERS_PX),
        "labelled keypoints": _n_labelled(split),
        "cut off at the border": np.where(gap <= BORDER_PX, "yes", "no"),
        "several cats": np.where(in_picture > 1, "yes", "no"),
        "part of the cat": _part_of_the_cat(split),
        COPIED: np.where(copied(split), "yes", "no"),
        "source": _sources(split),
    }
    if colours is not None:
        found["colour"] = np.where(np.isnan(colours), "", _graded("colour", colours, COLOUR_BORDERS))
    return {name: np.where(counted, found[name], "") for name in SLICES if name in found}


def copied(split: CocoSplit) -> np.ndarray:
    """(N,) bool: the instances whose picture has a known copy in another split, see `catpose.data.copies`.

    Raises:
        InputError: ROOT/split.json is damaged.
    """
    name, root = split.file.stem, split.file.parent.parent
    names = {file_name for group in known_copies(root) if len(group) > 1 for file_name in group.get(name, ())}
    return np.array([image.file_name in names for image in split.images], dtype=bool)[split.image_index]


def colour_distances(split: CocoSplit) -> np.ndarray:
    """(N,) `colour_distance` of the instances that aren't ignored; nan for the others.

    Raises:
        InputError: a picture that can't be read.
    """
    distances = np.full(len(split), np.nan)
    for index, picture in read_pictures(split, ~split.ignored):
        distances[split.image_index == index] = colour_distances_in(split, index, picture)
    return distances


def colour_distances_in(split: CocoSplit, index: int, picture: np.ndarray) -> list[float]:
    """The same of the instances on one picture, (H, W, 3) uint8 RGB, by its place among the split's."""
    here = np.flatnonzero(split.image_index == index)
    each = ((split.boxes[i], split.keypoints[i], split.boxes[here[here != i]], split.ignored[i]) for i in here)
    return [
        math.nan if ignored else colour_distance(picture, box, keypoints, others, split.skeleton.limbs)
        for box, keypoints, others, ignored in each
    ]


def colour_distance(
    picture: np.ndarray,
    box: np.ndarray,
    keypoints: np.ndarray,
    others: np.ndarray,
    limbs: tuple[tuple[int, int], ...],
) -> float:
    """How far apart the colours of an animal and of what is around it are: 0 the same, 1 none in common.

    The animal's pixels are those near its labelled keypoints and the limbs between them; its background are those in
    the padded box, outside the ellipse that fills the box, away from the keypoints, and in no other animal's box. Of
    both a histogram is taken in CIELAB (8 × 16 × 16 bins, blurred by a bin, since a shade is no border), and the
    Hellinger distance of the two, sqrt(1 - sum sqrt(p q)).

    Args:
        picture: (H, W, 3) uint8 RGB.
        box: (4,) x, y, width, height, px. keypoints: (K, 2) px, nan where not labelled.
        others: (n, 4) boxes of the picture's other animals.
        limbs: which of the keypoints are joined.

    Returns:
        0..1, nan where too little of the animal or of the background is to be seen.
    """
    size = (_SIDE, _SIDE)
    affine = image_to_crop(*box_to_center_size(box, size), size)
    crop = cv2.warpAffine(picture, affine, size, flags=cv2.INTER_NEAREST)
    radius = max(1, round(_LIMB * float(box[2:].max() * affine[0, 0])))
    animal, near = (np.zeros(size, np.uint8) for _ in range(2))
    points = _whole(apply(affine, keypoints))
    labelled = ~np.isnan(keypoints).any(axis=1)
    for mask, r in ((animal, radius), (near, 2 * radius)):
        for k in np.flatnonzero(labelled):
            cv2.circle(mask, points[k], r, 1, -1)
        for a, b in limbs:
            if labelled[a] and labelled[b]:
                cv2.line(mask, points[a], points[b], 1, 2 * r)
    corners = np.stack([box[:2], box[:2] + box[2:]])
    (left, top), (right, bottom) = _whole(apply(affine, corners))
    cv2.ellipse(near, ((left + right) // 2, (top + bottom) // 2), ((right - left) // 2, (bottom - top) // 2),
                0, 0, 360, 1, -1)  # fmt: skip
    for other in others:
        corner, opposite = _whole(apply(affine, np.stack([other[:2], other[:2] + other[2:]])))
        cv2.rectangle(near, corner, opposite, 1, -1)
    inside = np.zeros(size, np.uint8)
    edges = np.array([[-0.5, -0.5], [picture.shape[1] - 0.5, picture.shape[0] - 0.5]])
    corner, opposite = _whole(apply(affine, edges))
    cv2.rectangle(inside, corner, opposite, 1, -1)
    animal, background = animal & inside, (1 - near) & inside
    if animal.sum() < 20 or background.sum() < 50:
        return float("nan")
    lab = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB)
    p, q = _histogram(lab, animal), _histogram(lab, background)
    return float(np.sqrt(max(0.0, 1.0 - float(np.sqrt(p * q).sum()))))


def _histogram(lab: np.ndarray, mask: np.ndarray) -> np.ndarray:
    half = _BINS[1] * _BIN_OF_A // 2
    lab[..., 1:] = np.clip(lab[..., 1:], 128 - half, 127 + half)  # calcHist drops what lies beyond
    ranges = [0, 256, 128 - half, 128 + half, 128 - half, 128 + half]
    counts = cv2.calcHist([lab], [0, 1, 2], mask, list(_BINS), ranges).astype(np.float64)
    for axis, n in enumerate(_BINS):
        counts = np.moveaxis(np.tensordot(_blur(n), counts, axes=(1, axis)), 0, axis)
    return counts / counts.sum()


def _blur(n: int) -> np.ndarray:
    """(n, n): 1 2 1 along a histogram, at its ends what would fall beyond stays."""
    blur = (2 * np.eye(n) + np.eye(n, k=1) + np.eye(n, k=-1)) / 4
    blur[0, 0] = blur[-1, -1] = 0.75
    return blur


def _whole(points: np.ndarray) -> list[tuple[int, int]]:
    """Points as OpenCV draws them."""
    return [(int(x), int(y)) for x, y in np.nan_to_num(points).round().clip(-1e4, 1e4)]


def _graded(attribute: str, values: np.ndarray, borders: tuple[float, float]) -> np.ndarray:
    """(N,) slices by value; a border belongs to the slice below it, nan to the last."""
    return np.array(SLICES[attribute])[np.searchsorted(borders, values)]


def _n_labelled(split: CocoSplit) -> np.ndarray:
    names = _graded("labelled keypoints", split.labelled.sum(axis=1), LABELLED_BORDERS)
    last = SLICES["labelled keypoints"][-1]
    return names if len(split.skeleton) == len(AP10K) else np.where(names == last, "over 10", names)


def _part_of_the_cat(split: CocoSplit) -> np.ndarray:
    _, visibility = in_ap10k_order(split.keypoints, split.visibility, split.skeleton)
    labelled = visibility > 0
    rules = [~labelled[:, ~_HEAD].any(axis=1), ~labelled[:, _FACE].any(axis=1), ~labelled[:, _HIND].any(axis=1)]
    return np.select(rules, ["face only", "no face", "no hind legs"], "face and hind legs")


def _sources(split: CocoSplit) -> np.ndarray:
    """(N,) str."""
    of_image = _stated_sources(split.coco.get("images"))
    of_annotation = _stated_sources(split.coco.get("annotations"))
    families = [_family(image.file_name) for image in split.images]
    often = {name for name, n in Counter(families).items() if n >= SOURCE_SHARE * len(families)}
    return np.array(
        [
            of_image.get(split.images[image].id)
            or of_annotation.get(id_)
            or (families[image] if families[image] in often else "other")
            for image, id_ in zip(split.image_index.tolist(), split.ids.tolist(), strict=True)
        ],
        dtype=str,
    )


def _stated_sources(entries: Any) -> dict[int, str]:
    return {
        entry["id"]: entry["source"].strip()
        for entry in entries or []
        if isinstance(entry, dict) and isinstance(entry.get("source"), str) and isinstance(entry.get("id"), int)
    }


def _family(file_name: str) -> str:
    """Where a picture came from, by its name: its first folder, "VOC" for a name like 2008_003499, else the letters
    that the name begins with, "numbered" where there are none."""
    path = PurePosixPath(file_name)
    if len(path.parts) > 1:
        return path.parts[0]
    if re.fullmatch(r"20\d\d_\d{6}", path.stem):
        return "VOC"
    letters = re.match(r"[^\W\d_]+", path.stem)
    return letters[0] if letters else "numbered"
