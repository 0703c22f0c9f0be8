"""Detections evaluated in every metric, and the difference of two evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from catpose.analysis.configurations import Configuration, Training
from catpose.analysis.evaluations import is_fraction, require_draws, sample
from catpose.analysis.statistics import Difference, difference
from catpose.instances import Instances
from catpose.score.detections import Detections
from catpose.score.full import Evaluation, evaluate


def evaluate_runs(label: str, detections: Sequence[Detections], truth: Instances, draws: int) -> Configuration:
    """A model's detections, of each of its runs, evaluated.

    Raises:
        InputError: so many draws as no memory holds.
    """
    trainings = (Training(0, seed, "complete", label, detections=each) for seed, each in enumerate(detections))
    return Configuration(label, tuple(evaluate_training(each, truth, draws) for each in trainings))


def evaluate_training(training: Training, truth: Instances, draws: int) -> Training:
    """A training with its detections evaluated. Raises as `evaluate_runs`."""
    require_draws(draws)
    assert training.detections is not None
    return replace(training, evaluation=evaluate(truth, training.detections, draws))


def paired(ours: Evaluation, theirs: Evaluation, key: str) -> Difference:
    """One metric of two models, ours minus theirs, from the same draws of the images."""
    samples = [sample([evaluation], key) for evaluation in (ours, theirs)]
    n = min(each.n_images for each in samples)  # of distances there may be more of one than of the other
    one, other = (replace(each, n_images=n) for each in samples)
    return difference(one, other, fraction=is_fraction(key))
