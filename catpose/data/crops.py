"""Crops of pictures around the boxes of a split, for a model to predict: numpy and OpenCV alone."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from catpose.geometry import box_to_center_size, image_to_crop, invert


class PictureCrops(NamedTuple):
    """A picture and its crops, one for each of n boxes."""

    picture: np.ndarray  # (height, width, 4) uint8 RGBA
    crops: np.ndarray  # (n, h, w, 3) uint8 RGB
    crop_to_image: np.ndarray  # (n, 2, 3) float32


def crop_picture(picture: np.ndarray, boxes: np.ndarray, input_size: tuple[int, int]) -> PictureCrops:
    """Each box, padded to the crop's aspect, through one affine to the input size.

    Args:
        picture: (height, width, 4) uint8 RGBA; OpenCV warps four channels twice as fast as three.
        boxes: (n, 4) x, y, width, height, image px.
        input_size: width and height of the crops, px.
    """
    affines = [image_to_crop(*box_to_center_size(box, input_size), input_size) for box in boxes]
    crops = [warped(picture, affine, input_size) for affine in affines]
    return PictureCrops(picture, np.stack(crops), np.stack([invert(affine).astype(np.float32) for affine in affines]))


def warped(picture: np.ndarray, affine: np.ndarray, input_size: tuple[int, int]) -> np.ndarray:
    """A picture (height, width, 4) RGBA through an affine (2, 3): (h, w, 3) uint8 RGB, black beyond the picture."""
    crop = cv2.warpAffine(picture, affine, input_size, flags=cv2.INTER_LINEAR)
    return cv2.cvtColor(crop, cv2.COLOR_RGBA2RGB)
