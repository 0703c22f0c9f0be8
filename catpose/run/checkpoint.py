"""Reading a checkpoint of our own: the model as it was trained, and the settings it was trained with.

A checkpoint may come from a stranger. It is read as tensors and plain values only, and of the classes that its
settings name those alone are built that are models and codecs of catpose, or in a module that the user has named.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

import catpose
from catpose.data.datamodule import CatDataModule
from catpose.errors import InputError, one_line
from catpose.model.codec import Codec
from catpose.model.pose import PoseModel
from catpose.model.tensor_file import read_content

#: What Lightning needs to go on.
RESUMED = ("epoch", "global_step", "loops", "callbacks", "optimizer_states", "lr_schedulers")
LONGEST_SETTINGS = 10_000  # characters; those of `fit` are some two thousand


def load_model(path: Path, trusted: tuple[str, ...] = ()) -> tuple[PoseModel, dict[str, Any]]:
    """The model in a checkpoint of `fit`, in evaluation mode on the CPU.

    Args:
        path: a `.ckpt` file of `fit`.
        trusted: modules outside of catpose, imported here, whose classes the checkpoint may name.

    Returns:
        the model; the settings of the run, as in its `config.yaml`.

    Raises:
        InputError: no such file, a damaged one, one with code in it, one that `fit` didn't write.
    """
    checkpoint = read_checkpoint(path)
    for module in trusted:
        try:
            importlib.import_module(module)
        except (ImportError, ValueError, TypeError) as error:  # the last two: no name of a module
            raise InputError(f"--import {module}: {one_line(error)}") from None
    try:
        model, settings = described_model(checkpoint["catpose"], trusted)
        model.load_state_dict(checkpoint["state_dict"])
        require_fit(model, tuple(settings["data"]["input_size"]))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # whatever a file of another make leads to
        why = one_line(error)[:160]
        raise InputError(f"{path}: can't be built ({why}); use the version of catpose that trained it") from None
    broken = next((name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()), None)
    if broken:
        raise InputError(f"{path}: {broken} holds NaN or infinity: its training diverged; name another checkpoint")
    return model.eval(), settings


def described_model(text: str, trusted: tuple[str, ...] = ()) -> tuple[PoseModel, dict[str, Any]]:
    """The model of a run's settings, its weights random, and these settings.

    Args:
        text: as in `config.yaml`; it may be a stranger's, and makes nothing but models of catpose or of `trusted`.

    Raises:
        InputError: settings that `fit` didn't write. Exception: what classes raise of arguments that don't suit.
    """
    settings = _settings(text)
    described = settings["model"]
    described["init_args"] = {**described.get("init_args", {}), "weights": None}
    return _build(described, PoseModel, trusted), settings


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, nothing in it executed; InputError where that can't be, or `fit` didn't write it."""
    checkpoint = read_content(path, "Name a best.ckpt or last.ckpt of catpose.fit")
    if not isinstance(checkpoint, dict) or not {"catpose", "state_dict"} <= checkpoint.keys():
        raise InputError(f"{path}: is no checkpoint of catpose.fit (no settings in it); name a best.ckpt or last.ckpt")
    return checkpoint


def require_resumable(path: Path, model: PoseModel) -> None:
    """InputError where a run's last checkpoint is damaged, or isn't one of this model."""
    checkpoint = read_checkpoint(path)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    states = checkpoint["state_dict"]
    there = {name: value.shape for name, value in states.items() if isinstance(value, Tensor)}
    if there != shapes or not checkpoint.keys() >= set(RESUMED):
        raise InputError(f"{path}: is not this run's last checkpoint; restore it or name another folder with --out")


def require_fit(model: PoseModel, input_size: tuple[int, int]) -> None:
    """InputError where crops of this width and height, px, don't suit the model: found out on a black one."""
    width, height = input_size
    training = model.training
    model.eval()
    with torch.inference_mode():
        model.codec.decode(model(torch.zeros(1, height, width, 3, dtype=torch.uint8)), (width, height))
    model.train(training)


def _settings(text: Any) -> dict[str, Any]:
    """A run's settings, in the shape that `fit` writes; no aliases, by which a few lines grow to billions."""
    try:
        if len(text) > LONGEST_SETTINGS or any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ValueError
        settings = yaml.safe_load(text)
        width, height = settings["data"]["input_size"]
        CatDataModule(input_size=(width, height))  # it knows which sizes there are
        if isinstance(settings["model"]["class_path"], str):
            return settings
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError, yaml.YAMLError):
        pass
    raise InputError("its settings are none of catpose.fit's; name a best.ckpt or last.ckpt")


def _build(value: Any, base: type, trusted: tuple[str, ...]) -> Any:
    """The object that a `class_path` and its `init_args` describe; any other value as it is.

    Not by jsonargparse, which imports whatever module a text names in the place of an object.

    Args:
        base: what a class of catpose must be; importing any other, or calling it, could do anything.
    """
    if not (isinstance(value, dict) and "class_path" in value):
        return value
    path, arguments = str(value["class_path"]), value.get("init_args") or {}
    module, _, name = path.rpartition(".")
    ours = module.startswith("catpose.model.") and _is_module_of_ours(module)
    if not ours and module not in trusted:
        raise InputError(
            f"its settings name the class {one_line(path)[:100]}, which is not catpose's; if you trust it, name its"
            " module with --import"
        )
    made = getattr(importlib.import_module(module), name, None)
    if not isinstance(made, type) or ((ours or base is PoseModel) and not issubclass(made, base)):
        raise InputError(
            f"its settings name {one_line(path)[:100]}, which is no {base.__name__}; use another checkpoint"
        )
    return made(**{key: _build(part, Codec, trusted) for key, part in arguments.items()})


def _is_module_of_ours(module: str) -> bool:
    parts = module.split(".")[1:]
    return all(part.isidentifier() for part in parts) and (
        Path(catpose.__file__).parent.joinpath(*parts).with_suffix(".py").is_file()
    )
