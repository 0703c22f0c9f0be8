"""A study and its trials as the values that `catpose.analysis` computes with."""

from __future__ import annotations

import math
from collections.abc import Sequence

from catpose.analysis.configurations import Design, TrialResult
from catpose.study.file import Study
from catpose.study.stored import Outcome
from catpose.study.trial import Trial


def design_of(study: Study) -> Design:
    """What a study compares."""
    published = zip(study.labels, study.published, strict=True)
    return Design(
        name=study.name,
        question=study.question,
        metrics=study.metrics,
        varied=tuple(dimension.name for dimension in study.space.dimensions),
        is_sampled=study.trials is not None,
        labels=study.labels,
        published={label: value for label, value in published if value is not None},
        reference=study.reference,
    )


def results_of(trials: Sequence[Trial]) -> list[TrialResult]:
    """What each trial has come to."""
    return [_result(trial) for trial in trials]


def _result(trial: Trial) -> TrialResult:
    outcome, configuration = trial.outcome or Outcome(), trial.configuration
    return TrialResult(
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
