"""The command line of `fit`: signatures of model, data, trainer and W&B logger as settings, in YAML or as options."""

from __future__ import annotations

import argparse
import functools
import importlib.util
import operator
import pkgutil
import re
import sys
import typing
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace, _loaders_dumpers, set_loader
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import (
    Callback,
    Checkpoint,
    GradientAccumulationScheduler,
    LearningRateMonitor,
    WeightAveraging,
)
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import catpose.model.simcc  # noqa: F401  a codec by its name
from catpose.data.coco import read_skeleton
from catpose.data.coco_split import CocoSplit
from catpose.data.datamodule import CatDataModule
from catpose.errors import InputError, one_line
from catpose.machine import usable_cores
from catpose.model import backbones
from catpose.model.backbones.hrnet import HRNet
from catpose.model.codec import Codec
from catpose.model.pose import PoseModel
from catpose.model.stored import require_fit
from catpose.plain_yaml import current_arguments, flatten, parse_yaml, read_yaml
from catpose.run.checkpoint_writer import ALLOWANCE_S, SHARE, BackgroundCheckpointIO
from catpose.run.directory import RunDirectory
from catpose.run.ending import WholeEpochs
from catpose.run.explain import explain, quieten
from catpose.run.fit_help import full_help
from catpose.run.network import default_precision, find_device
from catpose.run.options import import_modules, split_imports
from catpose.run.synced_norms import SyncedNorms
from catpose.run.wandb_logger import wandb_logger
from catpose.shipped import with_found_configs
from catpose.skeleton import AP10K


def _setting(text: str) -> Any:
    """What a text in a file or on the command line means; `a:` and `{a, b}` alone are texts, as for jsonargparse."""
    value = parse_yaml(text)
    if isinstance(value, dict) and value and all(part is None for part in value.values()):
        named = [str(name) for name in value]
        if text.strip() == f"{named[0]}:" or text.replace(" ", "") == "{" + ",".join(named) + "}":
            return text
    return value


# jsonargparse's own reader would follow aliases to billions of values. It has two ways in, one of them not to be set.
set_loader("yaml", _setting, exceptions=(yaml.YAMLError,))
_loaders_dumpers.yaml_load = _setting

for _module in pkgutil.iter_modules(backbones.__path__):  # so that `--model HRNet` finds each by its name
    importlib.import_module(f"{backbones.__name__}.{_module.name}")

DEFAULT_MODEL = "catpose.model.backbones.hrnet.HRNet"
#: The groups of settings, each with one that is always in it.
GROUPS = {
    "data": "root",
    "data.augment": "flip_probability",
    "data.late_augment": "flip_probability",
    "trainer": "max_epochs",
    "wandb": "project",
}
#: What the command line has beside the run's settings.
NOT_OF_THE_RUN = ("config", "out", "new_lineage")
#: The least that these of the trainer's settings can be, which Lightning doesn't look at.
LEAST = {"accumulate_grad_batches": 1, "check_val_every_n_epoch": 1, "gradient_clip_val": 0, "log_every_n_steps": 0}
#: Those that can't be kept honest, and why.
REFUSED = {
    "barebones": "nothing would be logged, and so no score kept",
    "reload_dataloaders_every_n_epochs": "the data are the same throughout a run",
}
#: Arguments of a model that come with the data.
NO_SETTINGS = {"skeleton"}
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

    is_of_fit = False  # rather than of one of its classes

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:  # jsonargparse's own parsers of one class within another, which it reports on
            super().error(message, ex)
        chosen = re.search(r"class_path '([\w.]+)'", message)
        known = self.known_settings(chosen[1] if chosen else None)
        raise InputError(explain(message, known, CLASSES))

    def format_help(self, *args: Any) -> str:
        """The command's own text; jsonargparse's of the parsers that it makes for a class (`--model.help`)."""
        groups = super().format_help(*args)
        return full_help(groups, HRNet, NO_SETTINGS) if self.is_of_fit else groups

    def add_subclass_arguments(self, *args: Any, **kwargs: Any) -> Any:
        """As jsonargparse's, without what is no setting."""
        return super().add_subclass_arguments(*args, **{**kwargs, "skip": NO_SETTINGS})

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Namespace:
        """As jsonargparse's; what is wrong in a file is reported with the file's name."""
        read_yaml(Path(path), "see experiments/ for some")
        try:
            return super().parse_path(path, *args, **kwargs)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

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
    probe.add_class_arguments(model, "model", skip=NO_SETTINGS)
    return flatten(probe.get_defaults(skip_validation=True).as_dict())


class LoggedRate(LearningRateMonitor):
    """The learning rate for the loggers alone: metrics.csv has its own, which hangs on no logger."""

    def on_train_batch_start(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        super().on_train_batch_start(trainer, *args, **kwargs)
        metrics = trainer.callback_metrics
        for name in [name for name in metrics if name.partition("/")[0] == "lr"]:  # lr/pg1, …: a group's
            del metrics[name]


class FitCLI(LightningCLI):
    """Lightning's command line with the run's directory and W&B's settings beside model, data and trainer.

    Nothing is built on construction: `build()` does that, once the run's directory is known to be in order.
    """

    splits: Mapping[str, CocoSplit] = MappingProxyType({})  # the data's "train" and "val", where they were read already

    def __init__(self, args: list[str]) -> None:
        modules, settings = split_imports(args)
        import_modules(modules)
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
                "prog": "catpose fit",
                "usage": argparse.SUPPRESS,  # fit_help has it
                "description": "",
                "allow_abbrev": False,
            },
            run=False,
            args=with_found_configs(settings),
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--out", type=str | None, default=None, help="The run's folder; runs/NAME_OF_CONFIG.")
        parser.add_argument(
            "--new-lineage",
            action="store_true",
            help="Go on with the folder's run under other settings, which is written down.",
        )
        parser.add_argument(
            "--checkpoint_seconds",
            type=float | None,
            default=None,
            help="At least so long from one checkpoint to the next, which a kill may cost; 0: each epoch has one."
            f" null: each, while writing takes no more than {ALLOWANCE_S:g} s and {SHARE:.0%} of the run's time.",
        )
        parser.add_function_arguments(wandb_logger, "wandb", skip={"directory"})
        parser.link_arguments("seed_everything", "data.seed")
        parser.add_instantiator(self._with_skeleton, PoseModel, subclasses=True, prepend=True)  # as Lightning's own
        for action in parser._actions:
            _whole_numbers_first(action)
        parser.is_of_fit = True  # type: ignore[attr-defined]
        dests = ("trainer.devices", "model")  # the Trainer's group and the empty one of the model, for --help alone
        parser._action_groups = [
            group for group in parser._action_groups if not any(each.dest in dests for each in group._group_actions)
        ]

    def _with_skeleton(self, model: type[PoseModel], *args: Any, **kwargs: Any) -> PoseModel:
        """The model with the data's keypoints; one of somebody else's may know of none but AP-10K's."""
        skeleton = self.splits["val"].skeleton if self.splits else read_skeleton(self.config.data.root)
        return model(*args, **kwargs | ({} if skeleton == AP10K else {"skeleton": skeleton}))

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        # Not the parser's default: its arguments would stay on as values of whichever class is named in its place.
        self.config = parser.parse_args(["--model", DEFAULT_MODEL, *current_arguments(args)])
        _refuse_huge(flatten(self.config.as_dict()))
        _refuse_gaps(parser, self.config)

    def instantiate_classes(self) -> None:
        """Put off to `build`."""

    def _set_seed(self) -> None:
        """Put off to `build`."""

    @property
    def out(self) -> Path:
        """The run's folder: `--out`, else one below runs/ that has the last configuration file's name."""
        if self.config.out:
            return Path(self.config.out)
        files = self.config.get("config") or []
        return Path("runs") / (Path(str(files[-1])).stem if files else "default")

    def resolved(self) -> dict[str, Any]:
        """Every setting as plain values, as `config.yaml` keeps them."""
        config = Namespace({key: value for key, value in self.config.items() if key not in NOT_OF_THE_RUN})
        return yaml.safe_load(self.parser.dump(config, skip_none=False, skip_validation=True, format="yaml"))  # ours

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
        quieten()
        try:
            self.config.seed_everything = seed_everything(self.config.seed_everything, workers=True, verbose=False)
        except ValueError as error:
            raise InputError(f"seed_everything: {error}") from None
        try:
            super().instantiate_classes()
        except (MisconfigurationException, ImportError, RuntimeError, ValueError, TypeError) as error:
            raise input_error(error, self.config.trainer) from error
        self._refuse_callbacks()
        self.datamodule.splits = self.splits
        # Who puts off a stop comes after those who ask for one, Lightning's timer among them; checkpoints stay last.
        trainer: Any = self.trainer  # mypy doesn't see what Lightning's connector sets
        trainer.callbacks.sort(key=lambda each: isinstance(each, WholeEpochs) + 2 * isinstance(each, Checkpoint))
        if type(self.trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # else the user's own
            self.trainer.strategy.checkpoint_io = BackgroundCheckpointIO(run, self.config.checkpoint_seconds)
        devices, most = self.trainer.num_devices, max(8, usable_cores())
        if self.trainer.strategy.root_device.type == "cpu" and devices > most:
            raise InputError(f"trainer.devices: {devices} processes are too many for this machine; give {most} at most")

    def _refuse_senseless(self) -> None:
        """What Lightning takes, but no run can be made of."""
        trainer = self.config.trainer
        for key in ("max_epochs", "max_steps", "limit_train_batches", "val_check_interval"):
            if trainer[key] == 0:
                raise InputError(f"trainer.{key}: 0 can't be used; give more")
        for key, why in REFUSED.items():
            if trainer[key]:
                raise InputError(f"trainer.{key}: can't be used, since {why}; leave it out")
        if isinstance(trainer.val_check_interval, str | dict | timedelta):
            raise InputError(
                f"trainer.val_check_interval: {trainer.val_check_interval} is by the clock, and no run would be like"
                " another; give a number of batches, or a part of an epoch"
            )
        self._refuse_precision()
        if trainer.sync_batchnorm and self._device_type() == "cpu":
            raise InputError("trainer.sync_batchnorm: torch has it for GPUs only; leave it out")
        seconds = self.config.checkpoint_seconds
        if seconds is not None and not seconds >= 0:
            raise InputError(f"checkpoint_seconds: {seconds} can't be used; give 0 or more, or null")
        for key, least in LEAST.items():
            if trainer[key] is not None and trainer[key] < least:
                raise InputError(f"trainer.{key}: {trainer[key]} can't be used; give {least} or more")

    def _refuse_callbacks(self) -> None:
        """Those of Lightning's that would silently do nothing, or put the learning rate's schedule wrong."""
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WeightAveraging) and self.trainer.precision == "bf16-true":
                raise InputError(
                    "trainer.precision: bf16-true: keeps 8 bits of a weight, too few for an average to move by; set"
                    " bf16-mixed"
                )
            if isinstance(callback, GradientAccumulationScheduler) and len(callback.scheduling) > 1:
                raise InputError(
                    "trainer.callbacks: GradientAccumulationScheduler changes an epoch's steps, by which the learning"
                    " rate goes; set trainer.accumulate_grad_batches"
                )

    def _refuse_precision(self) -> None:
        """Precisions in which a run would be nonsense, or another than its settings say."""
        precision, device, why = str(self.config.trainer.precision), self._device_type(), None
        if precision == "16-true":
            why = (
                "the optimisers' epsilon, 1e-8, is 0 in float16, so that weights become NaN; set 16-mixed or bf16-true"
            )
        elif precision in ("16", "16-mixed") and device == "cpu":
            why = "is for GPUs, and bf16-mixed would run in its place on the CPU; set that, or 32-true"
        elif precision.startswith("transformer-engine") and importlib.util.find_spec("transformer_engine") is None:
            why = "needs NVIDIA's Transformer Engine, which isn't installed; set bf16-mixed, or install it"
        elif precision in ("64", "64-true") and device == "mps":
            why = "is not to be had on Apple's GPUs; set 32-true, or trainer.accelerator cpu"
        if why:
            raise InputError(f"trainer.precision: {precision}: {why}")

    def _device_type(self) -> str:
        """Of the device that `trainer.accelerator` means: "cpu", "cuda", "mps", …"""
        named = str(self.config.trainer.accelerator)
        return find_device("auto").type if named in ("auto", "gpu") else named

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        require_fit(self.model, self.datamodule.input_size)
        configured = self.config_init.trainer.logger  # null and true are our default, false is none
        loggers = configured if isinstance(configured, list) else [configured]
        loggers = [logger for logger in loggers if not isinstance(logger, bool | None)]
        if configured is not False:
            run_id = self.run.wandb_id if rank_zero_only.rank == 0 else ""  # type: ignore[attr-defined]
            ours = wandb_logger(self.run.path, **self.config.wandb.as_dict() | {"id": run_id})
            loggers += [ours] if ours else []
        shown = self.config_init.trainer  # null is our default: no table of layers, and no bar but on a terminal
        kwargs |= {"enable_model_summary": False} if shown.enable_model_summary is None else {}
        if shown.enable_progress_bar is None and not sys.stderr.isatty():
            kwargs["enable_progress_bar"] = False
        if shown.precision is None and not shown.plugins:  # one of which may be a precision's
            kwargs["precision"] = default_precision(self._device_type())
        if shown.sync_batchnorm:
            own = shown.plugins or []
            kwargs["plugins"] = [*(own if isinstance(own, list) else [own]), SyncedNorms()]
        if loggers:  # it refuses to run without one
            self.trainer_defaults["callbacks"] = [*self.trainer_defaults["callbacks"], LoggedRate("step")]
        trainer = super().instantiate_trainer(logger=loggers or False, default_root_dir=str(self.run.path), **kwargs)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WeightAveraging) and getattr(callback, "_device", "") is None:
                callback._device = trainer.strategy.root_device  # else where the model is before it moves, the CPU
        return trainer


def _whole_numbers_first(action: Any) -> None:
    """See that 1 batch doesn't become 1.0, all of them, in a setting that may be a whole number or a part.

    `Optional[Union[int, float]]` comes out of typing's cache, and there it is whichever of that and
    `Optional[Union[float, int]]` any library wrote last; jsonargparse takes the first member that fits.
    """
    members = typing.get_args(getattr(action, "_typehint", None))
    if float in members and int in members[members.index(float) :]:
        others = [member for member in members if member not in (int, float)]
        action._typehint = functools.reduce(operator.or_, [int, float, *others])


def _refuse_huge(settings: dict[str, Any]) -> None:
    """InputError where a whole number is beyond 64 bits: torch, JSON and YAML read none of these."""
    for key, value in settings.items():
        for part in value if isinstance(value, list | tuple) else (value,):
            if isinstance(part, int) and part.bit_length() > 63:
                raise InputError(f"{key}: a whole number of {part.bit_length()} bits can't be used; give a smaller one")


def _refuse_gaps(parser: LightningArgumentParser, config: Namespace) -> None:
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
    probe.add_class_arguments(getattr(importlib.import_module(module), name), key, fail_untyped=False, skip=NO_SETTINGS)
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
