"""Reading a file of named tensors that somebody else wrote, without ever executing what is in it."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from catpose.errors import InputError, one_line

# Under which keys training programs keep the weights, where they save more than those; the first present one counts.
WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "teacher",
    "student",
)

# Data types that published checkpoints carry beside their tensors (MMPose's `meta`, timm's and DINO's `args`). Building
# them runs no code of the file, so that the restricted unpickler may; everything it doesn't know is still refused.
_RECONSTRUCT, _SCALAR = (value.__reduce__()[0] for value in (np.empty(0), np.float64(0)))  # as numpy pickles them
_INERT: list[Any] = [
    argparse.Namespace,
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in "?bhilqBHILQefd"},
    *[
        (_RECONSTRUCT, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")
    ],  # numpy 1's, numpy 2's name
    *[(_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")],
]

FETCH_AGAIN = "Fetch it again, or have the tool that wrote it save its weights alone, as .safetensors"

# A zip archive that unpacks to more than this and to ten times its size is a bomb: weights hardly compress.
_SMALL = 2**30


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The named tensors in `path`, on the CPU, as they were stored.

    The content, not the suffix, tells the format: safetensors, torch.save (a zip archive, or a pickle before torch
    1.6) or numpy's `.npz`. Where the tensors lie deeper (`state_dict`, `model`, ...), they are taken out.

    Raises:
        InputError: `path` is missing, unreadable, damaged, of another format, without tensors, or its pickle asks for
            anything but tensors and plain data. None of it has been executed.
    """
    content = read_content(path)
    for _ in range(4):
        if not isinstance(content, dict) or any(isinstance(value, Tensor) for value in content.values()):
            break
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), None) or content
    named = content.items() if isinstance(content, dict) else ()
    tensors = {name: tensor for name, tensor in named if isinstance(name, str) and isinstance(tensor, Tensor)}
    if not tensors:
        keys = ", ".join(str(name) for name, _ in list(named)[:5]) or "nothing at all"
        raise InputError(f"{path} holds no named tensors (but {keys}); save the weights as a dict of name to tensor")
    return tensors


def read_content(path: Path, remedy: str = FETCH_AGAIN) -> object:
    """What is in a file of tensors, plain data beside them included: a dict, mostly.

    Args:
        remedy: what to do about a file that can't be read.

    Raises:
        InputError: as `read_tensors`, but for content without tensors.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it")
    if not path.is_file():
        raise InputError(f"{path}: no such file; name an existing file")
    try:
        return _content(path)
    except Exception as error:  # the bytes are anybody's, and three parsers read them: what goes wrong is bad input
        raise InputError(
            f"{path} is not a sound file of tensors: {_reason(error)}. Nothing in it was executed. {remedy}"
        ) from None


def _content(path: Path) -> object:
    with path.open("rb") as file:
        start = file.read(9)
    if not start:
        raise ValueError("it is empty")
    if path.suffix == ".safetensors" or start[8:] == b"{":  # eight bytes of header length, then the header's JSON
        return load_file(path)
    if start.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > max(_SMALL, 10 * path.stat().st_size):
            raise ValueError(f"it would unpack to {unpacked / 2**30:.0f} GiB, far beyond its size")
        if any(member.filename.endswith(".npy") for member in members):
            return _arrays(path)
    with torch.serialization.safe_globals(_INERT), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickle protocols and old storage classes: nothing to act on
        return torch.load(path, map_location="cpu", weights_only=True)


def _arrays(path: Path) -> dict[str, Tensor]:
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    numeric = {name: array for name, array in arrays.items() if array.dtype.kind in "biuf"}
    return {name: torch.from_numpy(array.astype(array.dtype.newbyteorder("="))) for name, array in numeric.items()}


def _reason(error: Exception) -> str:
    asked_for = re.search(r"GLOBAL ([\w.]+)", str(error)) or re.search(r"unrecognized function (.+)", str(error))
    if asked_for:
        return f"its pickle asks for {asked_for[1]}, which could run code"
    if isinstance(error, pickle.UnpicklingError):
        return "its pickle holds more than tensors"
    reason = re.split(r"\. |: ", one_line(error), maxsplit=1)[0][:120].rstrip(".")
    return reason if " " in reason else "it is in no known format"
