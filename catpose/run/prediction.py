"""From pictures and boxes to keypoints in image px, by any model of crops: `predict`, `test` and `catpose.load` are
built on it. What is particular to a model is `CropModel`; torch isn't imported here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import cv2
import numpy as np
from tqdm import tqdm

from catpose.data.boxes import Boxes
from catpose.data.cache import read_picture
from catpose.data.coco_split import CocoSplit, labelled
from catpose.data.crops import PictureCrops, crop_picture
from catpose.errors import InputError
from catpose.figures.overlay import draw_poses
from catpose.geometry import apply_each
from catpose.machine import map_ahead
from catpose.model.onnx_file import OnnxModel, is_onnx
from catpose.score.detections import Detections, scored
from catpose.score.trust import Trust
from catpose.skeleton import Skeleton

BATCH_SIZE = 32
MOST_HELD = 2**29  # bytes of pictures from which a batch is full: ten of 12 megapixels
#: Place in `CocoSplit.images`, rows of the split, crops of all of them, and which of them this one is.
Crop: TypeAlias = tuple[int, np.ndarray, PictureCrops, int]


class CropModel(Protocol):
    """A trained model as crops → keypoints, on the device it was loaded to."""

    skeleton: Skeleton  # the K keypoints
    input_size: tuple[int, int]  # width and height of its crops, px
    n_threads: int  # that decode beside it, unless told otherwise
    calibration: dict[str, Any] | None  # what its confidences are worth, as `Trust.to_plain` has it

    def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints (B, K, 2) in crop px and confidence (B, K), float32, of crops (B, h, w, 3) uint8 RGB.

        Raises:
            InputError: B are too many for its memory.
        """
        ...


#: Takes the place of a picture in `CocoSplit.images` to its pixels, (height, width, 4) uint8 RGBA.
Read = Callable[[int], np.ndarray]
#: Is called with the place of a picture that can't be read, and the reason.
Unreadable = Callable[[int, str], None]


def load_crop_model(paths: Sequence[Path], device: str, trusted: tuple[str, ...], scales: Sequence[float]) -> CropModel:
    """The model in a file: exported ones (.onnx) run without torch, others are checkpoints. Of several the mean.

    Args:
        paths: checkpoints, whose heatmaps are averaged; or one file alone.
        device: "auto", "cpu", "gpu", or torch's own; exported models run on the CPU.
        trusted: modules whose classes a checkpoint may name.
        scales: how many times as wide and high as in its training each one's crops are; of several the mean.

    Raises:
        InputError: as `OnnxModel` and `load_networks`; an exported one among several, or at other scales than 1.
    """
    exported = [path for path in paths if is_onnx(path)]
    if exported and len(paths) > 1:
        raise InputError(f"{exported[0]}: an exported model has no heatmaps to average; name its checkpoint")
    if not exported:
        from catpose.run.ensemble import load_networks  # which needs torch

        return load_networks(paths, device, trusted, scales)
    (path,) = paths
    if scales not in ((1,), [1]):
        raise InputError(
            f"{path}: an exported model takes crops of its own size alone; leave out the scales, or name its checkpoint"
        )
    if device not in ("auto", "cpu"):
        raise InputError(f"{path}: an exported model runs on the CPU; leave out the device, or name the checkpoint")
    model = OnnxModel(path)
    try:
        trust_of(model)
    except InputError as error:
        raise InputError(f"{path}: {error}; export the checkpoint again") from None
    return model


def trust_of(model: CropModel) -> Trust | None:
    """What a model's confidences are worth; None where it isn't calibrated."""
    return None if model.calibration is None else Trust.from_plain(model.calibration, len(model.skeleton))


def entries_of(detections: Detections, boxes: np.ndarray, trust: Trust | None) -> list[dict[str, Any]]:
    """Entries of a COCO results file. Of a calibrated model each also has the `probability` that a keypoint is correct
    and the `radius_px` within which 90 % of such keypoints are, K of both.

    Args:
        boxes: (M, 4) x, y, width, height, image px, that the detections were made in.
    """
    results = detections.to_results()
    if trust is not None:
        probability, radius = trust.probabilities(detections.confidence), trust.radius_px(boxes)
        for entry, *worth in zip(results, probability.tolist(), radius.tolist(), strict=True):
            entry["probability"], entry["radius_px"] = worth
    return results


class Located(NamedTuple):
    """A picture's boxes with the poses in them."""

    place: int  # in `CocoSplit.images`
    picture: np.ndarray  # (height, width, 4) uint8 RGBA
    rows: np.ndarray  # (n,) of the split: its boxes
    poses: np.ndarray  # (n, K, 3) float64: x, y in image px, confidence


def detect(model: CropModel, split: CocoSplit, batch_size: int = BATCH_SIZE, labelled_only: bool = False) -> Detections:
    """Detections from the boxes of a split, scored and thinned as in `fit`'s validation.

    Args:
        labelled_only: leave out boxes without labels, as `fit`'s validation does.

    Raises:
        InputError: a picture that can't be read, other keypoints than the model's, a batch that is too large.
    """
    split = of_skeleton(split, model.skeleton)
    rows = labelled(split) if labelled_only else split.by_id
    return detections_of(split, locate(model, split, rows, batch_size), model.input_size)


def locate(
    model: CropModel,
    split: CocoSplit,
    rows: np.ndarray,
    batch_size: int,
    *,
    read: Read | None = None,
    unreadable: Unreadable | None = None,
    n_threads: int | None = None,
) -> Iterator[Located]:
    """Pictures with the poses in their boxes, one after the other; each is decoded once.

    Args:
        split: of the model's keypoints (`of_skeleton`).
        rows: (N,) of the split, picture by picture.
        batch_size: crops at once, of several pictures where these have fewer.
        read: gives the pictures; None: they are decoded from their files.
        unreadable: None: a picture that can't be read is an error.
        n_threads: that decode; None: as many as suit the model's device.

    Raises:
        InputError: as `detect`.
    """
    of = split.image_index[rows]
    starts = np.flatnonzero(np.diff(of, prepend=-1))
    parts = list(zip(of[starts].tolist(), np.split(rows, starts[1:]), strict=True)) if len(rows) else []

    def cropped(part: tuple[int, np.ndarray]) -> PictureCrops | InputError:
        try:  # what a thread raises would lose the others' work
            picture = read(part[0]) if read else read_picture(split, part[0])
            return crop_picture(picture, split.boxes[part[1]], model.input_size)
        except InputError as error:
            return error

    def crops() -> Iterator[Crop]:
        pictures = map_ahead(cropped, parts, model.n_threads if n_threads is None else n_threads)
        pictures = tqdm(pictures, "predicting", len(parts), unit="", delay=2, mininterval=1, leave=False, disable=None)
        for (place, boxes), found in zip(parts, pictures, strict=True):
            if not isinstance(found, InputError):
                yield from ((place, boxes, found, box) for box in range(len(boxes)))
            elif unreadable:
                unreadable(place, str(found))
            else:
                raise found

    poses: list[np.ndarray] = []
    for batch in _batches(crops(), batch_size):
        crops_of_batch = np.stack([found.crops[box] for *_, found, box in batch])
        affines = np.stack([found.crop_to_image[box] for *_, found, box in batch])
        for (place, boxes, found, box), pose in zip(batch, poses_in(model, crops_of_batch, affines), strict=True):
            poses.append(pose)
            if box == len(boxes) - 1:
                yield Located(place, found.picture, boxes, np.stack(poses))
                poses = []


def _batches(crops: Iterable[Crop], batch_size: int) -> Iterator[list[Crop]]:
    """Crops in batches, smaller ones where their pictures would take too much memory."""
    batch: list[Crop] = []
    held, last = 0, None
    for each in crops:
        found = each[2]
        if len(batch) == batch_size or (found is not last and held > MOST_HELD):
            yield batch
            batch.clear()  # whoever took it holds it until the next one comes
            held, last = 0, None
        held += 0 if found is last else found.picture.nbytes
        last = found
        batch.append(each)
    if batch:
        yield batch


def poses_in(model: CropModel, crops: np.ndarray, crop_to_image: np.ndarray) -> np.ndarray:
    """(B, K, 3) float64: x, y in image px and confidence of B crops; what isn't finite is (0, 0) with confidence 0.

    Args:
        crops: (B, h, w, 3) uint8 RGB. crop_to_image: (B, 2, 3), their affines.
    """
    keypoints, confidence = model(crops)
    points = apply_each(crop_to_image, keypoints)
    poses = np.concatenate([points, confidence[..., None]], axis=-1).astype(np.float64)
    return np.where(np.isfinite(poses).all(axis=-1, keepdims=True), poses, 0)


def detections_of(split: CocoSplit, located: Iterator[Located], input_size: tuple[int, int]) -> Detections:
    """All poses as detections, scored and thinned."""
    rows, poses = [np.zeros(0, np.int64)], [np.zeros((0, len(split.skeleton), 3))]
    for each in located:  # whose pictures aren't kept
        rows.append(each.rows)
        poses.append(each.poses)
    return scored(split, np.concatenate(rows), np.concatenate(poses), input_size)


def drawn(split: CocoSplit, located: Located, input_size: tuple[int, int], shown_above: float) -> np.ndarray:
    """A picture with its detections, (height, width, 3) uint8 RGB; arguments as `draw_poses`'s."""
    detections = scored(split, located.rows, located.poses, input_size)
    boxes = split.boxes[split.rows_of(detections.annotation_id)]
    picture = cv2.cvtColor(located.picture, cv2.COLOR_RGBA2RGB)
    return draw_poses(picture, detections.keypoints, detections.confidence, boxes, split.skeleton, shown_above)


def of_skeleton(split: CocoSplit, trained: Skeleton) -> CocoSplit:
    """A split that a model can predict: itself, or that of boxes as the model's animals.

    Raises:
        InputError: it states other keypoints than the model was trained on.
    """
    states = split.has_keypoints or any(each.get("keypoints") for each in split.coco["categories"])
    difference = split.skeleton.difference(trained)
    if states and difference:
        raise InputError(
            f"{split.file}: its keypoints are others than those that the model was trained on: {difference}; name data"
            " of the model's keypoints, or a checkpoint trained on the data's"
        )
    return split if split.has_keypoints else split.with_skeleton(trained)


def scored_by_box(detections: Detections, boxes: Boxes) -> Detections:
    """Detections from `with_boxes(split, boxes)`, their score times the box's; they belong to no annotation."""
    number = detections.annotation_id - 1  # `with_boxes` counts from 1
    nobody = np.full_like(number, -1)
    return dataclasses.replace(detections, score=detections.score * boxes.scores[number], annotation_id=nobody)
