"""Keypoints and limbs drawn over a picture: the animal's left in orange, its right in blue, the middle in green."""

from __future__ import annotations

import cv2
import numpy as np

from catpose.skeleton import Skeleton

LEFT, RIGHT, MIDDLE = (255, 140, 30), (40, 120, 255), (60, 220, 90)  # RGB; told apart by the colour-blind as well
_SMALLEST = 0.25  # of a keypoint's dot that is shown, as a share of the largest, which confidence 1 has
_FARTHEST = 10**6  # px: beyond any picture, and within what OpenCV can draw
SIDES = {"left": LEFT, "right": RIGHT, "middle": MIDDLE}


def draw_pose(
    picture: np.ndarray,
    keypoints: np.ndarray,
    shown: np.ndarray,
    skeleton: Skeleton,
    hollow: bool = False,
) -> np.ndarray:
    """A copy of `picture` with one animal's pose on it.

    Args:
        picture: (H, W, 3) uint8 RGB.
        keypoints: (K, 2), px.
        shown: (K,) bool, or 0..1: the keypoints to draw, and the area of their dots as a share of the largest; a
            limb is drawn where both of its ends are, as thick as the smaller of them.
        skeleton: of the K keypoints.
        hollow: rings and thin limbs, which is how truth is told from a prediction in one picture.
    """
    canvas = picture.copy()
    radius = max(2, round(max(canvas.shape[:2]) / 110))
    width = max(1, radius // 3) if hollow else max(1, round(radius / 1.5))
    points = np.nan_to_num(keypoints).round().clip(-_FARTHEST, _FARTHEST).astype(int)
    sides, size = skeleton.sides, np.sqrt(np.asarray(shown, np.float64))
    for a, b in skeleton.limbs:
        if shown[a] and shown[b]:
            color = SIDES[sides[a] if sides[b] == "middle" else sides[b]]
            thick = max(1, round(width * min(size[a], size[b])))
            cv2.line(canvas, points[a].tolist(), points[b].tolist(), color, thick, cv2.LINE_AA)
    for side, point, part in zip(sides, points, size, strict=True):
        if part:
            dot = max(2, round(radius * part))
            if not hollow:
                cv2.circle(canvas, point.tolist(), dot + 1, (255, 255, 255), -1, cv2.LINE_AA)
            cv2.circle(canvas, point.tolist(), dot, SIDES[side], width if hollow else -1, cv2.LINE_AA)
    return canvas


def draw_poses(
    picture: np.ndarray,
    keypoints: np.ndarray,
    confidence: np.ndarray,
    boxes: np.ndarray,
    skeleton: Skeleton,
    shown_above: float,
) -> np.ndarray:
    """A picture (H, W, 3) uint8 RGB with the poses of N animals: a copy, unless N is 0.

    Boxes are drawn unless they are the whole picture; the surer a keypoint, the larger its dot.

    Args:
        keypoints: (N, K, 2), px. confidence: (N, K). boxes: (N, 4) x, y, width, height, px.
        skeleton: of the K keypoints.
        shown_above: keypoints of more than this confidence are drawn.
    """
    whole = (0, 0, picture.shape[1], picture.shape[0])
    for points, sure, box in zip(keypoints, confidence, boxes, strict=True):
        if tuple(box) != whole:
            picture = draw_box(picture, box)
        shown = np.where(sure > shown_above, sure.clip(_SMALLEST, 1), 0)
        picture = draw_pose(picture, points, shown, skeleton)
    return picture


def draw_box(picture: np.ndarray, box: np.ndarray) -> np.ndarray:
    """A copy of `picture` with a white box (x, y, width, height; px) on it."""
    canvas = picture.copy()
    corners = np.array([box[:2], box[:2] + box[2:]]).round().clip(-_FARTHEST, _FARTHEST).astype(int)
    cv2.rectangle(canvas, corners[0].tolist(), corners[1].tolist(), (255, 255, 255), 1, cv2.LINE_AA)
    return canvas


def contact_sheet(pictures: list[np.ndarray], columns: int, tile: int) -> np.ndarray:
    """Pictures side by side, each fitted into a square of `tile` px on white."""
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * tile, columns * tile, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        scale = tile / max(picture.shape[:2])
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        top = (i // columns) * tile + (tile - size[1]) // 2
        left = (i % columns) * tile + (tile - size[0]) // 2
        sheet[top : top + size[1], left : left + size[0]] = small
    return sheet
