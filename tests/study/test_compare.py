"""Models compared: on the same images, the better one ahead, equal ones not told apart."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from catpose.data.coco import read_split
from catpose.score.instances import Detections, Truth
from catpose.study.compare import ENOUGH, compare, judge, paired
from catpose.study.models import Model, read_models


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """Forty drawn cats."""
    from catpose.prepare import main

    root = tmp_path_factory.mktemp("compare") / "drawn"
    main(["drawn", "--out", str(root), "--sizes", "1", "40", "1"])
    split = read_split(root, "val")
    return Truth.from_coco(split.coco)


def shaken(truth: Truth, spread: float, seed: int) -> Detections:
    """The truth, each keypoint off by so much of the animal's size."""
    rng = np.random.default_rng(seed)
    off = spread * np.sqrt(truth.area)[:, None, None] * rng.normal(size=truth.keypoints.shape)
    n = len(truth)
    confidence = rng.uniform(0.3, 1, (n, 17))
    return Detections(
        truth.image_id, truth.category_id, truth.keypoints + off, confidence, confidence.mean(axis=1),
        truth.annotation_id,
    )  # fmt: skip


def model(label: str, runs: list[Detections], trained: Path) -> Model:
    (read,), _, _ = read_models([trained])
    return Model(label, tuple(dataclasses.replace(read.runs[0], detections=each) for each in runs))


def test_the_better_one_is_found_and_told_from_the_others(truth: Truth, trained: Path) -> None:
    spreads = {"bad": 0.12, "good": 0.03, "middling": 0.06}
    models = [model(k, [shaken(truth, s, i) for i in range(3)], trained) for k, s in spreads.items()]
    made = compare(models, truth, draws=300)
    assert made.judged[made.best].label == "good"
    assert set(made.differences) == set(made.p) == {0, 2}
    assert made.differences[0].value > made.differences[2].value > 0
    assert max(made.p.values()) < 0.05
    for i, difference in made.differences.items():
        assert difference.value == pytest.approx(made.judged[made.best].value("AP") - made.judged[i].value("AP"))
        assert difference.low <= difference.value <= difference.high


def test_a_model_is_not_told_from_itself(truth: Truth, trained: Path) -> None:
    one = shaken(truth, 0.06, 0)
    made = compare([model("a", [one], trained), model("b", [one], trained)], truth, draws=200)
    assert made.differences[1].value == made.differences[1].low == made.differences[1].high == 0
    assert made.p[1] == 1


def test_distances_have_intervals_that_are_no_fractions(truth: Truth) -> None:
    judged = judge("far", [shaken(truth, 0.3, 0)], truth, draws=300)
    made = judged.estimate("EPE")
    assert 1 < made.low < made.value < made.high
    assert made.value == judged.evaluations[0].values["EPE"]
    closer = judge("near", [shaken(truth, 0.1, 0)], truth, draws=300)
    difference = paired(closer.evaluations[0], judged.evaluations[0], "EPE")
    assert difference.value < difference.high < 0
    assert difference.value == pytest.approx(closer.value("EPE") - made.value)


def test_a_figure_on_few_instances_has_no_interval(truth: Truth) -> None:
    judged = judge("x", [shaken(truth, 0.05, 0)], truth, draws=100)
    few = judged.evaluations[0].values["n_M"]
    assert few < ENOUGH
    if few:
        assert not math.isnan(judged.value("AP_M"))
    assert math.isnan(judged.estimate("AP_M").low)
    assert not math.isnan(judged.estimate("AP_L").low)
    assert set(judged.intervals()) == set(judged.evaluations[0].draws)
