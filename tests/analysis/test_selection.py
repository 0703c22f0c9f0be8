"""The highest of several, corrected: covered and without bias where they are equal, left alone where it stands out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from simulated import LINEAR, linear_studies, still

from catpose.analysis.selection import corrected
from catpose.analysis.statistics import Sample, estimate


@pytest.mark.slow
@pytest.mark.parametrize(("world", "seeds", "arms"), [("seeds", 3, 9), ("mixed", 3, 9), ("mixed", 5, 3)])
def test_the_highest_of_equals_is_covered_and_not_too_high(world: str, seeds: int, arms: int) -> None:
    studies = list(linear_studies(LINEAR[world], seeds, arms, 300, (1,) * arms))
    found = [each for each in map(corrected, studies) if each]
    assert len(found) == len(studies)
    raw = [max(study, key=lambda sample: sample.ap.mean()) for study in studies]
    error = 3 * math.sqrt(0.05 * 0.95 / len(studies))
    assert 0.95 - error < np.mean([each.low <= 0.5 <= each.high for each in found]) <= 1
    assert abs(np.mean([each.value for each in found]) - 0.5) < np.mean([sample.ap.mean() for sample in raw]) - 0.5
    spread = np.std([each.value for each in found]) / math.sqrt(len(found))
    assert abs(np.median([each.value for each in found]) - 0.5) < 4 * spread  # median-unbiased


def test_one_that_stands_out_is_left_alone() -> None:
    images = np.random.default_rng(0).normal(size=(1000, 1))
    low, high = (Sample(ap, ap + 0.01 * images, 200) for ap in (np.full(3, 0.3), np.full(3, 0.8)))
    other = Sample(np.full(3, 0.2), np.full((1000, 3), 0.2) + 0.01 * images[::-1], 200)
    made = corrected([low, high, other])
    assert made is not None
    raw = estimate(high)
    assert made.value == pytest.approx(0.8, abs=1e-4)
    assert (made.low, made.high) == pytest.approx((raw.low, raw.high), abs=0.002)


@pytest.mark.slow
def test_the_median_of_a_normal_that_is_the_larger_of_two() -> None:
    """By simulation: of two independent estimates with known spread, half of the corrected ones are too high."""
    rng, draws = np.random.default_rng(1), np.random.default_rng(2).normal(size=(400, 2))
    draws = np.linalg.solve(np.linalg.cholesky(np.cov(draws.T)), (draws - draws.mean(axis=0)).T).T
    too_high = []
    for _ in range(400):
        x = 0.5 + 0.02 * rng.normal(size=2)
        made = corrected([Sample(x[[i]], x[i] + 0.02 * draws[:, [i]], 10_000) for i in range(2)])
        assert made is not None
        too_high.append(made.value > 0.5)
    assert stats.binomtest(sum(too_high), len(too_high), 0.5).pvalue > 0.001


def test_a_single_one_and_one_that_never_varies_have_no_correction() -> None:
    assert corrected([still(0.4, 0.5)]) is None
    assert corrected([still(0.0, 0.0), still(0.0, 0.0)]) is None
    assert corrected([still(0.4, np.nan), still(0.5, 0.6)]) is None
