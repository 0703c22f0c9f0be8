"""What is drawn, pixel by pixel: colours by side, filled or hollow, only what is shown, on a copy."""

from __future__ import annotations

import numpy as np
import pytest
from skeletons import FLIP, KEYPOINTS, LIMBS

from catpose.figures.overlay import LEFT, MIDDLE, RIGHT, SIDES, contact_sheet, draw_box, draw_pose
from catpose.skeleton import AP10K

GREY = 90

SIDE_OF = dict(zip(AP10K.names, AP10K.sides, strict=True))


def canvas(height: int = 220, width: int = 330) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def grid() -> np.ndarray:
    """The 17 keypoints (17, 2) 40 px apart."""
    return np.array([(40 + 45 * (i % 6), 40 + 45 * (i // 6)) for i in range(17)], dtype=float)


def only(*names: str) -> np.ndarray:
    return np.array([name in names for name in KEYPOINTS])


def changed(picture: np.ndarray) -> np.ndarray:
    """(H, W) bool."""
    return (picture != GREY).any(axis=2)


def test_three_colours_of_which_left_is_orange_and_right_blue() -> None:
    assert {SIDES[SIDE_OF[name]] for name in KEYPOINTS} == {LEFT, RIGHT, MIDDLE}
    assert all(SIDES[SIDE_OF[name]] == LEFT for name in KEYPOINTS if name.startswith("left"))
    assert all(SIDES[SIDE_OF[name]] == RIGHT for name in KEYPOINTS if name.startswith("right"))
    assert LEFT[0] > LEFT[2]
    assert RIGHT[2] > RIGHT[0]


@pytest.mark.parametrize("name", KEYPOINTS)
def test_a_keypoint_alone_is_a_disc_of_its_sides_colour(name: str) -> None:
    i = KEYPOINTS.index(name)
    x, y = grid()[i].astype(int)
    picture = draw_pose(canvas(), grid(), only(name), AP10K)
    assert tuple(picture[y, x]) == SIDES[SIDE_OF[name]]
    rows, columns = changed(picture).nonzero()
    assert np.hypot(rows - y, columns - x).max() < 8
    assert abs(rows.mean() - y) < 0.1
    assert abs(columns.mean() - x) < 0.1
    assert (picture[y - 4 : y + 5, x - 4 : x + 5] > 170).all(axis=2).any()  # its white rim


@pytest.mark.parametrize("name", ["left_eye", "nose", "right_hip"])
def test_a_hollow_keypoint_is_a_ring(name: str) -> None:
    big = canvas(1100, 1100)
    i = KEYPOINTS.index(name)
    x, y = grid()[i].astype(int)
    picture = draw_pose(big, grid(), only(name), AP10K, hollow=True)
    assert tuple(picture[y, x]) == (GREY, GREY, GREY)
    assert tuple(picture[y, x + 10]) == tuple(picture[y - 10, x]) == SIDES[SIDE_OF[name]]
    filled = draw_pose(big, grid(), only(name), AP10K)
    assert changed(picture).sum() < changed(filled).sum()


def test_nothing_is_drawn_for_hidden_keypoints() -> None:
    assert not changed(draw_pose(canvas(), grid(), np.zeros(17, bool), AP10K)).any()
    unknown = np.full((17, 2), np.nan)
    unknown[3] = (100, 50)
    alone = draw_pose(canvas(), unknown, only("neck"), AP10K)
    assert changed(alone).any()
    assert (alone == draw_pose(canvas(), np.where(np.isnan(unknown), 200, unknown), only("neck"), AP10K)).all()


@pytest.mark.parametrize("limb", LIMBS)
def test_a_limb_needs_both_of_its_ends(limb: tuple[int, int]) -> None:
    points = np.zeros((17, 2))
    points[limb[0]], points[limb[1]] = (60, 100), (260, 100)
    both = draw_pose(canvas(), points, only(*(KEYPOINTS[i] for i in limb)), AP10K)
    line = both[100, 100:220]
    sides = {SIDES[SIDE_OF[KEYPOINTS[i]]] for i in limb} - {MIDDLE}
    assert {tuple(pixel) for pixel in line} <= (sides or {MIDDLE})
    for end in limb:
        assert not changed(draw_pose(canvas(), points, only(KEYPOINTS[end]), AP10K))[:, 100:220].any()


def test_the_mirrored_pose_is_the_mirrored_picture_with_the_colours_swapped() -> None:
    picture = draw_pose(canvas(), grid(), np.ones(17, bool), AP10K)
    mirrored = grid()[list(FLIP)]
    mirrored[:, 0] = 329 - mirrored[:, 0]
    other = draw_pose(canvas(), mirrored, np.ones(17, bool), AP10K)[:, ::-1]
    for a, b in ((LEFT, RIGHT), (RIGHT, LEFT), (MIDDLE, MIDDLE)):
        ours, theirs = (picture == a).all(axis=2), (other == b).all(axis=2)
        assert ours.any()
        assert (ours & theirs).sum() > 0.8 * ours.sum()


def test_the_source_is_left_as_it_is_and_points_outside_do_no_harm() -> None:
    source = canvas()
    points = grid()
    points[0], points[1], points[5] = (-50, 1e9), (1e30, -7), (np.inf, np.nan)
    assert draw_pose(source, points, np.ones(17, bool), AP10K).shape == source.shape
    draw_pose(source, points, np.ones(17, bool), AP10K, hollow=True)
    for box in ([1, 2, 3, 4], [-3e9, 4, 7e9, 1e30], [1e18, -1e18, 5, 5]):
        draw_box(source, np.array(box))
    assert not changed(source).any()


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (64, 64), (1500, 900)])
def test_any_size_of_picture(shape: tuple[int, int]) -> None:
    for hollow in (False, True):
        assert draw_pose(canvas(*shape), grid(), np.ones(17, bool), AP10K, hollow).shape == (*shape, 3)


def test_a_box_is_its_four_edges() -> None:
    picture = draw_box(canvas(), np.array([30.2, 20.4, 100.0, 60.0]))
    rows, columns = (picture[..., 0] > 200).nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 80, 30, 130)
    assert not changed(picture)[22:79, 32:129].any()


@pytest.mark.parametrize(("n", "columns", "rows"), [(0, 4, 0), (1, 4, 1), (4, 4, 1), (5, 4, 2), (6, 1, 6)])
def test_a_contact_sheet_has_room_for_all(n: int, columns: int, rows: int) -> None:
    assert contact_sheet([canvas()] * n, columns, tile=32).shape == (32 * rows, 32 * columns, 3)


def test_a_contact_sheet_fits_each_picture_into_its_square() -> None:
    wide, tall, small = np.zeros((50, 100, 3), np.uint8), np.zeros((80, 20, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)
    sheet = contact_sheet([wide, tall, small], columns=2, tile=40)
    dark = (sheet < 128).all(axis=2)
    for row, column, height, width in ((0, 0, 20, 40), (0, 1, 40, 10), (1, 0, 40, 40)):
        tile = dark[40 * row : 40 * row + 40, 40 * column : 40 * column + 40]
        assert tile.sum() == height * width
        assert tile[(40 - height) // 2, (40 - width) // 2]
    assert (sheet[40:, 40:] == 255).all()


def test_the_surer_a_keypoint_the_larger_its_dot():
    areas = []
    for confidence in (0.3, 0.6, 1.0):
        shown = only("nose") * confidence
        areas.append(changed(draw_pose(canvas(2000, 2000), grid(), shown, AP10K)).sum())
    assert areas == sorted(set(areas))


def test_a_wide_picture_is_drawn_to_its_end():
    picture = np.full((20, 15_000, 3), GREY, np.uint8)
    drawn = draw_pose(picture, np.tile([12_000.0, 10.0], (17, 1)), only("nose"), AP10K)
    assert changed(drawn).nonzero()[1].mean() == pytest.approx(12_000, abs=1)
