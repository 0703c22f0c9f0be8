"""What intervals hold less often for is said where they are given: few seeds, stray ones, unequal spreads, copies."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest
from made_up import coco
from scipy import stats

from catpose.analysis.caution import MANY_SEEDS, caution, n_copies, stray, unequal
from catpose.analysis.configurations import Configuration, Training
from catpose.analysis.statistics import Sample
from catpose.instances import Instances
from catpose.score.detections import Detections
from catpose.score.full import Evaluation, first_alike

N_IMAGES = 8


def sample(*ap: float) -> Sample:
    return Sample(np.array(ap), np.tile(ap, (3, 1)), N_IMAGES)


def configuration(label: str, ap: list[float], alike: np.ndarray | None = None) -> Configuration:
    draws = np.random.default_rng(len(label)).normal(0.5, 0.02, (20, len(ap)))
    evaluations = [
        Evaluation({"AP": value}, {"AP": draw}, N_IMAGES, {"AP": 20}, np.arange(N_IMAGES) if alike is None else alike)
        for value, draw in zip(ap, draws.T, strict=True)
    ]
    trainings = (Training(0, seed, "complete", label, evaluation=each) for seed, each in enumerate(evaluations))
    return Configuration(label, tuple(trainings))


def test_two_seeds_are_few_three_of_two_configurations_are_not_and_one_has_no_spread() -> None:
    two, three = ([configuration(label, [0.5, 0.52, 0.49][:n]) for label in "ab"] for n in (2, 3))
    assert caution(two, True).startswith("; with less confidence than 95 %, since two seeds hardly show their spread; ")
    assert "so few seeds" in caution(three[:1], False)
    assert "less confidence" not in caution(three, True)
    assert caution([configuration(label, [0.5]) for label in "ab"], True) == ""
    assert caution([], True) == ""


def test_so_many_trainings_could_fail_as_all_go_well_in_one_study_of_twenty() -> None:
    for n in range(2, MANY_SEEDS):
        said = caution([configuration(label, [0.5 + 0.01 * (i % 3) for i in range(n)]) for label in "ab"], True)
        found = re.search(r"which (\d+) can't show: up to (\d+) % of trainings could fail unseen$", said)
        assert found is not None
        assert int(found[1]) == n
        percent = int(found[2])
        assert stats.binom.pmf(0, n, (percent - 0.5) / 100) > 0.05 > stats.binom.pmf(0, n, (percent + 0.5) / 100)
    many = [configuration(label, [0.5 + 0.01 * (i % 3) for i in range(MANY_SEEDS)]) for label in "ab"]
    assert caution(many, True) == ""


def test_what_is_taken_for_granted_is_of_the_fewest_seeds_and_alike_only_where_spreads_are_pooled() -> None:
    mixed = [configuration("a", [0.5, 0.52, 0.49, 0.51]), configuration("b", [0.5, 0.52, 0.49])]
    assert "seeds spread normally and alike, which 3 to 4 can't show: up to 63 % of" in caution(mixed, True)
    assert "seeds spread normally, which 3 to 4 can't" in caution(mixed, False)
    assert "seeds spread normally, which 3 can't" in caution(mixed[1:], True)


def test_seeds_far_off_the_others_are_named_and_nothing_is_taken_for_granted_then() -> None:
    usual = [configuration(label, [0.5, 0.51, 0.49]) for label in "ab"]
    said = caution([*usual, configuration("failing", [0.5, 0.2, 0.5])], True)
    assert "seed 1 of failing, AP 0.200, lies far off the others" in said
    assert "assume" not in said
    masked = [configuration("a", [0.5, 0.2, 0.5]), configuration("b", [0.21, 0.5, 0.51]), *usual]
    said = caution(masked, True)
    assert "seed 1 of a, AP 0.200 and seed 0 of b, AP 0.210, lie far off the others" in said


def test_unequal_spreads_are_named_where_they_are_pooled() -> None:
    found = [configuration("a", [0.501, 0.502, 0.5, 0.5, 0.501]), configuration("b", [0.5, 0.62, 0.4, 0.45, 0.55])]
    assert "seeds spread unequally, with an sd from 0.001 of a to 0.086 of b" in caution(found, True)
    assert "seeds spread normally, which 5 can't show" in caution(found, True)
    assert "unequally" not in caution(found, False)


@pytest.mark.parametrize("seeds", [(3, 3), (3, 3, 3, 3), (5, 5, 5), (5, 3, 1)])
def test_of_studies_of_normal_seeds_one_in_twenty_at_most_is_warned_of(seeds: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    normal = [[sample(*rng.normal(0.5, 0.03, n)) for n in seeds] for _ in range(1000)]
    found = sum(bool(stray(samples) or unequal(samples)) for samples in normal)
    assert stats.binomtest(found, len(normal), 0.05, alternative="greater").pvalue > 0.001
    assert found > 0


def test_failed_seeds_and_unequal_spreads_are_found() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        usual = [sample(*rng.normal(0.5, 0.03, 3)) for _ in range(3)]
        failed = stray([*usual, sample(0.5, 0.5, 0.1)])
        assert failed is not None
        assert (3, 2) in failed[0]
        two = stray([*usual, sample(0.5, 0.5, 0.1), sample(0.1, 0.5, 0.5)])
        assert two is not None
        assert two[0] == [(3, 2), (4, 0)]
        spread = unequal([sample(*rng.normal(0.5, 0.002, 8)), sample(*rng.normal(0.5, 0.1, 8))])
        assert spread is not None
        assert spread[:2] == (0, 1)


def test_the_outlier_test_is_that_of_the_regression_without_the_seeds() -> None:
    """By what the other seeds leave over, as dummy variables of their own would be tested."""
    values = ((0.5, 0.53, 0.47, 0.49), (0.6, 0.2, 0.62, 0.61))
    for last, own in (((0.55, 0.56, 0.54), [(1, 1)]), ((0.55, 0.24, 0.54), [(1, 1), (2, 1)])):
        arms = (*values, last)
        found = stray([sample(*ap) for ap in arms])
        assert found is not None
        assert found[0] == own
        rows = [(arm, place) for arm, ap in enumerate(arms) for place in range(len(ap))]
        y = np.array([arms[arm][place] for arm, place in rows])
        of_arms = np.array([[arm == i for i in range(3)] for arm, _ in rows], float)
        dummies = np.array([[row == each for each in own] for row in rows], float)
        without, whole = (np.linalg.lstsq(x, y)[1][0] for x in (of_arms, np.hstack([of_arms, dummies])))
        df = len(rows) - 3 - len(own)
        f = (without - whole) / len(own) / (whole / df)
        assert found[1] == pytest.approx(math.comb(len(rows), len(own)) * stats.f.sf(f, len(own), df))


def test_the_test_of_spreads_is_bartletts() -> None:
    values = ((0.5, 0.501, 0.502, 0.499), (0.5, 0.6, 0.4), (0.3,), (0.5, 0.52, 0.47, 0.49, 0.5))
    found = unequal([sample(*ap) for ap in values])
    assert found is not None
    assert found == (0, 1, pytest.approx(stats.bartlett(*(ap for ap in values if len(ap) > 1)).pvalue))
    assert unequal([sample(0.5, 0.501), sample(0.4)]) is None
    assert unequal([sample(0.5, 0.5 + 1e-9, 0.5), sample(0.4, 0.4, 0.4)]) is None


def test_seeds_that_agree_but_for_rounding_and_too_few_of_them_show_no_stray_one() -> None:
    assert stray([sample(0.5, 0.5, 0.5 + 1e-9), sample(0.6, 0.6, 0.6)]) is None
    assert stray([sample(0.5, 0.1)]) is None
    assert stray([sample(0.5), sample(0.1)]) is None


def detections(truth: Instances, noise: np.ndarray) -> Detections:
    n = len(truth)
    return Detections(
        image_id=truth.image_id,
        category_id=truth.category_id,
        keypoints=truth.keypoints + noise,
        confidence=np.ones((n, 17)),
        score=np.linspace(1, 0.5, n),
        annotation_id=truth.ids,
    )


def test_images_that_every_run_takes_for_the_same_are_counted() -> None:
    truth = Instances.from_coco(coco(range(1, N_IMAGES + 1)))  # alike in their labels
    noise = np.random.default_rng(0).normal(0, 3, (len(truth), 17, 2))
    alike = first_alike(truth, detections(truth, noise))
    assert alike.tolist() == list(range(N_IMAGES))
    one, other = (np.flatnonzero(truth.image_index == i) for i in (0, 4))
    noise[other] = noise[one]
    copied = first_alike(truth, detections(truth, noise))
    assert copied.tolist() == [0, 1, 2, 3, 0, 5, 6, 7]
    none = detections(truth, noise).subset(np.array([], int))
    assert first_alike(truth, none).tolist() == list(range(N_IMAGES))
    assert n_copies([configuration("a", [0.5, 0.5, 0.5], copied)] * 2) == 1
    assert n_copies([configuration("a", [0.5], copied), configuration("b", [0.5], alike)]) == 0
    text = caution([configuration(label, [0.5, 0.51, 0.49], copied) for label in "ab"], False)
    assert "1 image of 8 got another's very keypoints, as copies do" in text
    unknown = configuration("a", [0.5])
    evaluation = dataclasses.replace(unknown.evaluations[0], first_alike=None)
    assert (
        n_copies(
            [
                dataclasses.replace(
                    unknown, trainings=(dataclasses.replace(unknown.trainings[0], evaluation=evaluation),)
                )
            ]
        )
        == 0
    )
