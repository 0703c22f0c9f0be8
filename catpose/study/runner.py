"""A trial as a command: its name, the arguments of its `fit`, and what runs it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

from catpose.errors import printable
from catpose.run.directory import RunDirectory
from catpose.run.wandb import job_type
from catpose.study.claim import Claim
from catpose.study.directory import StudyDirectory
from catpose.study.environment import environment, visible_gpus
from catpose.study.file import COSTS, Study
from catpose.study.kept import costs_in, keep, taken
from catpose.study.outcome import Ended, result
from catpose.study.process import Stop, Training, line
from catpose.study.stored import Outcome
from catpose.study.trial import Trial

OnEpoch = Callable[[int, float], bool]
ShouldStop = Callable[[], Stop | None]
#: Runs a trial; the second argument is the worker's index on this machine.
Runner = Callable[[Trial, int, OnEpoch, ShouldStop], Ended]


def log(line: str) -> None:
    """Print a line at once, also into a log that someone follows."""
    print(printable(line), flush=True)


def fit_runner(
    study: Study,
    study_id: str,
    directory: StudyDirectory,
    workers: int,
    results: Path | None,
    mixed_versions: bool,
) -> Runner:
    """Runs a trial as a `fit` in the study's directory, on the worker's share of this machine.

    Args:
        results: where finished trials are kept in small, and those that are kept already are taken from.
        mixed_versions: take those of other versions, too.
    """
    metric = next((name for name in study.metrics if name not in COSTS), "val/AP")
    cost_names = [name for name in study.metrics if name in COSTS]

    def run(trial: Trial, index: int, on_epoch: OnEpoch, should_stop: ShouldStop) -> Ended:
        claim = Claim(directory, name_of(trial), trial.token, study_id)
        args = fit_args(study, study_id, trial, claim.folder)
        place = None if results is None else place_of(study, results, trial)
        if place is not None and taken(place, args, claim.folder, mixed_versions, f"[{trial.number}] "):
            outcome = Outcome(run=str(claim.folder), command=line(args))
            ended, values = result(RunDirectory(claim.folder), metric, outcome, False), costs_in(place, cost_names)
        else:
            log(f"[{trial.number}] {line(args)}")
            ended = Training(args, claim, metric, environment(workers, index), on_epoch, should_stop).run()
            values = None
        if ended.how == "complete":
            values = costs(claim.folder, cost_names, study.imports) if values is None else values
            if place is not None and not place.exists():
                keep(claim.folder, place, values)
            outcome = ended.outcome.model_copy(update={"values": ended.outcome.values | values})
            ended = dataclasses.replace(ended, outcome=outcome)
        return ended

    return run


def name_of(trial: Trial) -> str:
    """A trial's name for its folder and in W&B."""
    assert trial.configuration is not None
    slug = re.sub(r"[^\w.×+-]+", "-", trial.configuration.label).strip("-")[:60]
    return f"{trial.configuration_index:03d}-{slug}-seed{trial.seed}"


def place_of(study: Study, results: Path, trial: Trial) -> Path:
    """Where a finished trial is kept in small, below `results`."""
    return results / study.name / name_of(trial)


def wandb_id(study_id: str, trial: Trial) -> str:
    """A trial's W&B id, the same for life; `study_id` is the study's own in its storage."""
    return hashlib.sha256(f"{study_id} {trial.configuration_index} {trial.seed}".encode()).hexdigest()[:16]


def fit_args(study: Study, study_id: str, trial: Trial, folder: Path) -> list[str]:
    """The arguments of the `fit` that is this trial, in this folder; its settings are the study file's.

    Raises:
        NotInSpace: the trial's configuration is none of the study's.
    """
    assert trial.configuration is not None
    configuration = study.space.stored(trial.configuration.params, trial.configuration.args)
    about = {
        "study": study.name,
        "configuration": configuration.label,
        "trial": trial.number,
        "configuration_index": trial.configuration_index,
    }
    directory = StudyDirectory(folder.parent.parent)
    is_tagged = any(arg.startswith("--wandb.tags") for arg in study.settings)
    return [
        *study.args(configuration, trial.seed),
        *([f"--data.root={directory.divisions / str(study.division(trial.seed))}"] if study.splits else []),
        f"--out={folder}",
        f"--wandb.id={wandb_id(study_id, trial)}",
        f"--wandb.name={study.name}/{name_of(trial)}",
        f"--wandb.group={study.name}",
        f"--wandb.job_type={job_type(configuration.label)}",
        f"--wandb.config={json.dumps(about)}",
        *([] if is_tagged else [f"--wandb.tags={json.dumps([study.name[:64]])}"]),
    ]


def costs(folder: Path, names: list[str], trusted: tuple[str, ...]) -> dict[str, float]:
    """What the model of a run costs, by name; its class is catpose's, or of a module that is trusted."""
    if not names:
        return {}
    from catpose.cost import metrics as cost  # loading a model imports timm, which no other worker needs
    from catpose.run.checkpoint import load_model

    model, settings = load_model(folder / "last.ckpt", trusted)
    width, height = settings["data"]["input_size"]
    return cost.costs(model, (width, height), names, "cuda" if visible_gpus() else "cpu")
