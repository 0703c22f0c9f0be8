"""Several models on the same images: every figure with its interval, and which of them is better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from catpose.score.full import Evaluation, evaluate
from catpose.score.instances import Detections, Truth
from catpose.study.models import Model
from catpose.study.statistics import Difference, Estimate, Sample, against, difference, estimate

#: On fewer instances than this a bootstrap says too little: there is a value, and no interval.
ENOUGH = 10
#: Figures that rest on some of the instances: how many.
COUNTS = {"AP_M": "n_M", "AR_M": "n_M", "AP_L": "n_L", "AR_L": "n_L"}
#: Figures that are distances rather than fractions of 0..1, the lower the better.
DISTANCES = ("EPE", "NME", "NMEh")


@dataclass(frozen=True, eq=False)
class Judged:
    """A model's detections, of each of its S runs, with their evaluations."""

    label: str
    detections: tuple[Detections, ...]
    evaluations: tuple[Evaluation, ...]

    @property
    def n_images(self) -> int:
        return self.evaluations[0].n_images

    def value(self, key: str) -> float:
        """The mean over seeds; nan where none is known."""
        return float(np.mean([evaluation.values[key] for evaluation in self.evaluations]))

    def estimate(self, key: str) -> Estimate:
        made = estimate(sample(self.evaluations, key), fraction=is_fraction(key))
        return trusted(made, int(self.evaluations[0].values[COUNTS.get(key, "n")]))

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 %, of every figure that has one."""
        made = {key: self.estimate(key) for key in self.evaluations[0].draws}
        return {key: (each.low, each.high) for key, each in made.items()}


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models in the order given; differences and corrected p are the best one's to each other, by the other's place."""

    models: tuple[Model, ...]
    judged: tuple[Judged, ...]
    best: int  # of the highest mean AP; the first of equals
    differences: dict[int, Difference]
    p: dict[int, float]


def compare(models: Sequence[Model], truth: Truth, draws: int = 1000) -> Comparison:
    """Evaluate all runs on the same resamples of the images, and hold the best model against each other one."""
    judged = [judge(model.label, [run.detections for run in model.runs], truth, draws) for model in models]
    best = max(range(len(judged)), key=lambda i: judged[i].value("AP"))
    differences, p = against([sample(each.evaluations, "AP") for each in judged], best)
    return Comparison(tuple(models), tuple(judged), best, differences, p)


def judge(label: str, detections: Sequence[Detections], truth: Truth, draws: int = 1000) -> Judged:
    return Judged(label, tuple(detections), tuple(evaluate(truth, each, draws) for each in detections))


def trusted(made: Estimate, n_instances: int) -> Estimate:
    """The same without its interval where it rests on too few instances."""
    return made if n_instances >= ENOUGH else replace(made, low=math.nan, high=math.nan)


def is_fraction(key: str) -> bool:
    return key.split("/")[0] not in DISTANCES


def sample(evaluations: Sequence[Evaluation], key: str) -> Sample:
    """One figure of a model's runs, with its draws."""
    return Sample(
        np.array([evaluation.values[key] for evaluation in evaluations]),
        np.stack([evaluation.draws[key] for evaluation in evaluations], axis=1),
        evaluations[0].n_images,
    )


def paired(ours: Evaluation, theirs: Evaluation, key: str) -> Difference:
    """One figure of two models, ours minus theirs, from the same draws of the images."""
    return difference(sample([ours], key), sample([theirs], key), fraction=is_fraction(key))
