"""Optuna's rows of a study as a mirror of the ledger: what samplers and pruners learn from, and the dashboard shows.

Which row counts is in the ledger, by its number. A row becomes COMPLETE only after its trial has finished in the
ledger, and only the row named there; so a trial has one COMPLETE row, however many its restarts left behind. Those end
as FAIL.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from catpose.study.ledger import Ledger
from catpose.study.space import Space
from catpose.study.trial import FINISHED, Trial

#: A sampler learns nothing from a trial that ended early: its metrics are of another length of training.
STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "early": TrialState.FAIL,
    "failed": TrialState.FAIL,
}
#: Of a trial's outcome, what its row shows beside the values.
SHOWN = ("run", "wandb_id", "best_ap", "reason")
#: A row's user attributes by which its trial is known: the configuration's index, and the seed.
INDEX, SEED = "point", "seed"


class Rows:
    """The rows of one study. Every method may be called by anyone at any time, and again.

    Args:
        study: Optuna's.
        storage: in which it is.
        ledger: the trials.
        metrics: the objectives' names in an outcome's `values`, in the order of the study's directions.
        space: whose configurations the trials have.
    """

    def __init__(
        self, study: optuna.Study, storage: RDBStorage, ledger: Ledger, metrics: Sequence[str], space: Space
    ) -> None:
        self.study, self.storage, self.ledger, self.metrics, self.space = study, storage, ledger, metrics, space
        self._distributions = space.distributions()
        self._study_id = storage.get_study_id_from_name(study.study_name)

    def take_up(self, trial: Trial) -> optuna.trial.Trial | None:
        """The row of a trial that this process owns: the one it had, or a new one, noted in the ledger.

        A trial without a configuration gets one: the study's sampler is asked for its parameters, and the ledger
        assigns it; the row always has the parameters of the configuration that stands.

        Returns:
            The row, RUNNING; None where the trial has been taken over by another.
        """
        found = self._find(trial)
        trial_id = self._id(found) if found is not None and _is_usable(found, trial) else self._create(trial)
        row = optuna.trial.Trial(self.study, trial_id)
        if trial.configuration is None:
            self.study.get_trials(deepcopy=False)  # Optuna sets parameters only of rows that it has read
            for name, distribution in self._distributions.items():
                _suggest(row, name, distribution)
            assigned = self.ledger.assign(trial.configuration_index, self.space.configuration(row.params))
            if assigned.params != row.params:  # another seed of this configuration was quicker
                self._end(row.number, TrialState.FAIL)
                return self.take_up(dataclasses.replace(trial, configuration=assigned))
            row.set_user_attr("configuration", assigned.label)
        if row.number == trial.number or self.ledger.number(trial, row.number):
            return row
        return None

    def mirror(self) -> None:
        """Bring the rows of all finished trials to their ends; when all are finished, fail rows that nobody owns."""
        rows = {frozen.number: frozen for frozen in self.study.get_trials(deepcopy=False)}
        for trial in self.ledger.trials():
            frozen = rows.get(-1 if trial.number is None else trial.number)
            if trial.state in FINISHED and (
                frozen is None or not frozen.state.is_finished() or self._must_heal(frozen, trial)
            ):
                self.tell(trial)
        if self.ledger.unfinished():
            return
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING))
        owned = {trial.number for trial in self.ledger.trials()}
        for frozen in running:
            if INDEX in frozen.user_attrs and frozen.number not in owned:
                self._end(frozen.number, TrialState.FAIL)

    def tell(self, trial: Trial) -> None:
        """Bring the row of one trial that is finished in the ledger to its end."""
        while True:
            trial = self.ledger.trial(*trial.key)
            if trial.state not in FINISHED:
                return
            found = self._find(trial)
            if found is None or self._must_heal(found, trial):
                row = optuna.trial.Trial(self.study, self._create(trial, like=found))
                self.ledger.number(trial, row.number)
            elif found.number != trial.number:
                self.ledger.number(trial, found.number)
            elif found.state.is_finished():
                return
            else:
                trial_id = self._id(found)
                for key in SHOWN:
                    value = getattr(trial.outcome, key)
                    if value is not None:
                        with contextlib.suppress(UpdateFinishedTrialError):
                            self.storage.set_trial_user_attr(trial_id, key, value)
                return self._end(found.number, *self._ending(trial))

    def _ending(self, trial: Trial) -> tuple[TrialState, list[float] | None]:
        """How a finished trial's row ends. Optuna takes no nan: a trial without a metric that counts has failed."""
        state = STATES[trial.state]
        if state is not TrialState.COMPLETE:
            return state, None
        known = trial.outcome.values if trial.outcome else {}
        values = [math.nan if (value := known.get(metric)) is None else value for metric in self.metrics]
        return (TrialState.FAIL, None) if any(map(math.isnan, values)) else (state, values)

    def _must_heal(self, frozen: FrozenTrial, trial: Trial) -> bool:
        """Whether a finished trial's row was given up by someone else, by hand in the dashboard for example."""
        ends = (TrialState.FAIL, TrialState.PRUNED, TrialState.COMPLETE)  # by how much they tell a sampler
        return frozen.state in ends and ends.index(frozen.state) < ends.index(self._ending(trial)[0])

    def _id(self, frozen: FrozenTrial) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self._study_id, frozen.number)

    def _find(self, trial: Trial) -> FrozenTrial | None:
        """The row that the ledger names; else one that an earlier owner created but didn't live to note."""
        if trial.number is not None:
            with contextlib.suppress(KeyError):
                trial_id = self.storage.get_trial_id_from_study_id_trial_number(self._study_id, trial.number)
                return self.storage.get_trial(trial_id)
        if trial.token < 2 and trial.state == "running":  # it had no earlier owner
            return None
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            attributes = frozen.user_attrs
            if (attributes.get(INDEX), attributes.get(SEED)) == trial.key and _is_usable(frozen, trial):
                return frozen
        return None

    def _create(self, trial: Trial, like: FrozenTrial | None = None) -> int:
        """The id of a new RUNNING row, in one transaction with all that makes it this trial's, and `like`'s history."""
        params, distributions = self._recordable({} if trial.configuration is None else trial.configuration.params)
        attributes: dict[str, Any] = {INDEX: trial.configuration_index, SEED: trial.seed}
        if trial.configuration is not None:
            attributes["configuration"] = trial.configuration.label
        template = create_trial(
            state=TrialState.RUNNING,
            params=params if like is None else like.params,
            distributions=distributions if like is None else like.distributions,
            user_attrs=attributes,
            intermediate_values={} if like is None else like.intermediate_values,
        )
        return self.storage.create_new_trial(self._study_id, template)

    def _recordable(self, params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        """The parameters that Optuna takes, with their distributions.

        It takes no other choices of a parameter than its study's first row had: a choice that was added to a grid later
        is in its row's label alone.
        """
        earlier: dict[str, BaseDistribution] = {}
        for frozen in self.study.get_trials(deepcopy=False):
            earlier = frozen.distributions | earlier
        distributions: dict[str, BaseDistribution] = {}
        for name, distribution in self._distributions.items():
            first = earlier.get(name, distribution)
            if name not in params or (isinstance(first, CategoricalDistribution) and params[name] not in first.choices):
                continue
            distributions[name] = first if isinstance(first, CategoricalDistribution) else distribution
        return {name: params[name] for name in distributions}, distributions

    def _end(self, number: int, state: TrialState, values: Sequence[float] | None = None) -> None:
        with contextlib.suppress(UpdateFinishedTrialError):
            self.study.tell(number, values, state=state, skip_if_finished=True)


def _is_usable(frozen: FrozenTrial, trial: Trial) -> bool:
    params = frozen.params.items()
    is_its_own = trial.configuration is None or params <= trial.configuration.params.items()
    return frozen.state is TrialState.RUNNING and is_its_own


def _suggest(row: optuna.trial.Trial, name: str, distribution: BaseDistribution) -> None:
    match distribution:
        case CategoricalDistribution():
            row.suggest_categorical(name, distribution.choices)
        case IntDistribution(low=low, high=high, step=step, log=log):
            row.suggest_int(name, low, high, step=step, log=log)
        case FloatDistribution(low=low, high=high, step=step, log=log):
            row.suggest_float(name, low, high, step=step, log=log)
