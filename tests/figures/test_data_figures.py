"""Figures of a data set: whole files, the page's own colours, the same bytes again, whatever the data."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from catpose.data.coco import read_split
from catpose.data.slices import colour_distances, slices
from catpose.data.statistics import IMAGENET, DataStatistics, measure
from catpose.figures import data as data_figures
from catpose.figures.canvas import DPI, VARIABLES
from catpose.page.data import as_files, data_blocks, slice_counts
from catpose.page.html import Figure, Table

FIGURES: dict[str, Callable[[DataStatistics], dict[str, bytes]]] = {
    "image sizes": lambda d: data_figures.draw_image_sizes(d.together),
    "box sizes": lambda d: data_figures.draw_box_sizes(d.together),
    "box shares": lambda d: data_figures.draw_box_shares(d.together),
    "labelled": lambda d: data_figures.draw_labelled(d.together),
    "labelled per instance": lambda d: data_figures.draw_labelled_per_instance(d.together),
    "mean pose": lambda d: data_figures.draw_mean_pose(d.together),
    "channels": data_figures.draw_channels,
    "brightness": lambda d: data_figures.draw_brightness(d.together),
}
WORDS = {
    "image sizes": ("width, px", "images"),
    "box sizes": ("longer side of the box, px", "%"),
    "box shares": ("share of the image",),
    "labelled": ("left eye", "right back paw"),
    "labelled per instance": ("16.", "on average"),
    "mean pose": ("left", "right", "26 instances"),
    "channels": ("ImageNet", "crops within the image, all pixels", "train"),
    "brightness": ("crops", "24 images"),
}


@pytest.fixture(scope="module")
def statistics(drawn: Path) -> DataStatistics:
    return measure([read_split(drawn, "train")], (64, 64))


@pytest.fixture(scope="module")
def boxes_only(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> DataStatistics:
    """One image with one box and no keypoint."""
    root = tmp_path_factory.mktemp("boxes")
    content = json.loads((drawn / "annotations" / "train.json").read_text())
    image = content["images"][0]
    boxes = [entry for entry in content["annotations"] if entry["image_id"] == image["id"]][:1]
    for entry in boxes:
        del entry["keypoints"]
    (root / "annotations").mkdir()
    (root / "annotations" / "x.json").write_text(json.dumps({**content, "images": [image], "annotations": boxes}))
    (root / "images").symlink_to(drawn / "images")
    return measure([read_split(root, "x")], (64, 64))


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_a_png_and_an_svg_in_the_pages_colours(name: str, statistics: DataStatistics) -> None:
    files = FIGURES[name](statistics)
    assert sorted(files) == ["png", "svg"]
    picture = cv2.imdecode(np.frombuffer(files["png"], np.uint8), cv2.IMREAD_COLOR)
    assert min(picture.shape[:2]) > 2.5 * DPI
    assert picture.std() > 5
    svg = files["svg"].decode()
    assert not {colour.upper() for colour in re.findall(r"#[0-9a-fA-F]{6}\b", svg)} - {c.upper() for c in VARIABLES}
    text = " ".join(re.findall(r"<text[^>]*>([^<]*)<", svg))
    for word in WORDS[name]:
        assert word in text
    assert len(svg) < 150_000
    assert FIGURES[name](statistics) == files


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_next_to_nothing(name: str, boxes_only: DataStatistics) -> None:
    with np.errstate(all="raise"):
        assert sorted(FIGURES[name](boxes_only)) == ["png", "svg"]


def test_channel_rows_are_the_statistics(statistics: DataStatistics) -> None:
    rows = {name: (mean, std) for name, mean, std in data_figures.channel_rows(statistics)}
    assert len(rows) == 8
    assert np.array(rows["ImageNet"]).tolist() == np.array(IMAGENET).tolist()
    assert (np.array(rows["images, all pixels"]) == np.array(statistics.together.images.pooled)).all()


@pytest.mark.parametrize("covariance", [[[0.02, 0.01], [0.01, 0.03]], [[4, 0], [0, 1]], [[1, -0.9], [-0.9, 1]]])
def test_the_mean_poses_ellipses_are_one_deviation_wide(covariance: list[list[float]]) -> None:
    ellipse = data_figures._ellipse(np.array([0.3, -0.2]), np.array(covariance), "#000000")
    steps = np.linspace(0, 2 * np.pi, 9)  # its path is a circle of radius 1
    edge = ellipse.get_patch_transform().transform(np.stack([np.cos(steps), np.sin(steps)], axis=1)) - (0.3, -0.2)
    assert np.einsum("ni,ij,nj->n", edge, np.linalg.inv(covariance), edge) == pytest.approx(np.ones(9))


@pytest.mark.slow
def test_blocks_become_files_that_name_each_other(drawn: Path, statistics: DataStatistics) -> None:
    split = read_split(drawn, "train")
    by_split = {"train": slices(split, colour_distances(split))}
    blocks = data_blocks(statistics, by_split)
    files = as_files("Cats | <b>", blocks)
    text = files["report.md"].decode()
    for block in blocks:
        if isinstance(block, Figure):
            assert f"figures/{block.name}.png" in text
            assert {f"figures/{block.name}.png", f"figures/{block.name}.svg"} <= set(files)
    named = set(re.findall(r"\]\(([^)]*)\)", text))
    assert named <= set(files)
    tables = [b.table if isinstance(b, Figure) else b for b in blocks]
    for table in (t for t in tables if isinstance(t, Table)):
        assert all(len(row) == len(table.header) for row in table.rows)
        assert len(table.rows) > 0


def test_slices_are_counted_in_their_order() -> None:
    train = {"several cats": np.array(["yes", "no", "no", ""]), "source": np.array(["b", "a", "a", ""])}
    val = {"several cats": np.array(["no"]), "source": np.array(["c"])}
    counts = slice_counts({"train": train, "val": val})
    assert list(counts["several cats"].items()) == [("yes", {"train": 1, "val": 0}), ("no", {"train": 2, "val": 1})]
    assert list(counts["source"]) == ["a", "b", "c"]
    assert counts["source"]["a"] == {"train": 2, "val": 0}
