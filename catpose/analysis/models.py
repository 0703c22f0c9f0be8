"""Finished runs, read from their folders: what was trained, how, and what it detects on the validation images.

A path is a run's folder (of `fit`) or a study's (of `sweep`), which stands for all of its finished trials. Runs that
differ in their seed alone are one model, trained several times.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from catpose.data.coco import DEFAULT_ROOT, read_split
from catpose.data.coco_split import CocoSplit, split_hash
from catpose.errors import InputError
from catpose.fence import newest_claims
from catpose.instances import AreaRule
from catpose.run.directory import RunDirectory
from catpose.run.ending import lacking
from catpose.run.evaluation import read_results
from catpose.run.lineage import is_free
from catpose.run.provenance import Start
from catpose.score.detections import Detections
from catpose.score.protocol import EvaluationProtocol, Score

#: No run has so many epochs.
MOST_EPOCHS = 1e9
#: Settings that may differ between the runs of one model, beside those that change no number.
OWN = ("seed_everything", "data.root")


@dataclass(frozen=True, eq=False)
class Run:
    """One training, as its folder tells."""

    path: Path
    study: str | None  # the name of the study's folder that it is a trial of
    label: str  # the folder's name, or the arm's
    settings: dict[str, Any]  # by dotted name, defaults included
    starts: list[Start]  # what was written down at each start: time, command, git revision, versions, machine
    history: list[dict[str, str]]  # the rows of metrics.csv, an epoch each
    results: Path  # where the detections were read
    protocol: EvaluationProtocol
    detections: Detections

    @property
    def seed(self) -> int:
        return int(self.settings.get("seed_everything") or 0)

    @property
    def lineages(self) -> int:
        """More than one where it went on under other settings: then it is like no other run."""
        return max((start.lineage for start in self.starts), default=1)

    @property
    def is_whole(self) -> bool:
        """Whether all epochs that were asked for are there."""
        return lacking(self.settings, self.history) is None


@dataclass(frozen=True, eq=False)
class Model:
    """Runs with the same settings, no two of one seed."""

    label: str
    runs: tuple[Run, ...]

    @property
    def settings(self) -> dict[str, Any]:
        return self.runs[0].settings

    @property
    def network(self) -> str:
        """The network and its input size in a few words."""
        settings = self.settings
        name = str(settings.get("model.class_path")).rsplit(".", 1)[-1]
        keys = ("name", "depth", "width")
        detail = next((settings[f"model.{key}"] for key in keys if f"model.{key}" in settings), "")
        width, height = settings.get("data.input_size") or (0, 0)
        return f"{name} {detail}".strip() + f", {width}x{height}"

    @property
    def epochs(self) -> str:
        """How many epochs each run trained: "20", or "18 to 20"."""
        counts = sorted({len(run.history) for run in self.runs})
        return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def read_models(paths: Sequence[Path], root: Path | None = None) -> tuple[list[Model], CocoSplit]:
    """The models of some runs and studies, in the order given, and the validation split that all were scored on.

    Args:
        root: the data folder; the first run's where none is given.

    Raises:
        InputError: a path is no folder of a run or study, a file in it is missing or damaged, nothing in a study is
            finished, the runs were scored under different protocols, or on other annotations than the data's.
    """
    folders: dict[Path, tuple[Path, str | None]] = {}
    for folder, study in (found for path in paths for found in _folders(path)):
        folders.setdefault(folder.resolve(), (folder, study))
    first = _settings(next(iter(folders.values()))[0])
    area: AreaRule = "file" if first.get("data.area") == "file" else "box"
    split = read_split(root or Path(first.get("data.root") or DEFAULT_ROOT), "val", area)
    here = split_hash(split)
    if split.ignored.all():
        raise InputError(f"{split.file}: no instance has a labelled keypoint to score; see python -m catpose.check")
    compared = _whole([folder for folder, _ in folders.values()])
    runs = [_read(folder, study, split, here) for folder, study in folders.values() if folder in compared]
    for run in runs:
        broken = run.protocol.differences(runs[0].protocol)
        if broken:
            raise InputError(
                f"{run.path} and {runs[0].path} were scored under different protocols ({broken}); such numbers can't be"
                " compared: make a report of each"
            )
    return _models(runs), split


def unfinished(paths: Sequence[Path]) -> list[str]:
    """A sentence for each study with trials that `read_models` leaves out, each run that ended early, and each of
    several lineages."""
    sentences = []
    for path in paths:
        if (path / "run.json").exists() and _run(path).lineages > 1:
            sentences.append(f"{path.resolve().name} went on under other settings, and is grouped with no other run.")
        short = _lacking(path) if (path / "run.json").exists() else None
        if short:
            sentences.append(f"{path.resolve().name} has {short}, and is compared with no other run.")
        started = len(newest_claims(file.parent for file in (path / "trials").glob("*/run.json")))
        done = len(_folders(path))
        if started > done and not (path / "run.json").exists():
            few = "1 trial is" if started - done == 1 else f"{started - done} trials are"
            sentences.append(f"{few} left out of {path.resolve().name}, not finished, or gone on under other settings.")
    return sentences


def _folders(path: Path) -> list[tuple[Path, str | None]]:
    """The folders of runs that a path stands for, each with the study's name."""
    if (path / "run.json").exists():
        return [(path, None)]
    trials = newest_claims(file.parent for file in (path / "trials").glob("*/run.json"))
    if not trials:
        what = "holds neither run.json nor trials/" if path.is_dir() else "is no folder"
        raise InputError(f"{path}: {what}; name the folder of a run (of fit) or of a study (of sweep)")
    done = [folder for folder in trials if _is_done(folder)]
    if not done:
        raise InputError(f"{path}: none of its {len(trials)} trials is finished; go on with the study first")
    return [(folder, path.resolve().name) for folder in done]


def _is_done(folder: Path) -> bool:
    if _run(folder).lineages > 1:
        return False
    return _lacking(folder) is None and (folder / "val_results.json").exists()


def _lacking(folder: Path) -> str | None:
    return lacking(_settings(folder), _history(folder))


def _whole(folders: list[Path]) -> list[Path]:
    """Those of runs that trained all that their settings ask; a single one may be looked at before.

    Raises:
        InputError: there are several, and none is whole: they would be compared at different ages.
    """
    short = {folder: _lacking(folder) for folder in folders}
    whole = [folder for folder, what in short.items() if what is None]
    if not whole and len(folders) > 1:
        shown = ", ".join(f"{folder} has {what}" for folder, what in list(short.items())[:3])
        raise InputError(
            f"{shown}: runs that ended early can't be compared; let them train to their end, or make a report of each"
        )
    return whole or folders


def _run(folder: Path) -> RunDirectory:
    return RunDirectory(folder, remedy="restore it, or leave out this run")


def _settings(folder: Path) -> dict[str, Any]:
    """A run's settings by dotted name."""
    run = _run(folder)
    settings = run.settings
    if settings.get("data.input_size") is None:
        raise InputError(f"{run.config}: has no data.input_size; restore it, or leave out this run")
    return settings


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


def _scored(folder: Path) -> tuple[Path, EvaluationProtocol]:
    """The results of a run's folder: what fit leaves behind, or else what `test --out` made of a checkpoint."""
    again = f"python -m catpose.test --checkpoint {folder}/last.ckpt --data ROOT --out {folder}"
    for results, score in (("val_results.json", "val_score.json"), ("results_val.json", "score_val.json")):
        file = folder / score
        if not (folder / results).exists() or not file.exists():
            continue
        try:
            protocol = Score.read(file).protocol
            words = (protocol.split, protocol.split_hash, protocol.area_rule, protocol.box_source, protocol.score_rule)
            if all(isinstance(word, str) for word in words) and protocol.flip_test in (None, True, False):
                return folder / results, protocol
        except (InputError, RecursionError):
            pass
        raise InputError(f"{file}: holds no score with its protocol; restore it, or delete it and run {again}")
    raise InputError(f"{folder}: holds no val_results.json with its val_score.json; run {again}")


def _read(folder: Path, study: str | None, split: CocoSplit, here: str) -> Run:
    settings = _settings(folder)
    starts = _run(folder).starts
    results, protocol = _scored(folder)
    if protocol.split_hash != here:
        raise InputError(
            f"{split.file}: sha256 {here[:12]} is not what {folder} was scored on ({protocol.split_hash[:12]}); name"
            " the data folder that it had with --data, or leave out this run"
        )
    if protocol.is_partial:
        raise InputError(
            f"{folder}: its validation looked at {protocol.seen} of {protocol.instances} instances, which is no AP of"
            " the split; score its checkpoint with python -m catpose.test, or leave out this run"
        )
    detections = read_results(results, split)
    meant = EvaluationProtocol.of(
        split,
        detections,
        split=protocol.split,
        split_hash=here,
        box_source=protocol.box_source,
        flip_test=protocol.flip_test,
        score_rule=protocol.score_rule,
    )
    broken = protocol.differences(meant)
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
        protocol=protocol,
        detections=detections,
    )


def _models(runs: Sequence[Run]) -> list[Model]:
    """Runs put together by their settings; labels made different where they are equal.

    A second training with one seed and other detections, of changed code it may be, begins a model of its own. So does
    each run of several lineages.
    """
    groups: dict[str, list[dict[int, Run]]] = {}
    for run in runs:
        arm = run.label if run.study else None
        alone = str(run.path) if run.lineages > 1 else None
        models = groups.setdefault(repr([sorted(_kept(run).items()), run.study, arm, alone]), [])
        if not any(run.seed in model and _same(run, model[run.seed]) for model in models):
            free = next((model for model in models if run.seed not in model), None)
            if free is None:
                models.append({run.seed: run})
            else:
                free[run.seed] = run
    several = len({run.study for run in runs}) > 1
    labelled: list[Model] = []
    for by_seed in (model for models in groups.values() for model in models):
        first = next(iter(by_seed.values()))
        label = _shared([run.label for run in by_seed.values()])
        if first.study:
            varied = _varied([run for run in runs if run.study == first.study])
            label = " ".join([*([first.study] if several else []), *([varied] if varied else []), label])
        if first.lineages > 1:
            label += f" ({first.lineages} lineages)"
        taken = {model.label for model in labelled}
        label = label if label not in taken else f"{label} ({first.path})"
        labelled.append(Model(label, tuple(by_seed[seed] for seed in sorted(by_seed))))
    return labelled


def _shared(names: Sequence[str]) -> str:
    """The name of a model's runs without their seed where that tells them apart, else the first run's."""
    stems = {re.sub(r"([-_. ]+(seed|s))?[-_. ]*\d+$", "", name) for name in names}
    return names[0] if len(set(names)) == 1 or len(stems) > 1 else stems.pop() or names[0]


def _kept(run: Run) -> dict[str, Any]:
    """The settings that make a model what it is."""
    return {key: value for key, value in run.settings.items() if key not in OWN and not is_free(key, value)}


def _same(run: Run, other: Run) -> bool:
    ours, theirs = run.detections, other.detections
    return np.array_equal(ours.keypoints, theirs.keypoints) and np.array_equal(ours.confidence, theirs.confidence)


def _varied(runs: Sequence[Run]) -> str:
    """What a study varies where that is one setting: its arms are named by the value alone."""
    settings_of = [_kept(run) for run in runs]
    keys = [key for key in settings_of[0] if len({repr(settings.get(key)) for settings in settings_of}) > 1]
    return keys[0].removesuffix(".class_path").rsplit(".", 1)[-1] if len(keys) == 1 else ""
