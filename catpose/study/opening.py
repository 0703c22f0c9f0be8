"""Opening a study in its storage: whether what is there is this study, and what its trials share."""

from __future__ import annotations

import functools
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy
from jsonargparse import Namespace
from optuna.distributions import distribution_to_json

from catpose.data.coco import read_split
from catpose.data.coco_split import split_hash
from catpose.errors import InputError, one_line
from catpose.files import require_writable
from catpose.instances import AreaRule
from catpose.plain_yaml import flatten
from catpose.run.cli import FitCLI
from catpose.run.lineage import is_free
from catpose.run.provenance import numeric_versions
from catpose.study.file import Study
from catpose.study.ledger import Ledger
from catpose.study.space import NOT_VARIED, Configuration
from catpose.study.storage import AwayError, masked, normal_url, open_engine
from catpose.study.stored import Facts
from catpose.text import first

#: Settings that may differ between the workers of a study, beside those that change no number: a trial has its own
#: seed, and the data's hashes stand for its place.
LOCAL = {"data.root", "seed_everything", "data.seed"}


@dataclass(frozen=True)
class Opened:
    """A study in its storage."""

    ledger: Ledger
    id: str  # the study's own, made up when it was created
    root: Path  # the data folder
    area: AreaRule  # whose area OKS takes
    wandb: dict[str, Any]  # W&B's settings, as of a run
    corrections: int  # how often its settings were corrected
    reference: str | None  # label of the configuration that others are compared with; None of a sampled study
    notes: tuple[str, ...]  # what is left out of its plan, a line each


def facts_of(study: Study) -> tuple[Facts, Namespace]:
    """What makes a study this one beside its configurations, under a new id; and all the base's settings.

    Raises:
        InputError: the experiment, a setting, a configuration or the data can't be used.
    """
    base = _base(study)
    varied = study.space.keys
    shared = {
        key: value
        for key, value in flatten(base.resolved()).items()
        if not is_free(key, value) and not any(key == free or key.startswith(free + ".") for free in LOCAL | varied)
    }
    _require_comparable(study)
    root = Path(base.config.data.root)
    distributions = study.space.distributions() if study.trials is not None else {}
    facts = Facts(
        id=secrets.token_hex(8),
        settings=shared,
        data={split: split_hash(read_split(root, split, base.config.data.area)) for split in ("train", "val")},
        metrics=dict(study.metrics),
        space={name: distribution_to_json(distribution) for name, distribution in distributions.items()},
        splits=study.splits,
        versions=numeric_versions(),
    )
    return facts, base.config


def _base(study: Study) -> FitCLI:
    """The experiment with the settings that all configurations share. Raises as `facts_of`."""
    try:
        return FitCLI(study.args(None, 0))
    except InputError as error:
        named = str(error).startswith((str(study.experiment), "--import"))
        raise InputError(str(error) if named else f"{study.file}: settings, or the command line: {error}") from None


def _require_comparable(study: Study) -> None:
    """InputError where a configuration can't be read, is one of the others again, or has another protocol than they."""
    read = [(each.label, settings_of(study, each)) for each in study.space.samples()]
    first, same = read[0][1], dict[str, str]()
    for label, settings in read:
        for key, why in NOT_VARIED.items():
            if settings.get(key) != first.get(key):
                raise InputError(f"{study.file}: space: {key} can't be varied, as {one_line(label)} does: {why}")
        other = same.setdefault(json.dumps(settings, sort_keys=True, default=str), label)
        if other != label:
            raise InputError(
                f"{study.file}: space: {one_line(other)} and {one_line(label)} are the same settings; leave out one"
            )


def settings_of(study: Study, configuration: Configuration) -> dict[str, Any]:
    """All settings of a configuration, by dotted name.

    Raises:
        InputError: they can't be read.
    """
    try:
        return _settings(tuple(study.args(configuration, 0)))
    except InputError as error:
        raise InputError(f"{study.file}: configuration {configuration.label}: {error}") from None


def reference_of(study: Study) -> str | None:
    """The configuration that others are compared with: the file's; else that which changes nothing of the experiment,
    looked for among those that are tried before a study begins; else the first. None of a sampled study."""
    if study.reference is not None or not study.labels:
        return study.reference
    unchanged = _settings(tuple(study.args(None, 0)))
    same = (each.label for each in study.space.samples() if settings_of(study, each) == unchanged)
    return next(same, study.labels[0])


@functools.cache
def _settings(args: tuple[str, ...]) -> dict[str, Any]:
    return flatten(FitCLI([*args]).resolved())


def trained(study: Study, url: str, mixed_versions: bool) -> set[str]:
    """The labels of configurations of which a trial is complete: nobody needs to try whether they can be trained."""
    normal_url(url)  # refused before anything is tried
    try:
        trials = open_ledger(study, url, create=False, mixed_versions=mixed_versions).ledger.trials()
    except AwayError:
        raise
    except InputError:  # there is none yet, or it is another one; whoever opens it to write says so
        return set()
    return {trial.configuration.label for trial in trials if trial.state == "complete" and trial.configuration}


def open_ledger(study: Study, url: str, create: bool, mixed_versions: bool = False) -> Opened:
    """The study in its storage, checked to be this one.

    Args:
        create: plan the study where it isn't there yet, to train its trials here; correct it where nothing of it is
            complete.
        mixed_versions: train them with other versions than it was begun with.

    Raises:
        InputError: the storage can't be used, holds another study of this name, or none where none is to be created.
    """
    facts, config = facts_of(study)
    _require_file(study, url, create)
    ledger = Ledger(open_engine(url), study.name, study.grace, space=study.space)
    stored = ledger.facts(facts if create else None)
    if stored is None:
        raise InputError(f"{masked(url)}: holds no study {study.name}; run it first, or name another with --name")
    differing = [*differences(stored, facts), *ledger.other_settings(study.configurations)]
    if differing:
        stored = _correct(study, url, ledger, stored, facts, differing, create)
    if create and not mixed_versions:
        _require_versions(study, stored.versions, facts.versions or {})
    plan = ledger.plan(study.configurations, study.seeds, write=create)
    return Opened(
        ledger=ledger,
        id=stored.id,
        root=Path(config.data.root),
        area=config.data.area,
        wandb=config.wandb.as_dict(),
        corrections=stored.corrections,
        reference=reference_of(study),
        notes=plan.notes,
    )


def _require_file(study: Study, url: str, create: bool) -> None:
    """Of a database in a file: see that it is there, or that it can be created."""
    database = sqlalchemy.make_url(normal_url(url)).database if url.startswith("sqlite") else None
    if not database or Path(database).exists():
        return
    if not create:
        raise InputError(f"{database}: no such study; run it first: python -m catpose.sweep --config {study.file}")
    require_writable(Path(database).parent, "--out", folder=True)
    Path(database).parent.mkdir(parents=True, exist_ok=True)


def _correct(
    study: Study, url: str, ledger: Ledger, stored: Facts, facts: Facts, differing: list[str], create: bool
) -> Facts:
    """The study's new facts, where others are asked for and nothing of it is complete.

    Raises:
        InputError: something is complete, or nothing is to be changed.
    """
    shown = first(differing, 4)
    new = facts.model_copy(update={"id": secrets.token_hex(8), "corrections": stored.corrections + 1})
    if not create or not ledger.correct(stored, new, study.configurations):
        raise InputError(
            f"study {study.name}: its storage {masked(url)} has it with other settings ({shown}); give it another"
            " name with --name"
        )
    print(f"study {study.name}: nothing of it is complete, so it is corrected, and begins anew ({shown})")
    return new


def differences(stored: Facts, facts: Facts) -> list[str]:
    """What the facts in a storage and those of a study's file differ in."""
    absent = "absent"
    then, now = stored.settings, facts.settings
    differing = [
        f"{key} {one_line(then.get(key, absent))} → {one_line(now.get(key, absent))}"
        for key in sorted({*now, *then})
        if now.get(key, absent) != then.get(key, absent)
    ]
    differing += [f"data of {split}" for split in facts.data if facts.data[split] != stored.data.get(split)]
    differing += ["metric"] if stored.metrics != facts.metrics else []
    differing += [f"splits {stored.splits} → {facts.splits}"] if stored.splits != facts.splits else []
    differing += ["space"] if stored.space != facts.space else []
    return differing


def _require_versions(study: Study, then: dict[str, str] | None, now: dict[str, str]) -> None:
    """InputError where a study was begun with other versions, or nobody knows with which."""
    if then == now:
        return
    if then is None:
        how = "versions that weren't written down (catpose 0.1.0 didn't)"
    else:
        names = [name for name in dict.fromkeys([*now, *then]) if then.get(name) != now.get(name)]
        each = [f"{name} {one_line(then.get(name, 'absent'))[:40]}, here {now.get(name, 'absent')}" for name in names]
        how = f"other versions ({'; '.join(each)})"
    raise InputError(
        f"study {study.name}: was begun with {how}; work on it with those, or with --mixed-versions, which its report"
        " will say, or give the study another name with --name"
    )
