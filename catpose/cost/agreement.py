"""How an exported model agrees with the one that it was made of: in keypoints, in AP, in time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from catpose.cost.metrics import TIMED_PASSES, evaluated, times_ms
from catpose.cost.timing import percentiles
from catpose.data.cache import open_pictures
from catpose.data.coco_split import CocoSplit
from catpose.data.dataset import CropDataset, collate
from catpose.errors import InputError
from catpose.geometry import box_to_center_size, image_to_crop
from catpose.model.export import Located
from catpose.model.onnx_file import OnnxModel
from catpose.model.pose import Batch, PoseModel, apply_affines
from catpose.score.metric import KeypointAP
from catpose.synthetic import draw

#: Keypoints this near, crop px, are the same; and the share of them that an export in fp32 must have.
SAME_PX, ENOUGH = 0.05, 0.99
#: An AP lower by more is another one, which 8 bits may come to.
SAME_AP = 0.01
N_DRAWN = 32  # pictures that are compared on where there are no others
BATCH = 16


@dataclass(frozen=True)
class Agreement:
    """Of an exported model with PyTorch's on the same crops."""

    crops: int
    same: float  # the share of keypoints within SAME_PX
    largest_px: float  # how far apart the farthest are, crop px
    latency_ms: float  # median time of a single crop on the CPU, the flip test's included
    pytorch_latency_ms: float
    AP: float | None = None  # on a split
    pytorch_AP: float | None = None

    def known(self) -> dict[str, float]:
        """What was measured, by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


def agreement(model: PoseModel, exported: OnnxModel, split: CocoSplit | None) -> Agreement:
    """How an export agrees on the labelled animals of a split; None: on drawn cats, without an AP.

    Raises:
        InputError: a picture that can't be read, data of other keypoints.
    """
    pytorch, size = Located(model), exported.input_size
    apart, aps = [], [KeypointAP(split, size) for _ in range(2)] if split else []
    with evaluated(pytorch):
        batches = crops_of(split, size) if split else iter([{"crop": torch.from_numpy(_drawn_crops(size))}])
        for batch in batches:
            points, sure = map(torch.from_numpy, exported(batch["crop"].numpy()))
            theirs, theirs_sure = pytorch(batch["crop"])
            apart.append((points - theirs).norm(dim=-1))
            for ap, keypoints, confidence in zip(aps, (points, theirs), (sure, theirs_sure), strict=False):
                ap.update(apply_affines(batch["crop_to_image"], keypoints), confidence, batch["annotation_id"])
        crop = batch["crop"][:1]
        times = [
            percentiles(times_ms(call, torch.device("cpu"), TIMED_PASSES))[0]
            for call in (lambda: exported(crop.numpy()), lambda: pytorch(crop))
        ]
    distance = torch.cat(apart)
    same, largest = (distance <= SAME_PX).double().mean().item(), distance.max().item()
    return Agreement(len(distance), same, largest, *times, *(float(ap.compute()["AP"]) for ap in aps))


def crops_of(split: CocoSplit, input_size: tuple[int, int], most: int | None = None) -> Iterator[Batch]:
    """Batches of a split's labelled animals as `fit`'s validation has them, crops (B, h, w, 3) uint8 RGB.

    Args:
        input_size: (width, height) of the crops, px.
        most: so many, evenly taken from all; None: all.

    Raises:
        InputError: none is labelled, or a picture that can't be read.
    """
    rows = split.by_id[split.used[split.by_id]]
    if not len(rows):
        raise InputError(f"{split.file}: no animal is labelled; name another split")
    if most is not None:
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)]
    crops = CropDataset(split, rows, open_pictures(split, split.image_index[rows], "off", None), input_size)
    for start in range(0, len(crops), BATCH):
        yield collate([crops[place] for place in range(start, min(start + BATCH, len(crops)))])


def _drawn_crops(input_size: tuple[int, int]) -> np.ndarray:
    """The cats of some drawn pictures, (n, h, w, 3) uint8 RGB; always the same.

    Args:
        input_size: (width, height) of the crops, px.
    """
    drawn = [draw(0, index) for index in range(N_DRAWN)]
    affines = [image_to_crop(*box_to_center_size(each.boxes[0], input_size), input_size) for each in drawn]
    return np.stack(
        [cv2.warpAffine(each.picture, affine, input_size) for each, affine in zip(drawn, affines, strict=True)]
    )
