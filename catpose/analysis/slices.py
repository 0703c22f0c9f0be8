"""Slices compared with the rest of the animals, the other slices being equal.

A slice's AP says little by itself: cats that stand out from their background may be harder since most of them are from
another source. So the difference between a slice and the rest is stratified by the other attributes: it is the slice's
coefficient in a linear regression on all of them (their main effects; Angrist & Pischke 2009, Mostly Harmless
Econometrics, ch. 3), a mean of the differences within strata. AP is no sum over animals, but AR is: an animal's part is
the share of the ten OKS thresholds that it is detected at. That is what is compared. The interval is from the
regression on the bootstrap's draws of the images, and from the spread between runs; p are corrected for the number of
slices (Holm).

How much can be said of a slice is the variance of its indicator that other attributes leave over, times the number of
animals: n/4 where half of n animals are in it, and nothing tells them apart but that; 0 where another slice holds the
very same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from catpose.analysis.statistics import ENOUGH, Difference, Sample, deviation, holm
from catpose.instances import Instances
from catpose.score.ap import THRESHOLDS
from catpose.score.detections import Detections
from catpose.score.oks import oks, similarity
from catpose.score.pairs import owner_of
from catpose.text import interval, p_value, signed

#: Less left over than this is not enough to say: two groups of ten have as much.
LEAST = ENOUGH / 2
_SINGULAR = 1e-6  # a share of a draw's animals: less left over is none


#: What the two columns of a table of slices say.
EXPLAINED = (
    "To the rest: AR, the share of the ten OKS thresholds that an animal is detected at, of the slice minus that of the"
    " other animals, the other attributes being equal (regression on all of them); p corrected for all slices (Holm)."
)


@dataclass(frozen=True)
class SliceDifference:
    """A slice's AR minus that of the rest, the other attributes being equal."""

    n: int  # animals in it
    difference: Difference | None  # None where there are not enough animals to say
    p: float  # corrected for all slices that are compared; nan where there is none

    @property
    def cells(self) -> tuple[str, str, str]:
        """Difference, interval and p, for a table."""
        if self.difference is None:
            return "", "not enough animals to say", ""
        return signed(self.difference.value), interval(self.difference, signed), p_value(self.p)


def recalled(truth: Instances, detections: Detections) -> np.ndarray:
    """(N,) float64: of each instance, the share of the ten OKS thresholds that a detection of its own reaches."""
    owner = owner_of(truth, detections)
    owned = np.flatnonzero(owner >= 0)
    of = owner[owned]
    similar = similarity(detections.keypoints[owned], truth.keypoints[of], truth.areas[of], truth.sigmas)
    best = np.zeros(len(truth))
    np.maximum.at(best, of, np.nan_to_num(oks(similar, truth.labelled[of])))
    return (best[:, None] >= THRESHOLDS).mean(axis=1)


def compare_slices(
    values: np.ndarray, attributes: Mapping[str, np.ndarray], image: np.ndarray, weights: np.ndarray
) -> dict[str, dict[str, SliceDifference]]:
    """Each slice of each attribute against the rest of the animals.

    Args:
        values: (S, N) of each run and animal, 0..1.
        attributes: (N,) str each, the slice of every animal; "" in none.
        image: (N,) int64, the image that the animal is on, among I.
        weights: (B, I), how often each draw holds each image.
    """
    columns = {(name, each): labels == each for name, labels in attributes.items() for each in np.unique(labels)}
    tested = _tested(attributes)
    design = np.column_stack([np.ones(len(image)), *columns.values()]).astype(np.float64)
    drawn = _Moments.of(design, values, image, weights)
    places = {key: 1 + place for place, key in enumerate(columns)}
    n_images = len(np.unique(image))
    found: dict[tuple[str, str], Difference | None] = {}
    for attribute, each in tested:
        inside = columns[attribute, each]
        others = [
            place
            for (name, other), place in places.items()
            if (name != attribute and other != _most(attributes[name])) or (name == attribute and other == "")
        ]
        smaller = min(int(inside.sum()), int((~inside & (attributes[attribute] != "")).sum()))
        coefficients, left_over = drawn.coefficient(places[attribute, each], [0, *others])
        enough = smaller >= ENOUGH and left_over >= LEAST
        sample = Sample(coefficients[0], coefficients[1:], max(min(n_images, smaller), 2))
        found[attribute, each] = deviation(sample) if enough else None
    p = holm(np.array([np.nan if each is None else each.p for each in found.values()]))
    corrected = dict(zip(found, p.tolist(), strict=True))
    result: dict[str, dict[str, SliceDifference]] = {}
    for (attribute, each), inside in columns.items():
        if not each:
            continue
        key = (attribute, each)
        mirrored = key not in found  # the other of two
        key = next(other for other in found if other[0] == attribute) if mirrored else key
        difference = found[key]
        difference = difference.reversed if difference and mirrored else difference
        result.setdefault(attribute, {})[each] = SliceDifference(int(inside.sum()), difference, corrected[key])
    return result


@dataclass(frozen=True, eq=False)
class _Moments:
    """Of a design of P columns and S runs, on the animals themselves and then on B draws: (1 + B, …) arrays."""

    of_design: np.ndarray  # (1 + B, P, P)
    with_values: np.ndarray  # (1 + B, P, S)

    @classmethod
    def of(cls, design: np.ndarray, values: np.ndarray, image: np.ndarray, weights: np.ndarray) -> _Moments:
        both = np.concatenate([design, values.T], axis=1)  # (N, P + S)
        products = np.zeros((weights.shape[1], design.shape[1], both.shape[1]))
        np.add.at(products, image, design[:, :, None] * both[:, None, :])
        all_weights = np.concatenate([np.ones((1, weights.shape[1])), weights])
        sums = np.tensordot(all_weights, products, axes=1)
        return cls(sums[..., : design.shape[1]], sums[..., design.shape[1] :])

    def coefficient(self, one: int, others: Sequence[int]) -> tuple[np.ndarray, float]:
        """The regression coefficient of one column beside others, (1 + B, S), nan where a draw can't tell it from
        them; and what these leave over of it."""
        some = [one, *others]
        gram = self.of_design[:, some][:, :, some]
        ridge = 1e-9 * gram[:, 1, 1][:, None, None] * np.eye(len(some))  # columns may be empty in a draw
        inverse = np.linalg.inv(gram + ridge)
        left_over = 1 / inverse[:, 0, 0]
        coefficients = np.einsum("bp,bps->bs", inverse[:, 0], self.with_values[:, some])
        known = left_over > _SINGULAR * gram[:, 1, 1]
        return np.where(known[:, None], coefficients, np.nan), float(left_over[0])


def _tested(attributes: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
    """Every slice, but one of two: the other's difference is the same."""
    tested = []
    for name, labels in attributes.items():
        slices = [each for each in np.unique(labels).tolist() if each]
        tested += [(name, each) for each in (slices[:1] if len(slices) == 2 else slices if len(slices) > 1 else [])]
    return tested


def _most(labels: np.ndarray) -> str:
    """The slice of most animals, which regressions hold the others against."""
    names, counts = np.unique(labels, return_counts=True)
    return str(names[counts.argmax()])
