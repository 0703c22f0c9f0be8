"""The sweep file: a study as ten lines of YAML.

    # Question: which learning rate?
    experiment: experiments/baseline.yaml           # what is varied
    settings: {trainer.max_epochs: 20}              # what all arms share and the experiment doesn't say
    space:
      model.lr: [1e-5, 1e-4, 5e-4]                  # choices: all are tried
      model.weight_decay: {low: 1e-6, high: 1e-2, log: true}      # a range: points of it are sampled
      input size:                                   # settings that belong together, by a name for tables
        128×128: {data.input_size: [128, 128]}
        192×256: {data.input_size: [192, 256]}
    published: [0.153, 0.488, 0.228]                # by arm, null where there is none
    reference: 1e-05                                # the arm that others are compared with; else the first
    seeds: 3                                        # each arm is trained with seeds 0, 1, 2; or a list
    metric: val/AP                                  # or {val/AP: maximize, GMACs: minimize}
    sampler: {name: TPESampler, n_startup_trials: 8}              # any of Optuna's
    pruner: MedianPruner                            # any of Optuna's; only with one metric
    trials: 50                                      # points to sample
    time_limit: 8h                                  # no trial is started after it
    grace: 120                                      # seconds after which a silent holder of a trial counts as gone
    slurm: {partition: gpu, gpus_per_node: 1}       # what --launch slurm asks for

Only `experiment` and `space` are required. A path of an experiment is looked for from the working directory, then
beside the sweep file's folder.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from catpose.errors import InputError, nearest, one_line
from catpose.skeleton import KEYPOINTS
from catpose.study.space import Space, label, read_space, word

KEYS = (
    *("name", "experiment", "settings", "space", "published", "reference", "seeds", "metric"),
    *("sampler", "pruner", "trials", "time_limit", "grace", "slurm"),
)
#: What a trial can be judged by beside the last epoch's `val/…` figures.
COSTS = ("GMACs", "params_M", "latency_ms")
FIGURES = (
    *(f"val/{name}" for name in ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "loss")),
    *(f"val/AP/{name}" for name in KEYPOINTS),
)
#: Settings that a study makes itself, for each trial.
OURS = ("out", "config", "wandb.id", "wandb.name", "wandb.group", "wandb.job_type", "wandb.config")
#: A heartbeat is a sixth of it; shorter than a second or two and a busy machine looks dead.
LEAST_GRACE = 1.0


@dataclass(frozen=True)
class Study:
    """A sweep file as read, with what the command line changed."""

    file: Path
    name: str
    question: str  # the file's first comment
    experiment: Path
    settings: tuple[str, ...]  # words of fit's command line for all arms
    space: Space
    seeds: tuple[int, ...]
    metrics: dict[str, Literal["maximize", "minimize"]]
    published: tuple[float | None, ...]
    reference: str | None
    sampler: dict[str, Any] | None
    pruner: dict[str, Any] | None
    trials: int | None
    time_limit: float | None  # seconds
    grace: float  # seconds
    slurm: dict[str, Any]

    @property
    def points(self) -> list[dict[str, Any] | None]:
        """The arms of a grid; as many None as are to be sampled otherwise."""
        return [None] * self.trials if self.trials is not None else [*self.space.arms()]

    def words(self, arm: dict[str, Any], seed: int) -> list[str]:
        """What a trial's `fit` is told about the model and its training."""
        return ["--config", str(self.experiment), *self.settings, *arm["words"], f"--seed_everything={seed}"]


def read_study(
    file: Path, experiment: Path | None = None, overrides: Sequence[str] = (), name: str | None = None
) -> Study:
    """Read a sweep file.

    Args:
        file: the YAML.
        experiment: takes the place of the file's.
        overrides: words for all arms from the command line (`--trainer.max_epochs`, `8`, …), which win over the file's.
        name: takes the place of the study's name, which is the file's, with the experiment's where that is another.

    Raises:
        InputError: in one line, naming file, key and remedy.
    """
    given, text = _load(file)
    unknown = next((key for key in given if key not in KEYS), None)
    if unknown is not None:
        raise InputError(f"{file}: {one_line(unknown)} is not known.{nearest(str(unknown), KEYS)} It may hold {KEYS}")
    for key in ("experiment", "space"):
        if key not in given:
            raise InputError(f"{file}: {key} is missing; a study needs experiment and space (see sweeps/)")
    try:
        space = read_space(given["space"], f"{file}: space")
    except InputError as error:
        raise InputError(str(error) if str(error).startswith(str(file)) else f"{file}: space.{error}") from None
    trials = None if given.get("trials") is None else _natural(given["trials"], f"{file}: trials")
    sampler, pruner = (_made_by_optuna(given.get(key), f"{file}: {key}") for key in ("sampler", "pruner"))
    if not space.is_grid and trials is None:
        raise InputError(f"{file}: trials is missing; say how many points of a range are to be tried")
    if space.is_grid and sampler is None and trials is not None:
        raise InputError(f"{file}: trials: all {len(space.arms())} choices are tried; leave it out, or name a sampler")
    if space.is_grid and sampler is not None and trials is None:
        raise InputError(f"{file}: trials is missing; say how many points the sampler is to try")
    metrics = _metrics(given.get("metric", "val/AP"), f"{file}: metric")
    if pruner is not None and (len(metrics) > 1 or not next(iter(metrics)).startswith("val/")):
        raise InputError(f"{file}: pruner: a study of several metrics, or of cost, can't prune; leave it out")
    named = experiment or Path(str(given["experiment"]))
    path = named if named.exists() or experiment else _beside(file, named)
    if not path.is_file():
        raise InputError(f"{path}: no such experiment; name one of experiments/ ({file} or --experiment)")
    words = _settings(given.get("settings", {}), f"{file}: settings")
    _refuse_varied(space, words, f"{file}: settings")
    _refuse_varied(space, overrides, "the command line")
    labels = [arm["label"] for arm in space.arms()] if trials is None else []
    study_name = name or given.get("name") or _default_name(file, experiment, given["experiment"])
    if not isinstance(study_name, str) or not re.fullmatch(r"\w[\w.+-]{,99}", study_name):
        raise InputError(
            f"{file}: name: {one_line(study_name)[:80]} has other than letters, digits and ._+-; rename it"
        )
    slurm = given.get("slurm") or {}
    if not isinstance(slurm, dict):
        raise InputError(f"{file}: slurm: is a group of settings; write {{partition: gpu, gpus_per_node: 1}}")
    return Study(
        file=file,
        name=study_name,
        question=_question(text, None if _same(experiment, given["experiment"]) else path),
        experiment=path,
        settings=(*words, *overrides),
        space=space,
        seeds=_seeds(given.get("seeds", 1), f"{file}: seeds"),
        metrics=metrics,
        published=_published(given.get("published"), labels, f"{file}: published"),
        reference=_reference(given.get("reference"), labels, f"{file}: reference"),
        sampler=sampler,
        pruner=pruner,
        trials=trials,
        time_limit=_seconds(given.get("time_limit"), f"{file}: time_limit"),
        grace=_grace(given.get("grace", 120), f"{file}: grace"),
        slurm=slurm,
    )


class _Loader(yaml.SafeLoader):
    """YAML that reads 1e-5 as the number it is, as fit's files do, and a key given twice as the slip it is."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"has {one_line(twice)} twice (line {node.start_mark.line + 1} and below); keep one")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _load(file: Path) -> tuple[dict[str, Any], str]:
    try:
        text = file.read_text(encoding="utf-8")
        given = yaml.load(text, _Loader)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    except OSError as error:
        raise InputError(f"{file}: can't be read ({error.strerror}); name one of sweeps/") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError, TypeError) as error:
        raise InputError(f"{file}: is no YAML ({one_line(error)[:120]}); see sweeps/ for some") from None
    if not isinstance(given, dict):
        raise InputError(f"{file}: holds no study; see sweeps/ for some")
    return given, text


def _beside(file: Path, named: Path) -> Path:
    there = file.resolve().parent.parent / named
    return there if there.exists() else named


def _same(experiment: Path | None, own: object) -> bool:
    """Whether no other experiment takes the place of the file's own."""
    return experiment is None or experiment.stem == Path(str(own)).stem


def _default_name(file: Path, experiment: Path | None, own: object) -> str:
    return file.stem if experiment is None or _same(experiment, own) else f"{file.stem}-{experiment.stem}"


def _question(text: str, other: Path | None) -> str:
    """The first comment of a sweep file; with the name of the experiment that it is put to instead of its own."""
    asked = next((line[1:].strip() for line in text.splitlines() if line.startswith("#")), "")
    return asked.removeprefix("Question: ") + (f" (here: {other.stem})" if other and asked else "")


def _natural(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100_000:
        raise InputError(f"{where}: {one_line(value)[:40]} is no whole number from 1 to 100000")
    return value


def _settings(given: object, where: str) -> tuple[str, ...]:
    if not isinstance(given, dict):
        raise InputError(f"{where}: is a group of settings; write {{trainer.max_epochs: 20}}")
    try:
        return tuple(word(str(key), value) for key, value in given.items())
    except InputError as error:
        raise InputError(f"{where}.{error}") from None


def _refuse_varied(space: Space, words: Sequence[str], where: str) -> None:
    for each in words:
        key = each.split("=")[0].removeprefix("--").replace(".init_args", "")
        if each.startswith("--") and key in space.keys:
            raise InputError(f"{where}: {key} is what this study varies; change its space instead")
        if key in OURS:
            raise InputError(f"{where}: {key}: each trial of a study gets its own; leave it out")
        if key == "seed_everything":
            raise InputError(f"{where}: seed_everything: a study trains each arm with its seeds; set seeds instead")


def _seeds(given: object, where: str) -> tuple[int, ...]:
    if isinstance(given, list):
        good = all(isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**32 for seed in given)
        if not good or not given or len(set(given)) < len(given):
            raise InputError(f"{where}: a list of seeds holds different whole numbers from 0")
        return tuple(given)
    return tuple(range(_natural(given, where)))


def _metrics(given: object, where: str) -> dict[str, Literal["maximize", "minimize"]]:
    metrics = {given: "minimize" if given in (*COSTS, "val/loss") else "maximize"} if isinstance(given, str) else given
    if not isinstance(metrics, dict) or not metrics:
        raise InputError(f"{where}: name a metric (val/AP), or several as {{val/AP: maximize, GMACs: minimize}}")
    for metric, direction in metrics.items():
        if metric not in (*COSTS, *FIGURES):
            known = ", ".join((*FIGURES[:7], *COSTS))
            raise InputError(
                f"{where}: {one_line(metric)} is none.{nearest(str(metric), (*FIGURES, *COSTS))} There are {known}"
            )
        if direction not in ("maximize", "minimize"):
            raise InputError(f"{where}.{metric}: is {one_line(direction)}; give maximize or minimize")
        right = "minimize" if metric in (*COSTS, "val/loss") else "maximize"
        if direction != right:
            raise InputError(
                f"{where}.{metric}: is better {'lower' if right == 'minimize' else 'higher'}; give {right}"
            )
    return metrics


def _published(given: object, labels: list[str], where: str) -> tuple[float | None, ...]:
    if given is None:
        return (None,) * len(labels)
    if not isinstance(given, list) or len(given) != len(labels):
        raise InputError(
            f"{where}: give one number an arm ({len(labels)}: {', '.join(labels)}), null where none is known"
        )
    for value in given:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InputError(f"{where}: {one_line(value)} is no number; give null where none is known")
    return tuple(None if value is None else float(value) for value in given)


def _reference(given: object, labels: list[str], where: str) -> str | None:
    if given is None:
        return labels[0] if labels else None
    asked = label(given) if isinstance(given, str | int | float | bool) else str(given)
    if asked not in labels:
        raise InputError(
            f"{where}: {one_line(asked)[:60]} is no arm.{nearest(asked, labels)} The arms: {', '.join(labels)}"
        )
    return asked


def _made_by_optuna(given: object, where: str) -> dict[str, Any] | None:
    if given is None:
        return None
    described = {"name": given} if isinstance(given, str) else given
    if not isinstance(described, dict) or not isinstance(described.get("name"), str):
        raise InputError(f"{where}: name one of Optuna's, such as TPESampler, or {{name: TPESampler, …its settings}}")
    return described


def _seconds(given: object, where: str) -> float | None:
    if given is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)", str(given).strip())
    if not found or not math.isfinite(float(found[1])) or float(found[1]) <= 0:
        raise InputError(f"{where}: {one_line(given)[:40]} is no time; write 90m, 8h or 2d")
    return float(found[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}[found[2]]


def _grace(given: object, where: str) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not LEAST_GRACE <= given <= 86400:
        raise InputError(f"{where}: {one_line(given)[:40]} is no number of seconds from {LEAST_GRACE:g} to 86400")
    return float(given)
