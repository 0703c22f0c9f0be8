"""Optuna's rows of a study as a mirror of the ledger: what samplers and pruners learn from, and the dashboard shows.

Which row counts says the ledger, by its number. A row is told to be COMPLETE only after its trial has finished in the
ledger, and only the row named there; so a (point, seed) has one COMPLETE row, however many its restarts left behind.
Those end as FAIL.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from catpose.study.ledger import FINISHED, Ledger, Trial

STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
#: Of a trial's outcome, what its row shows beside the values.
SHOWN = ("run", "wandb_id", "best_ap", "reason")


def row(
    study: optuna.Study,
    ledger: Ledger,
    trial: Trial,
    distributions: Mapping[str, BaseDistribution],
    arm: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> optuna.trial.Trial | None:
    """The Optuna row of a trial that this process holds: the one it had, or a new one, noted in the ledger.

    A trial without an arm gets one: `study`'s sampler is asked for its parameters, `arm` makes the arm of them, and the
    ledger settles it; the row always has the parameters of the arm that stands.

    Args:
        trial: as claimed.
        distributions: of the parameters, by dimension.
        arm: the arm of such parameters; needed where `trial` has none.

    Returns:
        The row, RUNNING; None where the trial has been taken over by another.
    """
    found = _find(study, trial)
    if found is None or not _is_usable(found, trial):
        mine = _create(study, trial, distributions)
    else:
        mine = optuna.trial.Trial(study, found._trial_id)
    if trial.arm is None:
        assert arm is not None
        for name, distribution in distributions.items():
            mine._suggest(name, distribution)
        settled = ledger.settle(trial.point, arm(mine.params))
        if settled["params"] != mine.params:  # another seed of this point was quicker
            _tell(study, mine.number, TrialState.FAIL)
            return row(study, ledger, dataclasses.replace(trial, arm=settled), distributions)
        mine.set_user_attr("arm", settled["label"])
    if mine.number == trial.number or ledger.number(trial, mine.number):
        return mine
    return None


def mirror(
    study: optuna.Study,
    ledger: Ledger,
    metrics: Sequence[str],
    distributions: Mapping[str, BaseDistribution] | None = None,
) -> None:
    """Bring the rows of all finished trials to their ends; when all are finished, fail rows that nobody owns.

    May be called by anyone at any time, and again.

    Args:
        metrics: names of the objectives in `outcome["values"]`, in the order of the study's directions.
        distributions: as `row`'s, for trials that ended without having a row.
    """
    rows = {frozen.number: frozen for frozen in study.get_trials(deepcopy=False)}
    for trial in ledger.trials():
        frozen = rows.get(-1 if trial.number is None else trial.number)
        if trial.state in FINISHED and (
            frozen is None or not frozen.state.is_finished() or _must_heal(frozen, trial, metrics)
        ):
            tell(study, ledger, trial, metrics, distributions)
    if ledger.unfinished():
        return
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING))
    owned = {trial.number for trial in ledger.trials()}
    for frozen in running:
        if "point" in frozen.user_attrs and frozen.number not in owned:
            _tell(study, frozen.number, TrialState.FAIL)


def tell(
    study: optuna.Study,
    ledger: Ledger,
    trial: Trial,
    metrics: Sequence[str],
    distributions: Mapping[str, BaseDistribution] | None = None,
) -> None:
    """Bring the row of one trial that is finished in the ledger to its end; `mirror` for the one who finished it."""
    while True:
        trial = ledger.trial(trial.point, trial.seed)
        if trial.state not in FINISHED:
            return
        found = _find(study, trial)
        if found is None or _must_heal(found, trial, metrics):
            made = _create(study, trial, distributions or {}, like=found)
            ledger.number(trial, made.number)
        elif found.number != trial.number:
            ledger.number(trial, found.number)
        elif found.state.is_finished():
            return
        else:
            assert trial.outcome is not None
            for key in SHOWN:
                if trial.outcome.get(key) is not None:
                    with contextlib.suppress(UpdateFinishedTrialError):
                        study._storage.set_trial_user_attr(found._trial_id, key, trial.outcome[key])
            return _tell(study, found.number, *_end(trial, metrics))


def _end(trial: Trial, metrics: Sequence[str]) -> tuple[TrialState, list[float] | None]:
    """How a finished trial's row ends. Optuna takes no nan: a trial without a figure that counts has failed for it."""
    state = STATES[trial.state]
    if state is not TrialState.COMPLETE:
        return state, None
    values = (trial.outcome or {}).get("values") or {}
    figures = [math.nan if values.get(metric) is None else float(values[metric]) for metric in metrics]
    return (TrialState.FAIL, None) if any(map(math.isnan, figures)) else (state, figures)


def _must_heal(frozen: FrozenTrial, trial: Trial, metrics: Sequence[str]) -> bool:
    """Whether a finished trial's row was given up by someone else, by hand in the dashboard for example."""
    ends = (TrialState.FAIL, TrialState.PRUNED, TrialState.COMPLETE)  # by what they say
    return frozen.state in ends and ends.index(frozen.state) < ends.index(_end(trial, metrics)[0])


def _find(study: optuna.Study, trial: Trial) -> FrozenTrial | None:
    """The row that the ledger names; else one that an earlier holder made but didn't live to note."""
    if trial.number is not None:
        with contextlib.suppress(KeyError):
            number = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, trial.number)
            return study._storage.get_trial(number)
    if trial.token < 2 and trial.state == "running":  # it had no earlier holder
        return None
    for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        attributes = frozen.user_attrs
        if (attributes.get("point"), attributes.get("seed")) == (trial.point, trial.seed) and _is_usable(frozen, trial):
            return frozen
    return None


def _is_usable(frozen: FrozenTrial, trial: Trial) -> bool:
    return frozen.state is TrialState.RUNNING and (trial.arm is None or frozen.params == trial.arm["params"])


def _create(
    study: optuna.Study, trial: Trial, distributions: Mapping[str, BaseDistribution], like: FrozenTrial | None = None
) -> optuna.trial.Trial:
    """A new RUNNING row, in one transaction with all that makes it this trial's; with the history of `like`."""
    params = {} if trial.arm is None else {k: v for k, v in trial.arm["params"].items() if k in distributions}
    attributes = {"point": trial.point, "seed": trial.seed}
    template = create_trial(
        state=TrialState.RUNNING,
        params=params if like is None else like.params,
        distributions={name: distributions[name] for name in params} if like is None else like.distributions,
        user_attrs=attributes if trial.arm is None else attributes | {"arm": trial.arm["label"]},
        intermediate_values={} if like is None else like.intermediate_values,
    )
    return optuna.trial.Trial(study, study._storage.create_new_trial(study._study_id, template))


def _tell(study: optuna.Study, number: int, state: TrialState, values: Sequence[float] | None = None) -> None:
    with contextlib.suppress(UpdateFinishedTrialError):
        study.tell(number, values, state=state, skip_if_finished=True)
