"""A finished run as its folder tells it: its settings, its history, and a training with its detections."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from catpose.analysis.configurations import Configuration, Training
from catpose.data.coco_split import CocoSplit, split_hash
from catpose.errors import InputError
from catpose.run.directory import RunDirectory, lacking
from catpose.run.provenance import Start, versions_of
from catpose.run.scoring import read_results
from catpose.score.protocol import EvaluationProtocol, Score

#: No run has so many epochs.
MOST_EPOCHS = 1e9
#: Where a run's detections are: what `fit` leaves behind, or else what `test --out` made of a checkpoint.
RESULTS = ("val_results.json", "results_val.json")


@dataclass(frozen=True, eq=False)
class Run:
    """What a run's folder tells beside its training's value."""

    path: Path
    study: Path | None  # the study's folder that it is a trial of
    settings: dict[str, Any]  # by dotted name, defaults included
    starts: list[Start]  # what was written down at each start: time, command, git revision, versions, machine
    history: list[dict[str, str]]  # the rows of metrics.csv, an epoch each
    results: Path | None  # where the detections are
    validations: Sequence[tuple[int, float]] = ()  # epoch and AP of each that has one, those within an epoch too

    @property
    def seed(self) -> int:
        return int(self.settings.get("seed_everything") or 0)

    @property
    def lineages(self) -> int:
        """More than one where it went on under other settings: then it is like no other run."""
        return max((start.lineage for start in self.starts), default=1)

    @property
    def lacks(self) -> str | None:
        """What it hasn't trained of that which its settings ask, "2 of 30 epochs"; None where it is whole."""
        return lacking(self.settings, self.history)

    @property
    def is_done(self) -> bool:
        """Whether it is a whole trial of its study, and has its detections."""
        return self.lineages == 1 and self.lacks is None and (self.path / RESULTS[0]).exists()

    @property
    def index(self) -> int:
        """The trial's configuration in its study, as that has told W&B; -1 where it hasn't."""
        names = ("configuration_index", "point")  # the latter until 0.1.0
        keys = (f"wandb.config.{name}" for name in names)
        found = next((self.settings[key] for key in keys if key in self.settings), -1)
        return found if self.study and type(found) is int else -1

    @property
    def by_test(self) -> bool:
        """Whether the detections are those of a checkpoint that `test` was given, not `fit`'s own."""
        return self.results is not None and self.results.name != RESULTS[0]

    @property
    def command(self) -> str:
        """The `fit` command that trains it again."""
        return shlex.join(["python", "-m", "catpose.fit", *(self.starts[0].command if self.starts else [])])

    @property
    def network(self) -> str:
        """The network and its input size in a few words."""
        settings = self.settings
        name = str(settings.get("model.class_path")).rsplit(".", 1)[-1]
        keys = ("name", "depth", "width")
        detail = next((settings[f"model.{key}"] for key in keys if f"model.{key}" in settings), "")
        width, height = settings.get("data.input_size") or (0, 0)
        return f"{name} {detail}".strip() + f", {width}x{height}"


#: The runs of finished trainings, by `Training.run`.
Runs = Mapping[str, Run]


def runs_of(configuration: Configuration, runs: Runs) -> list[Run]:
    """The runs of a configuration's finished seeds, in their order."""
    return [runs[each.run] for each in configuration.finished if each.run is not None]


def is_run(path: Path) -> bool:
    """Whether it is a run's folder."""
    return (path / "run.json").exists()


def read_run(folder: Path, study: Path | None) -> Run:
    """A run's folder, but for its detections.

    Raises:
        InputError: a file in it is missing or damaged.
    """
    settings, rows = _settings(folder), _rows(folder)
    history = [row for row in rows if row.get("epoch_seconds") != ""]
    results = next((folder / name for name in RESULTS if (folder / name).exists()), None)
    aps = [(int(row["epoch"]), float(row.get("val/AP") or "nan")) for row in rows]
    validations = [(epoch, ap) for epoch, ap in aps if not math.isnan(ap)]
    return Run(folder, study, settings, run_directory(folder).starts, history, results, validations)


def early_training(run: Run) -> Training:
    """One that hasn't trained all that its settings ask."""
    return Training(-1, run.seed, "early", run.path.resolve().name, reason=str(run.lacks), run=str(run.path))


def complete_training(run: Run, split: CocoSplit) -> Training:
    """A run's training with its detections; of a trial, its index is its study's.

    Raises:
        InputError: there are none, or they weren't scored on this split as it is scored here.
    """
    here = split_hash(split)
    results, protocol = _scored(run.path)
    if protocol.split_hash != here and protocol.pool and not run.study:
        raise InputError(
            f"{run.path}: was scored on a random split of its study's, not on {split.file}; name the study's folder,"
            " which has a page over its splits, or leave out this run"
        )
    if protocol.split_hash != here:
        raise InputError(
            f"{split.file}: sha256 {here[:12]} is not what {run.path} was scored on ({protocol.split_hash[:12]}); name"
            " the data folder that it had with --data, or leave out this run"
        )
    if protocol.is_partial:
        raise InputError(
            f"{run.path}: its validation looked at {protocol.seen} of {protocol.instances} instances, which is no AP of"
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
        nms_area=protocol.nms_area,
        pool=protocol.pool,
    )
    broken = protocol.differences(meant)
    if broken:
        raise InputError(
            f"{run.path}: was scored otherwise than here ({broken}); score it again with python -m catpose.test"
        )
    last = run.history[-1] if run.history else {}
    label = run.settings.get("wandb.job_type") if run.study else None
    return Training(
        index=run.index,
        seed=run.seed,
        state="complete",
        label=str(label or run.path.resolve().name),
        values={key: float(value) for key, value in last.items() if key.startswith(("val/", "train/")) and value},
        best_ap=max((ap for _, ap in run.validations), default=math.nan),
        seconds=sum(float(row.get("epoch_seconds") or "nan") for row in run.history),
        protocol=asdict(protocol),
        versions=versions_of(run.starts),
        run=str(run.path),
        command=run.command,
        detections=detections,
    )


def run_directory(folder: Path) -> RunDirectory:
    """A run's folder, to be read."""
    return RunDirectory(folder, remedy="restore it, or leave out this run")


def _settings(folder: Path) -> dict[str, Any]:
    """A run's settings by dotted name."""
    run = run_directory(folder)
    settings = run.settings
    if settings.get("data.input_size") is None:
        raise InputError(f"{run.config}: has no data.input_size; restore it, or leave out this run")
    return settings


def _rows(folder: Path) -> list[dict[str, str]]:
    """All rows of metrics.csv, every cell a number or empty."""
    run = RunDirectory(folder)
    rows = run.rows()
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
    """The results of a run's folder, and the protocol of their score."""
    again = f"python -m catpose.test --checkpoint {folder}/last.ckpt --data ROOT --out {folder}"
    for results, score in zip(RESULTS, ("val_score.json", "score_val.json"), strict=True):
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
