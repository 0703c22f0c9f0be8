"""Figures of errors: whole pictures, the same each time, and what they say is in them."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from skeletons import KEYPOINTS

from catpose.figures.canvas import DPI, NARROW, VARIABLES, inline
from catpose.figures.error_types import (
    COLOURS,
    GROUPS,
    MEANING,
    Row,
    draw_delta_ap,
    draw_error_types,
    draw_slices,
)
from catpose.score.error_types import ERROR_TYPES, ERRORS
from catpose.skeleton import AP10K

ODD = 'run $x_1^2$ <b> & "q" 128×128 ' + "very long, " * 20


@dataclass(frozen=True)
class Estimate:
    value: float
    low: float = math.nan
    high: float = math.nan


def estimate(value: float) -> Estimate:
    return Estimate(value, value - 0.03, value + 0.05)


def random_types(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1, len(ERROR_TYPES), (40, len(KEYPOINTS))).astype(np.int8)


def delta_ap_of(models: tuple[str, ...]) -> dict[str, bytes]:
    errors = {error: [estimate(0.05 * i + 0.01 * m) for m in range(len(models))] for i, error in enumerate(ERRORS)}
    return draw_delta_ap(models, errors)


def slices_of(models: tuple[str, ...]) -> dict[str, bytes]:
    rows = [Row(label, 30 + i, tuple(estimate(0.3 + 0.1 * i) for _ in models)) for i, label in enumerate("abc")]
    return draw_slices(models, {"": rows[:1], "box size": rows, "several cats": rows[:2]})


FIGURES: dict[str, Callable[[], dict[str, bytes]]] = {
    "error types": lambda: draw_error_types(random_types(), AP10K),
    "delta AP": lambda: delta_ap_of(("one",)),
    "delta AP, models": lambda: delta_ap_of(("one", "two", "three", "four", "five", "six", "seven")),
    "delta AP, odd": lambda: delta_ap_of((ODD, "two")),
    "slices": lambda: slices_of(("one",)),
    "slices, odd": lambda: slices_of((ODD, "two", "three")),
}


def texts(svg: bytes) -> list[str]:
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_a_whole_picture_the_same_each_time(name: str):
    made = FIGURES[name]()
    picture = cv2.imdecode(np.frombuffer(made["png"], np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape[1] == pytest.approx(NARROW * DPI, abs=1)  # Matplotlib of some versions rounds down
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert (border == 255).all()  # nothing reaches over the edge
    assert made == FIGURES[name]()
    page = inline(made["svg"], "a figure", "f1")
    left = set(re.findall(r"#[0-9a-fA-F]{6}\b", page))
    assert not left & set(VARIABLES)  # colours are the page's
    ET.fromstring(page.replace("xlink:href", "href"))


def test_bars_are_as_long_as_the_fractions():
    types = np.full((10, len(KEYPOINTS)), -1, dtype=np.int8)
    types[:, KEYPOINTS.index("nose")] = [0, 0, 0, 0, 0, 1, 1, 2, 3, 4]
    types[:5, KEYPOINTS.index("neck")] = 4
    made = draw_error_types(types, AP10K)
    assert {"nose (10)", "neck (5)", "all (15)", "left eye (0)", "front legs", *ERROR_TYPES} <= set(texts(made["svg"]))
    width = {kind: [] for kind in ERROR_TYPES}
    for path in ET.fromstring(made["svg"]).iter("{http://www.w3.org/2000/svg}path"):
        for kind, colour in COLOURS.items():
            if f"fill: {colour.lower()}" in path.get("style", "") and path.get(
                "clip-path"
            ):  # the key's are not clipped
                x = [float(number) for number in re.findall(r"[ML] (\S+)", path.get("d", ""))]
                width[kind].append(np.ptp(x) if x else 0.0)
    # Rows from the top: all, left eye, right eye, nose, neck, …
    drawn = np.array([width[kind][:18] for kind in ERROR_TYPES])
    whole = drawn[:, 0].sum()
    np.testing.assert_allclose(drawn[:, 0] / whole, np.array([5, 2, 1, 1, 6]) / 15, atol=1e-3)
    np.testing.assert_allclose(drawn[:, 3] / whole, [0.5, 0.2, 0.1, 0.1, 0.1], atol=1e-3)
    np.testing.assert_allclose(drawn[:, 4] / whole, [0, 0, 0, 0, 1], atol=1e-3)
    assert (drawn[:, [1, 2, *range(5, 18)]] == 0).all()


def test_each_keypoint_has_a_row_and_each_error_its_meaning():
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(KEYPOINTS)
    assert set(MEANING) == set(ERRORS)
    said = texts(FIGURES["delta AP"]()["svg"])
    assert all(any(error in text for text in said) for error in ERRORS)


def test_slices_say_how_many_instances_and_which_model():
    said = texts(FIGURES["slices, odd"]()["svg"])
    assert {"a (30)", "b (31)", "c (32)", "box size", "several cats", "two", "three"} <= set(said)
    assert any(text.startswith("run $x_1^2$ <b>") for text in said)
    assert "one" not in texts(FIGURES["slices"]()["svg"])  # one model alone needs no key


def test_a_number_without_an_interval_and_none_at_all():
    rows = [Row("known", 3, (Estimate(0.5),)), Row("empty", 0, (Estimate(math.nan),))]
    for made in (
        draw_slices(["m"], {"": rows}),
        draw_slices(["m"], {"": rows[1:]}),
        draw_slices(["m"], {}),
    ):
        assert made["png"].startswith(b"\x89PNG")
    assert draw_error_types(np.full((0, len(KEYPOINTS)), -1, dtype=np.int8), AP10K)["svg"]
    assert draw_delta_ap(["m"], {"miss": [Estimate(0.1)]})["svg"]
