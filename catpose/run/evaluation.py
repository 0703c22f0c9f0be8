"""What `test` and `predict` share: a checkpoint over a split's boxes, and the detections' score with its protocol."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader

from catpose.data.boxes import Boxes
from catpose.data.by_picture import Batches, PictureDataset, as_it_is
from catpose.data.cache import open_pictures
from catpose.data.coco_split import CocoSplit
from catpose.data.datamodule import default_workers, for_workers
from catpose.data.dataset import CropDataset, labelled
from catpose.errors import InputError, one_line
from catpose.model.pose import PoseModel
from catpose.score.detections import Detections
from catpose.score.metric import KeypointAP, scored
from catpose.skeleton import Skeleton

#: Takes the place of a picture in `CocoSplit.images`, its pixels (height, width, 3) uint8 RGB, and its detections.
Show = Callable[[int, np.ndarray, Detections], None]


def detect(
    model: PoseModel,
    split: CocoSplit,
    input_size: tuple[int, int],
    batch_size: int = 32,
    accelerator: str = "auto",
    labelled_only: bool = False,
    num_workers: int | None = None,
    show: Show | None = None,
    unreadable: Callable[[int, str], None] | None = None,
    unflipped: dict[int, np.ndarray] | None = None,
) -> tuple[Detections, dict[str, float]]:
    """Detections from the boxes of a split, scored and thinned as in `fit`'s validation; each picture is decoded once.

    Args:
        model: a trained model.
        split: images and boxes; labels are used for the score only.
        input_size: width and height of the crop that the model was trained with, px.
        labelled_only: leave out boxes without labels, as `fit`'s validation does.
        num_workers: processes that decode; None: as many as `data.num_workers` null gives `fit`.
        show: called for each picture, once its detections are known.
        unreadable: called with the place of a picture that can't be read and the reason; None: that is an error.
        unflipped: is filled with each box's keypoints (K, 2) without the flip test, image px, by annotation id.

    Returns:
        the detections; AP and its family, nan where nothing is labelled.

    Raises:
        InputError: an accelerator that isn't there or too small, a picture that can't be read, other keypoints than
            the model's.
    """
    _require_skeleton(split, model.skeleton)
    if not split.has_keypoints:
        split = split.with_skeleton(model.skeleton)
    instances = labelled(split) if labelled_only else split.by_id
    model.gives_unflipped = unflipped is not None
    crops = CropDataset(split, instances, open_pictures(split, split.image_index[instances], "off", None), input_size)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*")  # between this Lightning and this torch
        trainer = _trainer(accelerator, [_Shown(split, show, input_size)] if show else [])
        workers = default_workers(trainer.strategy.root_device.type) if num_workers is None else num_workers
        pictures = PictureDataset(crops, keep=show is not None)
        loader = DataLoader(pictures, batch_size=None, collate_fn=as_it_is, **for_workers(workers))  # type: ignore[arg-type]
        try:
            outputs = trainer.predict(model, Batches(loader, len(crops), batch_size, unreadable or _refuse))
        except torch.cuda.OutOfMemoryError:
            raise InputError(f"--batch-size {batch_size}: the GPU's memory is too small; give a smaller one") from None
    metric = KeypointAP(split, input_size)
    for batch in outputs or []:
        metric.update(batch["keypoints"], batch["confidence"], batch["annotation_id"])  # type: ignore[index,call-overload]
        if unflipped is not None:
            points = batch["unflipped"].double().cpu().numpy()  # type: ignore[index,call-overload]
            unflipped |= zip(batch["annotation_id"].tolist(), points, strict=True)  # type: ignore[index,call-overload]
    values = metric.compute()
    assert metric.detections is not None
    return metric.detections, values


def _trainer(accelerator: str, callbacks: list[Callback]) -> Trainer:
    """A trainer that leaves no file."""
    try:
        return Trainer(
            accelerator=accelerator,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            callbacks=callbacks,
        )
    except (MisconfigurationException, ValueError) as error:
        raise InputError(f"--accelerator {accelerator}: {one_line(error)[:200]}") from None


def scored_by_box(detections: Detections, boxes: Boxes) -> Detections:
    """Detections from `with_boxes(split, boxes)`, their score times the box's; they belong to no annotation."""
    number = detections.annotation_id - 1  # `with_boxes` counts from 1
    nobody = np.full_like(number, -1)
    return dataclasses.replace(detections, score=detections.score * boxes.scores[number], annotation_id=nobody)


def _require_skeleton(split: CocoSplit, trained: Skeleton) -> None:
    """InputError where a file states other keypoints than a model was trained on; one of boxes may state none."""
    states = split.has_keypoints or any(each.get("keypoints") for each in split.coco["categories"])
    difference = split.skeleton.difference(trained)
    if states and difference:
        raise InputError(
            f"{split.file}: its keypoints are others than those that the model was trained on: {difference}; name data"
            " of the model's keypoints, or a checkpoint trained on the data's"
        )


def _refuse(_: int, reason: str) -> None:
    raise InputError(reason)


class _Shown(Callback):
    """Hands each picture on with its detections, as soon as the last of its boxes has been predicted."""

    def __init__(self, split: CocoSplit, show: Show, input_size: tuple[int, int]) -> None:
        self._split, self._show, self._input_size = split, show, input_size
        self._detected: dict[int, list[tuple[int, np.ndarray]]] = {}  # by image: rows of the split, (K, 3)

    def on_predict_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        detected = torch.cat([outputs["keypoints"], outputs["confidence"][..., None]], dim=-1).double().cpu().numpy()
        rows = self._split.rows_of(outputs["annotation_id"].cpu().numpy())
        for row, pose in zip(rows.tolist(), detected, strict=True):
            self._detected.setdefault(int(self._split.image_index[row]), []).append((row, pose))
        for index, picture in batch["pictures"]:
            rows, poses = zip(*self._detected.pop(index), strict=True)
            found = np.where(np.isfinite(poses).all(axis=-1, keepdims=True), poses, 0)
            detections = scored(self._split, np.array(rows), found, self._input_size)
            self._show(index, np.ascontiguousarray(picture[..., :3]), detections)
