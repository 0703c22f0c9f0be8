"""The gallery of a page: every instance of a split with its truth and what each model says of it, as small data.

Pictures are thumbnails, kept once each however many animals they show. Coordinates are thumbnail px with (0, 0) at the
picture's corner, as in SVG: half a pixel from those of `catpose.geometry`.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from catpose.data.coco_split import CocoSplit
from catpose.figures.overlay import LEFT, MIDDLE, RIGHT
from catpose.instances import Instances
from catpose.score.detections import Detections
from catpose.score.error_types import ERROR_TYPES
from catpose.score.oks import MIN_CONFIDENCE, oks, similarity
from catpose.score.pairs import detection_of
from catpose.skeleton import Skeleton

#: Of thumbnails: 200 photographs of 500 x 375 come to 4.5 MB of page, 128 drawn ones to 1.7 MB.
LONG_SIDE, QUALITY = 400, 80
SIDES = {"left": LEFT, "right": RIGHT, "middle": MIDDLE}


@dataclass(frozen=True, eq=False)
class Pose:
    """What one model says of one instance."""

    keypoints: np.ndarray  # (K, 2), thumbnail px
    confidence: np.ndarray  # (K,)
    oks: float | None  # in 0..1; None where the instance has no labelled keypoint
    error_types: np.ndarray  # (K,) int8, index into `ERROR_TYPES`, -1 where not labelled
    score: float
    similarity: np.ndarray  # (K,), each keypoint's part of the OKS, in 0..1; nan where not labelled


@dataclass(frozen=True, eq=False)
class Item:
    """One instance."""

    picture: str  # key of `Gallery.pictures`
    width: int  # of the thumbnail, px
    height: int
    title: str
    box: tuple[float, float, float, float]  # x, y, width, height, thumbnail px
    truth: np.ndarray  # (K, 2), thumbnail px; nan where not labelled
    slices: dict[str, str]
    poses: tuple[Pose | None, ...]  # one per model; None where it has no detection of it


@dataclass(frozen=True, eq=False)
class Gallery:
    """Instances to browse; a block of a page."""

    models: tuple[str, ...]
    pictures: dict[str, bytes]  # WebP or JPEG
    skeleton: Skeleton  # of the K keypoints
    items: tuple[Item, ...]

    @property
    def slices(self) -> dict[str, list[str]]:
        """The slices of each attribute, in the order of their names; numbers in them count as such."""
        names = dict.fromkeys(name for item in self.items for name in item.slices)
        return {
            name: sorted({item.slices[name] for item in self.items if name in item.slices}, key=_natural)
            for name in names
        }

    @property
    def undetected(self) -> bool:
        """Whether a model has no detection of an instance."""
        return any(pose is None for item in self.items for pose in item.poses)

    def data(self) -> dict[str, Any]:
        """What the page's script works on: numbers that JSON has, coordinates to a tenth of a px."""
        sides = self.skeleton.sides
        return {
            "models": list(self.models),
            "keypoints": [name.replace("_", " ") for name in self.skeleton.names],
            "sides": list(sides),
            "limbs": [[a, b, b if sides[b] != "middle" else a] for a, b in self.skeleton.limbs],
            "error_types": list(ERROR_TYPES),
            "confident": MIN_CONFIDENCE,
            "pictures": {key: data_uri(picture) for key, picture in self.pictures.items()},
            "items": [
                {
                    "picture": item.picture,
                    "size": [item.width, item.height],
                    "title": item.title,
                    "box": _rounded(np.array(item.box), 1),
                    "truth": _rounded(item.truth, 1),
                    "slices": item.slices,
                    "poses": [None if pose is None else _pose_data(pose) for pose in item.poses],
                }
                for item in self.items
            ],
        }


class Thumbnail(NamedTuple):
    """A picture, small."""

    data: bytes  # WebP
    width: int  # px
    height: int


def worst_pictures(split: CocoSplit, detections: Detections, most: int) -> set[int]:
    """The pictures, by their places among the split's, of the `most` instances of lowest OKS that are no crowds: those
    without a detection first, those without a labelled keypoint last."""
    shown = np.flatnonzero(~split.crowd)
    _, similar, _ = _scored(split, detections)
    value = np.where(split.labelled.any(axis=1), np.nan_to_num(similar, nan=-1.0), 2.0)[shown]
    return set(split.image_index[shown[np.argsort(value, kind="stable")[:most]]].tolist())


def gallery(
    split: CocoSplit,
    thumbnails: Mapping[int, Thumbnail],
    models: Sequence[tuple[str, Detections, np.ndarray]],
    slices: Mapping[str, np.ndarray] | None = None,
) -> Gallery:
    """The instances of some pictures of a split but crowds, in its order.

    Args:
        thumbnails: of these pictures, by their places among the split's.
        models: of each its label, its detections, and its keypoints' error types, (N, K).
        slices: by attribute, (N,) in the split's order; "" for an instance in none.
    """
    shown = [i for i in np.flatnonzero(~split.crowd).tolist() if int(split.image_index[i]) in thumbnails]
    matched = [_Matched(detections, types, *_scored(split, detections)) for _, detections, types in models]
    names = {category["id"]: str(category.get("name") or "animal") for category in split.coco["categories"]}

    items = []
    mates_of: dict[int, list[int]] = {}
    for i in shown:
        mates_of.setdefault(int(split.image_index[i]), []).append(i)
    for i in shown:
        index = int(split.image_index[i])
        image, (_, width, height) = split.images[index], thumbnails[index]
        scale = np.array([width / image.width, height / image.height])
        mates = mates_of[index]
        which = f", {names[int(split.category_id[i])]} {mates.index(i) + 1} of {len(mates)}"
        x, y, w, h = np.concatenate([(split.boxes[i, :2] + 0.5) * scale, split.boxes[i, 2:] * scale]).tolist()
        items.append(
            Item(
                picture=str(image.id),
                width=width,
                height=height,
                title=image.file_name + (which if len(mates) > 1 else ""),
                box=(x, y, w, h),
                truth=(split.keypoints[i] + 0.5) * scale,
                slices={name: str(values[i]) for name, values in (slices or {}).items() if str(values[i])},
                poses=tuple(each.pose(i, scale) for each in matched),
            )
        )
    pictures = {str(split.images[index].id): data for index, (data, _, _) in thumbnails.items()}
    return Gallery(tuple(label for label, _, _ in models), pictures, split.skeleton, tuple(items))


class _Matched(NamedTuple):
    """A model's detections beside the N instances of the truth."""

    detections: Detections
    error_types: np.ndarray  # (N, K) int8, index into `ERROR_TYPES`
    of: np.ndarray  # (N,): the detection that is an instance's own, -1 where there is none
    oks: np.ndarray  # (N,); nan where nothing is labelled or detected
    similarity: np.ndarray  # (N, K), the parts of the OKS

    def pose(self, i: int, scale: np.ndarray) -> Pose | None:
        """What it says of instance i, in px of a thumbnail whose sides are `scale` (2,) times the picture's."""
        m = int(self.of[i])
        if m < 0:
            return None
        return Pose(
            keypoints=(self.detections.keypoints[m] + 0.5) * scale,
            confidence=self.detections.confidence[m],
            oks=None if np.isnan(self.oks[i]) else float(self.oks[i]),
            error_types=self.error_types[i],
            score=float(self.detections.score[m]),
            similarity=self.similarity[i],
        )


def _scored(truth: Instances, detections: Detections) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each instance of the truth the detection that is its own, or -1, (N,); the OKS, (N,); its parts, (N, K)."""
    of = detection_of(truth, detections)
    known, own, each = of >= 0, np.full(len(truth), np.nan), np.full(truth.labelled.shape, np.nan)
    each[known] = similarity(detections.keypoints[of[known]], truth.keypoints[known], truth.areas[known], truth.sigmas)
    own[known] = oks(each[known], truth.labelled[known])
    return of, own, np.where(truth.labelled, each, np.nan)


def thumbnail(picture: np.ndarray) -> Thumbnail:
    """A picture, (H, W, 3) uint8 RGB, at most 400 px wide and high."""
    scale = min(1.0, LONG_SIDE / max(picture.shape[:2]))
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    small = picture if scale == 1.0 else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    file = io.BytesIO()
    Image.fromarray(small).save(file, "WEBP", quality=QUALITY, method=2)  # in half of OpenCV's time
    return Thumbnail(file.getvalue(), *size)


def data_uri(picture: bytes, kind: str = "") -> str:
    """A picture as an address that needs no request; `kind` is found out where it is WebP or JPEG."""
    kind = kind or ("image/webp" if picture[8:12] == b"WEBP" else "image/jpeg")
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}"


def _pose_data(pose: Pose) -> dict[str, Any]:
    return {
        "keypoints": _rounded(pose.keypoints, 1),
        "confidence": _rounded(pose.confidence, 3),
        "oks": None if pose.oks is None else round(pose.oks, 4),
        "error_types": pose.error_types.tolist(),
        "score": round(pose.score, 3),
        "similarity": _rounded(pose.similarity, 3),
    }


def _rounded(values: np.ndarray, decimals: int) -> list[Any]:
    """As lists, a row with a number that JSON doesn't have as null."""
    rows = np.round(np.asarray(values, dtype=np.float64), decimals).tolist()
    known = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    return [row if ok else None for row, ok in zip(rows, known, strict=True)]


def _natural(text: str) -> tuple[float, str]:
    """To sort by: "6 to 10" before "11 to 17"; words without a number as they stand in a dictionary."""
    number = re.search(r"\d+(\.\d+)?", text)
    return float(number[0]) if number else -1.0, text
