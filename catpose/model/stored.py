"""A model as its checkpoint holds it: built from the settings that describe it, its weights read.

A checkpoint may come from a stranger. It is read as tensors and plain values only, and of the classes that its
settings name those alone are built that are models and codecs of catpose, or in a module that the user has named.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from torch import Tensor, nn

from catpose.errors import InputError, one_line, whole_between
from catpose.geometry import INPUT_SIDES
from catpose.model.bounded import bounded_building, bounded_outputs
from catpose.model.codec import Codec
from catpose.model.tensor_file import read_content
from catpose.plain_yaml import parse_yaml
from catpose.skeleton import AP10K, Skeleton

Model = TypeVar("Model", bound=nn.Module)


def stored_model(path: Path, base: type[Model], trusted: tuple[str, ...]) -> tuple[Model, dict[str, Any]]:
    """The model in a checkpoint of `fit`, in evaluation mode on the CPU; in float32, or the half that it was kept in.

    Args:
        path: a `.ckpt` file of `fit`.
        base: what it must be: `PoseModel`, or one of its subclasses.
        trusted: modules outside of catpose whose classes the checkpoint may name.

    Returns:
        the model; the settings of the run, as in its `config.yaml`.

    Raises:
        InputError: no such file, a damaged one, one with code in it, one that `fit` didn't write.
    """
    checkpoint = read_checkpoint(path)
    try:
        tensors = [tensor for tensor in checkpoint["state_dict"].values() if isinstance(tensor, Tensor)]
        with bounded_building(len(tensors), sum(tensor.numel() for tensor in tensors)):
            model, settings = described_model(checkpoint["catpose"], base, trusted, skeleton_in(checkpoint))
        model.load_state_dict(checkpoint["state_dict"])
        with bounded_outputs():
            require_fit(model, tuple(settings["data"]["input_size"]))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # whatever a file of another make leads to
        why = one_line(error)[:160]
        raise InputError(f"{path}: can't be built ({why}); use the version of catpose that trained it") from None
    broken = next((name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()), None)
    if broken:
        raise InputError(f"{path}: {broken} holds NaN or infinity: its training diverged; name another checkpoint")
    if not (model.get_buffer("std") > 0).all():
        raise InputError(f"{path}: its std of pictures isn't above 0: it was changed; name another checkpoint")
    stored = next((value.dtype for name, value in checkpoint["state_dict"].items() if name.startswith("head.")), None)
    model.calibration = checkpoint.get("calibration")  # type: ignore[assignment]  # plain, read where it is used
    if stored in (torch.bfloat16, torch.float16):  # so that it finds what its validation found, to the last digit
        model.to(stored)
    return model.eval(), settings


def described_model(
    text: str, base: type[Model], trusted: tuple[str, ...] = (), skeleton: Skeleton = AP10K
) -> tuple[Model, dict[str, Any]]:
    """The model of a run's settings, its weights random, and these settings.

    Args:
        text: as in `config.yaml`; it may be a stranger's, and makes nothing but models of catpose or of `trusted`.
        base: what it must be.
        skeleton: the keypoints that it was trained on, which the settings don't say.

    Raises:
        InputError: settings that `fit` didn't write. Exception: what classes raise of arguments that don't suit.
    """
    settings = _settings(text)
    described = settings["model"]
    described["init_args"] = {**described.get("init_args", {}), "weights": None}
    if skeleton != AP10K:  # a model of somebody else's may know of no other
        described["init_args"]["skeleton"] = skeleton
    return _build(described, base, trusted), settings


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, nothing in it executed; InputError where that can't be, or `fit` didn't write it."""
    checkpoint = read_content(path, "Name a best.ckpt or last.ckpt of catpose.fit")
    if not isinstance(checkpoint, dict) or not {"catpose", "state_dict"} <= checkpoint.keys():
        raise InputError(f"{path}: is no checkpoint of catpose.fit (no settings in it); name a best.ckpt or last.ckpt")
    return checkpoint


def skeleton_in(checkpoint: Mapping[str, Any]) -> Skeleton:
    """The keypoints that a checkpoint was trained on; 0.1.0 kept none in it, and had AP-10K's.

    Raises:
        InputError: what it holds is no skeleton.
    """
    return Skeleton.from_plain(checkpoint["skeleton"]) if "skeleton" in checkpoint else AP10K


def require_fit(model: Any, input_size: tuple[int, int]) -> None:
    """InputError where crops of this width and height, px, don't suit a `PoseModel`: found out on a black one."""
    width, height = input_size
    training = model.training
    model.eval()
    with torch.inference_mode():
        heatmaps = model(torch.zeros(1, height, width, 3, dtype=torch.uint8, device=model.device))
        if heatmaps.shape[1] != len(model.skeleton):
            raise InputError(
                f"model: the head makes {heatmaps.shape[1]} heatmaps of {len(model.skeleton)} keypoints; give it a"
                " method set_outputs(n), as DeconvolutionHead has"
            )
        model.codec.decode(heatmaps, (width, height))
    model.train(training)


def _settings(text: Any) -> dict[str, Any]:
    """A run's settings, in the shape that `fit` writes."""
    try:
        settings = parse_yaml(text)
        width, height = settings["data"]["input_size"]
        for side in (width, height):
            whole_between("data.input_size", side, *INPUT_SIDES)
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
    is_ours = module.startswith("catpose.model.") and _is_module_of_ours(module)
    if not is_ours and module not in trusted:
        raise InputError(
            f"its settings name the class {one_line(path)[:100]}, which is not catpose's; if you trust it, name its"
            " module with --import"
        )
    cls = getattr(importlib.import_module(module), name, None)
    if not isinstance(cls, type) or ((is_ours or base is not Codec) and not issubclass(cls, base)):
        raise InputError(
            f"its settings name {one_line(path)[:100]}, which is no {base.__name__}; use another checkpoint"
        )
    return cls(**{key: _build(part, Codec, trusted) for key, part in arguments.items()})


def _is_module_of_ours(module: str) -> bool:
    parts = module.split(".")[1:]
    package = Path(__file__).parents[1]
    return all(part.isidentifier() for part in parts) and package.joinpath(*parts).with_suffix(".py").is_file()
