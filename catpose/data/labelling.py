"""Poses as COCO files that labelling tools import: to be corrected there, and brought back by `prepare coco --onto`.

CVAT's "COCO Keypoints 1.0" takes an annotation an animal. Label Studio's converter (label-studio-sdk,
converter/imports/coco.py) names each keypoint after its annotation's category, and wants a score beside each box: there
the animal is a rectangle, and each keypoint an annotation of a category of its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from catpose.data.coco_split import Image
from catpose.data.sources import category_entry, make_annotation
from catpose.skeleton import Skeleton


@dataclass(frozen=True, eq=False)
class Pose:
    """An animal on a picture."""

    image_id: int
    box: tuple[float, float, float, float]  # x, y, width, height, px
    points: np.ndarray  # (K, 3): x, y (px), v; v = 0 where there is no keypoint
    category: str = "cat"
    score: float = 1.0


def tool_files(images: Sequence[Image], poses: Sequence[Pose], skeleton: Skeleton) -> dict[str, bytes]:
    """By its name the file for each tool: cvat.json and label_studio.json.

    Args:
        images: that are to be looked at, those without a pose too.
        poses: of the images.
        skeleton: of K keypoints, called as in the tool.
    """
    categories = list(dict.fromkeys(pose.category for pose in poses)) or [Pose.category]
    listed = [{"id": i.id, "file_name": i.file_name, "width": i.width, "height": i.height} for i in images]
    contents = {
        "cvat.json": {
            "categories": [category_entry(k, name, skeleton) for k, name in enumerate(categories, start=1)],
            "annotations": [
                _animal(n, pose, categories.index(pose.category) + 1) for n, pose in enumerate(poses, start=1)
            ],
        },
        "label_studio.json": {
            "categories": [{"id": k, "name": name} for k, name in enumerate((*categories, *skeleton.names))],
            "annotations": _single(poses, categories),
        },
    }
    return {
        name: (json.dumps({"images": listed} | content, allow_nan=False) + "\n").encode()
        for name, content in contents.items()
    }


def _triples(pose: Pose) -> list[tuple[float, float, int]]:
    return [(round(x, 2), round(y, 2), int(v)) if v else (0, 0, 0) for x, y, v in pose.points.tolist()]


def _animal(id_: int, pose: Pose, category_id: int) -> dict[str, Any]:
    return make_annotation(id_, pose.image_id, category_id, [round(value, 2) for value in pose.box], _triples(pose))


def _single(poses: Sequence[Pose], categories: Sequence[str]) -> list[dict[str, Any]]:
    """A rectangle for each pose, and an annotation for each of its keypoints, of a category after the animals'."""
    annotations: list[dict[str, Any]] = []
    for pose in poses:
        box = [round(value, 2) for value in pose.box]
        own: list[dict[str, Any]] = [{"category_id": categories.index(pose.category), "bbox": box, "score": pose.score}]
        own += [
            {"category_id": k, "keypoints": list(triple)}
            for k, triple in enumerate(_triples(pose), start=len(categories))
            if triple[2]
        ]
        annotations += [{"id": len(annotations) + n, "image_id": pose.image_id} | entry for n, entry in enumerate(own)]
    return annotations
