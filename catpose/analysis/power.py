"""The difference that a study can detect, from what all of its configurations show of the spread, and how sure that is.

One configuration's few seeds say so little of their spread that a detectable difference of its own is often half or
twice the true one. Here the spread is pooled: the image part of a difference's variance (`analysis.statistics`) is the
mean over the pairs compared, s² and noise are those of all configurations together; how little is known of it all say
Satterthwaite's degrees of freedom of the whole variance. p-values rest on each pair's own s² all the same, since
pooling it errs where spreads are unequal. So the power at a difference δ is that of the very test: with normal data
D ~ N(δ, V), and s² ~ σ²·χ²(ν)/ν of each of both, it is the mean of P(D > t·se) over these s², on which se and the
degrees of freedom of t depend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from catpose.analysis.statistics import ALPHA, ENOUGH, NOTHING, POWER, Sample, pooled_seed_variance

#: Of the range in which the true detectable difference lies.
RANGE = 0.8
_PLACES = (np.arange(20) + 0.5) / 20  # of quantiles that stand for a distribution


@dataclass(frozen=True)
class Detectable:
    """The true difference that a study finds with a power of 80 %.

    `value` has that power on average over what isn't known of the spread, O'Hagan, Stevens & Campbell's (2005)
    assurance. That which would have it, were the spread known, lies between `low` and `high` in 80 % of studies by the
    formula, and of simulated ones of two or three seeds in 74 to 79 %; in 65 % where seeds have heavy tails, 56 % at an
    AP of 0.03, 41 % where the configurations' spreads differ fourfold and more (`tests/benchmarks/claims.py`).
    """

    value: float
    low: float
    high: float
    seeds: int  # of each of two configurations


@dataclass(frozen=True, eq=False)
class _Test:
    """The test of two configurations with S seeds each, for K spreads that may be the true one: (K, …) arrays."""

    se: np.ndarray  # (K,) of the difference
    thresholds: np.ndarray  # (K, G): equally probable differences from which on it is significant

    def detects(self) -> float:
        """The difference that it finds with the power `POWER`, on average over the spreads; by bisection."""
        low, high = 0.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            found = special.ndtr((middle - self.thresholds) / self.se[:, None]).mean()
            low, high = (middle, high) if found < POWER else (low, middle)
        return high


def detectable(samples: Sequence[Sample], pairs: Sequence[tuple[int, int]], comparisons: int) -> Detectable | None:
    """What a study of these configurations can detect, at most 1; None where nothing varies or too little is known.

    Args:
        pairs: which of them are compared.
        comparisons: as of `statistics.difference`.
    """
    if not pairs:
        return None
    several, n = [sample for sample in samples if len(sample.ap) > 1], samples[0].n_images
    means = np.stack([sample.draws.mean(axis=1) for sample in samples])
    means = means[:, ~np.isnan(means).any(axis=0)]
    if n < ENOUGH or means.shape[1] < 2 or np.isnan([sample.ap.mean() for sample in samples]).any():
        return None
    images = n / (n - 1) * float(np.mean([(means[i] - means[j]).var(ddof=1) for i, j in pairs]))
    images_df = 1 / (1 / (n - 1) + 1 / (means.shape[1] - 1))
    counts = [len(sample.ap) for sample in several]
    seeds = max({*counts}, key=lambda count: (counts.count(count), count), default=1)
    between = noise = 0.0
    df = images_df
    if several:
        between, noise, df = pooled_seed_variance(several)
    if not images + max(between - noise, 0.0) > NOTHING**2:
        return None
    alpha = ALPHA / comparisons
    total = images + 2 * max(between - noise, 0.0) / seeds
    total_df = total**2 / (images**2 / images_df + (2 * between / seeds) ** 2 / df)  # Satterthwaite's

    def test(ratio: np.ndarray) -> _Test:
        """Where the true spreads are the estimated ones over each ratio."""
        return _test(images / ratio, between / ratio, noise / ratio, seeds, images_df, alpha)

    value = test(_chi2(total_df, _PLACES)).detects()
    low, high = (test(_chi2(total_df, np.array([place]))).detects() for place in ((1 + RANGE) / 2, (1 - RANGE) / 2))
    return Detectable(value, low, high, seeds)


def _test(
    images: np.ndarray, between: np.ndarray, noise: np.ndarray, seeds: int, images_df: float, alpha: float
) -> _Test:
    """By the formula of `analysis.statistics`; images, between and noise are (K,)."""
    se = np.sqrt(images + 2 * np.maximum(between - noise, 0.0) / seeds)
    images = images[:, None, None]
    noise = noise[:, None]
    if seeds == 1:
        return _Test(se, se[:, None] * special.stdtrit(images_df, 1 - alpha / 2))
    seen = between[:, None] * _chi2(seeds - 1, _PLACES)  # (K, G): s² of one configuration
    inflated = seen * (seeds + 1) / (seeds - 1)

    def both(each: np.ndarray) -> np.ndarray:
        return each[:, :, None] + each[:, None, :]

    variance = images + both(np.maximum(seen - noise, 0.0)) / seeds
    share = images + both(np.maximum(inflated - noise, 0.0)) / seeds
    df = share**2 / (images**2 / images_df + both((inflated / seeds) ** 2) / (seeds - 1))
    thresholds = np.sqrt(variance) * special.stdtrit(df, 1 - alpha / 2)
    return _Test(se, thresholds.reshape(len(se), -1))


def _chi2(df: float, probability: np.ndarray) -> np.ndarray:
    """Quantiles (n,) of χ²(df) / df at probabilities (n,)."""
    return special.gammaincinv(df / 2, probability) * 2 / df
