"""What an annotation file as a whole gives away: coordinates of another kind than COCO's, labels of other pictures.

A tool that writes per cent, corners or its template's default writes them for all instances, so such a fault is told
once, with its probable cause, and not once for each. Errors are what sound labels can't look like; a warning is what
they hardly do. How hardly was measured on the 1236 cats of Animal-Pose and on 4546 animals: not one in 300 has half of
its keypoints outside its box, and no box reaches beyond its picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from catpose.data.coco_split import CocoSplit
from catpose.data.finding import Fault, Severity
from catpose.data.inversions import facing, mirrored_face
from catpose.data.skeletons import in_ap10k_order
from catpose.skeleton import AP10K
from catpose.text import counted

#: Where a fault of a file as a whole is.
WHOLE = "the whole file"
#: Kinds that the places of many instances give away.
GEOMETRY = (
    *("another convention", "boxes and keypoints disagree", "coordinates in per cent", "labels of another scale"),
    *("animals not upright", "left and right throughout"),
)
#: Instances from which on a share of them says something.
FEW = 5
#: Share of the instances that a tool's fault shows in; sound labels stay far below.
SHARE = 0.1
#: From which overlap of boxes (intersection over union), and up to which mean distance of common keypoints (in parts of
#: the box's longer side), two instances of a picture are one animal: of 2694 pairs on real pictures none is so close.
SAME_BOX, SAME_POINTS = 0.75, 0.05
_PAWS = AP10K.indices("left_front_paw", "left_back_paw", "right_front_paw", "right_back_paw")
_ABOVE = [k for k, name in enumerate(AP10K.names) if not name.endswith(("paw", "elbow", "knee"))]


class Labels(NamedTuple):
    """The instances of one or more files that count."""

    ids: np.ndarray  # (N,) int64
    images: np.ndarray  # (N,) int64: place of its image in the split
    sizes: np.ndarray  # (N, 2) float64: width and height of its image, px
    boxes: np.ndarray  # (N, 4) float64: x, y, width, height, as in the file
    points: np.ndarray  # (N, K, 2) float64, as in the file; nan where not labelled
    visibility: np.ndarray  # (N, K) int64
    body: np.ndarray  # (N, 17, 2) float64: points as AP-10K orders them, nan where the skeleton has none of that name
    body_visibility: np.ndarray  # (N, 17) int64

    @classmethod
    def of(cls, split: CocoSplit) -> Labels:
        """Those of a split's instances but crowds."""
        counted = ~split.crowd
        sizes = np.array([(image.width, image.height) for image in split.images], dtype=np.float64).reshape(-1, 2)
        index = split.image_index[counted]
        return cls(
            split.ids[counted],
            index,
            sizes[index],
            split.boxes[counted],
            split.keypoints[counted],
            split.visibility[counted],
            *in_ap10k_order(split.keypoints[counted], split.visibility[counted], split.skeleton),
        )

    def joined(self, other: Labels) -> Labels:
        """These labels, then the other's."""
        return Labels(*(np.concatenate(both) for both in zip(self, other, strict=True)))


def whole_faults(split: CocoSplit) -> Iterator[Fault]:
    """Of one file, the certain first; where an error is among them, its entries' own geometry says no more."""
    if not len(split):
        return
    if split.crowd.all():
        message = f"all {len(split)} annotations have iscrowd 1, so none is trained on or scored; write 0 for one cat"
        yield Fault("all crowds", message, "error" if split.has_keypoints else "warning")
        return
    labels = Labels.of(split)
    faults = [*_visibility(split), *_units(labels), *_one_pose(labels)]
    yield from faults
    if all(fault.severity == "warning" for fault in faults):
        yield from geometry_faults(labels)
    yield from _twice(labels)


def geometry_faults(labels: Labels) -> Iterator[Fault]:
    """What the places of many instances give away, of one file or of several that one tool wrote."""
    mismatch = _mismatch(labels)
    if mismatch:
        yield mismatch
        return
    yield from _scale(labels)
    yield from _poses(labels)
    yield from _corners(labels)


def _visibility(split: CocoSplit) -> Iterator[Fault]:
    if not split.has_keypoints:
        return
    visibility = split.visibility[~split.crowd]
    if not visibility.any():
        stated = np.array([entry["keypoints"] for entry in split.coco["annotations"]], dtype=np.float64)
        n = int((stated.reshape(len(stated), -1, 3)[..., :2] != 0).any(axis=(1, 2)).sum())
        if n:
            message = f"every keypoint has v = 0 (not labelled), though {n} annotations give places; write v = 2 there"
            yield Fault("all unlabelled", message)
    elif visibility.max() == 1 and len(visibility) >= FEW:
        message = "every labelled keypoint has v = 1 (hidden), none 2 (visible); does the tool write 1 for labelled?"
        yield Fault("all hidden", message, "warning")


def _units(labels: Labels) -> Iterator[Fault]:
    """Places that are none, and coordinates within 0..1."""
    at_origin = ((labels.points == 0) | (labels.points == -1)).all(axis=-1)
    n = int(at_origin.any(axis=1).sum())
    if n:
        severity: Severity = "error" if at_origin.sum(axis=1).max() > 1 else "warning"
        message = (
            f"{at_origin.sum()} keypoints of {n} instances are labelled (v > 0) at 0, 0 or -1, -1, as tools write"
            f" what isn't labelled (annotation {labels.ids[at_origin.any(axis=1)][0]}); give them v = 0"
        )
        yield Fault("labelled at 0, 0", message, severity)
        if severity == "error":
            return
    large = (labels.sizes >= 8).all(axis=1)
    boxes = large & (np.abs(labels.boxes).max(axis=1, initial=0) <= 1.001)
    several = (labels.visibility > 0).sum(axis=1) > 1
    points = large & several & ~(np.abs(labels.points) > 1.001).any(axis=(1, 2))
    what = [name for name, found in (("'bbox'", boxes), ("'keypoints'", points)) if found.any()]
    if what:
        found = boxes | points
        message = (
            f"{' and '.join(what)} of {_share(found)} lie within 0..1 (annotation {labels.ids[found][0]}): are they"
            " fractions of the picture instead of px? Multiply x by its width, y by its height"
        )
        yield Fault("coordinates in 0..1", message)


def _mismatch(labels: Labels) -> Fault | None:
    """Boxes that leave their pictures, or keypoints that leave their boxes, and under which reading they would not."""
    wrong = _misfits(labels)
    if wrong.sum() < 2 or wrong.mean() < SHARE:
        return None
    read = {name: reading(labels) for name, reading in READINGS.items()}
    misfits = {name: int(_misfits(meant).sum()) for name, meant in read.items()}
    fewest = min(misfits.values())
    fit = {name: _overlap(read[name]) for name, n in misfits.items() if n <= fewest + SHARE / 2 * len(wrong)}
    name = max(fit, key=lambda name: fit[name])  # of equals the first
    off = f"in {_share(wrong)} the box leaves its picture or the keypoints leave their box"
    example = f"(annotation {labels.ids[wrong][0]})"
    if misfits[name] <= wrong.sum() / 4:
        return Fault("another convention", f"{off} {example}, but hardly any if {name}; convert them")
    if _outside(labels).mean() >= 2.5 * SHARE:
        message = f"{off} {example}: labels of other pictures, or of another size of them?"
        return Fault("boxes and keypoints disagree", message)
    reach = ((labels.boxes[:, :2] + labels.boxes[:, 2:]) / labels.sizes).max()
    if (labels.boxes[:, :2] >= labels.sizes).any(axis=1).mean() >= SHARE / 2 or reach >= 1.5:
        message = f"{off} {example}, by up to {reach:.2g} times its side: labels of a larger size of the pictures?"
        return Fault("labels of another scale", message)
    return None


def _moved(labels: Labels, boxes: np.ndarray | None = None, points: np.ndarray | None = None) -> Labels:
    return labels._replace(
        boxes=labels.boxes if boxes is None else boxes, points=labels.points if points is None else points
    )


def _columns(labels: Labels, *columns: int) -> np.ndarray:
    return labels.boxes[:, columns]


def _ends(boxes: np.ndarray) -> np.ndarray:
    """Boxes of two corners as x, y, width, height."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


#: How else the numbers might be meant; where several fit equally, the first is named.
READINGS: dict[str, Callable[[Labels], Labels]] = {
    "'bbox' is x0, y0, x1, y1 (two corners)": lambda a: _moved(a, _ends(a.boxes)),
    "'bbox' is centre x, centre y, width, height": lambda a: _moved(
        a, np.concatenate([a.boxes[:, :2] - a.boxes[:, 2:] / 2, a.boxes[:, 2:]], axis=1)
    ),
    "'keypoints' count from the corner of their box": lambda a: _moved(a, None, a.points + a.boxes[:, None, :2]),
    "x and y are exchanged in 'keypoints'": lambda a: _moved(a, None, a.points[..., ::-1]),
    "x and y are exchanged in 'bbox'": lambda a: _moved(a, _columns(a, 1, 0, 3, 2)),
    "x and y are exchanged in both": lambda a: _moved(a, _columns(a, 1, 0, 3, 2), a.points[..., ::-1]),
    "'bbox' is y0, x0, y1, x1": lambda a: _moved(a, _ends(_columns(a, 1, 0, 3, 2))),
    "'keypoints' are per cent of the picture": lambda a: _moved(a, None, a.points * a.sizes[:, None] / 100),
    "'bbox' is per cent of the picture": lambda a: _moved(a, a.boxes * np.tile(a.sizes, 2) / 100),
    "both are per cent of the picture": lambda a: _moved(
        a, a.boxes * np.tile(a.sizes, 2) / 100, a.points * a.sizes[:, None] / 100
    ),
    "y counts from the bottom in 'keypoints'": lambda a: _moved(
        a, None, np.stack([a.points[..., 0], a.sizes[:, None, 1] - a.points[..., 1]], axis=-1)
    ),
    "'keypoints' are half as large as they should be": lambda a: _moved(a, None, a.points * 2),
    "'keypoints' are twice as large as they should be": lambda a: _moved(a, None, a.points / 2),
}


def _misfits(labels: Labels) -> np.ndarray:
    """(N,) bool: boxes that are none or leave their picture by more than a fiftieth, keypoints mostly off their box."""
    slack = 1 + 0.02 * labels.sizes
    start, side = labels.boxes[:, :2], labels.boxes[:, 2:]
    leaves = (start < -slack) | (start + side > labels.sizes + slack)
    return (leaves | (side <= 0)).any(axis=1) | _outside(labels)


def _overlap(labels: Labels) -> float:
    """Over the instances, the median share of box and extent of keypoints together that both cover; 0 without any."""
    some = (labels.visibility > 0).sum(axis=1) > 2
    if not some.any():
        return 0.0
    points, start, side = labels.points[some], labels.boxes[some, :2], labels.boxes[some, 2:]
    low, high = np.nanmin(points, axis=1), np.nanmax(points, axis=1)
    both = np.clip(np.minimum(high, start + side) - np.maximum(low, start), 0, None).prod(axis=1)
    either = (high - low).prod(axis=1) + np.clip(side, 0, None).prod(axis=1) - both
    return round(float(np.median(both / np.maximum(either, 1e-9))), 3)


def _outside(labels: Labels) -> np.ndarray:
    """(N,) bool: half of the labelled keypoints, or more, are farther outside the box than a tenth of its side."""
    start, side = labels.boxes[:, None, :2], labels.boxes[:, None, 2:]
    inside = ((labels.points >= start - 0.1 * side) & (labels.points <= start + 1.1 * side)).all(axis=-1)
    n = (labels.visibility > 0).sum(axis=1)
    return (n > 0) & (2 * inside.sum(axis=1) <= n)


def _scale(labels: Labels) -> Iterator[Fault]:
    """All labels in the upper left of their pictures, which many sound ones never are."""
    ends = labels.boxes[:, :2] + labels.boxes[:, 2:]
    per_cent = 50 < ends.max() <= 101
    large = labels.sizes.min(axis=1) > (134 if per_cent else 0)  # smaller pictures fit per cent anyway
    if not large.any():
        return
    reach = (ends[large] / labels.sizes[large]).max(axis=0)
    chance = float(np.prod(np.minimum(reach, 1)) ** large.sum())  # that so many boxes, wherever, end there
    if chance >= 1e-3 or reach.max() > 0.75:
        return
    what = f"all {large.sum()} boxes end within the upper left {reach[0]:.0%} × {reach[1]:.0%} of their pictures"
    if per_cent:
        message = f"{what}, and no coordinate is above 100: are they per cent instead of px?"
        yield Fault("coordinates in per cent", message, "error" if chance < 1e-6 else "warning")
    else:
        yield Fault("labels of another scale", f"{what}: labels of a smaller size of the pictures?", "warning")


def _corners(labels: Labels) -> Iterator[Fault]:
    """Corners in place of sides, where no box leaves its picture: keypoints never in what lies beyond."""
    ends = labels.boxes[:, 2:]
    if len(ends) < 2 * FEW or not (labels.boxes[:, :2] < ends).all() or not (ends <= labels.sizes + 1).all():
        return
    beyond = (labels.points > 1.02 * ends[:, None]).any(axis=(1, 2))
    if not beyond.any() and (labels.visibility > 0).any(axis=1).mean() > 0.5:
        message = "no keypoint lies right of 'bbox' 3 or below 'bbox' 4: is it x0, y0, x1, y1 instead of width, height?"
        yield Fault("another convention", message, "warning")


def _poses(labels: Labels) -> Iterator[Fault]:
    """Which way the animals stand, and which side is left, over all of them."""
    turned = turn(labels.body)
    if turned:
        yield Fault("animals not upright", f"{turned}; were x and y exchanged, or the pictures turned?", "warning")
    seen = facing(labels.body_visibility) & ~np.isnan(labels.body[:, :3]).any(axis=(1, 2))
    mirrored = mirrored_face(labels.body) & seen
    if seen.sum() >= FEW and mirrored.sum() >= 0.8 * seen.sum():
        message = (
            f"in {mirrored.sum()} of {seen.sum()} faces left_eye and right_eye are on the wrong sides: are left and"
            " right the viewer's, or the pictures mirrored? The animal's own are meant"
        )
        yield Fault("left and right throughout", message, "warning")


def turn(points: np.ndarray) -> str | None:
    """In words, which way the paws (N, 17, 2) lie from the body where that is not down; None where it is, or too few
    tell."""
    away = paws_away(points)
    if len(away) < FEW:
        return None
    x, y = away.mean(axis=0)
    if max(-y, abs(x)) < sure_of(len(away)) or y > abs(x):
        return None
    side = "above" if -y > abs(x) else "right of" if x > 0 else "left of"
    return f"over {len(away)} animals the paws lie {side} the body"


def paws_away(points: np.ndarray) -> np.ndarray:
    """(M, 2): unit vectors from the body to the paws, of those of (N, 17, 2) that have both. On average over standing
    and lying cats they point down by 0.67."""
    with np.errstate(invalid="ignore", divide="ignore"):
        away = _mean(points[:, _PAWS]) - _mean(points[:, _ABOVE])
        away /= np.linalg.norm(away, axis=1, keepdims=True)
    return away[~np.isnan(away).any(axis=1)]


def sure_of(n: int) -> float:
    """The mean of `paws_away` from which it is no accident of n animals."""
    return 0.3 + 1.2 / float(np.sqrt(n))


def _mean(points: np.ndarray) -> np.ndarray:
    """(N, 2): the mean of the labelled ones of (N, K, 2); nan where there is none."""
    labelled = ~np.isnan(points[..., :1])
    return np.where(labelled, points, 0).sum(axis=1) / labelled.sum(axis=1)


def _one_pose(labels: Labels) -> Iterator[Fault]:
    posed = (labels.visibility > 0).sum(axis=1) > 1
    poses = np.nan_to_num(labels.points[posed], nan=-1.0)
    n_images = len(np.unique(labels.images[posed]))
    if n_images >= 3 and (poses == poses[0]).all():
        message = f"all {len(poses)} instances have the same keypoints: a template's, that nobody moved?"
        yield Fault("one pose for all", message, "error" if n_images >= 2 * FEW else "warning")


def _twice(labels: Labels) -> Iterator[Fault]:
    rows: dict[bytes, list[int]] = {}
    points = np.nan_to_num(labels.points, nan=-1).reshape(len(labels.ids), -1)
    for i, row in enumerate(np.concatenate([labels.images[:, None], labels.boxes, points], axis=1)):
        rows.setdefault(row.tobytes(), []).append(i)
    twice = [group for group in rows.values() if len(group) > 1]
    if twice:
        some = " = ".join(f"annotation {labels.ids[i]}" for i in twice[0])
        message = f"{len(twice)} instances are there twice, with equal box and keypoints ({some}); keep one of each"
        yield Fault("same instance twice", message, "warning")
    close = _close_pairs(labels)
    if len(close):
        a, b = labels.ids[close[0]]
        message = (
            f"{counted(len(close), 'pair')} of nearly equal instances (annotation {a} ~ annotation {b}): was one animal"
            " labelled by two people? Keep one of each, of which the score finds one alone"
        )
        yield Fault("same animal twice", message, "warning")


def _close_pairs(labels: Labels) -> np.ndarray:
    """(P, 2): rows of instances of one picture that are nearly, but not quite the same."""
    order = np.argsort(labels.images, kind="stable")
    found = [np.empty((0, 2), dtype=np.int64)]
    for step in range(1, len(order)):
        pairs = np.stack([order[:-step], order[step:]], axis=1)
        pairs = pairs[labels.images[pairs[:, 0]] == labels.images[pairs[:, 1]]]
        if not len(pairs):
            break
        boxes, points = labels.boxes[pairs], labels.points[pairs]  # (P, 2, 4), (P, 2, K, 2)
        low, high = boxes[..., :2].max(axis=1), (boxes[..., :2] + boxes[..., 2:]).min(axis=1)
        both = np.clip(high - low, 0, None).prod(axis=1)
        either = boxes[..., 2:].prod(axis=2).sum(axis=1) - both
        distance = np.linalg.norm(points[:, 0] - points[:, 1], axis=-1)  # (P, K), nan where not labelled in both
        common = ~np.isnan(distance)
        mean = np.where(common, distance, 0).sum(axis=1) / np.maximum(common.sum(axis=1), 1)
        same = (both >= SAME_BOX * either) & (common.sum(axis=1) >= 2)
        same &= mean <= SAME_POINTS * boxes[..., 2:].max(axis=(1, 2))
        equal = (boxes[:, 0] == boxes[:, 1]).all(axis=1)
        equal &= (np.nan_to_num(points[:, 0], nan=-1) == np.nan_to_num(points[:, 1], nan=-1)).all(axis=(1, 2))
        found.append(pairs[same & ~equal])
    return np.concatenate(found)


def _share(found: np.ndarray) -> str:
    return f"all {len(found)} instances" if found.all() else f"{found.sum()} of {len(found)} instances"
