"""catpose.geometry against the papers' formulas, against pixels, and against itself."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skeletons import FLIP, KEYPOINTS

from catpose.geometry import PADDING, apply, box_to_center_size, image_to_crop, invert

calm = settings(deadline=None, derandomize=True, database=None)

sizes = st.tuples(st.integers(16, 512), st.integers(16, 512))
lengths = st.floats(2, 3000)
places = st.floats(-500, 4000)
angles = st.floats(-180, 180)
boxes = st.tuples(places, places, lengths, lengths).map(np.array)
regions = st.tuples(st.tuples(places, places).map(np.array), st.tuples(lengths, lengths).map(np.array))


def udp_warp(cx: float, cy: float, w: float, h: float, theta_deg: float, crop: tuple[int, int]) -> list[list[float]]:
    """UDP's matrix term by term, as MMPose's get_udp_warp_matrix states it (theta turns x towards y)."""
    cos, sin = math.cos(math.radians(theta_deg)), math.sin(math.radians(theta_deg))
    across, down = (crop[0] - 1) / w, (crop[1] - 1) / h
    return [
        [across * cos, -across * sin, across * (w / 2 - cx * cos + cy * sin)],
        [down * sin, down * cos, down * (h / 2 - cx * sin - cy * cos)],
    ]


@calm
@given(regions, angles, sizes)
def test_the_affine_is_udps(region: tuple[np.ndarray, np.ndarray], angle: float, crop: tuple[int, int]) -> None:
    (cx, cy), (w, h) = region
    ours = image_to_crop(*region, crop, angle)
    reference = np.array(udp_warp(cx, cy, w, h, angle, crop))
    np.testing.assert_allclose(ours, reference, rtol=1e-9, atol=1e-6 * np.abs(reference).max())
    assert ours.dtype == np.float64


@calm
@given(regions, sizes)
def test_the_regions_sides_fall_on_the_outermost_pixels(
    region: tuple[np.ndarray, np.ndarray], crop: tuple[int, int]
) -> None:
    center, size = region
    corners = np.array([center - size / 2, center + size / 2])
    across = apply(image_to_crop(center, size, crop), corners)
    np.testing.assert_allclose(across, [[0, 0], [crop[0] - 1, crop[1] - 1]], atol=1e-6 * max(crop))


@calm
@given(regions, angles, sizes, st.booleans(), st.tuples(places, places).map(np.array))
def test_round_trip(
    region: tuple[np.ndarray, np.ndarray], angle: float, crop: tuple[int, int], flip: bool, point: np.ndarray
) -> None:
    affine = image_to_crop(*region, crop, angle, flip)
    np.testing.assert_allclose(apply(invert(affine), apply(affine, point)), point, atol=1e-6)
    np.testing.assert_allclose(invert(invert(affine)), affine, rtol=1e-6, atol=1e-6 * np.abs(affine).max())
    np.testing.assert_allclose(apply(affine, region[0]), [(crop[0] - 1) / 2, (crop[1] - 1) / 2], atol=1e-6 * max(crop))


@calm
@given(regions, angles, sizes, st.tuples(places, places).map(np.array))
def test_flip_mirrors_the_crop(
    region: tuple[np.ndarray, np.ndarray], angle: float, crop: tuple[int, int], point: np.ndarray
) -> None:
    x, y = apply(image_to_crop(*region, crop, angle), point)
    flipped = apply(image_to_crop(*region, crop, angle, flip=True), point)
    np.testing.assert_allclose(flipped, [crop[0] - 1 - x, y], atol=1e-6 * max(1, abs(x), abs(y)))


def test_rotation_is_clockwise_on_the_screen() -> None:
    affine = image_to_crop(np.array([50.0, 40.0]), np.array([100.0, 100.0]), (101, 101), rotation_deg=90.0)
    right_of_center = apply(affine, np.array([60.0, 40.0]))
    np.testing.assert_allclose(right_of_center, [50, 60], atol=1e-9)


def test_no_inverse() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        invert(np.array([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0]]))


@calm
@given(boxes, sizes, st.floats(1, 2))
def test_the_region_is_the_smallest_of_its_shape_around_the_box(
    box: np.ndarray, crop: tuple[int, int], padding: float
) -> None:
    center, size = box_to_center_size(box, crop, padding)
    np.testing.assert_allclose(center, box[:2] + box[2:] / 2)
    assert math.isclose(size[0] / size[1], crop[0] / crop[1], rel_tol=1e-9)
    spare = size / padding / box[2:]
    assert math.isclose(spare.min(), 1, rel_tol=1e-9)
    np.testing.assert_allclose(box_to_center_size(box, crop)[1], size / padding * PADDING)


def test_whole_numbers_are_as_good() -> None:
    for ours, other in zip(
        box_to_center_size(np.array([1, 2, 30, 40]), (192, 256)),
        box_to_center_size(np.array([1.0, 2.0, 30.0, 40.0]), (192, 256)),
        strict=True,
    ):
        assert (ours == other).all()


def bilinear(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Values between the pixels, whose centres are at whole numbers; nan beyond the outermost centres."""
    height, width = picture.shape
    left, top = np.clip(np.floor(x), 0, width - 2).astype(int), np.clip(np.floor(y), 0, height - 2).astype(int)
    a, b = x - left, y - top
    upper = picture[top, left] * (1 - a) + picture[top, left + 1] * a
    lower = picture[top + 1, left] * (1 - a) + picture[top + 1, left + 1] * a
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return np.where(inside, upper * (1 - b) + lower * b, np.nan)


@settings(calm, max_examples=25)
@given(st.integers(0, 2**16), st.floats(-90, 90), st.booleans())
def test_the_picture_goes_where_its_points_go(seed: int, angle: float, flip: bool) -> None:
    rng = np.random.default_rng(seed)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (60, 80)).astype(np.float32), (0, 0), 2)
    affine = image_to_crop(rng.uniform(20, 50, 2), rng.uniform(25, 50, 2), (48, 64), angle, flip)
    crop = cv2.warpAffine(picture, affine, (48, 64), flags=cv2.INTER_LINEAR)
    grid = np.stack(np.meshgrid(np.arange(48.0), np.arange(64.0)), axis=-1)
    at = apply(invert(affine), grid)
    expected = bilinear(picture.astype(np.float64), at[..., 0], at[..., 1])
    known = np.isfinite(expected)
    slope = np.abs(np.diff(picture, axis=0)).max() + np.abs(np.diff(picture, axis=1)).max()
    assert known.any()
    assert np.abs(crop - expected)[known].max() < slope / 32 + 0.01  # OpenCV 4 rounds places to 1/32 px


@calm
@given(st.integers(0, 2**16), boxes, st.sampled_from([(256, 256), (192, 256), (33, 17)]))
def test_a_mirrored_photograph_gives_the_mirrored_crop(seed: int, box: np.ndarray, crop: tuple[int, int]) -> None:
    """Mirroring the picture, its box and its keypoints, or flipping in the affine: the same crop px, pair by pair."""
    width = 640
    keypoints = np.random.default_rng(seed).uniform(0, 500, (len(KEYPOINTS), 2))
    flipped = apply(image_to_crop(*box_to_center_size(box, crop), crop, 0.0, flip=True), keypoints)[list(FLIP)]
    mirrored_box = np.array([width - 1 - box[0] - box[2], *box[1:]])
    mirrored_points = np.column_stack([width - 1 - keypoints[:, 0], keypoints[:, 1]])[list(FLIP)]
    direct = apply(image_to_crop(*box_to_center_size(mirrored_box, crop), crop), mirrored_points)
    np.testing.assert_allclose(flipped, direct, atol=1e-5 * np.abs(direct).max())


@pytest.mark.parametrize("name", KEYPOINTS)
def test_flip_pairs(name: str) -> None:
    swapped = {"left": "right", "right": "left"}
    side, _, part = name.partition("_")
    expected = f"{swapped[side]}_{part}" if side in swapped else name
    assert KEYPOINTS[FLIP[KEYPOINTS.index(name)]] == expected
