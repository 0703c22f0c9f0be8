"""What a pose model costs: multiply–adds, parameters, time a picture."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from catpose.model.pose import PoseModel

#: Passes before the first one that is timed: allocators and kernel searches settle in them.
WARM_UP_PASSES = 3
TIMED_PASSES = 30
#: What `traced` calls ReLUs by, each of which it counts as one: fvcore alone passes them over in silence.
RELU = "relu"


def costs(model: PoseModel, input_size: tuple[int, int], names: Sequence[str], device: str) -> dict[str, float]:
    """What a model costs, by name (`GMACs`, `params_M`, `latency_ms`)."""
    measure: dict[str, Callable[[], float]] = {
        "GMACs": lambda: gmacs(model, input_size),
        "params_M": lambda: params_m(model),
        "latency_ms": lambda: latency_ms(model, input_size, device),
    }
    return {name: measure[name]() for name in names}


def gmacs(model: PoseModel, input_size: tuple[int, int]) -> float:
    """Billions of multiply–adds from one crop to its heatmaps, without the flip test's second pass.

    Counted, by fvcore, with those of attention added: convolutions, linear layers and other matrix products, attention,
    normalisation layers and upsampling. Not counted, as in fvcore's own figures: bias, activations, pooling, additions
    and the crop's normalisation, about 0.2 % of a ResNet, which MMPose's "FLOPs" (multiply–adds too) include.

    Args:
        input_size: (width, height) of the crop, px, multiples of 32.
    """
    return macs(traced(model, input_size)[0][""]) / 1e9


def params_m(model: PoseModel) -> float:
    """Millions of parameters, the head's included."""
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def latency_ms(model: PoseModel, input_size: tuple[int, int], device: torch.device | str = "cpu") -> float:
    """Median time of a single crop's forward pass, ms: from the crop on the device to the heatmaps there.

    In the model's own precision, with as many threads as torch is set to; decoding and the flip test's second pass are
    left out. Comparable between models timed on one machine that does nothing else.

    Args:
        input_size: (width, height) of the crop, px, multiples of 32.
        device: where to time it; the model goes back to where it was.
    """
    device, home = torch.device(device), model.device
    crop = torch.zeros(1, input_size[1], input_size[0], 3, dtype=torch.uint8, device=device)
    with evaluated(model):
        try:
            model.to(device)
            return statistics.median(times_ms(lambda: model(crop), device, least=TIMED_PASSES))
        finally:
            model.to(home)


def times_ms(
    call: Callable[[], object], device: torch.device, least: int, most: int = 0, seconds: float = 0.0
) -> list[float]:
    """Times of a call, ms, each until the device has done it, after some calls that are not timed.

    Args:
        least: calls to be timed at least, 1 or more.
        most: calls to be timed at most, where `seconds` allow more than the least.
        seconds: no further call is timed once those before took so long together.
    """
    times: list[float] = []
    for i in range(WARM_UP_PASSES + max(least, most)):
        start = time.perf_counter()
        call()
        synchronise(device)
        if i >= WARM_UP_PASSES:
            times.append(1000 * (time.perf_counter() - start))
        if len(times) >= least and sum(times) >= 1000 * seconds:
            break
    return times


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that it was given: else only the launch is timed."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


@contextlib.contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards each part trains or doesn't, as before."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in before:
            module.training = training


def traced(model: PoseModel, input_size: tuple[int, int]) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]]]:
    """What fvcore sees of one crop's way, in each module by its name together with those below; "" is the model.

    Returns:
        multiply–adds by operation, and the number of `RELU`s; the operations that it doesn't count, and how often.
    """
    with warnings.catch_warnings():  # of what the import compiles
        warnings.simplefilter("ignore")
        from fvcore.nn import FlopCountAnalysis  # here, since every command imports this package's modules

    crop = torch.zeros(1, input_size[1], input_size[0], 3, dtype=torch.uint8, device=model.device)
    with evaluated(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that tracing turns shapes into constants is what we want
        count = FlopCountAnalysis(model, crop).set_op_handle("aten::scaled_dot_product_attention", _attention_macs)
        for name in ("aten::relu", "aten::relu_"):
            count.set_op_handle(name, lambda inputs, outputs: Counter({RELU: 1}))
        count.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        counts = count.by_module_and_operator()
        return counts, {name: count.unsupported_ops(name) for name in counts}


def macs(operations: Counter[str]) -> int:
    """The multiply–adds among what `traced` counted."""
    return int(sum(operations.values()) - operations[RELU])


def _attention_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Multiply–adds of torch's fused attention, as fvcore takes them: queries by keys, and weights by values.

    Args:
        inputs: the traced query (..., L, E), key (..., S, E) and value (..., S, V), and more.
        outputs: the traced result (..., L, V).
    """
    query, key, value = (each.type().sizes() for each in inputs[:3])
    return Counter(attention=math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))
