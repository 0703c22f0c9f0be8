"""Finished runs, read from their folders: what was trained, how, and what it detects on the validation images.

A path is a run's folder (of `fit`) or a study's (of `sweep`), which stands for all of its finished trials. Runs that
differ in their seed alone are one model, trained several times.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from catpose.data.coco import DEFAULT_ROOT, CocoSplit, read_split, split_hash
from catpose.errors import InputError, one_line
from catpose.run.directory import FREE, RunDirectory, flatten
from catpose.run.evaluation import read_results
from catpose.score.contract import Contract, Score
from catpose.score.instances import Detections, Truth

#: Bytes of a config.yaml; those of `fit` have some three thousand.
LARGEST_SETTINGS = 100_000
#: More brackets than these take PyYAML minutes.
MOST_BRACKETS = 1000
#: No run has so many epochs.
MOST_EPOCHS = 1e9
#: Settings that may differ between the runs of one model: the seed, names, places, and how fast it runs.
OWN = ("seed_everything", "data.root", *(key for key in FREE if key != "trainer.max_epochs"))


@dataclass(frozen=True, eq=False)
class Run:
    """One training, as its folder tells."""

    path: Path
    study: str | None  # the name of the study's folder that it is a trial of
    label: str  # the folder's name, or the arm's
    settings: dict[str, Any]  # by dotted name, defaults included
    starts: list[dict[str, Any]]  # what was written down at each start: time, command, git revision, versions, machine
    history: list[dict[str, str]]  # the rows of metrics.csv, an epoch each
    results: Path  # where the detections were read
    contract: Contract
    detections: Detections

    @property
    def seed(self) -> int:
        return int(self.settings.get("seed_everything") or 0)

    @property
    def is_whole(self) -> bool:
        """Whether all epochs that were asked for are there."""
        return len(self.history) >= int(self.settings.get("trainer.max_epochs") or 0)


@dataclass(frozen=True, eq=False)
class Model:
    """Runs with the same settings, no two of one seed."""

    label: str
    runs: tuple[Run, ...]

    @property
    def settings(self) -> dict[str, Any]:
        return self.runs[0].settings


def read_models(paths: Sequence[Path], root: Path | None = None) -> tuple[list[Model], CocoSplit, Truth]:
    """The models of some runs and studies, in the order given, and the validation split that all were scored on.

    Args:
        root: the data folder; the first run's where none is given.

    Raises:
        InputError: a path is no folder of a run or study, a file in it is missing or damaged, nothing in a study is
            finished, the runs were scored under different contracts, or on other annotations than the data's.
    """
    folders: dict[Path, tuple[Path, str | None]] = {}
    for folder, study in (found for path in paths for found in _folders(path)):
        folders.setdefault(folder.resolve(), (folder, study))
    first = _settings(next(iter(folders.values()))[0])
    split = read_split(root or Path(first.get("data.root") or DEFAULT_ROOT), "val")
    truth, here = Truth.from_coco(split.coco, str(split.file)), split_hash(split)
    if truth.ignored.all():
        raise InputError(f"{split.file}: no instance has a labelled keypoint to score; see python -m catpose.check")
    runs = [_read(folder, study, split, truth, here) for folder, study in folders.values()]
    for run in runs:
        broken = _differing(run.contract, runs[0].contract)
        if broken:
            raise InputError(
                f"{run.path} and {runs[0].path} were scored under different contracts ({broken}); such numbers can't be"
                " compared: make a report of each"
            )
    return _models(runs), split, truth


def unfinished(paths: Sequence[Path]) -> list[str]:
    """A sentence for each study that has trials which `read_models` leaves out."""
    said = []
    for path in paths:
        there, done = len(list((path / "trials").glob("*/run.json"))), len(_folders(path))
        if there > done and not (path / "run.json").exists():
            few = "1 trial is" if there - done == 1 else f"{there - done} trials are"
            said.append(f"{few} left out of {path.resolve().name}, not finished when this was made.")
    return said


def _folders(path: Path) -> list[tuple[Path, str | None]]:
    """The folders of runs that a path stands for, each with the study's name."""
    if (path / "run.json").exists():
        return [(path, None)]
    trials = sorted(file.parent for file in (path / "trials").glob("*/run.json"))
    if not trials:
        what = "holds neither run.json nor trials/" if path.is_dir() else "is no folder"
        raise InputError(f"{path}: {what}; name the folder of a run (of fit) or of a study (of sweep)")
    done = [folder for folder in trials if _is_done(folder)]
    if not done:
        raise InputError(f"{path}: none of its {len(trials)} trials is finished; go on with the study first")
    return [(folder, path.resolve().name) for folder in done]


def _is_done(folder: Path) -> bool:
    epochs = _settings(folder).get("trainer.max_epochs")
    return len(RunDirectory(folder).history()) >= int(epochs or 0) and (folder / "val_results.json").exists()


def _settings(folder: Path) -> dict[str, Any]:
    """A run's settings by dotted name; no aliases, by which a few lines grow to billions."""
    file = folder / "config.yaml"
    try:
        if file.stat().st_size > LARGEST_SETTINGS:
            raise ValueError
        text = file.read_text(encoding="utf-8")
        if text.count("[") + text.count("{") > MOST_BRACKETS:
            raise ValueError
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ValueError
        settings = flatten(yaml.safe_load(text))
    except (OSError, ValueError, AttributeError, RecursionError, yaml.YAMLError):
        raise InputError(f"{file}: is missing or damaged; restore it, or leave out this run") from None
    for key, kind in (("seed_everything", int), ("trainer.max_epochs", int), ("data.root", str)):
        if settings.get(key) is not None and not isinstance(settings[key], kind):
            raise _unusable(file, key, settings[key])
    size = settings.get("data.input_size")
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(px, int) for px in size):
        raise _unusable(file, "data.input_size", size)
    return settings


def _unusable(file: Path, key: str, value: object) -> InputError:
    shown = one_line(repr(value))[:60]
    return InputError(f"{file}: {key} is {shown}, which fit doesn't write; restore the file, or leave out this run")


def _starts(file: Path) -> list[dict[str, Any]]:
    """What run.json tells of each start, its parts of the kinds that `provenance` writes."""
    try:
        starts = [dict(start) for start in json.loads(file.read_text(encoding="utf-8"))["starts"]]
        for start in starts:
            records = [start.get(key) or {} for key in ("git", "packages", "machine")]
            lists = [start.get("command") or [], records[2].get("gpus") or []]
            if not all(isinstance(each, dict) for each in records) or not all(isinstance(each, list) for each in lists):
                raise TypeError
        return starts
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{file}: is missing or damaged; restore it, or leave out this run") from None


def _history(folder: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv, every cell a number or empty."""
    run = RunDirectory(folder)
    rows = run.history()
    try:
        if all(float(row["epoch"]) < MOST_EPOCHS for row in rows):
            for row in rows:
                for value in row.values():
                    float(value or 0)
            return rows
    except ValueError:
        pass
    raise InputError(f"{run.metrics}: holds what is no number; restore it, or leave out this run")


def _scored(folder: Path) -> tuple[Path, Contract]:
    """The results of a run's folder: what fit leaves behind, or else what `test --out` made of a checkpoint."""
    again = f"python -m catpose.test --checkpoint {folder}/last.ckpt --data ROOT --out {folder}"
    for results, score in (("val_results.json", "val_score.json"), ("results_val.json", "score_val.json")):
        file = folder / score
        if not (folder / results).exists() or not file.exists():
            continue
        try:
            contract = Score.read(file).contract
            words = (contract.split, contract.split_hash, contract.area_rule, contract.box_source, contract.score_rule)
            if all(isinstance(word, str) for word in words) and contract.flip_test in (None, True, False):
                return folder / results, contract
        except (InputError, RecursionError):
            pass
        raise InputError(f"{file}: holds no score with its contract; restore it, or delete it and run {again}")
    raise InputError(f"{folder}: holds no val_results.json with its val_score.json; run {again}")


def _read(folder: Path, study: str | None, split: CocoSplit, truth: Truth, here: str) -> Run:
    settings = _settings(folder)
    starts = _starts(folder / "run.json")
    results, contract = _scored(folder)
    if contract.split_hash != here:
        raise InputError(
            f"{split.file}: sha256 {here[:12]} is not what {folder} was scored on ({contract.split_hash[:12]}); name"
            " the data folder that it had with --data, or leave out this run"
        )
    detections = read_results(results, truth)
    meant = Contract.of(
        truth,
        detections,
        split=contract.split,
        split_hash=here,
        box_source=contract.box_source,
        flip_test=contract.flip_test,
        score_rule=contract.score_rule,
    )
    broken = _differing(contract, meant)
    if broken:
        raise InputError(
            f"{folder}: was scored otherwise than here ({broken}); score it again with python -m catpose.test"
        )
    arm = settings.get("wandb.job_type") if study else None
    return Run(
        path=folder,
        study=study,
        label=str(arm or folder.resolve().name),
        settings=settings,
        starts=starts,
        history=_history(folder),
        results=results,
        contract=contract,
        detections=detections,
    )


def _differing(contract: Contract, other: Contract) -> str:
    """What two contracts differ in; nothing where they are alike."""
    ours, theirs = dataclasses.asdict(contract), dataclasses.asdict(other)
    return ", ".join(
        f"{key} {one_line(ours[key])[:60]} against {one_line(theirs[key])[:60]}"
        for key in ours
        if ours[key] != theirs[key]
    )


def _models(runs: Sequence[Run]) -> list[Model]:
    """Runs put together by their settings; labels made different where they are equal.

    A second training with one seed and other detections, of changed code it may be, begins a model of its own.
    """
    groups: dict[str, list[dict[int, Run]]] = {}
    for run in runs:
        arm = run.label if run.study else None
        models = groups.setdefault(repr([sorted(_kept(run).items()), run.study, arm]), [])
        if not any(run.seed in model and _same(run, model[run.seed]) for model in models):
            free = next((model for model in models if run.seed not in model), None)
            if free is None:
                models.append({run.seed: run})
            else:
                free[run.seed] = run
    several = len({run.study for run in runs}) > 1
    made: list[Model] = []
    for by_seed in (model for models in groups.values() for model in models):
        first = next(iter(by_seed.values()))
        label = _shared([run.label for run in by_seed.values()])
        if first.study:
            varied = _varied([run for run in runs if run.study == first.study])
            label = " ".join([*([first.study] if several else []), *([varied] if varied else []), label])
        taken = {model.label for model in made}
        label = label if label not in taken else f"{label} ({first.path})"
        made.append(Model(label, tuple(by_seed[seed] for seed in sorted(by_seed))))
    return made


def _shared(names: Sequence[str]) -> str:
    """The name of a model's runs without their seed where that tells them apart, else the first run's."""
    stems = {re.sub(r"([-_. ]+(seed|s))?[-_. ]*\d+$", "", name) for name in names}
    return names[0] if len(set(names)) == 1 or len(stems) > 1 else stems.pop() or names[0]


def _kept(run: Run) -> dict[str, Any]:
    """The settings that make a model what it is."""
    return {k: v for k, v in run.settings.items() if not any(k == own or k.startswith(own + ".") for own in OWN)}


def _same(run: Run, other: Run) -> bool:
    ours, theirs = run.detections, other.detections
    return np.array_equal(ours.keypoints, theirs.keypoints) and np.array_equal(ours.confidence, theirs.confidence)


def _varied(runs: Sequence[Run]) -> str:
    """What a study varies where that is one setting: its arms are named by the value alone."""
    kept = [_kept(run) for run in runs]
    keys = [key for key in kept[0] if len({repr(settings.get(key)) for settings in kept}) > 1]
    return keys[0].removesuffix(".class_path").rsplit(".", 1)[-1] if len(keys) == 1 else ""
