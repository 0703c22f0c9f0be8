"""The winner of many, corrected for its being the highest: chance is likely to have raised a maximum.

Andrews, Kitagawa & McCloskey (2024), Inference on Winners, Quarterly Journal of Economics 139(1), their hybrid: with
estimates X ~ N(μ, Σ), and X of the winner θ the largest, X_θ given what is independent of it (Z, the others less their
regression on X_θ) is a normal cut off below L(Z), whatever the others' μ. The value is the μ of which X_θ is the
median, the interval holds the μ in whose tails X_θ isn't. Near ties that alone would be endless, so it is
intersected with the simultaneous interval of all at a tenth of the error (`BETA`), where the distribution is cut off,
too. Σ is the bootstrap's over images, which all share, and the pooled spread between seeds (`analysis.statistics`);
since that is estimated, the interval's normal is a t with Satterthwaite's degrees of freedom, and the simultaneous
interval t/z times as wide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy import special

from catpose.analysis.statistics import ENOUGH, LEVEL, NOTHING, Estimate, Sample, pooled_seed_variance

BETA = (1 - LEVEL) / 10
_DRAWS = 10_000  # of the simultaneous interval's quantile


def corrected(samples: Sequence[Sample]) -> Estimate | None:
    """The expected AP of the configuration of the highest mean (the first of equals), given that it is the highest.

    None for a single configuration, and where nothing varies or too little is known.
    """
    n, x = samples[0].n_images, np.array([sample.ap.mean() for sample in samples])
    means = np.stack([sample.draws.mean(axis=1) for sample in samples])
    means = means[:, ~np.isnan(means).any(axis=0)]
    if len(samples) < 2 or np.isnan(x).any() or n < ENOUGH or means.shape[1] < 2:
        return None
    covariance = n / (n - 1) * np.cov(means)
    shares = images = covariance.diagonal().copy()
    uncertain = images**2 * (1 / (n - 1) + 1 / (means.shape[1] - 1))
    seeds = np.array([len(sample.ap) for sample in samples])
    several = [sample for sample in samples if len(sample.ap) > 1]
    if several:
        between, noise, df = pooled_seed_variance(several)
        covariance += np.diag(max(between - noise, 0.0) / seeds)
        inflated = between * (df + 2) / df
        shares = images + max(inflated - noise, 0.0) / seeds
        uncertain = uncertain + (inflated / seeds) ** 2 / df
    best = int(x.argmax())
    variance = covariance.diagonal()
    if not variance.min() > NOTHING**2:
        return None
    df_best = float(shares[best] ** 2 / uncertain[best])
    se, beyond = float(np.sqrt(variance[best])), _simultaneous(covariance)
    times = float(special.stdtrit(df_best, (1 + LEVEL) / 2) / special.ndtri((1 + LEVEL) / 2))
    lowest, highest = _cut(x, covariance, best)
    tail = ((1 - LEVEL) - BETA) / (1 - BETA) / 2
    value = _solve(0.5, float(x[best]), se, (lowest, highest), beyond, special.ndtr)
    cumulative = partial(special.stdtr, df_best)
    low, high = (_solve(p, float(x[best]), se, (lowest, highest), beyond * times, cumulative) for p in (1 - tail, tail))
    low, value, high = np.clip([low, value, high], 0.0, 1.0).tolist()
    return Estimate(value, low, high, se, df_best, int(seeds[best]))


def _cut(x: np.ndarray, covariance: np.ndarray, best: int) -> tuple[float, float]:
    """Between which ends x (m,) of the best configuration is the largest, the rest being what it is: L(Z) and U(Z)."""
    slope = covariance[:, best] / covariance[best, best]
    others = np.arange(len(x)) != best
    rest, steep = (x - slope * x[best])[others], (1 - slope)[others]
    ends = rest / np.where(steep == 0, 1.0, steep)
    return float(ends[steep > 0].max(initial=-np.inf)), float(ends[steep < 0].min(initial=np.inf))


def _simultaneous(covariance: np.ndarray) -> float:
    """How many standard errors all configurations' (m, m) estimates are within, with probability 1 - BETA."""
    draws = np.random.default_rng(0).multivariate_normal(np.zeros(len(covariance)), covariance, _DRAWS, method="eigh")
    return float(np.quantile(np.abs(draws / np.sqrt(covariance.diagonal())).max(axis=1), 1 - BETA))


def _solve(
    probability: float,
    x: float,
    se: float,
    cuts: tuple[float, float],
    beyond: float,
    cumulative: Callable[[np.ndarray], np.ndarray],
) -> float:
    """The μ with P(X ≤ x) = probability, X being μ + se · what has this distribution, within both cuts; by bisection,
    for P falls with μ."""
    low, high = x - beyond * se, x + beyond * se
    for _ in range(60):
        mean = (low + high) / 2
        bottom, top = max(cuts[0], mean - beyond * se), min(cuts[1], mean + beyond * se)
        below, here, above = cumulative((np.array([bottom, min(max(x, bottom), top), top]) - mean) / se)
        low, high = (mean, high) if (here - below) > probability * (above - below) else (low, mean)
    return (low + high) / 2
