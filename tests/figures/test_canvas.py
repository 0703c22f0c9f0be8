"""What all figures share: the same bytes each time, and an SVG that fits into a page."""

from __future__ import annotations

import io
import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from skeletons import KEYPOINTS

from catpose.figures.calibration import draw_reliability, draw_thresholds
from catpose.figures.canvas import BLUE, VARIABLES, Drawing, canvas, encoded, inline, plain
from catpose.figures.cat import draw_keypoint_values, label_places
from catpose.figures.configurations import draw_curves
from catpose.score.calibration import Reliability, ThresholdCurves
from catpose.skeleton import AP10K


def drawn(colour: str = BLUE) -> Drawing:
    with plain():
        figure, axes = canvas(title="A <title> & more")
        axes.plot([0, 1], [1, 2], "o--", color=colour, label="some")
        axes.legend(frameon=False)
        return encoded(figure)


def test_the_same_figure_is_the_same_bytes_whatever_the_users_settings() -> None:
    import matplotlib as mpl

    first = drawn()
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 30, "svg.fonttype": "path"}):
        assert drawn() == first
        assert mpl.rcParams["font.size"] == 30
    assert b"Date" not in first["svg"]


def test_text_stays_text() -> None:
    words = "".join(ElementTree.fromstring(drawn()["svg"]).itertext())
    assert "A <title> & more" in words
    assert "some" in words


@pytest.mark.one_in(4)
@pytest.mark.parametrize("colour", [c for c in VARIABLES if c.startswith("#")])
def test_an_inline_figure_has_the_pages_colours_alone(colour: str) -> None:
    markup = inline(drawn(colour)["svg"], 'say "this"', "fig")
    assert f"var({VARIABLES[colour]})" in markup
    assert not re.findall(r"#[0-9a-fA-F]{6}\b", markup)


def test_an_inline_figure_is_labelled_and_its_ids_are_its_own() -> None:
    markup = inline(drawn()["svg"], 'say "this" <now>', "fig")
    root = ElementTree.fromstring(markup.replace("xlink:href", "href"))
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == 'say "this" <now>'
    assert {"width", "height"} & set(root.attrib) == set()
    ids = re.findall(r'\bid="([^"]*)"', markup)
    assert ids
    assert all(each.startswith("fig-") for each in ids)
    used = set(re.findall(r"url\(#([^)]*)\)", markup)) | set(re.findall(r'href="#([^"]*)"', markup))
    assert used <= set(ids)
    assert "metadata" not in markup


@pytest.mark.one_in(4)
@pytest.mark.parametrize("missing", [(), (3,), tuple(range(17))])
def test_a_cat_shows_each_keypoints_number(missing: tuple[int, ...]) -> None:
    values = np.linspace(0, 1, 17)
    values[list(missing)] = np.nan
    words = "".join(ElementTree.fromstring(draw_keypoint_values(AP10K, values, "AP")["svg"]).itertext())
    for k, name in enumerate(KEYPOINTS):
        shown = "–" if k in missing else f"{values[k]:.2f}"
        assert re.search(rf"{name.replace('_', ' ')}\s+{shown}", words), name


@pytest.mark.parametrize("seed", range(20))
def test_no_two_lines_to_labels_cross(seed: int) -> None:
    points = np.random.default_rng(seed).uniform(0, 100, (17, 2)) * (1.0, 0.7)
    places = label_places(points, 100, 70)
    assert len(np.unique(places, axis=0)) == 17
    assert (places[:, 0] < 0).sum() == 8

    def is_left(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> bool:
        return float((b - a)[0] * (c - a)[1] - (b - a)[1] * (c - a)[0]) > 0

    for (a, b), (c, d) in itertools.combinations(zip(points, places, strict=True), 2):
        assert is_left(a, b, c) == is_left(a, b, d) or is_left(c, d, a) == is_left(c, d, b)


def test_a_figure_is_saved_in_the_kind_that_is_asked_for() -> None:
    made = drawn()
    assert sorted(made) == ["png", "svg"]
    assert made["svg"] == drawn()["svg"]
    assert made["png"] == drawn()["png"]  # after the other


def test_an_svg_is_what_savefig_writes() -> None:
    """A legend beside the plot and an axis of few ticks move in the layout."""

    def figure() -> Figure:
        figure, axes = canvas(title="title")
        axes.semilogy([1, 2, 30], [0.002, 5, 8000], label="a line that is long enough to need room")
        axes.imshow(np.arange(12).reshape(3, 4), extent=(0, 9, 1, 99), aspect="auto")
        figure.legend(loc="outside lower center")
        return figure

    file = io.BytesIO()
    with plain():
        figure().savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        assert encoded(figure())["svg"] == file.getvalue()


def test_curves_name_each_model_once() -> None:
    epochs = np.arange(4)
    curves = {f"model {i}": [(epochs, epochs + i + 1.0)] * 2 for i in range(8)} | {"empty": [(epochs[:0], epochs[:0])]}
    words = "".join(ElementTree.fromstring(draw_curves(curves, "loss", log=True)["svg"]).itertext())
    assert [words.count(f"model {i}") for i in range(8)] == [1] * 8
    assert "loss" in words
    assert draw_curves({"one": [(np.array([0]), np.array([0.5]))]}, "AP")["png"].startswith(b"\x89PNG")


def test_confidence_is_drawn_with_gaps_and_without_anything() -> None:
    count = np.array([0, 5, 0, 0, 9, 0, 0, 0, 3, 1])
    some = np.where(count > 0, np.linspace(0.05, 0.95, 10), np.nan)
    assert b"9 in the largest bin" in draw_reliability(Reliability(count, some, some))["svg"]
    nothing = np.full(10, np.nan)
    assert draw_reliability(Reliability(np.zeros(10, np.int64), nothing, nothing))["png"]
    curves = ThresholdCurves(*[np.linspace(0, 1, 20)] * 2, np.full(20, np.nan), *[np.linspace(1, 0, 20)] * 2)
    assert b"precision" in draw_thresholds(curves)["svg"]
