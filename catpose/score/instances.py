"""What is compared: the labelled instances of a data set and the detections of a model, as arrays.

Both come from, and detections go back to, COCO's JSON: a keypoint annotation file, and a results file (a list of
`{"image_id", "category_id", "keypoints": [x, y, confidence] * 17, "score"}`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from catpose.errors import InputError, one_line
from catpose.skeleton import N_KEYPOINTS

_TOO_LARGE = 1e50  # no picture has it, no float32 holds it, and its fourth power, in a variance's variance, is finite


@dataclass(frozen=True, eq=False)
class Truth:
    """The instances of a data set; N of them, images ascending, within an image in the order of the file."""

    images: np.ndarray  # (I,) int64, ids of all images, ascending, those without instances included
    categories: np.ndarray  # (K,) int64, ids, ascending
    image_id: np.ndarray  # (N,) int64
    category_id: np.ndarray  # (N,) int64
    annotation_id: np.ndarray  # (N,) int64, no two alike
    keypoints: np.ndarray  # (N, 17, 2) float64, image px; anything where not labelled
    labelled: np.ndarray  # (N, 17) bool
    box: np.ndarray  # (N, 4) float64: x, y, width, height, image px
    area: np.ndarray  # (N,) float64, px²
    crowd: np.ndarray  # (N,) bool: may be matched any number of times
    ignored: np.ndarray  # (N,) bool: crowds, and instances without a labelled keypoint

    def __len__(self) -> int:
        return len(self.annotation_id)

    @property
    def area_rule(self) -> str:
        """What `area` is, in words."""
        box_area = self.box[:, 2] * self.box[:, 3]  # to a thousandth: files round
        return "box width x height" if np.allclose(self.area, box_area, rtol=1e-3) else "the annotation's area"

    @classmethod
    def from_coco(cls, coco: Mapping[str, Any], file: str = "the annotations") -> Truth:
        """The truth of a COCO keypoint file, read as pycocotools reads it.

        An absent `area` is the box's width x height, an absent `iscrowd` is 0, an absent `num_keypoints` is counted.

        Args:
            coco: the file's content. file: its name, for messages.

        Raises:
            InputError: where ids are unknown or repeated, keypoints are not 51 numbers, a box is not 4, or an area
                is not above 0 (OKS would be 0 whatever is detected).
        """
        for key in ("images", "categories", "annotations"):
            if not isinstance(coco.get(key), list) or (key != "annotations" and not coco[key]):
                raise InputError(
                    f'{file}: "{key}" is missing or empty; a COCO keypoint file has all of its three lists'
                )
        images = np.unique(np.array([image["id"] for image in coco["images"]], dtype=np.int64))
        categories = np.unique(np.array([category["id"] for category in coco["categories"]], dtype=np.int64))
        known_images, known_categories = set(images.tolist()), set(categories.tolist())
        seen: set[int] = set()
        for a in coco["annotations"]:
            where = f"{file}: annotation {one_line(a.get('id'))}"
            if not _integer(a.get("id")) or a["id"] in seen:
                raise InputError(f'{where}: "id" is repeated or no whole number; give every annotation its own')
            seen.add(a["id"])
            for key, known in (("image_id", known_images), ("category_id", known_categories)):
                if not _integer(a.get(key)) or a[key] not in known:
                    raise InputError(f'{where}: "{key}" {one_line(a.get(key))} is not in the file; add or correct it')
            _numbers(a, "keypoints", 3 * N_KEYPOINTS, where)
            _numbers(a, "bbox", 4, where)
            counts = any(v > 0 for v in a["keypoints"][2::3]) and not a.get("iscrowd")
            if not _number(_area(a)) or (counts and _area(a) <= 0):
                raise InputError(f'{where}: "area" {one_line(_area(a))} is not above 0; correct it, or leave it out')
        annotations = sorted(coco["annotations"], key=lambda a: a["image_id"])  # stable: the file's order within
        keypoints = _stack([a["keypoints"] for a in annotations], (N_KEYPOINTS, 3))
        labelled = keypoints[..., 2] > 0
        crowd = np.array([bool(a.get("iscrowd")) for a in annotations], dtype=bool)
        counted = zip(annotations, labelled.sum(axis=1), strict=True)
        unlabelled = np.array([a.get("num_keypoints", count) == 0 for a, count in counted], dtype=bool)
        return cls(
            images=images,
            categories=categories,
            image_id=np.array([a["image_id"] for a in annotations], dtype=np.int64),
            category_id=np.array([a["category_id"] for a in annotations], dtype=np.int64),
            annotation_id=np.array([a["id"] for a in annotations], dtype=np.int64),
            keypoints=keypoints[..., :2],
            labelled=labelled,
            box=_stack([a["bbox"] for a in annotations], (4,)),
            area=np.array([_area(a) for a in annotations], dtype=np.float64),
            crowd=crowd,
            ignored=crowd | unlabelled,
        )


@dataclass(frozen=True, eq=False)
class Detections:
    """A model's detections, M of them, in the order of the file (which decides between equal scores)."""

    image_id: np.ndarray  # (M,) int64
    category_id: np.ndarray  # (M,) int64
    keypoints: np.ndarray  # (M, 17, 2) float64, image px
    confidence: np.ndarray  # (M, 17) float64
    score: np.ndarray  # (M,) float64
    annotation_id: np.ndarray  # (M,) int64: whose box it was made from; -1 where that is not known
    box: np.ndarray | None = None  # (M, 4) float64: x, y, width, height, image px; where the results give boxes

    def __len__(self) -> int:
        return len(self.score)

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
    def from_results(cls, results: Any, truth: Truth, file: str = "the results") -> Detections:
        """The detections of a COCO results file, read as pycocotools' `loadRes` reads it.

        Where the first entry has a `bbox`, all must, and a detection's area is its box's; else its keypoints' extent.
        An absent `category_id` is the truth's one category.

        Args:
            results: the file's content. truth: the data set they belong to. file: its name, for messages.

        Raises:
            InputError: where it is no list of such entries, or belongs to another data set.
        """
        if not isinstance(results, list):
            raise InputError(f"{file}: a COCO results file is a list of detections, not {type(results).__name__}")
        images, categories = set(truth.images.tolist()), truth.categories.tolist()
        boxed = bool(results) and isinstance(results[0], dict) and bool(results[0].get("bbox"))
        strangers: list[Any] = []
        for i, entry in enumerate(results):
            where = f"{file}: entry {i}"
            if not isinstance(entry, dict):
                raise InputError(f"{where} is no object; each needs image_id, category_id, keypoints and score")
            image_id = entry.get("image_id")
            if not _integer(image_id):
                raise InputError(f'{where}: "image_id" is {one_line(repr(image_id))[:40]}, not a whole number')
            if image_id not in images:
                strangers.append(image_id)
            category_id = entry.get("category_id", categories[0] if len(categories) == 1 else None)
            if not _integer(category_id) or category_id not in categories:
                shown = one_line(repr(category_id))[:40]
                raise InputError(f'{where}: "category_id" is {shown}; the annotations have {str(categories)[:80]}')
            _numbers(entry, "keypoints", 3 * N_KEYPOINTS, where)
            if not _number(entry.get("score")):
                raise InputError(f'{where}: "score" is {one_line(repr(entry.get("score")))[:40]}, not a finite number')
            if boxed:
                _numbers(entry, "bbox", 4, where)
        if strangers:
            some = ", ".join(str(s) for s in list(dict.fromkeys(strangers))[:5])
            raise InputError(
                f'{file}: "image_id" of {len(strangers)} of {len(results)} entries is not among the '
                f"{len(images)} annotated images ({some}{', …' if len(set(strangers)) > 5 else ''}); "
                "give the annotations these results were made for"
            )
        keypoints = _stack([entry["keypoints"] for entry in results], (N_KEYPOINTS, 3))
        annotation_ids = [entry.get("annotation_id") for entry in results]
        return cls(
            image_id=np.array([entry["image_id"] for entry in results], dtype=np.int64),
            category_id=np.array([entry.get("category_id", categories[0]) for entry in results], dtype=np.int64),
            keypoints=keypoints[..., :2],
            confidence=keypoints[..., 2],
            score=np.array([entry["score"] for entry in results], dtype=np.float64),
            annotation_id=np.array([a if _integer(a) else -1 for a in annotation_ids], dtype=np.int64),
            box=_stack([entry["bbox"] for entry in results], (4,)) if boxed else None,
        )

    def to_results(self, oks: np.ndarray | None = None) -> list[dict[str, Any]]:
        """Entries of a COCO results file, of plain numbers that JSON keeps to the last digit.

        Beside COCO's four keys each says its `annotation_id`, where known, and its `oks`, where given as a number.
        `bbox` is there only where the detections came with boxes: by it pycocotools reckons a detection's area, and
        so AP(M) and AP(L), otherwise.
        """
        triples = np.concatenate([self.keypoints, self.confidence[..., None]], axis=-1).reshape(-1, 3 * N_KEYPOINTS)
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


def _area(annotation: Mapping[str, Any]) -> Any:
    area = annotation.get("area")
    return annotation["bbox"][2] * annotation["bbox"][3] if area is None else area


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


def _stack(rows: Sequence[Sequence[float]], shape: tuple[int, ...]) -> np.ndarray:
    return np.array(rows, dtype=np.float64).reshape(len(rows), *shape)
