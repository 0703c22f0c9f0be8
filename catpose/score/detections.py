"""The detections of a model as arrays, from and to a COCO results file.

That is a list of `{"image_id", "category_id", "keypoints": [x, y, confidence] * 17, "score"}`, or, of boxes, of
`{"image_id", "category_id", "bbox": [x, y, width, height], "score"}`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from catpose.errors import InputError, one_line
from catpose.geometry import crop_area
from catpose.instances import Instances
from catpose.score.oks import instance_score, oks_nms

_TOO_LARGE = 1e50  # no picture has it, no float32 holds it, and its fourth power, in a variance's variance, is finite


@dataclass(frozen=True, eq=False)
class Detections:
    """A model's detections, M of them, in the order of the file (which decides between equal scores)."""

    image_id: np.ndarray  # (M,) int64
    category_id: np.ndarray  # (M,) int64
    keypoints: np.ndarray  # (M, K, 2) float64, image px
    confidence: np.ndarray  # (M, K) float64
    score: np.ndarray  # (M,) float64
    annotation_id: np.ndarray  # (M,) int64: whose box it was made from; -1 where that is not known
    box: np.ndarray | None = None  # (M, 4) float64: x, y, width, height, image px; where the results give boxes

    def __len__(self) -> int:
        return len(self.score)

    def subset(self, rows: np.ndarray) -> Detections:
        """The detections of some rows, indices (n,) or a mask (M,)."""
        box = None if self.box is None else self.box[rows]
        names = ("image_id", "category_id", "keypoints", "confidence", "score", "annotation_id")
        return Detections(**{name: getattr(self, name)[rows] for name in names}, box=box)

    @property
    def area(self) -> np.ndarray:
        """(M,) float64, px²: decides in which size ranges an unmatched detection counts; as pycocotools has it."""
        size = np.ptp(self.keypoints, axis=1) if self.box is None else self.box[:, 2:]
        return size[:, 0] * size[:, 1]

    @property
    def area_rule(self) -> str:
        """What `area` is, in words."""
        return "extent of the keypoints" if self.box is None else "box in the results"

    @classmethod
    def from_results(cls, results: Any, truth: Instances, file: str = "the results") -> Detections:
        """The detections of a COCO results file, read as pycocotools' `loadRes` reads it.

        Where the first entry has a `bbox`, all must, and a detection's area is its box's; else its keypoints' extent.
        An absent `category_id` is the truth's one category, of those that its instances have.

        Args:
            results: the file's content. truth: the data set they belong to. file: its name, for messages.

        Raises:
            InputError: where it is no list of such entries, or belongs to another data set.
        """
        image_id, category_id, score = _columns(results, truth, file)
        boxed = bool(results) and bool(results[0].get("bbox"))
        for i, entry in enumerate(results):
            _numbers(entry, "keypoints", 3 * len(truth.skeleton), f"{file}: entry {i}")
        keypoints = _stack([entry["keypoints"] for entry in results], (len(truth.skeleton), 3))
        annotation_ids = [entry.get("annotation_id") for entry in results]
        return cls(
            image_id=image_id,
            category_id=category_id,
            keypoints=keypoints[..., :2],
            confidence=keypoints[..., 2],
            score=score,
            annotation_id=np.array([a if _integer(a) else -1 for a in annotation_ids], dtype=np.int64),
            box=_boxes(results, file) if boxed else None,
        )

    def to_results(self, oks: np.ndarray | None = None) -> list[dict[str, Any]]:
        """Entries of a COCO results file, of plain numbers that JSON keeps to the last digit.

        Beside COCO's four keys each has its `annotation_id`, where known, and its `oks`, where it isn't nan. `bbox`
        appears only if the detections have boxes: pycocotools takes a detection's area from it, and so AP(M) and AP(L).

        Args:
            oks: (M,) the object keypoint similarity to the instance that each detection is matched with.
        """
        triples = np.concatenate([self.keypoints, self.confidence[..., None]], axis=-1)
        triples = triples.reshape(len(self), 3 * triples.shape[1])
        columns = (self.image_id, self.category_id, triples, self.score, self.annotation_id)
        results: list[dict[str, Any]] = []
        for image_id, category_id, keypoints, score, annotation_id in zip(*(c.tolist() for c in columns), strict=True):
            entry = {"image_id": image_id, "category_id": category_id, "keypoints": keypoints, "score": score}
            results.append(entry | ({"annotation_id": annotation_id} if annotation_id >= 0 else {}))
        if self.box is not None:
            for entry, box in zip(results, self.box.tolist(), strict=True):
                entry["bbox"] = box
        for entry, value in zip(results, [] if oks is None else oks.tolist(), strict=oks is not None):
            entry |= {} if math.isnan(value) else {"oks": value}
        return results


@dataclass(frozen=True, eq=False)
class BoxDetections:
    """A detector's boxes, M of them, in the order of the file (which decides between equal scores)."""

    image_id: np.ndarray  # (M,) int64
    category_id: np.ndarray  # (M,) int64
    box: np.ndarray  # (M, 4) float64: x, y, width, height, image px
    score: np.ndarray  # (M,) float64

    def __len__(self) -> int:
        return len(self.score)

    @property
    def area(self) -> np.ndarray:
        """(M,) float64, px²."""
        return self.box[:, 2] * self.box[:, 3]

    @classmethod
    def from_results(cls, results: Any, truth: Instances, file: str = "the results") -> BoxDetections:
        """The boxes of a COCO results file; arguments and errors as of `Detections.from_results`."""
        image_id, category_id, score = _columns(results, truth, file)
        return cls(image_id, category_id, _boxes(results, file), score)

    def to_results(self) -> list[dict[str, Any]]:
        """Entries of a COCO results file."""
        columns = (self.image_id, self.category_id, self.box, self.score)
        names = ("image_id", "category_id", "bbox", "score")
        return [dict(zip(names, row, strict=True)) for row in zip(*(each.tolist() for each in columns), strict=True)]


def _columns(results: Any, truth: Instances, file: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What results of any kind have: image ids, category ids and scores, (M,) each; InputError where they aren't such,
    or belong to another data set."""
    if not isinstance(results, list):
        raise InputError(f"{file}: a COCO results file is a list of detections, not {type(results).__name__}")
    images, categories = set(truth.image_ids.tolist()), truth.category_ids.tolist()
    used = np.unique(truth.category_id).tolist() or categories
    only = used[0] if len(used) == 1 else None
    known = set(categories)
    strangers: list[Any] = []
    for i, entry in enumerate(results):
        where = f"{file}: entry {i}"
        if not isinstance(entry, dict):
            raise InputError(f"{where} is no object; each needs image_id, category_id, keypoints (or bbox) and score")
        image_id = entry.get("image_id")
        if not _integer(image_id):
            raise InputError(f'{where}: "image_id" is {one_line(repr(image_id))[:40]}, not a whole number')
        if image_id not in images:
            strangers.append(image_id)
        category_id = entry.get("category_id", only)
        if not _integer(category_id) or category_id not in known:
            shown = one_line(repr(category_id))[:40]
            raise InputError(f'{where}: "category_id" is {shown}; the annotations have {str(categories)[:80]}')
        if not _number(entry.get("score")):
            raise InputError(f'{where}: "score" is {one_line(repr(entry.get("score")))[:40]}, not a finite number')
    if strangers:
        some = ", ".join(str(s) for s in list(dict.fromkeys(strangers))[:5])
        raise InputError(
            f'{file}: "image_id" of {len(strangers)} of {len(results)} entries is not among the '
            f"{len(images)} annotated images ({some}{', …' if len(set(strangers)) > 5 else ''}); "
            "give the annotations these results were made for"
        )
    return (
        np.array([entry["image_id"] for entry in results], dtype=np.int64),
        np.array([entry.get("category_id", only) for entry in results], dtype=np.int64),
        np.array([entry["score"] for entry in results], dtype=np.float64),
    )


def _integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _number(value: Any) -> bool:
    return _integer(value) or (isinstance(value, float) and abs(value) < _TOO_LARGE)


def _numbers(entry: Mapping[str, Any], key: str, length: int, where: str) -> None:
    """Raise InputError unless `entry[key]` is a list of `length` finite numbers."""
    values = entry.get(key)
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != length:
        found = f"{len(values)} long" if isinstance(values, Sequence) else f"{type(values).__name__}"
        raise InputError(f'{where}: "{key}" is {found}; it needs {length} numbers')
    bad = [value for value in values if not _number(value)]
    if bad:
        raise InputError(f'{where}: "{key}" holds {one_line(repr(bad[0]))[:40]}; it needs {length} finite numbers')


def _boxes(results: Sequence[Mapping[str, Any]], file: str) -> np.ndarray:
    """(M, 4) float64, the entries' `bbox`; InputError where one is none."""
    for i, entry in enumerate(results):
        _numbers(entry, "bbox", 4, f"{file}: entry {i}")
        if min(entry["bbox"][2:]) < 0:
            raise InputError(f'{file}: entry {i}: "bbox" is {entry["bbox"]}; x, y, width, height are meant, in px')
    return _stack([entry["bbox"] for entry in results], (4,))


def _stack(rows: Sequence[Sequence[float]], shape: tuple[int, ...]) -> np.ndarray:
    return np.array(rows, dtype=np.float64).reshape(len(rows), *shape)


def scored(truth: Instances, index: np.ndarray, detected: np.ndarray, input_size: tuple[int, int] | None) -> Detections:
    """Detections (M, K, 3) from the boxes of the instances `index` (M,), scored, and one of near-duplicates kept.

    Args:
        input_size: width and height of the crops, px, whose areas `oks_nms` is to take; None: the boxes'.
    """
    keypoints, confidence = detected[..., :2], detected[..., 2]
    boxes = truth.boxes[index]
    score = instance_score(confidence)
    area = boxes[:, 2] * boxes[:, 3] if input_size is None else crop_area(boxes, input_size)
    image_id, category_id = truth.image_id[index], truth.category_id[index]
    keep = np.ones(len(index), dtype=bool)
    _, starts, sizes = np.unique(image_id, return_index=True, return_counts=True)  # an image's rows are neighbours
    for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
        image = slice(start, start + size)
        keep[image] = oks_nms(keypoints[image], score[image], area[image], truth.sigmas)
    return Detections(
        image_id[keep],
        category_id[keep],
        keypoints[keep],
        confidence[keep],
        score[keep],
        truth.ids[index][keep],
    )
