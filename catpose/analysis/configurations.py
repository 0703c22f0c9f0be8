"""A study's configurations, made of its trials: each seed's AP, and its AP on every resample of the images."""

from __future__ import annotations

import dataclasses
import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from catpose.analysis.statistics import Sample, pareto_front
from catpose.data.coco_split import CocoSplit, split_hash
from catpose.errors import InputError, one_line
from catpose.files import parse_json
from catpose.instances import Instances
from catpose.score.ap import average_precision, match
from catpose.score.bootstrap import bootstrap_ap, image_weights
from catpose.score.detections import Detections

AP = "val/AP"
#: How a trial ended that isn't complete, by its state.
ENDS = {"failed": "failed", "pruned": "pruned", "early": "ended early"}
#: How many configurations of a sampled study are reported one by one.
SHOWN = 10
#: Bytes of a detection as JSON; ours have about one thousand.
LARGEST_DETECTION = 4000
#: An AP made again from a trial's detections differs by the rounding of float32 from the one written down.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Design:
    """What a study compares."""

    name: str
    question: str
    metrics: Mapping[str, str]  # by name: "maximize" or "minimize"
    varied: tuple[str, ...]  # the settings that configurations differ in
    is_sampled: bool = False  # a sampler chose the configurations by the results of earlier ones
    labels: tuple[str, ...] = ()  # of a grid's configurations, in their order
    published: Mapping[str, float] = field(default_factory=dict)  # by label: an AP printed elsewhere
    reference: str | None = None  # label of the configuration that others are compared with

    @property
    def costs(self) -> dict[str, str]:
        """The metrics beside the AP, with their directions."""
        return {metric: direction for metric, direction in self.metrics.items() if metric != AP}


@dataclass(frozen=True)
class TrialResult:
    """A configuration trained with one seed, as far as it has come; nan, empty or None where a value isn't known."""

    index: int  # of the configuration
    seed: int
    state: str  # "waiting", "running", "complete", or one of ENDS
    label: str | None = None  # of the configuration; None while it is to be sampled
    params: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)  # the last epoch's, by metric
    best_ap: float = math.nan  # the best epoch's
    seconds: float = math.nan  # of training and validation
    reason: str = ""  # why it isn't complete
    protocol: Mapping[str, Any] = field(default_factory=dict)  # of its AP
    versions: Mapping[str, str] = field(default_factory=dict)  # of catpose and its libraries
    run: str | None = None  # the run's folder
    command: str | None = None

    def value(self, metric: str) -> float:
        """A metric of the trial; nan where it is unknown."""
        return self.values.get(metric, math.nan)


@dataclass(frozen=True)
class Loss:
    """A seed that ended without an AP."""

    seed: int
    state: str  # "failed", "pruned", "early", or "complete" where its AP is missing
    reason: str

    def __str__(self) -> str:
        return f"seed {self.seed} {ENDS.get(self.state, self.state)}: {self.reason}"


@dataclass(frozen=True, eq=False)
class Configuration:
    """A configuration of a study; arrays are in the order of the S seeds that have an AP."""

    index: int
    label: str
    params: dict[str, Any]
    trials: tuple[TrialResult, ...]  # of every planned seed
    published: float | None = None
    draws: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))  # (B, S): AP on the resamples, none where empty
    n_images: int = 0

    @cached_property
    def finished(self) -> tuple[TrialResult, ...]:
        """(S,) those with an AP."""
        return tuple(t for t in self.trials if t.state == "complete" and not math.isnan(t.value(AP)))

    @property
    def seeds(self) -> tuple[int, ...]:
        """(S,)"""
        return tuple(trial.seed for trial in self.finished)

    @cached_property
    def ap(self) -> np.ndarray:
        """(S,) of the last epoch."""
        return self.values(AP)

    @property
    def best_ap(self) -> float:
        """The mean over seeds of the best epoch's AP; nan where none is known."""
        return mean_of_known([trial.best_ap for trial in self.finished])

    @property
    def seconds(self) -> float:
        """The mean over seeds of training and validation; nan where none is known."""
        return mean_of_known([trial.seconds for trial in self.finished])

    @property
    def losses(self) -> list[Loss]:
        """The seeds that have no AP, and won't."""
        losses = []
        for trial in self.trials:
            if trial.state in ENDS:
                reason = one_line(trial.reason or "no reason was written down")
                losses.append(Loss(trial.seed, trial.state, reason))
            elif trial.state == "complete" and trial not in self.finished:
                losses.append(Loss(trial.seed, trial.state, "it has no validation AP"))
        return losses

    @property
    def is_complete(self) -> bool:
        """Whether every planned seed has its AP."""
        return bool(self.seeds) and len(self.seeds) == len(self.trials)

    @property
    def mean(self) -> float:
        """AP, the mean over seeds; nan where there is none."""
        return float(self.ap.mean()) if len(self.ap) else math.nan

    @property
    def sample(self) -> Sample | None:
        """For the statistics; None where there is nothing to reckon with."""
        return Sample(self.ap, self.draws, self.n_images) if len(self.seeds) and len(self.draws) else None

    def values(self, metric: str) -> np.ndarray:
        """(S,), nan where one is unknown."""
        return np.array([trial.value(metric) for trial in self.finished])

    def value(self, metric: str) -> float:
        """The mean over seeds of the AP or of another metric; nan where there is none."""
        return self.mean if metric == AP else mean_of_known(self.values(metric))


def mean_of_known(values: Sequence[float] | np.ndarray) -> float:
    """The mean of values (n,) that aren't nan; nan if all are."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else math.nan


def gather(design: Design, trials: Sequence[TrialResult]) -> list[Configuration]:
    """The configurations, in the order of the study's file; `draws` are empty.

    Raises:
        InputError: two trials were scored under different protocols: such numbers are never compared.
    """
    _require_one_protocol(design, trials)
    by_index: dict[int, list[TrialResult]] = {}
    for trial in trials:
        by_index.setdefault(trial.index, []).append(trial)
    found = [_configuration(design, sorted(by_index[i], key=lambda trial: trial.seed)) for i in sorted(by_index)]
    places = {label: place for place, label in enumerate(design.labels)}
    return sorted(found, key=lambda configuration: places.get(configuration.label, len(places)))


def resampled(
    design: Design,
    trials: Sequence[TrialResult],
    results: Callable[[int, int], bytes | None],
    truth: CocoSplit,
) -> list[Configuration]:
    """The configurations with their bootstrap draws; of a sampled study, those that a report shows have draws.

    Args:
        results: the compressed detections of a complete trial, by the configuration's index and the seed.
        truth: the validation split.

    Raises:
        InputError: as `gather`; the split isn't the one that was scored; detections are missing, damaged or other ones.
    """
    gathered = gather(design, trials)
    _require_same_split(trials, truth)
    weights = image_weights(len(truth.image_ids))
    reported = {configuration.index for configuration in shown(design, gathered)}
    n = len(truth.image_ids)
    with_draws = []
    for each in gathered:
        columns = []
        for trial in each.finished if each.index in reported else ():
            name = f"{design.name}: {each.label}, seed {trial.seed}"
            columns.append(_draws(truth, results(each.index, trial.seed), trial.value(AP), weights, name))
        stacked = np.stack(columns, axis=1) if columns else each.draws
        with_draws.append(dataclasses.replace(each, draws=stacked, n_images=n))
    return with_draws


def winner(configurations: Sequence[Configuration]) -> Configuration | None:
    """That of the highest mean AP (the first of equals) among those complete in all seeds; None where none is."""
    return max((each for each in configurations if each.is_complete), key=lambda each: each.mean, default=None)


def front(design: Design, configurations: Sequence[Configuration]) -> list[Configuration]:
    """The Pareto front by the means of all metrics, of complete configurations; nothing where AP is the only metric."""
    metrics = {AP: "maximize"} | design.costs
    complete = [each for each in configurations if each.is_complete]
    if len(metrics) == 1 or not complete:
        return []
    points = [[each.value(m) * (1 if d == "maximize" else -1) for m, d in metrics.items()] for each in complete]
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
        rows.sort(key=lambda each: sign * each.value(metric) if not math.isnan(each.value(metric)) else math.inf)
    return rows


def reference(design: Design, configurations: Sequence[Configuration]) -> Configuration | None:
    """The configuration that others are compared with; None in a sampled study."""
    if design.is_sampled:
        return None
    return next((each for each in configurations if each.label == design.reference), None)


def _configuration(design: Design, trials: list[TrialResult]) -> Configuration:
    described = next((trial for trial in trials if trial.label is not None), trials[0])
    label = f"configuration {described.index}" if described.label is None else described.label
    return Configuration(described.index, label, dict(described.params), tuple(trials), design.published.get(label))


def _require_one_protocol(design: Design, trials: Sequence[TrialResult]) -> None:
    protocols = [
        (f"{trial.label}, seed {trial.seed}", json.loads(json.dumps(dict(trial.protocol))))
        for trial in trials
        if trial.state == "complete"
    ]
    for name, protocol in protocols:
        first_name, first = protocols[0]
        keys = [key for key in {**first, **protocol} if first.get(key) != protocol.get(key)]
        if not protocol:
            raise InputError(f"{design.name}: {name} has no protocol beside its AP; run the study under another name")
        if keys:
            differences = ", ".join(
                f"{k} {one_line(protocol.get(k))[:60]} against {one_line(first.get(k))[:60]}" for k in keys
            )
            raise InputError(
                f"{design.name}: {name} and {first_name} were scored under different protocols ({differences}); such"
                " APs can't be compared: let all configurations of a study share what their score depends on"
            )


def _require_same_split(trials: Sequence[TrialResult], split: CocoSplit) -> None:
    first = next((trial for trial in trials if trial.state == "complete"), None)
    current = split_hash(split)
    if first is not None and first.protocol.get("split_hash") != current:
        scored_on = str(first.protocol.get("split_hash"))
        raise InputError(
            f"{split.file.parent.parent}: its {split.file.name} (sha256 {current[:12]}) is not what this study's trials"
            f" were scored on ({scored_on[:12]}); name the data folder that they had with --data.root"
        )


def _draws(truth: Instances, compressed: bytes | None, ap: float, weights: np.ndarray, name: str) -> np.ndarray:
    """(B,): the AP of a trial's detections on every resample."""
    matches = match(truth, _detections(compressed, truth, name))
    again = float(average_precision(matches)["AP"])
    if not abs(again - ap) <= ROUNDING:
        raise InputError(
            f"{name}: its detections make an AP of {again:.6f}, but {ap:.6f} was written down; one of the"
            " two was changed: restore the storage, or run the study under another name"
        )
    return bootstrap_ap(matches, weights)


def _detections(compressed: bytes | None, truth: Instances, name: str) -> Detections:
    try:
        if compressed is None:
            raise ValueError("missing")
        unpacking = zlib.decompressobj()
        text = unpacking.decompress(compressed, LARGEST_DETECTION * (1000 + len(truth)))
        if not unpacking.eof:
            raise ValueError("cut short, or far more than the instances' would be")
        content = parse_json(text, name)
    except (InputError, ValueError, zlib.error) as error:
        raise InputError(
            f"{name}: its detections in the storage can't be read ({one_line(error)[:80]}); restore the storage, or run"
            " the study under another name"
        ) from None
    return Detections.from_results(content, truth, name)
