"""AP over bootstrap draws of the validation images: `average_precision`'s "AP" alone, some thirty times as fast.

A draw holds each image as often as it was drawn, n of n with replacement (Efron & Tibshirani 1993, An Introduction to
the Bootstrap). All models are looked at on the same draws, so that what two of them have in common, the difficulty of
the images above all, cancels out of their difference.
"""

from __future__ import annotations

import numpy as np

from catpose.score.ap import RECALLS, THRESHOLDS, Matches

_STEP = 250  # draws at once: small enough for the processor's cache


def image_weights(n_images: int, draws: int = 1000, seed: int = 0) -> np.ndarray:
    """How often each draw holds each image: (draws, n_images) int64, every row adding up to n_images."""
    if n_images < 1:
        raise ValueError("a bootstrap needs an image at least")
    return np.random.default_rng(seed).multinomial(n_images, np.full(n_images, 1 / n_images), size=draws)


def bootstrap_ap(matches: Matches, weights: np.ndarray) -> np.ndarray:
    """The AP of every draw, a fraction in 0..1: (draws,) float64, `average_precision(matches, weights)["AP"]` to 1e-12.

    nan where a draw holds no instance, which can only be where there are images without any.

    Args:
        weights: (draws, I) whole numbers, 0 or more, in the order of `Truth.images`; see `image_weights`.
    """
    n_images = matches.instances.shape[-1]
    if weights.ndim != 2 or weights.shape[1] != n_images or not np.issubdtype(weights.dtype, np.integer):
        raise ValueError(f"weights are (draws, {n_images}) whole numbers; these are {weights.shape} {weights.dtype}")
    if (weights < 0).any():
        raise ValueError("weights are 0 or more")
    parts = [_draws(matches, weights[start : start + _STEP]) for start in range(0, len(weights), _STEP)]
    return np.concatenate(parts) if parts else np.empty(0)


def _draws(matches: Matches, weights: np.ndarray) -> np.ndarray:
    """(n, I) -> (n,): the mean over the categories that a draw has."""
    total, present = np.zeros(len(weights)), np.zeros(len(weights))
    for k in range(matches.instances.shape[1]):
        n_instances = weights @ matches.instances[0, k]
        total += np.where(n_instances > 0, _of_category(matches, k, weights, n_instances), 0.0)
        present += n_instances > 0
    return np.where(present > 0, total, np.nan) / np.maximum(present, 1)


def _of_category(matches: Matches, k: int, weights: np.ndarray, n_instances: np.ndarray) -> np.ndarray:
    """(n,): the area under the interpolated curve, as the sum of its steps, each at a true detection.

    Draws are the last axis, so that every operation runs along them. Weights are whole numbers, hence recalls are
    fractions of few kinds, and how many of the 101 recalls each of them reaches is looked up.
    """
    of_category = matches.category == k
    each = weights.T[matches.image[of_category]]  # (D, n): how often a draw holds each detection, best first
    sizes, size = np.unique(n_instances, return_inverse=True)
    top = int(each.sum(axis=0).max(initial=0)) + 1
    reached_by = RECALLS.searchsorted(np.arange(top) / np.maximum(sizes, 1)[:, None], side="right")
    first = size * top  # of the draw's row in `reached_by`, flat
    area = np.zeros(len(weights))
    seen, seen_of = each, None
    for counted, true in zip(matches.counted[0][:, of_category], matches.true[0][:, of_category], strict=True):
        index = np.flatnonzero(true)
        if not len(index):
            continue
        if seen_of is None or (counted != seen_of).any():  # mostly the same at all thresholds
            seen, seen_of = (each * counted[:, None]).cumsum(axis=0) + np.spacing(1), counted
        found = each[index].cumsum(axis=0)
        precision = found / seen[index]
        best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        width = reached_by.ravel()[first + found]
        width[1:] -= width[:-1].copy()
        area += np.einsum("dn,dn->n", best, width)
    return area / (len(THRESHOLDS) * len(RECALLS))
