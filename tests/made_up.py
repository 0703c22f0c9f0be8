"""Small data sets and releases that are made up, sound unless a test breaks them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from skeletons import KEYPOINTS

from catpose.instances import Instances
from catpose.score.detections import Detections

#: A cat that stands facing the camera, in parts of its box: its left is on the right.
_MIDDLE = {"nose": (0.5, 0.3), "neck": (0.5, 0.42), "root_of_tail": (0.52, 0.38)}
_LEFT = {
    "eye": (0.6, 0.2),
    "shoulder": (0.7, 0.52),
    "elbow": (0.73, 0.7),
    "front_paw": (0.7, 0.9),
    "hip": (0.82, 0.45),
    "knee": (0.85, 0.64),
    "back_paw": (0.8, 0.84),
}


def keypoints(box: list[float]) -> list[float]:
    """51 numbers: all keypoints visible, rounded to whole px."""
    x, y, width, height = box
    values: list[float] = []
    for name in KEYPOINTS:
        side, _, part = name.partition("_")
        across, down = _MIDDLE.get(name) or _LEFT[part]
        across = 1 - across if side == "right" else across
        values += [round(x + across * width), round(y + down * height), 2]
    return values


def picture(seed: int, width: int = 96, height: int = 80) -> np.ndarray:
    """Coloured clouds, unlike those of any other seed."""
    clouds = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return cv2.resize(clouds, (width, height), interpolation=cv2.INTER_CUBIC)


def category(id_: int = 1, name: str = "cat", supercategory: str = "animal") -> dict[str, Any]:
    return {"id": id_, "name": name, "supercategory": supercategory, "keypoints": list(KEYPOINTS), "skeleton": [[1, 2]]}


def annotation(id_: int, image_id: int, box: list[float], category_id: int = 1) -> dict[str, Any]:
    return {
        "id": id_,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": 0,
        "num_keypoints": 17,
        "keypoints": keypoints(box),
    }


def coco(image_ids: range, suffix: str = ".png") -> dict[str, Any]:
    """A cat on each image, a second one on each third; annotation ids fall as image ids rise."""
    annotations = []
    for image_id in image_ids:
        annotations.append(annotation(1000 - 2 * image_id, image_id, [4, 6, 60, 70]))
        if image_id % 3 == 0:
            annotations.append(annotation(1000 - 2 * image_id - 1, image_id, [50, 20, 44, 58]))
    return {
        "images": [{"id": i, "file_name": f"{i}{suffix}", "width": 96, "height": 80} for i in image_ids],
        "annotations": annotations,
        "categories": [category()],
    }


def data_set(root: Path, sizes: tuple[int, int, int] = (4, 3, 3)) -> Path:
    """ROOT/annotations and ROOT/images with image ids counted through train, val and test."""
    (root / "annotations").mkdir(parents=True)
    (root / "images").mkdir()
    start = 1
    for split, size in zip(("train", "val", "test"), sizes, strict=True):
        image_ids = range(start, start + size)
        (root / "annotations" / f"{split}.json").write_text(json.dumps(coco(image_ids)))
        for i in image_ids:
            cv2.imwrite(str(root / "images" / f"{i}.png"), picture(i))
        start += size
    return root


def ap10k_release(folder: Path, sizes: tuple[int, int, int] = (5, 3, 3)) -> Path:
    """A release in AP-10K's layout: cats, and every third animal a dog; image 1 shows one of each."""
    (folder / "annotations").mkdir(parents=True)
    (folder / "data").mkdir()
    categories = [
        category(21, "cat", "Felidae"),
        category(7, "dog", "Canidae"),
        category(50, "argali sheep", "Bovidae"),
    ]
    start = 1
    for split, size in zip(("train", "val", "test"), sizes, strict=True):
        image_ids = range(start, start + size)
        annotations = [annotation(10 * i, i, [4 + i % 2, 6, 60, 70], 7 if i % 3 == 0 else 21) for i in image_ids]
        annotations += [annotation(10 * i + 5, i, [50, 20, 44, 58], 7) for i in image_ids if i == 1]
        images = [
            {"license": 1, "id": i, "file_name": f"{i:012}.jpg", "width": 96, "height": 80, "background": 5}
            for i in image_ids
        ]
        content = {
            "info": {"description": "AP-10k"},
            "licenses": [{"id": 1, "name": "The MIT License"}],
            "images": images,
            "annotations": annotations,
            "categories": categories,
        }
        (folder / "annotations" / f"ap10k-{split}-split1.json").write_text(json.dumps(content))
        for i in image_ids:
            cv2.imwrite(str(folder / "data" / f"{i:012}.jpg"), picture(i))
        start += size
    return folder


#: Animal-Pose's own 20, in its order.
ANIMAL_POSE_KEYPOINTS = [
    "left_eye",
    "right_eye",
    "nose",
    "left_ear",
    "right_ear",
    "left_front_elbow",
    "right_front_elbow",
    "left_back_elbow",
    "right_back_elbow",
    "left_front_knee",
    "right_front_knee",
    "left_back_knee",
    "right_back_knee",
    "left_front_paw",
    "right_front_paw",
    "left_back_paw",
    "right_back_paw",
    "throat",
    "withers",
    "tailbase",
]


def animal_pose_release(folder: Path, n_cats: int = 9, n_dogs: int = 3, n_withheld: int = 0) -> Path:
    """keypoints.json and images/ in Animal-Pose's format; keypoint k of 20 stands at (10 + k, 20 + k).

    Cats come first, the withheld ones last among them, then dogs; the first image shows a cat and a dog.
    """
    (folder / "images").mkdir(parents=True)
    annotations = []
    for i in range(1, n_cats + n_dogs + 1):
        cv2.imwrite(str(folder / "images" / f"pic_{i}.jpg"), picture(i))
        withheld = n_cats - n_withheld < i <= n_cats
        annotations.append(_animal_pose_annotation(i, 2 if i <= n_cats else 1, withheld))
    annotations.insert(1, _animal_pose_annotation(1, 1, False))
    content = {
        "images": {str(i): f"pic_{i}.jpg" for i in range(1, n_cats + n_dogs + 1)},
        "annotations": annotations,
        "categories": [
            {
                "supercategory": "animal",
                "id": id_,
                "name": name,
                "keypoints": ANIMAL_POSE_KEYPOINTS,
                "skeleton": [[0, 1]],
            }
            for id_, name in ((1, "dog"), (2, "cat"), (3, "sheep"))
        ],
    }
    (folder / "keypoints.json").write_text(json.dumps(content))
    return folder


def places(content: object, way: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The way to every value inside some JSON content."""
    inside: list[tuple[str | int, Any]] = []
    if isinstance(content, dict):
        inside = list(content.items())
    elif isinstance(content, list):
        inside = list(enumerate(content))
    return [(*way, key) for key, _ in inside] + [place for key, value in inside for place in places(value, (*way, key))]


def put(content: Any, way: tuple[str | int, ...], value: object) -> None:
    """Put a value where `way` leads."""
    for key in way[:-1]:
        content = content[key]
    content[way[-1]] = value


def shaken(truth: Instances, spread: float, seed: int) -> Detections:
    """The truth, each keypoint off by so much of the animal's size."""
    rng = np.random.default_rng(seed)
    off = spread * np.sqrt(truth.areas)[:, None, None] * rng.normal(size=truth.keypoints.shape)
    confidence = rng.uniform(0.3, 1, (len(truth), 17))
    return Detections(
        truth.image_id, truth.category_id, np.nan_to_num(truth.keypoints) + off, confidence, confidence.mean(axis=1),
        truth.ids,
    )  # fmt: skip


def _animal_pose_annotation(image_id: int, category_id: int, withheld: bool) -> dict[str, Any]:
    moved = category_id == 1  # a dog isn't the cat over again
    points = [[0, 0, 0] if withheld else [10 + k + moved, 20 + k + moved, 1] for k in range(20)]
    return {
        "image_id": image_id,
        "bbox": [5, 10, 65, 74],
        "keypoints": points,
        "num_keypoints": 20,
        "category_id": category_id,
    }
