"""Building and trying a model that a stranger's settings describe, within bounds of memory and time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration
from torch.utils._python_dispatch import TorchDispatchMode

from catpose.errors import InputError

#: Allowance beyond twice the tensors and four times the numbers of the file: timm builds classifiers that it drops and
#: tables that aren't saved.
SPARE_TENSORS = 5_000
SPARE_NUMBERS = 50_000_000
#: Elements of one layer's output for one crop: four times HRNet's largest for a crop of 1024 x 1024.
MOST_OUTPUT = 2**26


@contextlib.contextmanager
def bounded_building(tensors: int, numbers: int) -> Iterator[None]:
    """Context in which modules can hold little more than a file does.

    Args:
        tensors: how many tensors the file holds.
        numbers: elements of all its tensors together.

    Raises:
        InputError: a module exceeds the bounds; raised before memory is filled with values.
    """
    most_tensors, most_numbers = 2 * tensors + SPARE_TENSORS, 4 * numbers + SPARE_NUMBERS
    counted = {"tensors": 0, "modules": 0, "numbers": 0}

    def count(kind: str, more: int, most: int) -> None:
        counted[kind] += more
        if counted[kind] > most:
            raise InputError(
                f"its settings describe a network of more {kind} than its {tensors} tensors of {numbers} numbers suit;"
                " use another checkpoint"
            )

    def on_tensor(owner: nn.Module, name: str, tensor: Tensor | None) -> None:
        if tensor is not None:
            count("tensors", 1, most_tensors)
            count("numbers", tensor.numel(), most_numbers)

    def on_module(owner: nn.Module, name: str, submodule: nn.Module | None) -> None:
        count("modules", 1, 10 * most_tensors)

    with contextlib.ExitStack() as stack:
        for register, hook in (
            (registration.register_module_parameter_registration_hook, on_tensor),
            (registration.register_module_buffer_registration_hook, on_tensor),
            (registration.register_module_module_registration_hook, on_module),
        ):
            stack.callback(register(hook).remove)  # type: ignore[operator]
        stack.enter_context(_Bounded(most_numbers))
        yield


def bounded_outputs() -> TorchDispatchMode:
    """Context in which a torch operation that returns more than `MOST_OUTPUT` numbers raises InputError."""
    return _Bounded(MOST_OUTPUT)


class _Bounded(TorchDispatchMode):
    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not types and "device" in kwargs:  # torch.zeros and its like: first on the device meta
            self._require(function(*args, **{**kwargs, "device": torch.device("meta"), "pin_memory": False}))
        return self._require(function(*args, **kwargs))

    def _require(self, result: Any) -> Any:
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor) and tensor.numel() > self.most:
                raise InputError(
                    f"its settings ask for a tensor {tuple(tensor.shape)}, too large for what is in it; use another"
                    " checkpoint"
                )
        return result
