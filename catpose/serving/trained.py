"""A checkpoint's model, asked for one picture after the other."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch

from catpose.geometry import box_to_center_size, image_to_crop, invert
from catpose.model.pose import CARRIED
from catpose.run.checkpoint import load_model
from catpose.run.second_pass import keypoint_box
from catpose.score.oks import MIN_CONFIDENCE
from catpose.skeleton import Skeleton


class Trained:
    """A model on the GPU where there is one.

    Raises:
        InputError: as `load_model`.
    """

    def __init__(self, checkpoint: Path, trusted: tuple[str, ...]) -> None:
        self._model, settings = load_model(checkpoint, trusted)
        self._model.to("cuda" if torch.cuda.is_available() else "cpu")
        self._input_size = tuple(settings["data"]["input_size"])

    @property
    def skeleton(self) -> Skeleton:
        return self._model.skeleton

    def predict(self, pictures: np.ndarray, boxes: Any = None) -> SimpleNamespace:
        """The animal in a picture's box, or that in the whole picture, as `predict` finds it.

        Args:
            pictures: one, (height, width, 3) uint8 RGB. boxes: (1, 4) x, y, width, height, px.
        """
        height, width = pictures.shape[:2]
        box = np.array([0, 0, width, height] if boxes is None else boxes[0], dtype=np.float64)
        points, confidence = self._located(pictures, box)
        if boxes is None and (closer := keypoint_box(points[confidence > MIN_CONFIDENCE])) is not None:
            box = closer
            points, confidence = self._located(pictures, box)
        return SimpleNamespace(keypoints=points[None], confidence=confidence[None], boxes=box[None])

    def _located(self, picture: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints (K, 2), image px, and confidence (K,) of what a box (4,) holds."""
        affine = image_to_crop(*box_to_center_size(box, self._input_size), self._input_size)
        crop = cv2.warpAffine(picture, affine, self._input_size, flags=cv2.INTER_LINEAR)
        batch = {"crop": torch.from_numpy(crop)[None], "crop_to_image": torch.from_numpy(invert(affine)).float()[None]}
        batch |= {name: torch.zeros(1) for name in CARRIED}
        batch = {name: value.to(self._model.device) for name, value in batch.items()}
        with torch.inference_mode():
            found = self._model.predict_step(batch)
        return tuple(found[name][0].double().cpu().numpy() for name in ("keypoints", "confidence"))  # type: ignore[return-value]
