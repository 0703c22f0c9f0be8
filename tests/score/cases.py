"""Random data sets with results, small and full of hard cases; what pycocotools and we are compared on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

SIDES = (20, 31.9, 32, 50, 96, 96.1, 150, 400)  # 32 and 96: areas exactly at the ends of COCO's size ranges

#: Of a box: left and top of a detection from its corner, width and height.
SHARES = ((0, 0, 1, 1), (0, 0, 0.5, 1), (0, 0, 1, 0.75), (0, 0, 2, 1), (0.1, 0, 0.8, 1), (-0.5, -0.5, 2, 2))


def random_case(seed: int, n_categories: int | None = None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A COCO keypoint file and a results file, as their JSON would be read.

    Up to 4 images, some empty; up to 6 instances in each, some twice, some crowds, some without labels or said to be;
    up to 30 detections in each, of which some lie on the truth, some on it in an exact fraction of keypoints (so that
    OKS falls on a threshold), some near, some far off, some twice; scores from a few values, so that many are equal.
    """
    rng = np.random.default_rng(seed)
    n_categories = n_categories or (1 if rng.random() < 0.8 else 2)
    image_ids = rng.permutation(50)[: rng.integers(1, 5)].tolist()
    numbers = iter(rng.permutation(1000).tolist())
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id in image_ids:
        here = [
            _annotation(rng, next(numbers), image_id, int(rng.integers(1, n_categories + 1)))
            for _ in range(rng.choice([0, 1, 1, 1, 2, 3, 6]))
        ]
        here += [a | {"id": next(numbers)} for a in here if rng.random() < 0.1]
        annotations += here
        for _ in range(rng.choice([0, 1, 2, 3, 5, 25], p=[0.15, 0.3, 0.25, 0.15, 0.1, 0.05])):
            annotation = here[rng.integers(len(here))] if here and rng.random() < 0.85 else None
            category_id = int(rng.integers(1, n_categories + 1))
            if annotation and rng.random() < 0.95:
                category_id = annotation["category_id"]
            found = np.column_stack([_keypoints(rng, annotation), rng.random(17)])
            score = float(rng.choice([0, 0.25, 0.5, 0.5, 1, rng.random()]))
            entry = {"image_id": image_id, "category_id": category_id, "keypoints": found.ravel().tolist()}
            results += [entry | {"score": score}] * (2 if rng.random() < 0.1 else 1)
    rng.shuffle(annotations)  # type: ignore[arg-type]
    rng.shuffle(results)  # type: ignore[arg-type]
    if rng.random() < 0.15:
        results = [
            entry | {"bbox": [0.0, 0.0, *rng.choice([10.0, 32.0, 96.0, 200.0], 2).tolist()]} for entry in results
        ]
    categories = [{"id": i + 1} for i in range(n_categories)]
    return {"images": [{"id": i} for i in image_ids], "annotations": annotations, "categories": categories}, results


def random_boxes(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A COCO file of boxes and box results: up to 4 images, some empty; up to 6 boxes in each, some twice, some crowds,
    with areas of their own; up to 120 detections, some on the truth, some on an exact share of it (so that the overlap
    falls on a threshold), some near, within or around it, some of no size; scores from a few values.
    """
    rng = np.random.default_rng(seed)
    n_categories = int(rng.choice([1, 2, 3]))
    image_ids = rng.permutation(50)[: rng.integers(1, 5)].tolist()
    numbers = iter(rng.permutation(1000).tolist())
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id in image_ids:
        here = []
        for _ in range(rng.choice([0, 1, 1, 2, 3, 6])):
            width, height = (float(rng.choice(SIDES)) for _ in range(2))
            box = [*rng.integers(0, 200, 2).astype(float).tolist(), width, height]
            entry = {"image_id": image_id, "category_id": int(rng.integers(1, n_categories + 1)), "bbox": box}
            share = float(rng.choice([1, 0.6]))
            entry |= {"area": width * height * share, "iscrowd": int(rng.random() < 0.15)}
            here.append(entry | {"id": next(numbers)})
        here += [a | {"id": next(numbers)} for a in here if rng.random() < 0.1]
        annotations += here
        for _ in range(rng.choice([0, 1, 2, 5, 20, 120], p=[0.1, 0.2, 0.3, 0.25, 0.1, 0.05])):
            category_id = int(rng.integers(1, n_categories + 1))
            box = [*(rng.random(2) * 200).tolist(), *(rng.random(2) * rng.choice([0, 40, 300])).tolist()]
            if here and rng.random() < 0.85:
                of = here[rng.integers(len(here))]
                category_id = of["category_id"] if rng.random() < 0.95 else category_id
                x, y, width, height = of["bbox"]
                dx, dy, w, h = (
                    SHARES[rng.integers(len(SHARES))] if rng.random() < 0.6 else rng.normal([0, 0, 1, 1], 0.1)
                )
                box = [x + dx * width, y + dy * height, w * width, h * height]
            score = float(rng.choice([0, 0.25, 0.5, 0.5, 1, rng.random()]))
            results.append({"image_id": image_id, "category_id": category_id, "bbox": box, "score": score})
    rng.shuffle(annotations)  # type: ignore[arg-type]
    rng.shuffle(results)  # type: ignore[arg-type]
    categories = [{"id": i + 1, "name": "abc"[i]} for i in range(n_categories)]
    return {"images": [{"id": i} for i in image_ids], "annotations": annotations, "categories": categories}, results


def assert_agrees(ours: Mapping[str, Any], reference: Mapping[str, float], tolerance: float = 0.0) -> None:
    """Every value of the reference is in `ours`, to the last digit or to within a tolerance."""
    for key, value in reference.items():
        np.testing.assert_allclose(float(ours[key]), value, rtol=0, atol=tolerance, equal_nan=True, err_msg=key)


def _annotation(rng: np.random.Generator, number: int, image_id: int, category_id: int) -> dict[str, Any]:
    side = float(rng.choice(SIDES))
    box = [*rng.integers(0, 200, 2).astype(float).tolist(), side, side]
    points = rng.random((17, 2)) * side + box[:2]
    if rng.random() < 0.5:
        points = points.round()
    visibility = (rng.random(17) < rng.choice([0, 0.05, 0.5, 1], p=[0.1, 0.2, 0.5, 0.2])) * rng.integers(1, 3, 17)
    annotation = {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": box,
        "area": side * side,
        "iscrowd": int(rng.random() < 0.1),
        "num_keypoints": int((visibility > 0).sum()) if rng.random() < 0.95 else 0,
        "keypoints": np.column_stack([np.where(visibility[:, None] > 0, points, 0), visibility]).ravel().tolist(),
    }
    for key in ("area", "iscrowd", "num_keypoints"):
        if rng.random() < 0.05:
            del annotation[key]
    return annotation


def _keypoints(rng: np.random.Generator, annotation: dict[str, Any] | None) -> np.ndarray:
    if annotation is None:
        return rng.random((17, 2)) * rng.choice([20, 40, 300]) + rng.integers(0, 200, 2)
    points = np.reshape(annotation["keypoints"], (17, 3))[:, :2]
    side = annotation["bbox"][2]
    points = np.where(points == 0, np.array(annotation["bbox"][:2]) + side / 2, points)
    way = rng.random()
    if way < 0.3:
        return points + rng.normal(size=(17, 2)) * side * rng.choice([0.01, 0.03, 0.1, 0.2])
    if way < 0.6:
        return points + 1e5 * (rng.random((17, 1)) < rng.choice([0.1, 0.2, 0.25, 0.4, 0.5]))
    return points if way < 0.85 else points + np.array([1e4, 0.0])
