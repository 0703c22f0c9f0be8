"""Studies over random divisions: the parts of the variance, and the corrected resampled t-test."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from divided import PARTS, study
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from catpose.analysis.statistics import Sample, difference, estimate
from catpose.analysis.variance import components
from catpose.score.full import Division


def still(ap: list[list[float]], ratio: float = 0.125) -> Sample:
    """AP of (n, m) seeds on divisions, on images that show no variance."""
    values = np.array([value for row in ap for value in row])
    divisions = tuple(Division(i, ratio) for i, row in enumerate(ap) for _ in row)
    return Sample(values, np.tile(values, (3, 1)), 100, divisions)


def test_a_difference_is_nadeau_and_bengio_s_corrected_resampled_t_test() -> None:
    ours, theirs = [[0.52], [0.55], [0.49], [0.56]], [[0.50], [0.51], [0.50], [0.50]]
    found = difference(still(ours), still(theirs))
    each = (np.array(ours) - np.array(theirs)).ravel()
    t = each.mean() / math.sqrt((1 / 4 + 0.125) * each.var(ddof=1))
    assert (found.value, found.df) == pytest.approx((each.mean(), 3))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), 3))
    assert estimate(still(ours)).se == pytest.approx(math.sqrt((1 / 4 + 0.125) * np.var(ours, ddof=1)))


def test_the_divisions_that_both_have_are_compared() -> None:
    ours, theirs = still([[0.52], [0.55], [0.49], [0.56]]), still([[0.50], [0.51], [0.50]])
    assert difference(ours, replace(theirs, n_images=98)).df == 2  # images differ in number from split to split
    assert math.isnan(difference(ours, still([[0.5]])).p)


@given(st.lists(st.floats(-0.3, 0.3), min_size=4, max_size=4), st.integers(0, 2**16))
def test_what_divisions_differ_in_cancels_out_of_a_difference_of_those_that_lost_seeds(
    harder: list[float], seed: int
) -> None:
    """Of a configuration that has lost one division and a seed of another."""
    whole, lost = (study(np.random.default_rng(seed + i), 4, 2, draws=20) for i in range(2))
    kept = np.array([0, 1, 2, 4, 5])
    lost = Sample(lost.ap[kept], lost.draws[:, kept], lost.n_images, tuple(lost.divisions[i] for i in kept))
    found, again = (
        difference(*(replace(each, ap=each.ap + by[[one.number for one in each.divisions]]) for each in (lost, whole)))
        for by in (np.zeros(4), np.array(harder))
    )
    assert again.value == pytest.approx(found.value)
    assert (again.low, again.high, again.p) == pytest.approx((found.low, found.high, found.p))


def test_without_image_variance_the_parts_are_those_of_a_nested_analysis_of_variance() -> None:
    ap = np.array([[0.50, 0.54, 0.52], [0.60, 0.57, 0.61], [0.48, 0.47, 0.53]])
    found = components([still(ap.tolist())])
    within = ap.var(axis=1, ddof=1).mean()
    assert found is not None
    assert found.images == pytest.approx(0)
    assert found.seed == pytest.approx(within)
    assert found.division == pytest.approx(ap.mean(axis=1).var(ddof=1) - within / 3)


def test_one_seed_a_division_leaves_seed_and_division_together() -> None:
    found = components([still([[0.5], [0.6], [0.4]])])
    assert found is not None
    assert found.seed is None
    assert found.division == pytest.approx(0.01)
    assert found.shares == {"images": pytest.approx(0), "division": pytest.approx(1)}


def test_fewer_than_two_divisions_or_unequal_seeds_say_nothing() -> None:
    assert components([still([[0.5, 0.6]])]) is None
    assert components([still([[0.5, 0.6], [0.5]])]) is None
    assert components([Sample(np.array([0.5, 0.6]), np.ones((3, 2)), 9)]) is None


@given(st.integers(2, 4), st.integers(1, 3), st.integers(0, 2**16))
def test_shares_are_of_one(n: int, m: int, seed: int) -> None:
    found = components([study(np.random.default_rng(seed), n, m, draws=20)])
    assert found is not None
    assert sum(found.shares.values()) == pytest.approx(1)
    assert all(share >= 0 for share in found.shares.values())


def test_estimates_are_unbiased() -> None:
    """Over 300 studies of five divisions with two seeds each, within four standard errors."""
    rng = np.random.default_rng(0)
    found = [components([study(rng, 5, 2, draws=200)]) for _ in range(300)]
    for name, truth in PARTS.items():
        values = np.array([getattr(each, name) for each in found])
        assert abs(values.mean() - truth) < 4 * stats.sem(values), name
