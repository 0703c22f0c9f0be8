"""Detections of a results file, and their score with its protocol; without torch, which takes seconds to import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from catpose.data.coco_split import CocoSplit, split_hash
from catpose.data.copies import pool_of
from catpose.errors import InputError, one_line
from catpose.files import read_json
from catpose.instances import Instances
from catpose.run.poses import Poses
from catpose.score.cocoeval import cocoeval, require_agreement
from catpose.score.detections import Detections
from catpose.score.full import evaluate
from catpose.score.protocol import (
    AS_GIVEN,
    MEAN_CONFIDENCE,
    NMS_CROP,
    NMS_UNKNOWN,
    TIMES_BOX,
    EvaluationProtocol,
    Score,
)

#: How far beyond its picture a crop ends at most, in the picture's longer side: half of 1.25 of it.
_CROP_REACH = 0.625
#: Of a file's detections: where more lie outside of their pictures, it belongs to other pictures.
_MOST_OUTSIDE = 0.5


def read_results(path: Path, truth: Instances) -> Detections:
    """The detections of a COCO results file.

    Raises:
        InputError: as `read_json`, no results, or those of other images.
    """
    return Detections.from_results(read_json(path), truth, str(path))


def given_detections(results: Any, split: CocoSplit, file: str) -> Detections:
    """The detections that somebody says are of these pictures.

    Args:
        results: a COCO results file's content. file: its name, for messages.

    Raises:
        InputError: as `Detections.from_results`, and where they can't be of these pictures, whose ids others may have.
    """
    found = Detections.from_results(results, split, file)
    require_named(results, split, file)
    rows = split.rows_of(found.annotation_id)
    other = (found.annotation_id >= 0) & ((rows < 0) | (split.image_id[rows] != found.image_id))
    if other.any():
        raise InputError(
            f"{file}: entry {int(other.argmax())} was made from annotation {found.annotation_id[other][0]}, which"
            f" {split.file} doesn't have on that image; these are the results of another truth"
        )
    require_in_pictures(found.image_id, np.median(found.keypoints, axis=1), split, file, reach=_CROP_REACH)
    return found


def require_named(results: Sequence[Mapping[str, Any]], split: CocoSplit, file: str) -> None:
    """InputError where an entry's `file_name` isn't that of its `image_id`'s picture: `predict` numbers bare pictures
    itself.

    Args:
        results: sound entries, of images of the split. file: their name, for messages.
    """
    names = {image.id: image.file_name for image in split.images}
    for i, entry in enumerate(results):
        name, here = entry.get("file_name"), names[entry["image_id"]]
        if isinstance(name, str) and PureWindowsPath(name).stem != PureWindowsPath(here).stem:
            raise InputError(
                f"{file}: entry {i} is of {one_line(name)[-60:]}, but image {entry['image_id']} of {split.file} is"
                f" {here}: these ids are not that file's; predict {split.file} itself, whose ids results then have"
            )


def require_in_pictures(
    image_ids: np.ndarray, places: np.ndarray, split: CocoSplit, file: str, reach: float = 0.0
) -> None:
    """InputError where most detections aren't in the pictures that they are said to be of, or are all within a px of
    their corner, as parts of their sides (0..1) would be.

    Args:
        image_ids: (M,). places: (M, 2), of the detections' middles, image px. file: theirs, for messages.
        reach: how far beyond a picture they may be, in its longer side: a model that has learnt little finds keypoints
            anywhere in its crops.
    """
    sizes = np.array([(image.width, image.height) for image in split.images], dtype=np.float64)
    sizes = sizes[split.image_ids.searchsorted(image_ids)]
    beyond = reach * sizes.max(axis=1, keepdims=True)
    normalized = ((places >= 0) & (places <= 1)).all(axis=1) & places.any(axis=1)
    if normalized.sum() > _MOST_OUTSIDE * len(image_ids):
        raise InputError(
            f"{file}: {normalized.sum()} of {len(image_ids)} detections lie within a px of their picture's corner; are"
            " these parts of the picture (0..1)? Give places in px"
        )
    outside = ((places < -beyond) | (places > sizes + beyond)).any(axis=1)
    if outside.sum() > _MOST_OUTSIDE * len(image_ids):
        raise InputError(
            f"{file}: {outside.sum()} of {len(image_ids)} detections lie outside of the pictures of {split.file};"
            " give the truth that these results were made for, and places in px"
        )


def results_of(predictions: Any) -> list[Any]:
    """The entries of a COCO results file that are meant: of the poses of `predict`, of one picture or of several, or of
    a list of entries itself."""
    if isinstance(predictions, Poses):
        return predictions.to_coco()
    if isinstance(predictions, list | tuple) and all(isinstance(each, Poses) for each in predictions):
        return [entry for each in predictions for entry in each.to_coco()]
    if not isinstance(predictions, list):
        raise InputError(
            f"predictions: are {type(predictions).__name__}; give a results file, its entries, or what predict gave"
        )
    return predictions


def score(split: CocoSplit, detections: Detections, flip_test: bool | None, box_source: str | None = None) -> Score:
    """Every metric of detections on a labelled split, AP as pycocotools agrees, with their protocol.

    Args:
        box_source: what boxes they were made from other than the split's; None: its own, where `flip_test` is known.
        flip_test: whether the detections were made with it; None for those of a file of unknown making.

    Raises:
        InputError: the split has no labels.
        RuntimeError: pycocotools finds other values, which is a bug of ours.
    """
    if not split.has_keypoints:
        raise InputError(f"{split.file}: holds no keypoints to score against; use python -m catpose.predict")
    values = evaluate(split, detections, draws=0).values
    reference = cocoeval(split.coco, detections.to_results(), split.skeleton, per_keypoint=True, area=split.area_rule)
    require_agreement(values, reference)
    protocol = EvaluationProtocol.of(
        split,
        detections,
        split=split.file.stem,
        split_hash=split_hash(split),
        box_source=box_source or ("ground truth" if flip_test is not None else "unknown"),
        flip_test=flip_test,
        score_rule=TIMES_BOX if box_source else MEAN_CONFIDENCE if flip_test is not None else AS_GIVEN,
        nms_area=NMS_CROP if box_source or flip_test is not None else NMS_UNKNOWN,
        pool=pool_of(split),
    )
    return Score(values, protocol)
