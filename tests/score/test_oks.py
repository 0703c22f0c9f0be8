"""OKS against its definition and pycocotools' own; the score and NMS rules against loops written from their words."""

from __future__ import annotations

import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.cocoeval import COCOeval
from skeletons import N_KEYPOINTS, SIGMA_ARRAY, SIGMAS, oks_nms, oks_to_unlabelled, similarity

from catpose.score import oks as oks_module
from catpose.score.oks import instance_score, oks

seeds = st.integers(0, 2**32 - 1)


def draw(seed: int, n: int = 1):
    """n pairs of detections and instances: keypoints, labels (at least one), boxes, areas."""
    rng = np.random.default_rng(seed)
    side = np.exp(rng.uniform(np.log(5), np.log(500), n))
    box = np.column_stack([rng.uniform(-50, 300, (n, 2)), side, side * rng.uniform(0.3, 3, n)])
    truth = box[:, None, :2] + rng.random((n, N_KEYPOINTS, 2)) * box[:, None, 2:]
    found = truth + rng.normal(size=truth.shape) * side[:, None, None] * rng.choice([0.01, 0.1, 1.0], (n, 1, 1))
    labelled = rng.random((n, N_KEYPOINTS)) < rng.random((n, 1))
    labelled[:, rng.integers(N_KEYPOINTS)] = True
    return found, truth, labelled, box, box[:, 2] * box[:, 3] * rng.uniform(0.3, 1, n)


def test_the_definition():
    area, distance = 5000.0, 7.0
    truth = np.zeros((1, N_KEYPOINTS, 2))
    found = truth + np.array([0.6, 0.8]) * distance
    expected = [math.exp(-(distance**2) / (2 * area * (2 * sigma) ** 2)) for sigma in SIGMAS]
    np.testing.assert_allclose(similarity(found, truth, np.array([area]))[0], expected, rtol=1e-12)


@given(seeds)
def test_properties(seed: int):
    found, truth, labelled, _, area = draw(seed)
    here = oks(similarity(found, truth, area), labelled)
    assert 0 <= here[0] <= 1
    assert oks(similarity(truth, truth, area), labelled)[0] == 1
    moved = oks(similarity(found + 1000, truth + 1000, area), labelled)
    larger = oks(similarity(found * 3, truth * 3, area * 9), labelled)
    np.testing.assert_allclose([moved[0], larger[0]], here[0], rtol=1e-6, atol=1e-9)
    nearer = oks(similarity((found + truth) / 2, truth, area), labelled)
    assert nearer[0] >= here[0]
    unseen = np.where(labelled[..., None], found, 1e9)  # where nothing is labelled, nothing counts
    assert oks(similarity(unseen, truth, area), labelled)[0] == here[0]


def test_no_label_is_no_oks():
    assert np.isnan(oks(np.ones((2, 3)), np.array([[False] * 3, [True] * 3]))).tolist() == [True, False]


@pytest.mark.parametrize("seed", range(100))
def test_equal_to_pycocotools_to_the_last_bit(seed: int):
    """20 detections against 3 instances of an image, the last of them without labels."""
    found, _, _, _, _ = draw(seed, 20)
    _, truth, labelled, box, area = draw(seed, 3)
    found[::2] = truth[0] + (found[::2] - found[::2].mean()) / 50  # some that are near
    labelled[2] = False
    evaluation = COCOeval(iouType="keypoints")
    evaluation.params.kpt_oks_sigmas = np.array(SIGMAS)
    evaluation._dts[1, 1] = [
        {"keypoints": np.column_stack([k, np.ones(N_KEYPOINTS)]).ravel().tolist(), "score": -i}
        for i, k in enumerate(found)
    ]
    evaluation._gts[1, 1] = [
        {"keypoints": np.column_stack([k, v]).ravel().tolist(), "bbox": b.tolist(), "area": float(a)}
        for k, v, b, a in zip(truth, labelled, box, area, strict=True)
    ]
    expected = evaluation.computeOks(1, 1)
    for j in range(3):
        pairs = (found, np.broadcast_to(truth[j], found.shape), np.broadcast_to(area[j], 20))
        if j < 2:
            ours = oks(similarity(*pairs), np.broadcast_to(labelled[j], (20, N_KEYPOINTS)))
        else:
            ours = oks_to_unlabelled(found, np.broadcast_to(box[j], (20, 4)), pairs[2])
        assert (ours == expected[:, j]).all()


def test_far_away_is_zero_without_warnings():
    found, truth, labelled, box, area = draw(0)
    for far in (1e6, 1e160, 1e300):
        assert oks(similarity(found + far, truth, area), labelled)[0] == 0
        assert oks_to_unlabelled(found + far, box, area)[0] == 0


@given(seeds)
def test_within_the_widened_box_is_excused(seed: int):
    _, _, _, box, area = draw(seed)
    inside = np.random.default_rng(seed).uniform(-0.999, 1.999, (1, N_KEYPOINTS, 2))
    assert oks_to_unlabelled(box[:, None, :2] + inside * box[:, None, 2:], box, area)[0] == 1
    beyond = box[:, None, :2] + np.full((1, N_KEYPOINTS, 2), 2.5) * box[:, None, 2:]
    assert oks_to_unlabelled(beyond, box, area)[0] < 1


@given(seeds)
def test_instance_score(seed: int):
    rng = np.random.default_rng(seed)
    confidence = rng.choice([0.0, 0.1, 0.2, 0.2000001, 0.5, 1.0, rng.random()], (5, N_KEYPOINTS)) * rng.choice([1, 0.3])
    for row, score in zip(confidence, instance_score(confidence), strict=True):
        good = [c for c in row if c > 0.2]
        assert score == pytest.approx(sum(good) / len(good) if good else 0.0, abs=1e-12)


def test_instance_score_of_float32_is_reckoned_in_float64():
    confidence = np.random.default_rng(0).random((3, N_KEYPOINTS)).astype(np.float32)
    assert instance_score(confidence).tolist() == instance_score(confidence.astype(np.float64)).tolist()


def nms_in_words(keypoints: np.ndarray, score: np.ndarray, area: np.ndarray, max_oks: float) -> set[int]:
    left, kept = sorted(range(len(score)), key=lambda i: (-score[i], i)), set()
    while left:
        best = left.pop(0)
        kept.add(best)
        for other in list(left):
            mean_area = (area[best] + area[other]) / 2
            squared = ((keypoints[best] - keypoints[other]) ** 2).sum(axis=1)
            if np.exp(-squared / (2 * mean_area * (2 * SIGMA_ARRAY) ** 2)).mean() > max_oks:
                left.remove(other)
    return kept


@given(seeds, st.integers(0, 8), st.sampled_from([0.3, 0.6, 0.9]))
def test_nms(seed: int, n: int, max_oks: float):
    rng = np.random.default_rng(seed)
    keypoints = rng.random((1, N_KEYPOINTS, 2)) * 100 + rng.normal(size=(n, N_KEYPOINTS, 2)) * rng.choice([1, 3, 8])
    score, area = rng.choice([0.5, 0.5, rng.random(), rng.random()], n), rng.uniform(2000, 20000, n)
    with mock.patch.object(oks_module, "NMS_OKS", max_oks):
        found = oks_nms(keypoints, score, area)
    assert set(np.flatnonzero(found)) == nms_in_words(keypoints, score, area, max_oks)


def test_nms_keeps_the_first_of_twins_and_all_that_differ():
    twins = np.zeros((3, N_KEYPOINTS, 2))
    assert oks_nms(twins, np.array([0.5, 0.5, 0.4]), np.full(3, 100.0)).tolist() == [True, False, False]
    assert oks_nms(twins, np.array([0.4, 0.5, 0.5]), np.full(3, 100.0)).tolist() == [False, True, False]
    apart = twins + 1000 * np.arange(3)[:, None, None]
    assert oks_nms(apart, np.array([0.5, 0.5, 0.4]), np.full(3, 100.0)).all()
    half = np.zeros((2, N_KEYPOINTS, 2))
    half[1, :8] = 1e6  # 9 of 17 alike: exactly at the limit stays, above it goes
    for limit, stays in ((9 / 17, True), (8.99 / 17, False)):
        with mock.patch.object(oks_module, "NMS_OKS", limit):
            assert oks_nms(half, np.array([1.0, 0.5]), np.full(2, 100.0)).all() == stays
