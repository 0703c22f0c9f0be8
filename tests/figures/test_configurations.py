"""Figures of arms: whole pictures, the same each time, whatever is missing or odd in them."""

from __future__ import annotations

import math
import subprocess
import sys
import xml.etree.ElementTree as ET

import cv2
import numpy as np
import pytest

from catpose.figures.canvas import DPI, HEIGHT, WIDTH
from catpose.figures.configurations import Mark, draw_configurations, draw_pareto, draw_trends

ODD = 'cost $x_1^2$ <b> & "q" 128×128 ' + "very long, " * 20


def marks(n: int, seeds: int = 3, label: str = "arm") -> list[Mark]:
    rng = np.random.default_rng(n)
    made = []
    for i in range(n):
        points = tuple((0.4 + 0.02 * i + 0.02 * rng.normal(size=seeds)).tolist())
        mean = float(np.mean(points))
        made.append(
            Mark(f"{label} {i}", mean, mean - 0.05, mean + 0.05, points, mean + 0.02, 2.0**i, i == 0, i % 2 == 0)
        )
    return made


def decoded(png: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


def draw(kind: str, marks: list[Mark]) -> dict[str, bytes]:
    if kind == "trends":  # of numbers far apart where they are many
        name = marks[0].label if marks else ""
        lines = {f"{name} {i}": [(4.0**x, mark) for x, mark in enumerate(marks[i::2])] for i in range(2)}
        return draw_trends(lines, "train_images", "a title")
    return draw_configurations(marks, "a title") if kind == "arms" else draw_pareto(marks, "GMACs", "a title")


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", ["arms", "pareto", "trends"])
@pytest.mark.parametrize(("n", "seeds", "label"), [(2, 1, "a"), (12, 10, "b"), (6, 3, ODD)])
def test_a_figure_is_a_picture_and_a_drawing_on_white(kind: str, n: int, seeds: int, label: str) -> None:
    made = draw(kind, marks(n, seeds, label))
    picture = decoded(made["png"])
    assert picture.shape[1] == WIDTH * DPI
    assert picture.shape[0] >= HEIGHT * DPI
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert (border == 255).all()  # nothing reaches over the edge
    assert (picture < 255).any()
    assert ET.fromstring(made["svg"]).tag.endswith("svg")


@pytest.mark.parametrize("kind", ["arms", "pareto", "trends"])
def test_the_same_marks_make_the_same_bytes_whatever_the_users_settings(kind: str) -> None:
    import matplotlib as mpl

    before = draw(kind, marks(3))
    with mpl.rc_context({"axes.facecolor": "black", "font.size": 20, "text.usetex": True}):
        assert draw(kind, marks(3)) == before
        assert mpl.rcParams["font.size"] == 20


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", ["arms", "pareto", "trends"])
def test_what_is_missing_is_left_out(kind: str) -> None:
    known = marks(3)
    empty = Mark("nothing", math.nan, math.nan, math.nan)
    whole = draw(kind, [*known, empty])
    assert decoded(whole["png"]).size
    assert whole != draw(kind, [*known, Mark("nothing", 0.4, 0.3, 0.5, cost=3.0)])
    assert decoded(draw(kind, [empty, empty])["png"]).size
    assert kind == "trends" or decoded(draw(kind, [])["png"]).size
    assert decoded(draw(kind, [Mark("no interval", 0.5, math.nan, math.nan, (0.5,), cost=1.0)])["png"]).size


def test_a_published_value_is_drawn_where_there_is_none_of_ours() -> None:
    nothing = Mark("a", math.nan, math.nan, math.nan)
    published = Mark("a", math.nan, math.nan, math.nan, published=0.5)
    assert draw_configurations([nothing]) != draw_configurations([published])


def test_neither_pyplot_nor_matplotlib_is_loaded_before_it_is_needed() -> None:
    code = (
        "import sys, catpose.figures.configurations as a; assert 'matplotlib' not in sys.modules;"
        "a.draw_configurations([a.Mark('a', 0.5, 0.4, 0.6)]); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
