"""The sweep file: a study as ten lines of YAML.

    # Question: which learning rate?
    experiment: experiments/baseline.yaml           # what is varied; or by its name, baseline
    settings: {trainer.max_epochs: 20}              # what all share and the experiment doesn't say
    space:
      model.lr: [1e-5, 1e-4, 5e-4]                  # choices: all are tried
      model.weight_decay: {low: 1e-6, high: 1e-2, log: true}      # a range: points of it are sampled
      input size:                                   # settings that belong together, by a name for tables
        128×128: {data.input_size: [128, 128]}
        192×256: {data.input_size: [192, 256]}
    published: [0.153, 0.488, 0.228]                # by configuration, null where there is none
    reference: 1e-05                                # that others are compared with; else the experiment as it stands
    seeds: 3                                        # each is trained with seeds 0, 1, 2; or a list
    splits: 5                                       # seed i is trained and scored on random split i mod 5 of the
                                                    # pictures of train and val, copies kept together (see below)
    metric: val/AP                                  # or {val/AP: maximize, GMACs: minimize}
    sampler: {name: TPESampler, n_startup_trials: 8}              # any of Optuna's
    pruner: MedianPruner                            # any of Optuna's; only with one metric
    trials: 50                                      # configurations to sample
    time_limit: 8h                                  # no trial is started after it
    grace: 120                                      # seconds after which a silent owner of a trial counts as gone
    test_copies: drop                               # `--final` doesn't score test pictures that are copies of training
                                                    # or validation pictures; else keep. It is set here, and no option,
                                                    # so that it is decided before either score is known
    imports: [my_net]                               # modules of your own, for a model: my_net.MyNet in an experiment
    slurm: {partition: gpu, gpus_per_node: 1}       # what --launch slurm asks for

With `splits: n` each training draws split and seed anew, which estimates best at a given cost how configurations do,
whichever of these pictures they are trained on; it costs what as many seeds cost without. n seeds (0 to n - 1) are
enough for that; 2n, two on each split, tell the seed's part of the variance from the split's. Each split needs as many
seeds, and has its own cache of decoded pictures. A grid alone can have splits, since a sampler or pruner would take
their differences for those of configurations.

Only `experiment` and `space` are required. A path of an experiment is looked for from the working directory, then
from each folder above the sweep file's. Modules are looked for as Python does it: in the working directory first.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from catpose.errors import InputError, nearest, one_line
from catpose.plain_yaml import argument, read_yaml
from catpose.shipped import find_config
from catpose.skeleton import AP10K
from catpose.study.space import Configuration, Space, read_space
from catpose.text import setting

#: What a trial can be judged by beside the last epoch's `val/…` metrics.
COSTS = ("GMACs", "params_M", "latency_ms")
METRICS = (
    *(f"val/{name}" for name in ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "loss")),
    *(f"val/AP/{name}" for name in AP10K.names),
)
#: Settings that a study makes itself, for each trial.
OURS = ("out", "config", "wandb.id", "wandb.name", "wandb.group", "wandb.job_type", "wandb.config")
#: A heartbeat is a sixth of it; shorter than a second or two and a busy machine looks dead.
LEAST_GRACE = 1.0
MOST = 100_000

Direction = Literal["maximize", "minimize"]
TestCopies = Literal["keep", "drop"]


@dataclass(frozen=True)
class OptunaClass:
    """A sampler or pruner of Optuna."""

    name: str
    settings: dict[str, Any]


def _seeds(value: object) -> object:
    if not isinstance(value, list):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
            raise ValueError(f"{one_line(value)[:40]} is no whole number from 1 to {MOST}")
        return list(range(value))
    if not value or any(seed in value[:i] for i, seed in enumerate(value)):
        raise ValueError("a list of seeds holds different whole numbers from 0")
    return value


def _metrics(value: object) -> object:
    metrics = {value: _better(value)} if isinstance(value, str) else value
    if not isinstance(metrics, dict) or not metrics:
        raise ValueError("name a metric (val/AP), or several as {val/AP: maximize, GMACs: minimize}")
    for metric, direction in metrics.items():
        if metric not in (*COSTS, *METRICS):
            known = ", ".join((*METRICS[:7], *COSTS))
            near = nearest(str(metric), (*METRICS, *COSTS))
            raise ValueError(f"{one_line(metric)} is none.{near} There are {known}")
        if direction not in ("maximize", "minimize"):
            raise ValueError(f"{metric} is {one_line(direction)}; give maximize or minimize")
        right = _better(metric)
        if direction != right:
            raise ValueError(f"{metric} is better {'lower' if right == 'minimize' else 'higher'}; give {right}")
    return metrics


def _better(metric: str) -> Direction:
    return "minimize" if metric in (*COSTS, "val/loss") else "maximize"


def _optuna_class(value: object) -> object:
    described = {"name": value} if isinstance(value, str) else value
    if described is None:
        return None
    if not isinstance(described, dict) or not isinstance(described.get("name"), str):
        raise ValueError("name one of Optuna's, such as TPESampler, or {name: TPESampler, …its settings}")
    return OptunaClass(described["name"], {key: value for key, value in described.items() if key != "name"})


def seconds_of(value: object) -> float:
    """Seconds of a time that is written as 90s, 12m, 8h or 2d; ValueError for another text."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)", str(value).strip())
    if not found or not math.isfinite(float(found[1])) or float(found[1]) <= 0:
        raise ValueError(f"{one_line(value)[:40]} is no time; write 90m, 8h or 2d")
    return float(found[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}[found[2]]


def _seconds(value: object) -> object:
    return None if value is None else seconds_of(value)


def _modules(value: object) -> object:
    names = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(
        isinstance(name, str) and re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", name) for name in names
    ):
        raise ValueError(f"{one_line(value)[:60]} is no list of modules; write [my_net] for my_net.py")
    return names


def _settings(value: dict[str, Any]) -> dict[str, Any]:
    for key, each in value.items():
        try:
            argument(key, each)
        except InputError as error:
            raise ValueError(str(error)) from None
    return value


class _File(BaseModel):
    """A sweep file as it is written."""

    model_config = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True)

    name: str | None = None
    experiment: str
    settings: Annotated[dict[str, Any], AfterValidator(_settings)] = {}
    space: Any
    published: list[Annotated[float, Field(ge=0, le=1)] | None] | None = None
    reference: Any = None
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], BeforeValidator(_seeds)] = [0]
    splits: Annotated[int, Field(ge=2, le=100)] | None = None
    metric: Annotated[dict[str, Direction], BeforeValidator(_metrics)] = {"val/AP": "maximize"}
    sampler: Annotated[OptunaClass | None, BeforeValidator(_optuna_class)] = None
    pruner: Annotated[OptunaClass | None, BeforeValidator(_optuna_class)] = None
    trials: Annotated[int, Field(ge=1, le=MOST)] | None = None
    time_limit: Annotated[float | None, BeforeValidator(_seconds)] = None
    grace: float = Field(default=120.0, ge=LEAST_GRACE, le=86400)
    slurm: dict[str, Any] | None = None
    test_copies: TestCopies = "keep"
    imports: Annotated[list[str], BeforeValidator(_modules)] = []


#: How YAML writes what pydantic calls a dictionary or a list.
_GIVE = {"dict_type": "give settings as {KEY: VALUE}", "list_type": "give a list, [VALUE, VALUE]"}


def _validated(file: Path, content: dict[str, Any]) -> _File:
    try:
        return _File.model_validate(content)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    key, keys = one_line(".".join(map(str, first["loc"]))), (*_File.model_fields,)
    match first["type"]:
        case "extra_forbidden":
            raise InputError(f"{file}: {key} is not known.{nearest(key, keys)} It may hold {', '.join(keys)}")
        case "missing":
            raise InputError(f"{file}: {key} is missing; a study needs experiment and space (see sweeps/)")
        case "value_error":
            raise InputError(f"{file}: {key}: {first['ctx']['error']}")
    give = _GIVE.get(first["type"]) or first["msg"][0].lower() + first["msg"][1:]
    raise InputError(f"{file}: {key}: is {one_line(first['input'])[:40]}; {give}")


@dataclass(frozen=True)
class Study:
    """A sweep file as read, with what the command line changed."""

    file: Path
    name: str
    question: str  # the file's first comment
    experiment: Path
    settings: tuple[str, ...]  # arguments of fit's command line for all configurations
    space: Space
    seeds: tuple[int, ...]
    splits: int  # random ones of train and val together; 0: the data's own
    metrics: dict[str, Direction]
    published: tuple[float | None, ...]
    reference: str | None  # None where the file names none, see `opening.reference_of`
    sampler: OptunaClass | None
    pruner: OptunaClass | None
    trials: int | None
    time_limit: float | None  # seconds
    grace: float  # seconds
    slurm: dict[str, Any]
    test_copies: TestCopies
    imports: tuple[str, ...]  # modules outside of catpose whose classes may be named

    @property
    def configurations(self) -> list[Configuration | None]:
        """Those of a grid; as many None as are to be sampled otherwise."""
        return [None] * self.trials if self.trials is not None else [*self.space.configurations()]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """What the configurations of a grid are called, in their order; none of a sampled study."""
        return () if self.trials is not None else tuple(each.label for each in self.space.configurations())

    def division(self, seed: int) -> int:
        """The number of the random split that a seed is trained and scored on, of a study with `splits`."""
        return seed % self.splits

    def args(self, configuration: Configuration | None, seed: int) -> list[str]:
        """The arguments of a trial's `fit` for model and training; without a configuration, those that all share."""
        imports = [f"--import={module}" for module in self.imports]
        own = () if configuration is None else configuration.args
        return [*imports, "--config", str(self.experiment), *self.settings, *own, f"--seed_everything={seed}"]


def read_study(
    file: Path,
    experiment: Path | None = None,
    overrides: Sequence[str] = (),
    name: str | None = None,
    imports: Sequence[str] = (),
) -> Study:
    """Read a sweep file.

    Args:
        file: the YAML.
        experiment: takes the place of the file's.
        overrides: arguments for all configurations from the command line (`--trainer.max_epochs=8`, …), which win over
            the file's.
        name: takes the place of the study's name, which is the file's, with the experiment's where that is another.
        imports: modules from the command line, beside the file's.

    Raises:
        InputError: in one line, naming file, key and remedy.
    """
    content = read_yaml(file, "see sweeps/ for some")
    if not isinstance(content, dict):
        raise InputError(f"{file}: holds no study; see sweeps/ for some")
    written = _validated(file, content)
    try:
        space = read_space(written.space, f"{file}: space")
    except InputError as error:
        raise InputError(str(error) if str(error).startswith(str(file)) else f"{file}: space.{error}") from None
    _require_trials(file, written, space)
    _require_splits(file, written)
    is_own = experiment is None or experiment.stem == Path(written.experiment).stem
    path = _experiment(file, written, experiment)
    settings = tuple(argument(key, value) for key, value in written.settings.items())
    _refuse_varied(space, settings, f"{file}: settings")
    _refuse_varied(space, overrides, "the command line")
    labels = _labels(file, space) if written.trials is None else []
    default_name = file.stem if is_own else f"{file.stem}-{path.stem}"
    return Study(
        file=file,
        name=_name(file, name or written.name or default_name),
        question=_question(file, None if is_own else path),
        experiment=path,
        settings=(*settings, *overrides),
        space=space,
        seeds=tuple(written.seeds),
        splits=written.splits or 0,
        metrics=written.metric,
        published=_published(file, written.published, labels),
        reference=_reference(file, written.reference, labels),
        sampler=written.sampler,
        pruner=written.pruner,
        trials=written.trials,
        time_limit=written.time_limit,
        grace=written.grace,
        slurm=written.slurm or {},
        test_copies=written.test_copies,
        imports=tuple(dict.fromkeys([*written.imports, *imports])),
    )


def _require_trials(file: Path, written: _File, space: Space) -> None:
    """InputError where `trials`, `sampler` and `pruner` don't go with the space, the metrics, and each other."""
    if written.trials is None and not space.is_grid:
        raise InputError(f"{file}: trials is missing; give the number of configurations to be sampled from the ranges")
    if written.trials is None and written.sampler is not None:
        raise InputError(f"{file}: trials is missing; give the number of configurations that the sampler is to try")
    if written.trials is not None and space.is_grid and written.sampler is None:
        count = len(space.configurations())
        raise InputError(f"{file}: trials: all {count} choices are tried; leave it out, or name a sampler")
    metrics = [*written.metric]
    if written.pruner is not None and (len(metrics) > 1 or not metrics[0].startswith("val/")):
        raise InputError(f"{file}: pruner: a study of several metrics, or of cost, can't prune; leave it out")


def _require_splits(file: Path, written: _File) -> None:
    """InputError where `splits` doesn't go with seeds, sampler and pruner."""
    if written.splits is None:
        return
    if written.trials is not None or written.pruner is not None:
        raise InputError(
            f"{file}: splits: a sampler or pruner would take splits' differences for those of configurations; leave one"
            " of them out"
        )
    counts = Counter(seed % written.splits for seed in written.seeds)
    if len(counts) < written.splits or len({*counts.values()}) > 1:
        raise InputError(
            f"{file}: splits: seed i is trained on split i mod {written.splits}, and each split needs as many seeds;"
            f" give seeds: {written.splits} or a multiple of it"
        )


def _experiment(file: Path, written: _File, other: Path | None) -> Path:
    """The experiment's file: `other`, else the study's, from here or a folder above the sweep file's; else by name."""
    path = other or Path(written.experiment)
    if other is None and not path.exists():
        above = (folder / path for folder in file.resolve().parent.parents)
        path = next((each for each in above if each.is_file()), path)
    path = find_config(path, "experiments")
    if not path.is_file():
        raise InputError(f"{path}: no such experiment; name one of experiments/ ({file} or --experiment)")
    return path


def _name(file: Path, name: str) -> str:
    if not re.fullmatch(r"\w[\w.+-]{,99}", name):
        raise InputError(f"{file}: name: {one_line(name)[:80]} has other than letters, digits and ._+-; rename it")
    return name


def _question(file: Path, other: Path | None) -> str:
    """The first comment of a sweep file; with the name of the experiment that it is put to instead of its own."""
    lines = file.read_text(encoding="utf-8-sig").splitlines()
    comment = next((line[1:].strip() for line in lines if line.startswith("#")), "")
    return comment.removeprefix("Question: ") + (f" (here: {other.stem})" if other and comment else "")


def _refuse_varied(space: Space, args: Sequence[str], where: str) -> None:
    for arg in args:
        key = arg.split("=")[0].removeprefix("--").replace(".init_args", "")
        if arg.startswith("--") and key in space.keys:
            raise InputError(f"{where}: {key} is what this study varies; change its space instead")
        if key in OURS:
            raise InputError(f"{where}: {key}: each trial of a study gets its own; leave it out")
        if key == "seed_everything":
            raise InputError(
                f"{where}: seed_everything: each configuration is trained with the study's seeds; set seeds"
            )


def _labels(file: Path, space: Space) -> list[str]:
    labels = [each.label for each in space.configurations()]
    if len({*labels}) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise InputError(f"{file}: space: two configurations are called {one_line(twice)}; rename a choice")
    return labels


def _require_grid(file: Path, key: str, labels: Sequence[str]) -> None:
    if not labels:
        raise InputError(f"{file}: {key}: is of a grid's configurations, and these are sampled; leave it out")


def _published(file: Path, published: list[float | None] | None, labels: list[str]) -> tuple[float | None, ...]:
    if published is None:
        return (None,) * len(labels)
    _require_grid(file, "published", labels)
    if len(published) != len(labels):
        raise InputError(
            f"{file}: published: give one number a configuration ({len(labels)}: {', '.join(labels)}), null where none"
            " is known"
        )
    return tuple(published)


def _reference(file: Path, reference: Any, labels: list[str]) -> str | None:
    if reference is None:
        return None
    _require_grid(file, "reference", labels)
    name = setting(reference) if isinstance(reference, str | int | float | bool) else str(reference)
    if name not in labels:
        raise InputError(
            f"{file}: reference: {one_line(name)[:60]} is no configuration.{nearest(name, labels)} There are"
            f" {', '.join(labels)}"
        )
    return name
