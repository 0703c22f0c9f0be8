"""Figures of other skeletons than AP-10K's name their keypoints, and draw no others."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from skeletons import OTHERS, relabelled

from catpose.data.coco import read_split
from catpose.data.statistics import measure
from catpose.figures.cat import draw_keypoint_values
from catpose.figures.data import draw_labelled, draw_labelled_per_instance, draw_mean_pose
from catpose.figures.error_types import draw_error_types, groups_of
from catpose.figures.overlay import SIDES, draw_pose
from catpose.figures.sheet import instances_sheet
from catpose.skeleton import AP10K, Skeleton

EACH = pytest.mark.parametrize("skeleton", OTHERS.values(), ids=lambda skeleton: skeleton.name)


def text_of(files: dict[str, bytes]) -> str:
    return "".join(ElementTree.fromstring(files["svg"]).itertext())


@pytest.mark.one_in(3)
@EACH
def test_every_keypoint_is_named_in_the_figures_of_scores(skeleton: Skeleton) -> None:
    values = np.linspace(0, 1, len(skeleton))
    values[0] = np.nan
    types = np.random.default_rng(0).integers(-1, 5, (30, len(skeleton))).astype(np.int8)
    for text in (
        text_of(draw_keypoint_values(skeleton, values.tolist(), "AP")),
        text_of(draw_error_types(types, skeleton)),
    ):
        assert all(name.replace("_", " ") in text for name in skeleton.names)
    assert "root of tail" not in text_of(draw_keypoint_values(skeleton, values.tolist(), "AP"))


@pytest.mark.parametrize("skeleton", [AP10K, *OTHERS.values()], ids=lambda skeleton: skeleton.name)
def test_groups_hold_every_keypoint_once(skeleton: Skeleton) -> None:
    assert sorted(name for names in groups_of(skeleton).values() for name in names) == sorted(skeleton.names)


@pytest.mark.one_in(3)
@EACH
def test_figures_of_data(skeleton: Skeleton, drawn: Path, tmp_path: Path) -> None:
    split = read_split(relabelled(drawn, tmp_path / "data", skeleton), "val")
    statistics = measure([split]).together
    assert all(name.replace("_", " ") in text_of(draw_labelled(statistics)) for name in skeleton.names)
    assert draw_mean_pose(statistics)["png"]
    assert draw_labelled_per_instance(statistics)["png"]
    assert instances_sheet([split])


@EACH
def test_a_pose_is_drawn_in_the_colours_of_its_sides(skeleton: Skeleton) -> None:
    points = np.stack([20.0 + 12 * np.arange(len(skeleton)), np.full(len(skeleton), 30.0)], axis=1)
    for k, side in enumerate(skeleton.sides):
        picture = draw_pose(np.zeros((60, 300, 3), np.uint8), points, np.arange(len(skeleton)) == k, skeleton)
        assert tuple(picture[30, 20 + 12 * k]) == SIDES[side]
