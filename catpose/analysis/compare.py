"""Several models on the same images: every metric with its interval, and which of them is better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from catpose.analysis.models import Model
from catpose.analysis.statistics import Difference, Estimate, Sample, against, difference, estimate
from catpose.errors import InputError
from catpose.instances import Instances
from catpose.score.detections import Detections
from catpose.score.full import Evaluation, evaluate

#: On fewer instances than this a bootstrap says too little: there is a value, and no interval.
ENOUGH = 10
#: Of the bootstrap.
MOST_DRAWS = 100_000
#: Metrics that are distances rather than fractions of 0..1, the lower the better.
DISTANCES = ("EPE", "NME", "NMEh")


@dataclass(frozen=True, eq=False)
class EvaluatedRuns:
    """A model's detections, of each of its S runs, with their evaluations."""

    label: str
    detections: tuple[Detections, ...]
    evaluations: tuple[Evaluation, ...]

    @property
    def n_images(self) -> int:
        """Images that the metrics rest on."""
        return self.evaluations[0].n_images

    def value(self, key: str) -> float:
        """The mean over seeds; nan where one is unknown."""
        return float(np.mean([evaluation.values[key] for evaluation in self.evaluations]))

    def estimate(self, key: str) -> Estimate:
        """With its 95 % interval: an AP's (`analysis.statistics`) but for two metrics, and none on few instances.

        Distances are many small ones and a few large ones: the interval is that of the mean's logarithm. ECE is above
        0 by noise alone, and its draws more so (`calibration_error`): as much as they are above it, it may be above
        what it would be on endless data, and the interval's lower end is as much lower.
        """
        of = sample(self.evaluations, key)
        estimated = estimate(of, fraction=is_fraction(key))
        known = of.draws[~np.isnan(of.draws).any(axis=1)]
        if key == "ECE" and len(known):
            less = replace(of, ap=of.ap - (known.mean() - of.ap.mean()))
            estimated = replace(estimated, low=estimate(less, fraction=False).low)
        if not is_fraction(key) and estimated.value > 0:
            times = math.exp((estimated.high - estimated.value) / estimated.value)
            estimated = replace(estimated, low=estimated.value / times, high=estimated.value * times)
        return trusted(estimated, min(evaluation.rests_on[key] for evaluation in self.evaluations))

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 %, of every metric that has one."""
        estimated = {key: self.estimate(key) for key in self.evaluations[0].draws}
        return {key: (each.low, each.high) for key, each in estimated.items()}


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models in the order given; differences and corrected p are the best one's to each other, by the other's place."""

    models: tuple[Model, ...]
    evaluated: tuple[EvaluatedRuns, ...]
    best: int  # of the highest mean AP; the first of equals
    differences: dict[int, Difference]
    p: dict[int, float]


def compare(models: Sequence[Model], truth: Instances, draws: int = 1000) -> Comparison:
    """Evaluate all runs on the same resamples of the images, and hold the best model against each other one."""
    evaluated = [evaluate_runs(model.label, [run.detections for run in model.runs], truth, draws) for model in models]
    best = max(range(len(evaluated)), key=lambda i: evaluated[i].value("AP"))
    differences, p = against([sample(each.evaluations, "AP") for each in evaluated], best)
    return Comparison(tuple(models), tuple(evaluated), best, differences, p)


def evaluate_runs(label: str, detections: Sequence[Detections], truth: Instances, draws: int = 1000) -> EvaluatedRuns:
    """A model's detections, of each of its runs, evaluated.

    Raises:
        InputError: so many draws as no memory holds.
    """
    if draws > MOST_DRAWS:
        raise InputError(f"--draws {str(draws)[:12]}: give {MOST_DRAWS} at most; 1000 are enough for an interval")
    return EvaluatedRuns(label, tuple(detections), tuple(evaluate(truth, each, draws) for each in detections))


def trusted(estimated: Estimate, n_instances: int) -> Estimate:
    """The same without its interval where it rests on too few instances."""
    return estimated if n_instances >= ENOUGH else replace(estimated, low=math.nan, high=math.nan)


def is_fraction(key: str) -> bool:
    """Whether a metric lies in 0..1; distances don't."""
    return key.split("/")[0] not in DISTANCES


def sample(evaluations: Sequence[Evaluation], key: str) -> Sample:
    """One metric of a model's runs, with its draws; of no more images than it rests on instances."""
    n = min(evaluations[0].n_images, *(evaluation.rests_on[key] for evaluation in evaluations))
    return Sample(
        np.array([evaluation.values[key] for evaluation in evaluations]),
        np.stack([evaluation.draws[key] for evaluation in evaluations], axis=1),
        max(n, 1),
    )


def paired(ours: Evaluation, theirs: Evaluation, key: str) -> Difference:
    """One metric of two models, ours minus theirs, from the same draws of the images."""
    samples = [sample([evaluation], key) for evaluation in (ours, theirs)]
    n = min(each.n_images for each in samples)  # of distances there may be more of one than of the other
    one, other = (replace(each, n_images=n) for each in samples)
    return difference(one, other, fraction=is_fraction(key))
