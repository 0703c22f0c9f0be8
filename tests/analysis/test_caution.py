"""What intervals hold less often for is said where they are given: two seeds, a stray seed, copied images."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from made_up import coco
from scipy import stats

from catpose.analysis.caution import caution, n_copies, stray
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
    assert caution(two) == "; with less confidence than 95 %, since two seeds hardly show their spread"
    assert "so few seeds" in caution(three[:1])
    assert caution(three) == ""
    assert caution([configuration(label, [0.5]) for label in "ab"]) == ""
    assert caution([]) == ""


def test_a_seed_far_off_the_others_is_named() -> None:
    usual = [configuration(label, [0.5, 0.51, 0.49]) for label in "ab"]
    assert "seed 1 of failing, AP 0.200, lies far off the others" in caution(
        [*usual, configuration("failing", [0.5, 0.2, 0.5])]
    )


def test_of_normal_seeds_one_in_twenty_studies_has_a_stray_one_and_a_failed_one_is_found() -> None:
    rng = np.random.default_rng(0)
    normal = [[sample(*rng.normal(0.5, 0.03, 3)) for _ in range(4)] for _ in range(1000)]
    found = sum(stray(samples) is not None for samples in normal)
    assert stats.binomtest(found, len(normal), 0.05, alternative="greater").pvalue > 0.001
    failed = [[*samples[1:], sample(0.5, 0.5, 0.1)] for samples in normal[:100]]
    assert all(each is not None and each[0] == 3 for each in map(stray, failed))


def test_the_outlier_test_is_that_of_the_regression_without_the_seed() -> None:
    """Studentised by what the other seeds leave over, as a dummy variable of its own would be tested."""
    samples = [sample(0.5, 0.53, 0.47), sample(0.6, 0.2, 0.62, 0.61)]
    found = stray(samples)
    assert found is not None
    rows = [(0, 0.5), (0, 0.53), (0, 0.47), (1, 0.6), (1, 0.2), (1, 0.62), (1, 0.61)]
    design = np.array([(arm == 0, arm == 1, i == 4) for i, (arm, _) in enumerate(rows)], float)
    y = np.array([value for _, value in rows])
    solved, rest, *_ = np.linalg.lstsq(design, y)
    t = solved[2] / np.sqrt(rest[0] / 4 * np.linalg.inv(design.T @ design)[2, 2])
    assert found[:2] == (1, 1)
    assert found[2] == pytest.approx(7 * 2 * stats.t.sf(abs(t), 4))


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
    text = caution([configuration("a", [0.5, 0.51, 0.49], copied), configuration("b", [0.5, 0.51, 0.49], copied)])
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
