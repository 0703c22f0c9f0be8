"""One metric over a configuration's evaluations: the sample that the statistics take, its 95 % interval, and its
difference to another's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from catpose.analysis.statistics import ENOUGH, Difference, Estimate, Sample, difference, estimate
from catpose.errors import InputError
from catpose.score.full import Division, Evaluation

#: Of the bootstrap.
MOST_DRAWS = 100_000
#: Metrics that are distances rather than fractions of 0..1, the lower the better.
DISTANCES = ("EPE", "NME", "NME_eyes")


def estimate_of(evaluations: Sequence[Evaluation], key: str, others: Sequence[Sample] = ()) -> Estimate:
    """A metric with its 95 % interval: an AP's (`analysis.statistics`) but for two metrics, and none on few instances.

    Distances are many small ones and a few large ones: the interval is that of the mean's logarithm. ECE is above
    0 by noise alone, and its draws more so (`calibration_error`): as much as they are above it, it may be above
    what it would be on endless data, and the interval's lower end is as much lower. Of confidences above 1 it may be
    above 1, and so may its upper end.

    Args:
        others: configurations whose spread between seeds stands for that of one with a single seed.
    """
    of = sample(evaluations, key)
    known = of.draws[~np.isnan(of.draws).any(axis=1)]
    within = key != "ECE" or max(of.ap.max(), known.max(initial=0.0)) <= 1
    estimated = estimate(of, _is_fraction(key) and within, others)
    if key == "ECE" and len(known):
        less = replace(of, ap=of.ap - (known.mean() - of.ap.mean()))
        estimated = replace(estimated, low=estimate(less, fraction=False).low)
    if not _is_fraction(key) and estimated.value > 0:
        times = math.exp((estimated.high - estimated.value) / estimated.value)
        estimated = replace(estimated, low=estimated.value / times, high=estimated.value * times)
    return trusted(estimated, min(evaluation.rests_on[key] for evaluation in evaluations))


def paired(ours: Evaluation, theirs: Evaluation, key: str) -> Difference:
    """One metric of two models, ours minus theirs, from the same draws of the images."""
    samples = [sample([evaluation], key) for evaluation in (ours, theirs)]
    n = min(each.n_images for each in samples)  # of distances there may be more of one than of the other
    one, other = (replace(each, n_images=n) for each in samples)
    return difference(one, other, fraction=_is_fraction(key))


def require_draws(draws: int) -> None:
    """InputError for so many draws as no memory holds."""
    if draws > MOST_DRAWS:
        raise InputError(f"--draws {str(draws)[:12]}: give {MOST_DRAWS} at most; 1000 are enough for an interval")


def trusted(estimated: Estimate, n_instances: int) -> Estimate:
    """The same without its interval where it rests on too few instances."""
    return estimated if n_instances >= ENOUGH else replace(estimated, low=math.nan, high=math.nan)


def _is_fraction(key: str) -> bool:
    """Whether a metric lies in 0..1; distances don't."""
    return key.split("/")[0] not in DISTANCES


def sample(evaluations: Sequence[Evaluation], key: str) -> Sample:
    """One metric of a configuration's trainings, with its draws; of no more images than it rests on instances."""
    n = min(evaluations[0].n_images, *(evaluation.rests_on[key] for evaluation in evaluations))
    return Sample(
        np.array([evaluation.values[key] for evaluation in evaluations]),
        np.stack([evaluation.draws[key] for evaluation in evaluations], axis=1),
        max(n, 1),
        _divisions(evaluations),
    )


def _divisions(evaluations: Sequence[Evaluation]) -> tuple[Division, ...]:
    """Each one's; none where one has none."""
    found = tuple(evaluation.division for evaluation in evaluations if evaluation.division is not None)
    return found if len(found) == len(evaluations) else ()
