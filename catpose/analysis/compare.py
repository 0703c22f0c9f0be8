"""Several models on the same images: every metric with its interval, and which of them is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from catpose.analysis.configurations import Configuration, Training
from catpose.analysis.evaluations import is_fraction, require_draws, sample
from catpose.analysis.models import Model
from catpose.analysis.statistics import Difference, against, difference
from catpose.instances import Instances
from catpose.score.detections import Detections
from catpose.score.full import Evaluation, evaluate


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models in the order given; differences and corrected p are the best one's to each other, by the other's place."""

    models: tuple[Model, ...]
    evaluated: tuple[Configuration, ...]
    best: int  # of the highest mean AP; the first of equals
    differences: dict[int, Difference]
    p: dict[int, float]


def compare(models: Sequence[Model], truth: Instances, draws: int = 1000) -> Comparison:
    """Evaluate all runs on the same resamples of the images, and hold the best model against each other one."""
    evaluated = [evaluate_runs(model.label, [run.detections for run in model.runs], truth, draws) for model in models]
    best = max(range(len(evaluated)), key=lambda i: evaluated[i].value("AP"))
    differences, p = against([sample(each.evaluations, "AP") for each in evaluated], best)
    return Comparison(tuple(models), tuple(evaluated), best, differences, p)


def evaluate_runs(label: str, detections: Sequence[Detections], truth: Instances, draws: int = 1000) -> Configuration:
    """A model's detections, of each of its runs, evaluated.

    Raises:
        InputError: so many draws as no memory holds.
    """
    require_draws(draws)
    trainings = [
        Training(0, seed, "complete", label, detections=each, evaluation=evaluate(truth, each, draws))
        for seed, each in enumerate(detections)
    ]
    return Configuration(label, tuple(trainings))


def paired(ours: Evaluation, theirs: Evaluation, key: str) -> Difference:
    """One metric of two models, ours minus theirs, from the same draws of the images."""
    samples = [sample([evaluation], key) for evaluation in (ours, theirs)]
    n = min(each.n_images for each in samples)  # of distances there may be more of one than of the other
    one, other = (replace(each, n_images=n) for each in samples)
    return difference(one, other, fraction=is_fraction(key))
