"""Boxes of animals by torchvision's SSDlite, trained on COCO; its weights are never fetched from here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.detection import SSDLite320_MobileNet_V3_Large_Weights, ssdlite320_mobilenet_v3_large
from torchvision.ops import nms
from tqdm import tqdm

from catpose.data.boxes import Boxes
from catpose.data.coco_split import CocoSplit
from catpose.data.images import read_image
from catpose.errors import InputError, one_line
from catpose.model.tensor_file import read_content

WEIGHTS = SSDLite320_MobileNet_V3_Large_Weights.COCO_V1
#: COCO's classes that a quadruped is found as; which of them doesn't matter.
ANIMALS = ("cat", "dog", "horse", "sheep", "cow")
#: The least score of a box.
LEAST_SCORE = 0.3
#: The overlap (intersection over union) above which two boxes are of one animal, whatever their classes.
SAME_ANIMAL = 0.5


def load_detector(weights: Path | None) -> nn.Module:
    """torchvision's SSDlite320 on MobileNetV3, in evaluation mode.

    Args:
        weights: torchvision's file; None: torch hub's cache, where torchvision leaves what it has fetched.

    Raises:
        InputError: there is no such file, or it holds another network's weights.
    """
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(WEIGHTS.url).name
    file = weights or cached
    if not file.is_file():
        raise InputError(
            f"{file}: the detector's weights aren't there, and nothing is fetched; save {WEIGHTS.url} as this file, or"
            " name another with --detector-weights"
        )
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    content = read_content(file, f"Save {WEIGHTS.url} again")
    try:
        model.load_state_dict(content)  # type: ignore[arg-type]
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file}: holds no weights of torchvision's ssdlite320_mobilenet_v3_large ({one_line(error)[:100]}); save"
            f" {WEIGHTS.url} as this file"
        ) from None
    return model.eval()


def find_animals(model: nn.Module, split: CocoSplit, unreadable: Callable[[int, str], None]) -> Boxes:
    """The boxes of animals in the pictures of a split; on the CPU.

    Args:
        model: of `load_detector`.
        unreadable: called with the place of a picture that can't be read, and the reason.
    """
    rows = []
    images = tqdm(split.images, "finding animals", unit="", delay=2, mininterval=1, leave=False, disable=None)
    for place, image in enumerate(images):
        try:
            picture = read_image(image.path)
        except InputError as error:
            unreadable(place, str(error))
            continue
        with torch.inference_mode():
            (found,) = model([torch.from_numpy(picture).permute(2, 0, 1).float() / 255])
        rows += [(place, box, score) for box, score in animals(found)]
    return Boxes.of(rows)


def animals(found: dict[str, Tensor]) -> list[tuple[list[float], float]]:
    """Boxes (x, y, width, height, px) and scores of the animals among a picture's detections, the surest first.

    Args:
        found: torchvision's `boxes` (n, 4), their corners in px, `labels` (n,) and `scores` (n,).
    """
    labels = torch.tensor([WEIGHTS.meta["categories"].index(name) for name in ANIMALS])
    corners, scores = found["boxes"].float(), found["scores"].float()
    sides = corners[:, 2:] - corners[:, :2]
    wanted = torch.isin(found["labels"], labels) & (scores >= LEAST_SCORE) & (sides > 0).all(dim=1)
    corners, scores = corners[wanted], scores[wanted]
    best = nms(corners, scores, SAME_ANIMAL)
    boxes = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1)[best]
    return list(zip(boxes.tolist(), scores[best].tolist(), strict=True))
