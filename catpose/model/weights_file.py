"""A trained model as one small file, from which it is rebuilt without a network or any other file.

It is safetensors. Kernels and matrices are in half precision; what has one dimension (biases, a norm's statistics,
whose range is wider) and the mean and std of pictures are as they were trained. Beside them stand texts:

    catpose      class and arguments of the model with its codec, and data.input_size, as in a run's config.yaml
    skeleton     the keypoints, as JSON
    network      what people call it: class, and timm's name of the backbone
    trained_on   data and start
    val          AP on the run's validation split, as rounded, with the split's hash
    version      catpose's, by which it was written
    calibration  where it is calibrated: what its confidences are worth, as JSON

`read_content` gives the first two and the tensors as a checkpoint has them, so that whatever takes a checkpoint takes a
weights file. Those in `catpose/weights/` come with the package, and have names: `--model.weights NAME`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from catpose.errors import InputError
from catpose.files import atomic_write, parse_json

SUFFIX = ".safetensors"
#: Texts that a weights file has, and other safetensors haven't.
KEYS = ("catpose", "skeleton", "network", "trained_on", "val", "version")


def round_to_half(model: nn.Module) -> None:
    """Round what a weights file has in half precision: parameters of two dimensions and more, (…) of any shape.

    Raises:
        InputError: a number beyond half precision's range.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.copy_(parameter.half())
                if not parameter.isfinite().all():
                    raise InputError(f"{name} holds numbers beyond half precision's 65504, so it can't be rounded")


def write_weights(path: Path, model: nn.Module, texts: Mapping[str, str]) -> None:
    """Write a rounded model.

    Args:
        texts: one for each of `KEYS`.

    Raises:
        InputError: the file can't be written.
    """
    halved = {name for name, parameter in model.named_parameters() if parameter.dim() > 1}
    state = {name: tensor.half() if name in halved else tensor for name, tensor in model.state_dict().items()}
    content = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(content, {key: texts[key] for key in KEYS}))  # `save_file`'s nobody else can read


def add_text(path: Path, key: str, text: str) -> None:
    """Write a text into a weights file that is there, or another in its place; all else stays.

    Raises:
        InputError: the file can't be written.
    """
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        texts = file.metadata() or {}
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(tensors, texts | {key: text}))


def as_checkpoint(tensors: dict[str, Tensor], texts: Mapping[str, str]) -> dict[str, Any]:
    """A weights file's content as a checkpoint has it, tensors (…) of any shape in the precision of the training.

    Raises:
        InputError: its skeleton or calibration is no JSON.
    """
    state = {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in tensors.items()}
    skeleton = parse_json(texts.get("skeleton", ""), "its skeleton")
    content = {**{key: texts.get(key, "") for key in KEYS}, "skeleton": skeleton, "state_dict": state}
    if "calibration" in texts:
        content["calibration"] = parse_json(texts["calibration"], "its calibration")
    return content
