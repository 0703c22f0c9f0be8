"""A study's trials as the trainings that `catpose.analysis` computes with, evaluated from the storage's detections."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from catpose.analysis.configurations import Configuration, Design, Training, evaluated, gather
from catpose.data.coco import read_split
from catpose.data.coco_split import CocoSplit, split_hash
from catpose.errors import InputError, one_line
from catpose.files import parse_json
from catpose.instances import AreaRule, Instances
from catpose.score.detections import Detections
from catpose.score.full import Division, evaluate_ap
from catpose.study.file import Study
from catpose.study.stored import Outcome
from catpose.study.trial import Trial

#: Bytes of a detection as JSON; ours have about one thousand.
LARGEST_DETECTION = 4000
#: An AP made again from a trial's detections differs by the rounding of float32 from the one written down.
ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class Truth:
    """What a trial's detections are held against."""

    split: CocoSplit
    division: Division | None = None  # which of the study's random splits it is


def truths_of(folders: Sequence[Path], area: AreaRule) -> list[Truth]:
    """The validation split of a data folder; of several, the random splits of a study, each: of seed i that at i mod n.

    Raises:
        InputError: the data can't be read.
    """
    if len(folders) == 1:
        return [Truth(read_split(folders[0], "val", area))]
    truths = []
    for number, folder in enumerate(folders):
        train, val = (read_split(folder, name, area) for name in ("train", "val"))
        truths.append(Truth(val, Division(number, len(val.images) / len(train.images))))
    return truths


def design_of(study: Study, reference: str | None = None) -> Design:
    """What a study compares.

    Args:
        reference: as `opening.reference_of` has it; the file's, or the first, where it isn't looked for.
    """
    published = zip(study.labels, study.published, strict=True)
    return Design(
        name=study.name,
        question=study.question,
        metrics=study.metrics,
        varied=tuple(dimension.name for dimension in study.space.dimensions),
        is_sampled=study.trials is not None,
        labels=study.labels,
        published={label: value for label, value in published if value is not None},
        splits=study.splits,
        reference=reference or study.reference or next(iter(study.labels), None),
    )


def trainings_of(trials: Sequence[Trial]) -> list[Training]:
    """What each trial has come to; without its detections."""
    return [_training(trial) for trial in trials]


def resampled(
    design: Design,
    trials: Sequence[Trial],
    results: Callable[[int, int], bytes | None],
    truths: Sequence[Truth],
) -> list[Configuration]:
    """The configurations with their trials' AP on the resamples of the images, of those that a report shows.

    Args:
        results: the compressed detections of a complete trial, by the configuration's index and the seed.
        truths: as of `truths_of`.

    Raises:
        InputError: as `gather`; the split isn't the one that was scored; detections are missing, damaged or other ones.
    """
    trainings = trainings_of(trials)
    gathered = gather(design, trainings)
    for place, truth in enumerate(truths):
        _require_same_split([each for each in trainings if each.seed % len(truths) == place], truth.split)
    return evaluated(design, gathered, functools.partial(_evaluated, design.name, results, truths))


def _training(trial: Trial) -> Training:
    outcome, configuration = trial.outcome or Outcome(), trial.configuration
    return Training(
        index=trial.configuration_index,
        seed=trial.seed,
        state=trial.state,
        label=configuration.label if configuration else None,
        params=configuration.params if configuration else {},
        values={metric: _number(value) for metric, value in outcome.values.items()},
        best_ap=_number(outcome.best_ap),
        seconds=_number(outcome.seconds),
        reason=outcome.reason or "",
        protocol=outcome.protocol,
        versions=outcome.versions,
        run=outcome.run,
        command=outcome.command,
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _require_same_split(trainings: Sequence[Training], split: CocoSplit) -> None:
    first = next((each for each in trainings if each.state == "complete"), None)
    current = split_hash(split)
    if first is not None and first.protocol.get("split_hash") != current:
        scored_on = str(first.protocol.get("split_hash"))
        raise InputError(
            f"{split.file.parent.parent}: its {split.file.name} (sha256 {current[:12]}) is not what this study's trials"
            f" were scored on ({scored_on[:12]}); name the data folder that they had with --data.root"
        )


def _evaluated(
    study: str, results: Callable[[int, int], bytes | None], truths: Sequence[Truth], training: Training
) -> Training:
    """The training with its detections' AP, which must be the one that was written down."""
    against = truths[training.seed % len(truths)]
    truth = against.split
    name = f"{study}: {training.label}, seed {training.seed}"
    detections = _detections(results(training.index, training.seed), truth, name)
    evaluation = evaluate_ap(truth, detections)
    again = evaluation.values["AP"]
    if not abs(again - training.ap) <= ROUNDING:
        raise InputError(
            f"{name}: its detections make an AP of {again:.6f}, but {training.ap:.6f} was written down; one of the"
            " two was changed: restore the storage, or run the study under another name"
        )
    return replace(training, evaluation=replace(evaluation, division=against.division))


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
