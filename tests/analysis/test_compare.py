"""Models compared: on the same images, the better one ahead, equal ones not told apart."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from made_up import shaken
from skeletons import similarity

from catpose.analysis.configurations import Design, evaluate_runs
from catpose.analysis.evaluations import paired
from catpose.analysis.report import Report, report
from catpose.analysis.statistics import ENOUGH
from catpose.data.coco import read_split
from catpose.instances import Instances
from catpose.score.detections import Detections


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Instances:
    """Forty drawn cats."""
    from catpose.prepare import main

    root = tmp_path_factory.mktemp("compare") / "drawn"
    main(["drawn", "--out", str(root), "--sizes", "1", "40", "1"])
    split = read_split(root, "val")
    return split


def compared(truth: Instances, runs: dict[str, list[Detections]], draws: int) -> Report:
    return report(Design("test"), [
        dataclasses.replace(evaluate_runs(label, each, truth, draws), index=i)
        for i, (label, each) in enumerate(runs.items())
    ])  # fmt: skip


def test_the_better_one_is_found_and_told_from_the_others(truth: Instances) -> None:
    spreads = {"bad": 0.12, "good": 0.03, "middling": 0.06}
    made = compared(truth, {k: [shaken(truth, s, i) for i in range(3)] for k, s in spreads.items()}, draws=100)
    assert made.winner is not None
    assert made.winner.label == "good"
    assert set(made.pairs) == {0, 2}
    assert made.pairs[0].difference.value > made.pairs[2].difference.value > 0
    for i, pair in made.pairs.items():
        assert pair.p < 0.05
        assert pair.difference.value == pytest.approx(made.winner.value("AP") - made.rows[i].configuration.value("AP"))
        assert pair.difference.low <= pair.difference.value <= pair.difference.high


def test_a_model_is_not_told_from_itself(truth: Instances) -> None:
    one = shaken(truth, 0.06, 0)
    pair = compared(truth, {"a": [one], "b": [one]}, draws=200).pairs[1]
    assert pair.difference.value == pair.difference.low == pair.difference.high == 0
    assert pair.p == 1


def test_distances_have_intervals_that_are_no_fractions(truth: Instances) -> None:
    evaluated = evaluate_runs("far", [shaken(truth, 0.3, 0)], truth, draws=300)
    made = evaluated.estimate("EPE")
    assert 1 < made.low < made.value < made.high
    assert made.value == evaluated.evaluations[0].values["EPE"]
    closer = evaluate_runs("near", [shaken(truth, 0.1, 0)], truth, draws=300)
    difference = paired(closer.evaluations[0], evaluated.evaluations[0], "EPE")
    assert difference.value < difference.high < 0
    assert difference.value == pytest.approx(closer.value("EPE") - made.value)


def test_the_interval_of_a_distance_is_its_logarithms(truth: Instances) -> None:
    """As wide upwards as downwards as a factor, which a mean of a few large distances among many small ones needs."""
    found = shaken(truth, 0.02, 0)
    found.keypoints[:3] += 500.0
    made = evaluate_runs("three lost", [found], truth, draws=300).estimate("EPE")
    assert made.high / made.value == pytest.approx(made.value / made.low)
    assert made.low > 0
    assert made.high - made.value > 1.5 * (made.value - made.low)
    exact = evaluate_runs("exact", [shaken(truth, 0, 0)], truth, draws=20).estimate("EPE")
    assert exact.low == exact.value == exact.high == 0


def test_calibration_that_noise_alone_could_make_is_not_told_from_none(truth: Instances) -> None:
    rng = np.random.default_rng(0)
    spread = 0.06 * np.sqrt(truth.areas)[:, None, None] * rng.normal(size=truth.keypoints.shape)
    right = similarity(truth.keypoints + spread, truth.keypoints, truth.areas) >= 0.5
    for excess, calibrated in ((0.01, True), (0.3, False)):
        confidence = np.where(truth.labelled, right[truth.labelled].mean(), 0.5) + np.zeros(right.shape)
        found = dataclasses.replace(
            shaken(truth, 0, 0), keypoints=truth.keypoints + spread, confidence=confidence - excess
        )
        evaluated = evaluate_runs("x", [found], truth, draws=300)
        made = evaluated.estimate("ECE")
        assert (made.low == 0) == calibrated
        assert made.low <= made.value <= made.high


def test_of_two_detectors_one_may_miss_more(truth: Instances) -> None:
    """EPE rests on the instances that were detected."""
    whole, half = shaken(truth, 0.05, 0), shaken(truth, 0.2, 1).subset(np.arange(0, len(truth), 2))
    ours, theirs = (evaluate_runs("x", [each], truth, draws=100) for each in (half, whole))
    assert 10 < ours.estimate("EPE").df < theirs.estimate("EPE").df - 5
    made = paired(ours.evaluations[0], theirs.evaluations[0], "EPE")
    assert 0 < made.low < made.value < made.high


def test_nothing_detected(truth: Instances) -> None:
    evaluated = evaluate_runs("blind", [shaken(truth, 0.05, 0).subset(np.arange(0))], truth, draws=20)
    intervals = evaluated.intervals()
    assert intervals["AP"][0] == 0
    assert np.isnan([intervals[key] for key in ("EPE", "NME", "NME_eyes", "ECE")]).all()


def test_ece_of_confidences_above_1_lies_within_its_interval(truth: Instances) -> None:
    found = shaken(truth, 0.05, 0)
    for times in (1, 3):
        loud = dataclasses.replace(found, confidence=times * found.confidence)
        ece = evaluate_runs("loud", [loud], truth, draws=100).estimate("ECE")
        assert ece.low <= ece.value <= ece.high
        assert (ece.high > 1) == (times == 3)


def test_a_figure_on_few_instances_has_no_interval(truth: Instances) -> None:
    evaluated = evaluate_runs("x", [shaken(truth, 0.05, 0)], truth, draws=100)
    few = evaluated.evaluations[0].values["n_M"]
    assert few < ENOUGH
    if few:
        assert not math.isnan(evaluated.value("AP_M"))
    assert math.isnan(evaluated.estimate("AP_M").low)
    assert not math.isnan(evaluated.estimate("AP_L").low)
    assert set(evaluated.intervals()) == set(evaluated.evaluations[0].draws)

    rare = truth.visibility.copy()
    rare[:, 4] = np.arange(len(truth)) < 9
    rare[:, 11] = np.arange(len(truth)) < 12
    evaluated = evaluate_runs("x", [shaken(truth, 0, 0)], dataclasses.replace(truth, visibility=rare), draws=100)
    for key in ("AP", "AR", "PCK@0.1", "EPE"):
        assert evaluated.value(f"{key}/root_of_tail") == (key != "EPE")
        assert math.isnan(evaluated.estimate(f"{key}/root_of_tail").low)
        assert not math.isnan(evaluated.estimate(f"{key}/left_hip").low)
    # Twelve found without a miss say less than forty.
    assert evaluated.estimate("AP/left_hip").low < 0.8 < 0.85 < evaluated.estimate("AP/nose").low
