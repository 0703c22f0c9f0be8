"""AP and its relatives over bootstrap draws of the validation images, with what `catpose.score.ap` has matched.

A draw holds each image as often as it was drawn, n of n with replacement (Efron & Tibshirani 1993, An Introduction to
the Bootstrap). All models are looked at on the same draws, so that what two of them have in common, the difficulty of
the images above all, cancels out of their difference.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from catpose.score.ap import RECALLS, THRESHOLDS, Matches

_STEP, _CELLS = 250, 2**18  # draws at once, at least; more of few detections, about what the processor's cache holds


@functools.lru_cache(maxsize=1)  # all models of a page hold the same
def image_weights(n_images: int, draws: int = 1000, seed: int = 0) -> np.ndarray:
    """How often each draw holds each image: (draws, n_images) int64, read-only, every row adding up to n_images."""
    if n_images < 1:
        raise ValueError("a bootstrap needs an image at least")
    weights = np.random.default_rng(seed).multinomial(n_images, np.full(n_images, 1 / n_images), size=draws)
    weights.flags.writeable = False
    return weights


class Bootstrap(Mapping[str, np.ndarray]):
    """The metrics of every draw: those of `average_precision` but for its counts "n", "n_M", "n_L", (draws,) each.

    Each is reckoned when it is first asked for: a page shows the keypoints of few of its models.

    A draw that holds an image m times has the value of a data set that holds it m times over (as images of their own).
    Of detections with equal scores, all copies of the one that comes first come first.

    Args:
        weights: (draws, I) whole numbers, 0 or more, in the order of `Instances.image_ids`; see `image_weights`.
        categories: the names of all C, where each one's own "AP/NAME" is wanted: nan where a draw has none of it.
    """

    def __init__(self, matches: Matches, weights: np.ndarray, categories: Sequence[str] = ()) -> None:
        _require_weights(matches, weights)
        self._matches, self._weights, self._categories = matches, weights, categories
        names: dict[str, tuple[str, ...]] = {name: (name, f"AR{name[2:]}") for name in matches.questions}
        first = matches.questions[0]
        names[first] += ("AP50", "AR50", "AP75", "AR75", *(f"AP/{category}" for category in categories))
        self._question = {key: q for q, keys in enumerate(names.values()) for key in keys}
        self._known: dict[str, np.ndarray] = {}

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self._known:
            self._known |= self._answers(self._question[key])
        return self._known[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._question)

    def __len__(self) -> int:
        return len(self._question)

    def _answers(self, q: int) -> dict[str, np.ndarray]:
        """All metrics that question q's curves give."""
        by_category, name = _curves(self._matches, q, self._weights), self._matches.questions[q]
        precision, recall = _mean_of_present(by_category)
        answers = {name: precision.mean(axis=0), f"AR{name[2:]}": recall.mean(axis=0)}
        if q == 0:
            for at, t in (("50", 0), ("75", 5)):  # 0.5 and 0.75 among the thresholds
                answers |= {f"AP{at}": precision[t], f"AR{at}": recall[t]}
            own = by_category[:, 0].mean(axis=1)
            answers |= {f"AP/{category}": own[k] for k, category in enumerate(self._categories)}
        return answers


def bootstrap_ap(matches: Matches, weights: np.ndarray) -> np.ndarray:
    """The AP of every draw, a fraction in 0..1: (draws,) float64, the same as `Bootstrap`'s "AP".

    nan where a draw holds no instance, which can only be where there are images without any.

    Args:
        weights: (draws, I) whole numbers, 0 or more, in the order of `Instances.image_ids`; see `image_weights`.
    """
    _require_weights(matches, weights)
    return _mean_of_present(_curves(matches, 0, weights))[0].mean(axis=0)


def _curves(matches: Matches, q: int, weights: np.ndarray) -> np.ndarray:
    """(C, 2, T, draws): of question q and each category, the mean interpolated precision and the recall reached at
    every threshold; nan where a draw has no instance."""
    step = max(_STEP, _CELLS // max(len(matches.image), 1))
    parts = [_draws(matches, q, weights[start : start + step]) for start in range(0, max(len(weights), 1), step)]
    return np.concatenate(parts, axis=-1)


def _require_weights(matches: Matches, weights: np.ndarray) -> None:
    n_images = matches.instances.shape[-1]
    if weights.ndim != 2 or weights.shape[1] != n_images or not np.issubdtype(weights.dtype, np.integer):
        raise ValueError(f"weights are (draws, {n_images}) whole numbers; these are {weights.shape} {weights.dtype}")
    if (weights < 0).any():
        raise ValueError("weights are 0 or more")


def _draws(matches: Matches, q: int, weights: np.ndarray) -> np.ndarray:
    """`_curves` of n draws."""
    n_instances = weights @ matches.instances[q].T  # (n, C)
    each = [_of_category(matches, q, k, weights, n_instances[:, k]) for k in range(n_instances.shape[1])]
    return np.where(n_instances.T[:, None, None, :] > 0, np.stack(each), np.nan)


def _mean_of_present(curves: np.ndarray) -> np.ndarray:
    """(C, 2, T, draws) to (2, T, draws): the mean over the categories that a draw has, nan where it has none."""
    present = ~np.isnan(curves)
    return np.where(present, curves, 0.0).sum(axis=0) / np.where(present.any(axis=0), present.sum(axis=0), np.nan)


def _of_category(matches: Matches, q: int, k: int, weights: np.ndarray, n_instances: np.ndarray) -> np.ndarray:
    """(2, T, n): the area under the interpolated curve, as the sum of its steps, each at a true detection, and the
    recall that it ends at.

    Draws are the last axis, so that every operation runs along them. Weights are whole numbers, hence recalls are
    fractions of few kinds, and how many of the 101 recalls each of them reaches is looked up.
    """
    of_interest = np.flatnonzero((matches.category == k) & matches.counted[q].any(axis=0))
    each = np.ascontiguousarray(weights.T)[matches.image[of_interest]]  # (D, n): how often a draw holds each detection
    sizes, size = np.unique(n_instances, return_inverse=True)
    top = int(each.sum(axis=0).max(initial=0)) + 1
    reached_by = RECALLS.searchsorted(np.arange(top) / np.maximum(sizes, 1)[:, None], side="right").astype(np.float64)
    first = size * top  # of the draw's row in `reached_by`, flat
    area, recall = np.zeros((2, len(THRESHOLDS), len(weights)))
    seen, seen_of = each, None
    for t in range(len(THRESHOLDS)):
        counted, index = matches.counted[q, t, of_interest], np.flatnonzero(matches.true[q, t, of_interest])
        if not len(index):
            continue
        if seen_of is None or (counted != seen_of).any():  # mostly the same at all thresholds
            seen, seen_of = _accumulated(np.add, each * counted[:, None]) + np.spacing(1), counted
        found = _accumulated(np.add, each[index])
        best = _accumulated(np.maximum, (found / seen[index])[::-1])[::-1]
        width = reached_by.take(first + found)
        width[1:] -= width[:-1].copy()
        area[t] = np.einsum("dn,dn->n", best, width)
        recall[t] = found[-1] / np.maximum(n_instances, 1)
    return np.stack([area / len(RECALLS), recall])


def _accumulated(ufunc: np.ufunc, rows: np.ndarray) -> np.ndarray:
    """`ufunc.accumulate` down rows (D, n), in place."""
    if rows.shape[1] < 200:
        return ufunc.accumulate(rows, axis=0, out=rows)
    # numpy goes down one column after the other, which takes four times as long where rows are long.
    for above, below in itertools.pairwise(rows):
        ufunc(above, below, out=below)
    return rows
