"""What a study's trials say of each arm: the seeds' AP, and their AP on every resample of the validation images."""

from __future__ import annotations

import dataclasses
import json
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from catpose.data.coco import CocoSplit, split_hash
from catpose.errors import InputError, one_line
from catpose.score.ap import average_precision, match
from catpose.score.bootstrap import bootstrap_ap, image_weights
from catpose.score.instances import Detections, Truth
from catpose.study.statistics import Sample

if TYPE_CHECKING:
    from catpose.study.file import Study
    from catpose.study.ledger import Trial

AP = "val/AP"
#: How many arms of a sampled study are reported one by one.
SHOWN = 10
#: An AP made again from a trial's detections differs by the rounding of float32 from the one written down.
ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class ArmResult:
    """One arm; S of its seeds are complete, and the arrays are in their order."""

    label: str
    params: dict[str, Any]
    published: float | None
    seeds: tuple[int, ...]
    ap: np.ndarray  # (S,) the last epoch's
    best_ap: np.ndarray  # (S,) the best epoch's; nan where unknown
    seconds: np.ndarray  # (S,) of training and validation; nan where unknown
    draws: np.ndarray  # (B, S) AP on the same B resamples of the images for all arms; B is 0 where none were made
    values: dict[str, np.ndarray] = field(default_factory=dict)  # (S,) by name: the study's other metrics, nan: unknown
    notes: list[str] = field(default_factory=list)  # failed and pruned seeds, with the reason
    point: int = 0
    states: dict[int, str] = field(default_factory=dict)  # of every planned seed, as the ledger names them
    outcomes: tuple[dict[str, Any], ...] = ()  # (S,) as trials end with
    n_images: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether every planned seed has its AP."""
        return bool(self.seeds) and len(self.seeds) == len(self.states)

    @property
    def mean(self) -> float:
        return float(self.ap.mean()) if len(self.ap) else math.nan

    @property
    def sample(self) -> Sample | None:
        """For the statistics; None where there is nothing to reckon with."""
        return Sample(self.ap, self.draws, self.n_images) if len(self.seeds) and len(self.draws) else None

    def value(self, metric: str) -> float:
        """The mean over seeds of the AP or of one of `values`; nan where there is none."""
        return self.mean if metric == AP else mean_of_known(self.values.get(metric, np.empty(0)))


def mean_of_known(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def gather(study: Study, trials: Sequence[Trial]) -> list[ArmResult]:
    """The arms with what their trials wrote down, in the order of their points; `draws` are empty.

    Raises:
        InputError: two trials were scored under different contracts: such numbers are never compared.
    """
    _require_one_contract(study, trials)
    by_point: dict[int, list[Trial]] = {}
    for trial in trials:
        by_point.setdefault(trial.point, []).append(trial)
    return [_arm(study, point, sorted(by_point[point], key=lambda trial: trial.seed)) for point in sorted(by_point)]


def arms(
    study: Study,
    trials: Sequence[Trial],
    results: Callable[[int, int], bytes | None],
    truth: CocoSplit,
    draws: int = 1000,
) -> list[ArmResult]:
    """The arms with their bootstrap draws; of a sampled study, those of the arms that a report shows.

    Args:
        results: the compressed detections of a complete trial, by point and seed, as the ledger keeps them.
        truth: the validation split.
        draws: how many times the images are resampled.

    Raises:
        InputError: as `gather`; the split isn't the one that was scored; detections are missing, damaged or other ones.
    """
    gathered = gather(study, trials)
    _require_same_split(trials, truth)
    instances = Truth.from_coco(truth.coco, str(truth.file))
    weights = image_weights(len(instances.images), draws)
    reported = {id(arm) for arm in shown(study, gathered)}
    made = []
    for arm in gathered:
        columns = []
        for seed, ap in zip(arm.seeds, arm.ap, strict=True) if id(arm) in reported else ():
            name = f"{study.name}: {arm.label}, seed {seed}"
            matches = match(instances, _detections(results(arm.point, seed), instances, name))
            again = float(average_precision(matches)["AP"])
            if not abs(again - ap) <= ROUNDING:
                raise InputError(
                    f"{name}: its detections make an AP of {again:.6f}, but {ap:.6f} was written down; one of the"
                    " two was changed: restore the storage, or run the study under another name"
                )
            columns.append(bootstrap_ap(matches, weights))
        drawn = np.stack(columns, axis=1) if columns else arm.draws
        made.append(dataclasses.replace(arm, draws=drawn, n_images=len(instances.images)))
    return made


def winner(arms: Sequence[ArmResult]) -> ArmResult | None:
    """The arm of the highest mean AP (the first of equals) among those complete in all seeds; None where none is."""
    return max((arm for arm in arms if arm.is_complete), key=lambda arm: arm.mean, default=None)


def costs(study: Study) -> dict[str, str]:
    """The study's metrics beside the AP, with their directions."""
    return {metric: direction for metric, direction in study.metrics.items() if metric != AP}


def front(study: Study, arms: Sequence[ArmResult]) -> list[ArmResult]:
    """The Pareto front by the means: complete arms that no other equals or beats in every metric and beats in one."""
    metrics = {AP: "maximize"} | costs(study)
    points = {
        id(arm): np.array([arm.value(m) * (1 if d == "maximize" else -1) for m, d in metrics.items()])
        for arm in arms
        if arm.is_complete
    }
    known = [arm for arm in arms if id(arm) in points and not np.isnan(points[id(arm)]).any()]

    def beaten(arm: ArmResult) -> bool:
        mine = points[id(arm)]
        return any((points[id(o)] >= mine).all() and (points[id(o)] > mine).any() for o in known)

    return [arm for arm in known if not beaten(arm)] if len(metrics) > 1 else []


def shown(study: Study, arms: Sequence[ArmResult]) -> list[ArmResult]:
    """The rows of a report, in order: a grid's arms as they stand in the file, or the best ten of a sampled study; with
    a cost, sorted by it, and the whole front among them."""
    rows = list(arms)
    if study.trials is not None:
        best = sorted((arm for arm in arms if len(arm.seeds)), key=lambda arm: (not arm.is_complete, -arm.mean))
        on_front = front(study, arms)
        chosen = {id(arm): arm for arm in [*on_front, *best]}
        rows = sorted(list(chosen.values())[: max(SHOWN, len(on_front))], key=best.index)
    for metric, direction in list(costs(study).items())[:1]:
        sign = 1 if direction == "minimize" else -1
        rows.sort(key=lambda arm: sign * arm.value(metric) if not math.isnan(arm.value(metric)) else math.inf)
    return rows


def reference(study: Study, arms: Sequence[ArmResult]) -> ArmResult | None:
    """The arm that others are compared with; None in a sampled study."""
    return next((arm for arm in arms if arm.label == study.reference), None) if study.trials is None else None


def _arm(study: Study, point: int, trials: list[Trial]) -> ArmResult:
    described = next((trial.arm for trial in trials if trial.arm), None) or {"label": f"point {point}", "params": {}}
    done = [trial for trial in trials if trial.state == "complete" and not math.isnan(_value(trial, AP))]
    outcomes = tuple(trial.outcome or {} for trial in done)
    notes = []
    for trial in trials:
        reason = one_line((trial.outcome or {}).get("reason") or "no reason was written down")
        if trial.state in ("failed", "pruned"):
            notes.append(f"seed {trial.seed} {trial.state}: {reason}")
        elif trial.state == "complete" and trial not in done:
            notes.append(f"seed {trial.seed} is complete, but without a validation AP")
    return ArmResult(
        label=str(described["label"]),
        params=dict(described["params"]),
        published=study.published[point] if point < len(study.published) else None,
        seeds=tuple(trial.seed for trial in done),
        ap=np.array([_value(trial, AP) for trial in done]),
        best_ap=np.array([_number(outcome.get("best_ap")) for outcome in outcomes]),
        seconds=np.array([_number(outcome.get("seconds")) for outcome in outcomes]),
        draws=np.empty((0, len(done))),
        values={metric: np.array([_value(trial, metric) for trial in done]) for metric in costs(study)},
        notes=notes,
        point=point,
        states={trial.seed: trial.state for trial in trials},
        outcomes=outcomes,
    )


def _value(trial: Trial, metric: str) -> float:
    return _number(((trial.outcome or {}).get("values") or {}).get(metric))


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _contracts(trials: Sequence[Trial]) -> list[tuple[str, dict[str, Any]]]:
    """(what the trial is called, its contract as JSON has it) of each complete trial."""
    done = [trial for trial in trials if trial.state == "complete"]
    return [
        (
            f"{(t.arm or {}).get('label')}, seed {t.seed}",
            json.loads(json.dumps((t.outcome or {}).get("contract") or {})),
        )
        for t in done
    ]


def _require_one_contract(study: Study, trials: Sequence[Trial]) -> None:
    contracts = _contracts(trials)
    for name, contract in contracts:
        first_name, first = contracts[0]
        keys = [key for key in {**first, **contract} if first.get(key) != contract.get(key)]
        if not contract:
            raise InputError(f"{study.name}: {name} has no contract beside its AP; run the study under another name")
        if keys:
            shown = ", ".join(
                f"{k} {one_line(contract.get(k))[:60]} against {one_line(first.get(k))[:60]}" for k in keys
            )
            raise InputError(
                f"{study.name}: {name} and {first_name} were scored under different contracts ({shown}); such APs"
                " can't be compared: let all arms of a study share what their score depends on"
            )


def _require_same_split(trials: Sequence[Trial], truth: CocoSplit) -> None:
    contracts = _contracts(trials)
    here = split_hash(truth)
    if contracts and contracts[0][1].get("split_hash") != here:
        there = str(contracts[0][1].get("split_hash"))
        raise InputError(
            f"{truth.file.parent.parent}: its {truth.file.name} (sha256 {here[:12]}) is not what this study's trials"
            f" were scored on ({there[:12]}); name the data folder that they had with --data.root"
        )


def _detections(compressed: bytes | None, truth: Truth, name: str) -> Detections:
    try:
        if compressed is None:
            raise ValueError("missing")
        content = json.loads(zlib.decompress(compressed))
    except (ValueError, zlib.error, RecursionError) as error:
        raise InputError(
            f"{name}: its detections in the storage can't be read ({one_line(error)[:80]}); restore the storage, or run"
            " the study under another name"
        ) from None
    return Detections.from_results(content, truth, name)
