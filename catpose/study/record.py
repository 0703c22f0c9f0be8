"""study.json: what a study compares and how its trials stand, written beside its report for `catpose.report` to read.

Wherever the storage is, the study's folder then tells what no trial's folder does: the sampler, the reference, and the
seeds that failed, were pruned or are still to come.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from catpose.analysis.configurations import Design, Training
from catpose.errors import InputError, one_line
from catpose.files import atomic_write, read_json, refuse_owned
from catpose.study.directory import StudyDirectory
from catpose.study.results import trainings_of
from catpose.study.space import Configuration
from catpose.study.stored import Natural, Number, Outcome, Stored, StoredConfiguration
from catpose.study.trial import Trial


class _Trial(Stored):
    index: Natural  # of its configuration
    seed: Natural
    state: Literal["waiting", "running", "complete", "pruned", "early", "failed"]
    configuration: StoredConfiguration | None
    outcome: Outcome | None

    def trial(self) -> Trial:
        """The same as a trial of a storage."""
        of = self.configuration
        configuration = None if of is None else Configuration(of.label, dict(of.params), tuple(of.args or ()))
        return Trial(self.index, self.seed, configuration, self.state, outcome=self.outcome)


class StudyRecord(Stored):
    """The content of study.json."""

    name: str
    question: str
    metrics: dict[str, str]
    varied: list[str]
    is_sampled: bool
    labels: list[str]
    published: dict[str, Number]
    reference: str | None
    splits: int = 0
    notes: list[str]
    trials: list[_Trial]

    @property
    def design(self) -> Design:
        """What the study compares."""
        return Design(
            name=self.name,
            question=self.question,
            metrics=self.metrics,
            varied=tuple(self.varied),
            is_sampled=self.is_sampled,
            labels=tuple(self.labels),
            published=self.published,
            reference=self.reference,
            splits=self.splits,
        )

    @property
    def trainings(self) -> list[Training]:
        """How the trials stood when it was written."""
        return trainings_of([each.trial() for each in self.trials])

    @classmethod
    def read(cls, file: Path) -> StudyRecord | None:
        """What `write_record` wrote; None where there is no file, as of a study that catpose 0.1.0 ran.

        Raises:
            InputError: it is damaged.
        """
        if not file.exists():
            return None
        try:
            return cls.model_validate(read_json(file))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise InputError(f"{file}: {one_line(what)[:120]}; write it again with sweep --report") from None


def require_own(directory: StudyDirectory, name: str) -> None:
    """InputError where a folder is a run's, or another study's, whose trials and report would be mixed with these."""
    refuse_owned(directory.path, "--out", "run")
    try:
        record = StudyRecord.read(directory.summary)
    except InputError:  # damaged: it is written again
        return
    if record and record.name != name:
        raise InputError(
            f"--out {directory.path}: holds the study {one_line(record.name)}, not {name}; name another folder"
        )


def write_record(file: Path, design: Design, trials: Sequence[Trial], notes: Sequence[str]) -> None:
    """Write study.json, whole or not at all.

    Args:
        notes: what is left out of the study's plan, a line each.
    """
    record = StudyRecord(
        name=design.name,
        question=design.question,
        metrics=dict(design.metrics),
        varied=list(design.varied),
        is_sampled=design.is_sampled,
        labels=list(design.labels),
        published=dict(design.published),
        reference=design.reference,
        splits=design.splits,
        notes=list(notes),
        trials=[
            _Trial(
                index=trial.configuration_index,
                seed=trial.seed,
                state=trial.state,  # type: ignore[arg-type]  # checked here
                configuration=StoredConfiguration(
                    label=trial.configuration.label,
                    params=trial.configuration.params,
                    args=list(trial.configuration.args),
                )
                if trial.configuration
                else None,
                outcome=trial.outcome,
            )
            for trial in trials
        ],
    )
    with atomic_write(file) as temporary:
        temporary.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
