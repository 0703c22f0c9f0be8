"""A checkpoint's network as crops → keypoints, on a device: the `CropModel` that PyTorch runs."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from catpose.data.datamodule import default_workers
from catpose.errors import InputError, nearest, one_line, whole_between
from catpose.geometry import INPUT_SIDES
from catpose.model.head import HEATMAP_STRIDE
from catpose.model.pose import PoseModel
from catpose.model.stored import require_fit
from catpose.run.checkpoint import load_model


class Network:
    """A `PoseModel` in evaluation mode on a device.

    Args:
        model: is moved there.
        input_size: width and height of the crop that it was trained with, px.
        device: "auto" (a GPU where there is one), "cpu", "gpu", or torch's own, such as "cuda:1".

    Raises:
        InputError: a device that isn't there.
    """

    def __init__(self, model: PoseModel, input_size: tuple[int, int], device: str) -> None:
        self.device = find_device(device)
        self.model = model.eval().to(self.device).to(memory_format=torch.channels_last)  # as in its validation
        self.skeleton = model.skeleton
        self.input_size = input_size
        self.calibration = model.calibration
        self.n_threads = default_workers(self.device.type)

    @classmethod
    def load(cls, checkpoint: Path, device: str = "auto", trusted: tuple[str, ...] = ()) -> Network:
        """The network of a checkpoint of `fit`. Raises as `load_model`, and as this class."""
        find_device(device)  # before a large file is read
        model, settings = load_model(checkpoint, trusted)
        width, height = settings["data"]["input_size"]
        return cls(model, (width, height), device)

    def at(self, scale: float) -> Network:
        """The same network on crops so many times as wide and high, in whole px of its heatmaps.

        Raises:
            InputError: it takes crops of its own size alone, or no such size can be.
        """
        other = copy.copy(self)
        width, height = (HEATMAP_STRIDE * round(side * scale / HEATMAP_STRIDE) for side in self.input_size)
        for side in (width, height):
            whole_between("side of a crop, px", side, *INPUT_SIDES)
        other.input_size = (width, height)
        if scale != 1:
            try:
                require_fit(self.model, (width, height))
            except (AssertionError, RuntimeError) as error:
                raise InputError(f"crops of {width} x {height} px: {one_line(error)[:100]}") from None
        return other

    @property
    def flip_test(self) -> bool:
        return self.model.flip_test

    def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints (B, K, 2) in crop px and confidence (B, K), float32, of crops (B, h, w, 3) uint8 RGB.

        Raises:
            InputError: B are too many for the GPU.
        """
        with within_memory(len(crops)):
            crop = torch.from_numpy(crops).to(self.device)
            keypoints, confidence = self.model.located(self.model(crop), crop)
            return keypoints.float().cpu().numpy(), confidence.float().cpu().numpy()


@contextmanager
def within_memory(n_crops: int) -> Iterator[None]:
    """A block of inference on a device.

    Raises:
        InputError: so many crops are too many for the GPU.
    """
    try:
        with torch.inference_mode():
            yield
    except torch.cuda.OutOfMemoryError:
        raise InputError(
            f"the GPU's memory is too small for {n_crops} crops at once; give a smaller batch size"
        ) from None


def default_precision(device_type: str) -> str:
    """Lightning's name of the precision that a device trains in where no setting names one: bfloat16 for the network
    alone where the GPU computes in it, else float32, which a CPU is quicker in."""
    is_quick = device_type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if is_quick else "32-true"


def find_device(name: str) -> torch.device:
    """The device of a name: "cpu", "cuda:1", "mps", …; "gpu" is the accelerator that is there, "auto" that or the CPU.

    Raises:
        InputError: no such name, or no such device here.
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto" or (name == "gpu" and accelerator):
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        hint = nearest(name, ("auto", "cpu", "cuda", "mps"))
        raise InputError(f"device {one_line(name)[:40]}: is none; give auto, cpu, cuda or cuda:1.{hint}") from None
    count = torch.accelerator.device_count() if accelerator else 0
    names = ["cpu", *(f"{accelerator.type}:{i}" for i in range(count) if accelerator)]
    if (device.type if device.type == "cpu" else f"{device.type}:{device.index or 0}") not in names:
        raise InputError(f"device {name}: is not on this machine, which has {', '.join(names)}")
    return device
