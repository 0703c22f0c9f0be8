"""Runs and studies on disk as trainings to be compared: which belong together, and what they are called.

A path is a run's folder (of `fit`) or a study's (of `sweep`), which stands for all of its trials. What a study compares
and how those trials ended that aren't complete, its folder tells (`study.record`). Other runs that differ in their seed
alone are one configuration, trained several times.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from catpose.analysis.configurations import ENDS, Configuration, Design, Training, require_one_protocol
from catpose.data.coco import DEFAULT_ROOT
from catpose.data.resplit import resplit
from catpose.errors import InputError
from catpose.fence import newest_claims
from catpose.instances import AreaRule
from catpose.page.run_folder import Run, Runs, complete_training, early_training, is_run, read_run, run_directory
from catpose.run.lineage import is_free
from catpose.run.wandb import job_type
from catpose.study.directory import StudyDirectory
from catpose.study.record import StudyRecord
from catpose.study.results import Truth, truths_of

#: Settings that may differ between the runs of one configuration, beside those that change no number.
OWN = ("seed_everything", "data.root")
#: What studies say of themselves, by their folders; None of one that catpose 0.1.0 ran.
Studies = Mapping[Path, StudyRecord | None]


@dataclass(frozen=True, eq=False)
class Found:
    """What some paths hold."""

    design: Design
    trainings: list[Training]
    runs: Runs
    truths: Sequence[Truth]  # what all were scored on; of a study over random splits each, of seed i that at i mod n
    notes: tuple[str, ...]  # what is left out, a sentence each


def read_runs(paths: Sequence[Path], root: Path | None = None) -> Found:
    """The trainings of some runs and studies, in the order given, and the validation split that all were scored on.

    Args:
        root: the data folder; the first run's where none is given. Of a study over random splits that which they are
            of; where none is given, the splits lie in the study's folder.

    Raises:
        InputError: a path is no folder of a run or study, a file in it is missing or damaged, nothing in a study is
            finished, runs were scored under different protocols, or on other annotations than the data's; a study over
            random splits isn't alone.
    """
    paths = [*{path.resolve(): path for path in paths}.values()]
    studies = {path: StudyRecord.read(StudyDirectory(path).summary) for path in paths if not is_run(path)}
    records = [record for record in studies.values() if record]
    design = Design("these runs", is_sampled=any(record.is_sampled for record in records))
    if len(records) == len(paths) == 1:
        design = records[0].design
    elif over := next((path for path, record in studies.items() if record and record.splits), None):
        raise InputError(f"{over}: is a study over random splits, which has a page of its own; name it alone")
    by_folder: dict[Path, Run] = {}
    for run in (run for path in paths for run in _runs(path, studies.get(path))):
        by_folder.setdefault(run.path.resolve(), run)
    read = [*by_folder.values()]
    settings = read[0].settings
    area: AreaRule = "file" if settings.get("data.area") == "file" else "box"
    own = Path(settings.get("data.root") or DEFAULT_ROOT)
    truths = truths_of(_random_splits(paths[0], design.splits, root) if design.splits else [root or own], area)
    for split in (truth.split for truth in truths if truth.split.ignored.all()):
        raise InputError(f"{split.file}: no instance has a labelled keypoint to score; see python -m catpose.check")
    trainings = {run.path: early_training(run) for run in read}
    for run in _whole(read):
        found = complete_training(run, truths[run.seed % len(truths)].split)
        trainings[run.path] = _known(run, found, studies)
    require_one_protocol("these runs", [*trainings.values()])
    members = [_Member(run.study, run, trainings[run.path]) for run in read]
    members += [missing for study, record in studies.items() if record for missing in _missing(study, record, members)]
    notes = [note for path in paths for note in _notes(path, studies.get(path))]
    return Found(design, _grouped(members), {str(run.path): run for run in read}, truths, tuple(notes))


def _random_splits(study: Path, n: int, root: Path | None) -> list[Path]:
    """The data folders of a study over random splits; of a `root` those that aren't there are made."""
    divisions = StudyDirectory(study).divisions
    if root:
        return resplit(root, n, divisions)
    if not divisions.exists():
        raise InputError(f"{divisions}: isn't there; name the data folder that the study divided with --data")
    return [divisions / str(number) for number in range(n)]


def _runs(path: Path, record: StudyRecord | None) -> list[Run]:
    """The runs that a path stands for: those of a study's trials are complete."""
    if is_run(path):
        return [read_run(path, None)]
    trials = newest_claims(file.parent for file in (path / "trials").glob("*/run.json"))
    if not trials:
        what = "holds neither run.json nor trials/" if path.is_dir() else "is no folder"
        raise InputError(f"{path}: {what}; name the folder of a run (of fit) or of a study (of sweep)")
    # What a study has given up isn't complete, whatever its folder holds.
    lost = {Path(each.run).name for each in (record.trainings if record else ()) if each.run and each.state in ENDS}
    read = [read_run(each, path) for each in trials if each.name not in lost]
    done = [run for run in read if run.is_done and (record is None or _planned(run, record))]
    if not done:
        raise InputError(f"{path}: none of its {len(trials)} trials is finished; go on with the study first")
    return done


def _whole(runs: Sequence[Run]) -> list[Run]:
    """Those that trained all that their settings ask; a single one may be looked at before.

    Raises:
        InputError: there are several, and none is whole: they would be compared at different ages.
    """
    whole = [run for run in runs if run.lacks is None]
    if not whole and len(runs) > 1:
        shown = ", ".join(f"{run.path} has {run.lacks}" for run in runs[:3])
        raise InputError(
            f"{shown}: runs that ended early can't be compared; let them train to their end, or make a report of each"
        )
    return whole or list(runs)


def _notes(path: Path, record: StudyRecord | None) -> list[str]:
    """What is left out of a path beside the seeds that aren't complete, which are trainings too."""
    name = path.resolve().name
    if is_run(path):
        several = run_directory(path).lineages > 1
        return [f"{name} went on under other settings, and is grouped with no other run."] if several else []
    if record:
        return record.notes
    started = len(newest_claims(file.parent for file in (path / "trials").glob("*/run.json")))
    missing = started - len(_runs(path, None))
    few = "1 trial is" if missing == 1 else f"{missing} trials are"
    return [f"{few} left out of {name}, not finished, or gone on under other settings."] if missing else []


def _planned(run: Run, record: StudyRecord) -> Training | None:
    """The training of a study's plan that a run is: configuration and seed say which, or else its folder's name.

    None of one that the study's file no longer asks for, or of another study.
    """
    label = run.settings.get("wandb.job_type")
    for each in record.trainings:
        if (each.index, each.seed) == (run.index, run.seed) and each.label and job_type(each.label) == label:
            return each
    return next((each for each in record.trainings if each.run and Path(each.run).name == run.path.name), None)


def _known(run: Run, found: Training, studies: Studies) -> Training:
    """A complete training as its study has it."""
    record = studies.get(run.study) if run.study else None
    known = _planned(run, record) if record else None
    if known is None:
        return found
    if known.state != "complete":  # when the record was written
        return replace(found, index=known.index, label=known.label, params=known.params)
    return replace(known, run=found.run, protocol=found.protocol, detections=found.detections)


@dataclass(frozen=True, eq=False)
class _Member:
    """A training that is to be put together with others of its settings."""

    study: Path | None
    run: Run | None  # None where its folder isn't here
    training: Training

    @property
    def key(self) -> str:
        """Alike for those that are one configuration."""
        if self.study and self.training.index >= 0:
            return repr([str(self.study), self.training.index])
        assert self.run is not None
        alone = str(self.run.path) if self.run.lineages > 1 else None
        return repr([sorted(_kept(self.run).items()), str(self.study), self.study and self.training.label, alone])

    def is_same(self, other: _Member) -> bool:
        """Whether both detected the same: one training, given twice."""
        ours, theirs = self.training.detections, other.training.detections
        if ours is None or theirs is None:
            return False
        return np.array_equal(ours.keypoints, theirs.keypoints) and np.array_equal(ours.confidence, theirs.confidence)


def _missing(study: Path, record: StudyRecord, members: Sequence[_Member]) -> list[_Member]:
    """A study's trials without a finished run here."""
    here = {(each.training.index, each.training.seed) for each in members if each.study == study}
    by_path = {each.run.path.resolve() for each in members if each.run}  # one may be given by itself
    trainings = [
        each
        for each in record.trainings
        if (each.index, each.seed) not in here
        and not (each.run and (study / "trials" / Path(each.run).name).resolve() in by_path)
    ]
    why = f"it is complete, but {study / 'trials'} doesn't hold its run"
    away = [replace(each, state="away", reason=why) if each.state == "complete" else each for each in trainings]
    return [_Member(study, None, each) for each in away]


def _grouped(members: Sequence[_Member]) -> list[Training]:
    """Trainings with their configuration's number and label, labels made different where they are equal.

    A second training with one seed and other detections, of changed code it may be, begins a configuration of its own.
    So does each run of several lineages.
    """
    groups: dict[str, list[dict[int, _Member]]] = {}
    for member in members:
        seed, same = member.training.seed, groups.setdefault(member.key, [])
        if not any(seed in group and member.is_same(group[seed]) for group in same):
            if all(seed in group for group in same):
                same.append({})
            next(group for group in same if seed not in group)[seed] = member
    several = len({member.study for member in members}) > 1
    trainings: list[Training] = []
    for index, group in enumerate(group for same in groups.values() for group in same):
        first = next(iter(group.values()))
        label, params = _label([*group.values()], members, several)
        if first.run and label in {training.label for training in trainings}:
            label = f"{label} ({first.run.path})"
        trainings += [replace(each.training, index=index, label=label, params=params) for each in group.values()]
    return trainings


def _label(group: Sequence[_Member], members: Sequence[_Member], several: bool) -> tuple[str | None, Mapping[str, Any]]:
    """A configuration's label, and what its study varies; with the study's name where there are `several`."""
    first = group[0]
    if first.study is None:
        lineages = first.run.lineages if first.run else 1
        shared = _shared([str(each.training.label) for each in group])
        return shared + (f" ({lineages} lineages)" if lineages > 1 else ""), {}
    label, params = first.training.label, first.training.params
    if not params:
        varied = _varied([each.run for each in members if each.run and each.study == first.study])
        params = {varied: label} if varied else {}
    if not several or label is None:
        return label, params
    return f"{first.study.resolve().name} {Configuration(label, (), params).name}", {}


def _shared(names: Sequence[str]) -> str:
    """The name of a configuration's runs without their seed where that tells them apart, else the first run's."""
    stems = {re.sub(r"([-_. ]+(seed|s))?[-_. ]*\d+$", "", name) for name in names}
    return names[0] if len(set(names)) == 1 or len(stems) > 1 else stems.pop() or names[0]


def _varied(runs: Sequence[Run]) -> str:
    """What a study varies where that is one setting: its configurations are named by the value alone."""
    settings_of = [_kept(run) for run in runs]
    keys = [key for key in settings_of[0] if len({repr(settings.get(key)) for settings in settings_of}) > 1]
    return keys[0].removesuffix(".class_path") if len(keys) == 1 else ""


def _kept(run: Run) -> dict[str, Any]:
    """The settings that make a configuration what it is."""
    return {key: value for key, value in run.settings.items() if key not in OWN and not is_free(key, value)}
