"""The pixel convention, and the one affine between image and crop with its one inverse.

**Where a pixel is.** Coordinates are pixel indices: the centre of the top left pixel is (0, 0), x runs right, y runs
down, as in OpenCV's `warpAffine` and in COCO's keypoint files. Lengths are counted in steps between pixel centres, so
a crop of W pixels is W - 1 long, and the sides of a box fall on the centres of the crop's outermost pixels. Mirroring
is then x -> W - 1 - x exactly, in the picture, the crop and the heatmap alike, whatever their sizes: the unbiased data
processing of Huang et al., "The Devil is in the Details: Delving into Unbiased Data Processing for Human Pose
Estimation" (UDP), CVPR 2020, section 3.

Points are arrays of shape (..., 2), x before y; sizes are (width, height); an affine is a 2x3 float64 matrix that
takes a column (x, y, 1) to (x', y').
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped

#: How much wider than its box a crop is (Xiao et al., "Simple Baselines", ECCV 2018, and all its successors).
PADDING = 1.25
#: The least and the greatest side of a crop, px.
INPUT_SIDES = (16, 4096)


def box_to_center_size(
    box: Shaped[np.ndarray, "4"], input_size: tuple[int, int], padding: float = PADDING
) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2"]]:
    """Centre and size of the region around a box that fills a crop without changing the aspect ratio.

    Args:
        box: x, y, width, height in image px (COCO's order); width and height above 0.
        input_size: width and height of the crop, px; only their ratio counts.
        padding: the region's size over that of the smallest region of that shape that holds the box.

    Returns:
        center: (x, y), image px. size: (width, height), image px.
    """
    x, y, width, height = (float(value) for value in box)
    aspect = input_size[0] / input_size[1]
    width, height = max(width, height * aspect), max(height, width / aspect)
    return np.array([x + float(box[2]) / 2, y + float(box[3]) / 2]), np.array([width, height]) * padding


def crop_area(boxes: Float[np.ndarray, "n 4"], input_size: tuple[int, int]) -> Float[np.ndarray, " n"]:
    """The area of the region of `box_to_center_size` around each box, px² of the image."""
    aspect = input_size[0] / input_size[1]
    width = np.maximum(boxes[:, 2], boxes[:, 3] * aspect) * PADDING
    return width**2 / aspect


def image_to_crop(
    center: Float[np.ndarray, "2"],
    size: Float[np.ndarray, "2"],
    input_size: tuple[int, int],
    rotation_deg: float = 0.0,
    flip: bool = False,
) -> Float[np.ndarray, "2 3"]:
    """The affine that takes image px to crop px: translate, rotate, scale, then mirror.

    With `rotation_deg` = 0 and no flip it is eq. (4) of UDP: the region's left and right ends fall on crop x = 0 and
    x = width - 1.

    Args:
        center: the region's centre, image px.
        size: the region's width and height before rotation, image px.
        input_size: width and height of the crop, px.
        rotation_deg: the picture's turn about the centre in degrees, positive clockwise on the screen (y runs down).
        flip: mirror left and right, after the rest.

    Returns:
        a float64 matrix of shape (2, 3).
    """
    last = np.array([input_size[0] - 1.0, input_size[1] - 1.0])
    angle = np.deg2rad(rotation_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = (last / size)[:, None] * turn
    affine = np.column_stack([linear, last / 2 - linear @ center])
    if flip:
        affine[0] = -affine[0]
        affine[0, 2] += last[0]
    return affine


def invert(affine: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "2 3"]:
    """The affine that undoes `affine`; `numpy.linalg.LinAlgError` where there is none."""
    linear = np.linalg.inv(affine[:, :2])
    return np.column_stack([linear, -linear @ affine[:, 2]])


def apply(affine: Float[np.ndarray, "2 3"], points: Shaped[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
    """`points` (..., 2) taken through `affine`."""
    return points @ affine[:, :2].T + affine[:, 2]


def apply_each(affines: Float[np.ndarray, "b 2 3"], points: Shaped[np.ndarray, "b k 2"]) -> Float[np.ndarray, "b k 2"]:
    """Each of B sets of K points, px, taken through its own affine, in their precision; not a matrix product, whose
    order of sums would depend on the library."""
    return (affines[:, None, :, :2] * points[:, :, None, :]).sum(-1) + affines[:, None, :, 2]
