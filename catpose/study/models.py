"""Finished runs, read from their folders: what was trained, how, and what it detects on the validation images.

A path is a run's folder (of `fit`) or a study's (of `sweep`), which stands for all of its finished trials. Runs that
differ in their seed alone are one model, trained several times.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from catpose.data.coco import DEFAULT_ROOT, CocoSplit, read_split, split_hash
from catpose.errors import InputError, one_line
from catpose.run.directory import FREE, RunDirectory, flatten
from catpose.run.evaluation import read_results
from catpose.score.contract import Contract, Score
from catpose.score.instances import Detections, Truth

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
    """Runs with the same settings, one a seed."""

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
    folders = [(folder, study) for path in paths for folder, study in _folders(path)]
    first = _settings(folders[0][0])
    data = root or Path(str(first.get("data.root") or DEFAULT_ROOT))
    split = read_split(data, "val")
    truth = Truth.from_coco(split.coco, str(split.file))
    runs = [_read(folder, study, truth) for folder, study in dict.fromkeys(folders)]
    for run in runs:
        _require_same_contract(run, runs[0])
    here = split_hash(split)
    if runs[0].contract.split_hash != here:
        raise InputError(
            f"{split.file}: sha256 {here[:12]} is not what {runs[0].path} was scored on"
            f" ({runs[0].contract.split_hash[:12]}); name the data folder that it had with --data"
        )
    return _models(runs), split, truth


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
    file = folder / "config.yaml"
    try:
        return flatten(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError, RecursionError, yaml.YAMLError):
        raise InputError(f"{file}: is missing or damaged; restore it, or leave out this run") from None


def _read(folder: Path, study: str | None, truth: Truth) -> Run:
    settings = _settings(folder)
    record = folder / "run.json"
    try:
        starts = [dict(start) for start in json.loads(record.read_text(encoding="utf-8"))["starts"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{record}: is missing or damaged; restore it, or leave out this run") from None
    # What fit leaves behind, or else what `test --out` made of its checkpoint.
    pairs = (("val_results.json", "val_score.json"), ("results_val.json", "score_val.json"))
    results, score = next(((folder / r, folder / s) for r, s in pairs if (folder / r).exists()), (None, None))
    if results is None or score is None:
        raise InputError(
            f"{folder}: holds no val_results.json; make results of its checkpoint with python -m catpose.test"
            f" --checkpoint {folder}/last.ckpt --data {settings.get('data.root')} --out {folder}"
        )
    arm = settings.get("wandb.job_type") if study else None
    return Run(
        path=folder,
        study=study,
        label=str(arm or folder.resolve().name),
        settings=settings,
        starts=starts,
        history=RunDirectory(folder).history(),
        contract=Score.read(score).contract,
        detections=read_results(results, truth),
    )


def _require_same_contract(run: Run, first: Run) -> None:
    ours, theirs = dataclasses.asdict(run.contract), dataclasses.asdict(first.contract)
    broken = [
        f"{key} {one_line(ours[key])[:60]} against {one_line(theirs[key])[:60]}"
        for key in ours
        if ours[key] != theirs[key]
    ]
    if broken:
        raise InputError(
            f"{run.path} and {first.path} were scored under different contracts ({', '.join(broken)}); such numbers"
            " can't be compared: make a report of each"
        )


def _models(runs: Sequence[Run]) -> list[Model]:
    """Runs put together by their settings; labels made different where they are equal."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        same = {k: v for k, v in run.settings.items() if not any(k == own or k.startswith(own + ".") for own in OWN)}
        groups.setdefault(json.dumps([same, run.study], sort_keys=True, default=str), []).append(run)
    several = len({run.study for run in runs}) > 1
    made: list[Model] = []
    for group in groups.values():
        by_seed = {run.seed: run for run in reversed(group)}  # of two runs with one seed, the first given
        label = group[0].label
        if several and group[0].study:
            label = f"{group[0].study} {label}"
        taken = {model.label for model in made}
        label = label if label not in taken else f"{label} ({group[0].path})"
        made.append(Model(label, tuple(by_seed[seed] for seed in sorted(by_seed))))
    return made
