"""What `test` and `predict` share: a checkpoint over a split's boxes, and the detections' score with its contract."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader

from catpose.data.cache import open_pictures
from catpose.data.coco import CocoSplit, split_hash
from catpose.data.dataset import CropDataset, collate, labelled
from catpose.errors import InputError, one_line
from catpose.model.pose import PoseModel
from catpose.score.contract import AS_GIVEN, MEAN_CONFIDENCE, Contract, Score
from catpose.score.full import evaluate
from catpose.score.instances import Detections, Truth
from catpose.score.judge import judge, require_agreement
from catpose.score.metric import KeypointAP
from catpose.skeleton import N_KEYPOINTS


def detect(
    model: PoseModel,
    split: CocoSplit,
    input_size: tuple[int, int],
    batch_size: int = 32,
    accelerator: str = "auto",
    labelled_only: bool = False,
) -> tuple[Detections, dict[str, float]]:
    """Detections from the boxes of a split, scored and thinned as in `fit`'s validation.

    Args:
        model: a trained model.
        split: images and boxes; labels are used for the score only.
        input_size: width and height of the crop that the model was trained with, px.
        labelled_only: leave out boxes without labels, as `fit`'s validation does.

    Returns:
        the detections; AP and its family, nan where nothing is labelled.

    Raises:
        InputError: an accelerator that isn't there or too small, a picture that can't be read.
    """
    instances = labelled(split) if labelled_only else np.arange(len(split))
    dataset = CropDataset(split, instances, open_pictures(split, split.image_index[instances], "off", None), input_size)
    loader = DataLoader(dataset, batch_size, collate_fn=collate)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*")  # between this Lightning and this torch
        try:
            trainer = Trainer(
                accelerator=accelerator, devices=1, logger=False, enable_checkpointing=False, enable_model_summary=False
            )
        except (MisconfigurationException, ValueError) as error:
            raise InputError(f"--accelerator {accelerator}: {one_line(error)[:200]}") from None
        try:
            outputs = trainer.predict(model, loader)
        except torch.cuda.OutOfMemoryError:
            raise InputError(f"--batch-size {batch_size}: the GPU's memory is too small; give a smaller one") from None
    metric = KeypointAP(Truth.from_coco(with_keypoints(split.coco), str(split.file)))
    for batch in outputs or []:
        metric.update(batch["keypoints"], batch["confidence"], batch["annotation_id"])  # type: ignore[index,call-overload]
    values = metric.compute()
    assert metric.detections is not None
    return metric.detections, values


def with_keypoints(coco: Mapping[str, Any]) -> dict[str, Any]:
    """A file of boxes as one whose instances have no keypoint labelled: nothing in it can be scored."""
    annotations = [{"keypoints": [0] * (3 * N_KEYPOINTS), **annotation} for annotation in coco["annotations"]]
    return {**coco, "annotations": annotations}


def read_results(path: Path, truth: Truth) -> Detections:
    """The detections of a COCO results file.

    Raises:
        InputError: missing, no JSON, no results, or those of other images.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); name a COCO results file") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON ({one_line(error)}); name a COCO results file") from None
    return Detections.from_results(content, truth, str(path))


def score(split: CocoSplit, detections: Detections, flip_test: bool | None) -> Score:
    """Every figure of detections on a labelled split, AP as pycocotools agrees, with their contract.

    Args:
        flip_test: whether the detections were made with it; None for those of a file of unknown making.

    Raises:
        InputError: the split has no labels.
        RuntimeError: pycocotools finds other figures, which is a bug of ours.
    """
    if not split.has_keypoints:
        raise InputError(f"{split.file}: holds no keypoints to score against; use python -m catpose.predict")
    truth = Truth.from_coco(split.coco, str(split.file))
    values = evaluate(truth, detections, draws=0).values
    require_agreement(values, judge(split.coco, detections.to_results()))
    contract = Contract.of(
        truth,
        detections,
        split=split.file.stem,
        split_hash=split_hash(split),
        box_source="ground truth" if flip_test is not None else "unknown",
        flip_test=flip_test,
        score_rule=MEAN_CONFIDENCE if flip_test is not None else AS_GIVEN,
    )
    return Score(values, contract)
