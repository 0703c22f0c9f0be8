"""Configurations made of finished trainings: which of them has won, which lie on the Pareto front, which are shown.

A training is one `fit`, wherever it is read: in a run's folder (`page.runs`) or in a study's storage (`study.results`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from catpose.analysis.evaluations import estimate_of, require_draws, sample
from catpose.analysis.statistics import Estimate, Sample, pareto_front
from catpose.errors import InputError, one_line
from catpose.instances import Instances
from catpose.score.detections import Detections
from catpose.score.full import Division, Evaluation, evaluate

AP = "val/AP"  # as `fit` logs it and a study's metrics name it
#: What of a protocol differs from one random division of a pool to the next.
OF_DIVISION = ("split_hash", "instances", "seen")
#: How a training ended that counts nowhere, by its state.
ENDS = {"failed": "failed", "pruned": "pruned", "early": "ended early", "away": "isn't here"}
#: How many configurations of a sampled study are reported one by one.
SHOWN = 10


@dataclass(frozen=True)
class Design:
    """What a study compares."""

    name: str
    question: str = ""
    metrics: Mapping[str, str] = field(default_factory=lambda: {AP: "maximize"})  # by name: "maximize" or "minimize"
    varied: tuple[str, ...] = ()  # the settings that configurations differ in
    is_sampled: bool = False  # a sampler chose the configurations by the results of earlier ones
    labels: tuple[str, ...] = ()  # of a grid's configurations, in their order
    published: Mapping[str, float] = field(default_factory=dict)  # by label: an AP printed elsewhere
    reference: str | None = None  # label of the configuration that others are compared with
    splits: int = 0  # random divisions of the pool that seeds are trained and scored on; 0: the data's own split

    @property
    def costs(self) -> dict[str, str]:
        """The metrics beside the AP, with their directions."""
        return {metric: direction for metric, direction in self.metrics.items() if metric != AP}


@dataclass(frozen=True, eq=False)
class Training:
    """A configuration trained with one seed, as far as it has come; nan, empty or None where something isn't known."""

    index: int  # of the configuration
    seed: int
    state: str  # "waiting", "running", "complete", or one of ENDS
    label: str | None = None  # of the configuration; None while it is to be sampled
    params: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)  # as logged in the last epoch, by metric
    best_ap: float = math.nan  # the best epoch's
    seconds: float = math.nan  # of training and validation
    reason: str = ""  # why it isn't complete
    protocol: Mapping[str, Any] = field(default_factory=dict)  # of its AP
    versions: Mapping[str, str] = field(default_factory=dict)  # of catpose and its libraries
    run: str | None = None  # the run's folder
    command: str | None = None
    detections: Detections | None = None  # on the validation images
    evaluation: Evaluation | None = None  # of these

    @property
    def ap(self) -> float:
        """As its detections have it where they were evaluated, else as it was logged; nan where neither is known."""
        return self.evaluation.values["AP"] if self.evaluation else self.values.get(AP, math.nan)

    def evaluated(self, truth: Instances, draws: int, division: Division | None = None) -> Training:
        """With its detections evaluated in every metric, on `draws` resamples of the images.

        Args:
            division: which random split of a pool the truth is.

        Raises:
            InputError: so many draws as no memory holds.
        """
        require_draws(draws)
        assert self.detections is not None
        return replace(self, evaluation=replace(evaluate(truth, self.detections, draws), division=division))


@dataclass(frozen=True)
class Loss:
    """A seed that ended without an AP."""

    seed: int
    state: str  # one of ENDS, or "complete" where its AP is missing
    reason: str

    def __str__(self) -> str:
        return f"seed {self.seed} {ENDS.get(self.state, self.state)}: {self.reason}"


@dataclass(frozen=True, eq=False)
class Configuration:
    """Trainings under the same settings; arrays are in the order of the S seeds that have an AP."""

    label: str
    trainings: tuple[Training, ...]  # of every planned seed
    params: Mapping[str, Any] = field(default_factory=dict)
    index: int = 0
    published: float | None = None

    @property
    def name(self) -> str:
        """What sentences call it: where one thing is varied, which, since the label is its value alone."""
        return f"{next(iter(self.params)).rsplit('.', 1)[-1]} {self.label}" if len(self.params) == 1 else self.label

    @cached_property
    def finished(self) -> tuple[Training, ...]:
        """(S,) those with an AP."""
        return tuple(each for each in self.trainings if each.state == "complete" and not math.isnan(each.ap))

    @property
    def seeds(self) -> tuple[int, ...]:
        """(S,)"""
        return tuple(each.seed for each in self.finished)

    @cached_property
    def ap(self) -> np.ndarray:
        """(S,) of the last epoch."""
        return np.array([each.ap for each in self.finished])

    @property
    def best_ap(self) -> float:
        """The mean over seeds of the best epoch's AP; nan where none is known."""
        return _mean_of_known([each.best_ap for each in self.finished])

    @property
    def seconds(self) -> float:
        """The mean over seeds of training and validation; nan where none is known."""
        return _mean_of_known([each.seconds for each in self.finished])

    @property
    def losses(self) -> list[Loss]:
        """The seeds that have no AP, and won't."""
        losses = []
        for each in self.trainings:
            if each.state in ENDS:
                reason = one_line(each.reason or "no reason was written down")
                losses.append(Loss(each.seed, each.state, reason))
            elif each.state == "complete" and each not in self.finished:
                losses.append(Loss(each.seed, each.state, "its last epoch has no validation AP"))
        return losses

    @property
    def is_complete(self) -> bool:
        """Whether every planned seed has its AP."""
        return bool(self.seeds) and len(self.seeds) == len(self.trainings)

    @property
    def seed_count(self) -> str:
        """ "3", or "2 of 3" where a seed is missing."""
        return str(len(self.seeds)) + ("" if self.is_complete else f" of {len(self.trainings)}")

    @property
    def name_and_seeds(self) -> str:
        """The name, and where seeds are missing how many it has: "lr 0.001 (2 of 3 seeds)"."""
        return self.name if self.is_complete else f"{self.name} ({self.seed_count} seeds)"

    @property
    def mean(self) -> float:
        """AP, the mean over seeds, rounded so that the same APs have the same in any order; nan where there is none."""
        return round(float(self.ap.mean()), 12) if len(self.ap) else math.nan

    @property
    def detections(self) -> tuple[Detections, ...]:
        """(S,), where they were read."""
        return tuple(each.detections for each in self.finished if each.detections is not None)

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """(S,); none where one is missing."""
        known = tuple(each.evaluation for each in self.finished if each.evaluation is not None)
        return known if len(known) == len(self.finished) else ()

    @property
    def n_images(self) -> int:
        """Images that evaluations rest on."""
        return self.evaluations[0].n_images

    @cached_property
    def sample(self) -> Sample | None:
        """Its AP for the statistics; None where nothing is evaluated."""
        return sample(self.evaluations, "AP") if self.evaluations else None

    def value(self, key: str) -> float:
        """An evaluated metric, the mean over seeds; nan where one is unknown."""
        return float(np.mean([evaluation.values[key] for evaluation in self.evaluations]))

    def estimate(self, key: str) -> Estimate:
        """An evaluated metric with its 95 % interval, as `estimate_of` has it."""
        return estimate_of(self.evaluations, key)

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 %, of every evaluated metric that has one."""
        estimated = {key: self.estimate(key) for key in self.evaluations[0].draws}
        return {key: (each.low, each.high) for key, each in estimated.items()}

    def logged(self, metric: str) -> float:
        """A metric that was logged or counted beside AP, the mean over the seeds that have it; nan where none has."""
        return _mean_of_known([each.values.get(metric, math.nan) for each in self.finished])


def evaluate_runs(label: str, detections: Sequence[Detections], truth: Instances, draws: int) -> Configuration:
    """A model's detections, of each of its runs, evaluated. Raises as `Training.evaluated`."""
    trainings = (Training(0, seed, "complete", label, detections=each) for seed, each in enumerate(detections))
    return Configuration(label, tuple(each.evaluated(truth, draws) for each in trainings))


def _mean_of_known(values: Sequence[float]) -> float:
    """The mean of values that aren't nan; nan if all are."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def gather(design: Design, trainings: Sequence[Training]) -> list[Configuration]:
    """The configurations, in the order of the study's file.

    Raises:
        InputError: two trainings were scored under different protocols: such numbers are never compared.
    """
    require_one_protocol(design.name, trainings)
    by_index: dict[int, list[Training]] = {}
    for each in trainings:
        by_index.setdefault(each.index, []).append(each)
    found = [_configuration(design, sorted(by_index[i], key=lambda training: training.seed)) for i in sorted(by_index)]
    places = {label: place for place, label in enumerate(design.labels)}
    return sorted(found, key=lambda configuration: places.get(configuration.label, len(places)))


def evaluated(
    design: Design, configurations: Sequence[Configuration], evaluation: Callable[[Training], Training]
) -> list[Configuration]:
    """The configurations, those that a report shows with their trainings evaluated: others' detections aren't read.

    Args:
        evaluation: gives a complete training its detections' evaluation.
    """
    reported = {each.index for each in shown(design, configurations)}
    return [
        replace(each, trainings=tuple(evaluation(one) if one in each.finished else one for one in each.trainings))
        if each.index in reported
        else each
        for each in configurations
    ]


def winner(configurations: Sequence[Configuration]) -> Configuration | None:
    """That of the highest mean AP (the first of equals) among those complete in all seeds; None where none is."""
    return max((each for each in configurations if each.is_complete), key=lambda each: each.mean, default=None)


def front(design: Design, configurations: Sequence[Configuration]) -> list[Configuration]:
    """The Pareto front by the means of all metrics, of complete configurations; nothing where AP is the only metric."""
    complete = [each for each in configurations if each.is_complete]
    if not design.costs or not complete:
        return []
    signs = {metric: 1 if direction == "maximize" else -1 for metric, direction in design.costs.items()}
    points = [[each.mean, *(sign * each.logged(metric) for metric, sign in signs.items())] for each in complete]
    return [each for each, is_front in zip(complete, pareto_front(np.array(points)), strict=True) if is_front]


def shown(design: Design, configurations: Sequence[Configuration]) -> list[Configuration]:
    """The rows of a report, in order: a grid's configurations as they stand in the file, or the best ten of a sampled
    study; with a cost, sorted by it, and the whole front among them."""
    rows = list(configurations)
    if design.is_sampled:
        best = sorted((each for each in rows if len(each.seeds)), key=lambda each: (not each.is_complete, -each.mean))
        on_front = front(design, rows)
        chosen = {each.index: each for each in [*on_front, *best]}
        rows = sorted(list(chosen.values())[: max(SHOWN, len(on_front))], key=best.index)
    for metric, direction in list(design.costs.items())[:1]:
        sign = 1 if direction == "minimize" else -1
        rows.sort(key=lambda each: sign * each.logged(metric) if not math.isnan(each.logged(metric)) else math.inf)
    return rows


def reference(design: Design, configurations: Sequence[Configuration]) -> Configuration | None:
    """The configuration that others are compared with; None in a sampled study."""
    if design.is_sampled:
        return None
    return next((each for each in configurations if each.label == design.reference), None)


def _configuration(design: Design, trainings: list[Training]) -> Configuration:
    described = next((each for each in trainings if each.label is not None), trainings[0])
    label = f"configuration {described.index}" if described.label is None else described.label
    published = design.published.get(label)
    return Configuration(label, tuple(trainings), dict(described.params), described.index, published)


def require_one_protocol(name: str, trainings: Sequence[Training]) -> None:
    """InputError where two complete trainings were scored under different protocols, or one under none.

    Random divisions of one pool are one protocol together, and none with any other split.

    Args:
        name: of the study, for the message.
    """
    protocols = [
        (f"{each.label}, seed {each.seed}", json.loads(json.dumps(dict(each.protocol))))
        for each in trainings
        if each.state == "complete"
    ]
    for scored, protocol in protocols:
        first_name, first = protocols[0]
        keys = [key for key in {**first, **protocol} if first.get(key) != protocol.get(key)]
        if first.get("pool") and first.get("pool") == protocol.get("pool"):
            keys = [key for key in keys if key not in OF_DIVISION]
        if not protocol:
            raise InputError(f"{name}: {scored} has no protocol beside its AP; run the study under another name")
        if keys:
            differences = ", ".join(
                f"{k} {one_line(protocol.get(k))[:60]} against {one_line(first.get(k))[:60]}" for k in keys
            )
            raise InputError(
                f"{name}: {scored} and {first_name} were scored under different protocols ({differences}); such APs"
                " can't be compared: score them under one, or report them apart"
            )
