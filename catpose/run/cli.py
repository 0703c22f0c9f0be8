"""The command line of `fit`: signatures of model, data, trainer and W&B logger as settings, in YAML or as options."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import catpose.model
from catpose.data.datamodule import CatDataModule
from catpose.data.images import usable_cores
from catpose.errors import InputError, one_line
from catpose.model.codec import Codec
from catpose.model.pose import PoseModel
from catpose.run.checkpoint import require_fit
from catpose.run.directory import RunDirectory, flatten
from catpose.run.explain import explain
from catpose.run.wandb import wandb_logger

for _module in pkgutil.iter_modules(catpose.model.__path__):  # so that `--model HRNet` finds each backbone by its name
    importlib.import_module(f"catpose.model.{_module.name}")

DEFAULT_MODEL = "catpose.model.hrnet.HRNet"
#: The groups of settings, each with one that is always in it.
GROUPS = {"data": "root", "data.augment": "flip_probability", "trainer": "max_epochs", "wandb": "project"}
#: The least that these of the trainer's settings can be, which Lightning doesn't look at.
LEAST = {"accumulate_grad_batches": 1, "check_val_every_n_epoch": 1, "gradient_clip_val": 0, "log_every_n_steps": 0}
CLASSES = {
    "model": sorted(model.__name__ for model in PoseModel.__subclasses__()),
    "model.codec": [codec.__name__ for codec in Codec.__subclasses__()],
}

TRAINER_DEFAULTS: dict[str, Any] = {
    "max_epochs": 210,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 10,
    "use_distributed_sampler": False,  # ours knows the epoch, and shares samples out itself
}


class SettingsParser(LightningArgumentParser):
    """A parser whose errors are one line that names the key and the nearest right one."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:  # jsonargparse's own parsers of one class within another, which it reports on
            super().error(message, ex)
        chosen = re.search(r"class_path '([\w.]+)'", message)
        known = self.known_settings(chosen[1] if chosen else None)
        raise InputError(explain(message, known, CLASSES))

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Namespace:
        """As jsonargparse's; what is wrong in a file is reported with the file's name."""
        try:
            refuse_repeated_keys(yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader))
            return super().parse_path(path, *args, **kwargs)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        except yaml.MarkedYAMLError as error:
            line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
            raise InputError(f"{path}: is no YAML ({line}{one_line(error.problem)}); correct it there") from None
        except (yaml.YAMLError, RecursionError) as error:
            raise InputError(f"{path}: is no YAML ({one_line(error)[:120]}); see experiments/ for some") from None
        except UnicodeDecodeError:
            raise InputError(f"{path}: is no text; name a YAML file, such as one of experiments/") from None

    def known_settings(self, class_path: str | None = None) -> dict[str, Any]:
        """Dotted names and defaults of all settings, of the model classes those of the one named (else of all)."""
        known = flatten(self.get_defaults(skip_validation=True).as_dict())
        models = PoseModel.__subclasses__()
        named = [model for model in models if f"{model.__module__}.{model.__name__}" == class_path]
        if named:
            known = {key: default for key, default in known.items() if not key.startswith("model.")}
        for model in named or models:
            known |= _settings_of(model)  # type: ignore[arg-type]  # a Module's hash, in torch's stubs
        return {key.replace(".init_args", ""): default for key, default in known.items()}


@functools.cache
def _settings_of(model: type[PoseModel]) -> dict[str, Any]:
    probe = LightningArgumentParser()
    probe.add_class_arguments(model, "model")
    return flatten(probe.get_defaults(skip_validation=True).as_dict())


class FitCLI(LightningCLI):
    """Lightning's command line with the run's directory and W&B's settings beside model, data and trainer.

    Nothing is built on construction: `build()` does that, once the run's directory is known to be in order.
    """

    def __init__(self, argv: list[str]) -> None:
        super().__init__(
            PoseModel,
            CatDataModule,
            subclass_mode_model=True,
            seed_everything_default=0,
            trainer_defaults=TRAINER_DEFAULTS,
            auto_configure_optimizers=False,
            save_config_callback=None,
            load_from_checkpoint_support=False,
            parser_class=SettingsParser,
            parser_kwargs={
                "prog": "python -m catpose.fit",
                "description": "Train a cat pose model.",
                "allow_abbrev": False,
            },
            run=False,
            args=argv,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--out", type=str | None, default=None, help="The run's folder; runs/NAME_OF_CONFIG.")
        parser.add_function_arguments(wandb_logger, "wandb", skip={"directory"})
        parser.link_arguments("seed_everything", "data.seed")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        # Not the parser's default: its arguments would stay on as values of whichever class is named in its place.
        self.config = parser.parse_args(["--model", DEFAULT_MODEL, *args])
        refuse_gaps(parser, self.config)

    def instantiate_classes(self) -> None:
        """Put off to `build`."""

    def _set_seed(self) -> None:
        """Put off to `build`."""

    @property
    def out(self) -> Path:
        if self.config.out:
            return Path(self.config.out)
        files = self.config.get("config") or []
        return Path("runs") / (Path(str(files[-1])).stem if files else "default")

    def resolved(self) -> dict[str, Any]:
        """Every setting as plain values, as `config.yaml` keeps them."""
        config = Namespace({key: value for key, value in self.config.items() if key not in ("config", "out")})
        return yaml.safe_load(self.parser.dump(config, skip_none=False, skip_validation=True, format="yaml"))

    def build(self, run: RunDirectory, callbacks: list[Callback], resume: bool) -> None:
        """Seed everything, then make `model`, `datamodule` and `trainer` as set.

        Args:
            run: the directory that loggers write to.
            callbacks: follow those of `trainer.callbacks`.
            resume: the weights will come from the run's last checkpoint, so none are loaded before.

        Raises:
            InputError: a value that one of the classes refuses.
        """
        if resume:
            self.config.model.init_args.weights = None
        self.run = run
        self.trainer_defaults = {**self.trainer_defaults, "callbacks": callbacks}
        self._refuse_senseless()
        try:
            self.config.seed_everything = seed_everything(self.config.seed_everything, workers=True, verbose=False)
        except ValueError as error:
            raise InputError(f"seed_everything: {error}") from None
        try:
            super().instantiate_classes()
        except (MisconfigurationException, ImportError, RuntimeError, ValueError, TypeError) as error:
            raise input_error(error, self.config.trainer) from error
        devices, most = self.trainer.num_devices, max(8, usable_cores())
        if self.trainer.strategy.root_device.type == "cpu" and devices > most:
            raise InputError(f"trainer.devices: {devices} processes are too many for this machine; give {most} at most")

    def _refuse_senseless(self) -> None:
        """What Lightning takes, but no run can be made of."""
        trainer = self.config.trainer
        for key in ("max_epochs", "max_steps", "limit_train_batches", "val_check_interval"):
            if trainer[key] == 0:
                raise InputError(f"trainer.{key}: 0 can't be used; give more")
        for key, least in LEAST.items():
            if trainer[key] is not None and trainer[key] < least:
                raise InputError(f"trainer.{key}: {trainer[key]} can't be used; give {least} or more")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        require_fit(self.model, self.datamodule.input_size)
        asked = self.config_init.trainer.logger  # null and true are our default, false is none
        loggers = list(asked) if isinstance(asked, list) else [] if isinstance(asked, bool | None) else [asked]
        if asked is not False:
            run_id = self.run.wandb_id if rank_zero_only.rank == 0 else ""  # type: ignore[attr-defined]
            ours = wandb_logger(self.run.path, **self.config.wandb.as_dict() | {"id": run_id})
            loggers += [ours] if ours else []
        if loggers:  # it refuses to run without one
            self.trainer_defaults["callbacks"] = [*self.trainer_defaults["callbacks"], LearningRateMonitor("step")]
        return super().instantiate_trainer(logger=loggers or False, default_root_dir=str(self.run.path), **kwargs)


def refuse_repeated_keys(node: yaml.Node | None) -> None:
    """InputError where a mapping has a key twice, of which YAML's readers keep the last without a word."""
    below: list[yaml.Node] = list(node.value) if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"has {twice} twice (line {node.start_mark.line + 1} and below); keep one")
        below = [value for _, value in node.value]
    for part in below:
        refuse_repeated_keys(part)


def refuse_gaps(parser: LightningArgumentParser, config: Namespace) -> None:
    """InputError where a file has a null, or one plain value, in the place of settings: jsonargparse lets both pass."""
    for group, member in GROUPS.items():
        if not isinstance(config.get(group), Namespace) or member not in config[group]:
            raise InputError(f"{group}: is a group of settings; write them below it as NAME: VALUE, or leave it out")
    try:
        parser.validate(config, False)  # False: nulls too
        _refuse_nulls(config.model, "model")
    except (TypeError, KeyError) as error:
        parser.error(str(error))


def _refuse_nulls(described: Namespace, key: str) -> None:
    """The same for the arguments of a class, and of the classes among them, which a parser leaves to the class."""
    module, _, name = described.class_path.rpartition(".")
    probe = LightningArgumentParser()
    probe.add_class_arguments(getattr(importlib.import_module(module), name), key, fail_untyped=False)
    arguments = described.get("init_args") or Namespace()
    probe.validate(Namespace({key: arguments}), False)
    for argument, value in vars(arguments).items():
        if isinstance(value, Namespace) and "class_path" in value:
            _refuse_nulls(value, f"{key}.{argument}")


def input_error(error: BaseException, trainer: Namespace) -> InputError:
    """The InputError that was behind an error of jsonargparse's or Lightning's, else their own words as one.

    Args:
        trainer: its settings, one of which is meant where it is named.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__
    if cause is not None:
        return cause
    line = one_line(error)[:200]
    named = {found.start(): key for key in vars(trainer) if (found := re.search(rf"\b{key}\b", line))}
    key = named[min(named)] if named else None
    if key is None and str(trainer.accelerator) in line:
        key = "accelerator"
    return InputError(f"trainer.{key}: {line} (see --help)" if key else f"{line} (a setting of model, data or trainer)")
