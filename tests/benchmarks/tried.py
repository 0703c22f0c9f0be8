"""What might make networks quicker and isn't done, for RESULTS.md: CPU milliseconds before and after, and deviations.

    python tests/benchmarks/tried.py [--models quickstart best_small resnet50 hrnet] [--crops 1] [--batch 4] [--compile]

One thread, the sides by turns; random weights, the norms' statistics of one batch. Of predictions with the flip test:
both passes as one, batch norm folded into the convolutions, contiguous weights; of a training step: a fused Adam, and
what `model.compile` does, whose first step is printed, too.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from catpose.cost.profiling import build
from catpose.cost.timing import made_up_batch
from catpose.model.pose import Batch, PoseModel
from catpose.run.cli import FitCLI


def by_turns(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median CPU milliseconds of each, after a first round that isn't counted."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(rounds + 1):
        for name in sorted(sides, reverse=i % 2 == 1):
            start = time.process_time()
            sides[name]()
            times[name].append(1e3 * (time.process_time() - start))
    return {name: statistics.median(own[1:]) for name, own in times.items()}


def folded(model: PoseModel, crop: Tensor) -> PoseModel:
    """A copy whose batch norms are in the convolutions before them, as a pass of a crop shows them."""
    model = copy.deepcopy(model)
    made: dict[int, tuple[nn.Module, Tensor]] = {}  # the tensors too, or another would get one's number
    pairs: dict[nn.Module, nn.Module] = {}
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(lambda own, _, out: made.__setitem__(id(out), (own, out)))
        elif isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(lambda own, given: pairs.__setitem__(own, made[id(given[0])][0]))
    model(crop)
    for norm, convolution in pairs.items():
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        shape = (1, -1, 1, 1) if isinstance(convolution, nn.ConvTranspose2d) else (-1, 1, 1, 1)
        bias = 0 if convolution.bias is None else convolution.bias
        convolution.bias = nn.Parameter((bias - norm.running_mean) * scale + norm.bias)
        convolution.weight.mul_(scale.reshape(shape))
    for name, module in [*model.named_modules()]:
        if module in pairs:
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, getattr(module, "act", nn.Identity()))
    return model


def in_one_pass(model: PoseModel, crop: Tensor) -> Tensor:
    n, both = len(crop), model(torch.cat([crop, crop.flip(2)]))
    mean = (both[:n].float() + model.codec.unflip(both[n:], model.skeleton.flip).float()) / 2
    return model.codec.decode(mean, (crop.shape[2], crop.shape[1]))[0]


def predictions(model: PoseModel, crop: Tensor, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds, and the largest distance of a keypoint on an axis from today's, crop px."""
    fold, contiguous = folded(model, crop), copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    keypoints = {
        "before": lambda: model.located(model(crop), crop)[0],
        "one pass": lambda: in_one_pass(model, crop),
        "folded": lambda: fold.located(fold(crop), crop)[0],
        "contiguous": lambda: contiguous.located(contiguous(crop), crop)[0],
    }
    expected = keypoints["before"]()
    apart = {name: (function() - expected).abs().max().item() for name, function in keypoints.items()}
    return by_turns(keypoints, rounds), apart


def steps(
    model: PoseModel, batch: Batch, rounds: int, measures: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds, and how far a weight is from the plain steps' after all rounds."""
    sides: dict[str, Callable[[], object]] = {}
    models = {name: copy.deepcopy(model).train() for name in ("before", *measures)}
    for name, own in models.items():
        optimizer = torch.optim.Adam(own.parameters(), lr=1e-4, fused=name == "fused Adam")
        forward = torch.compile(own.forward) if name == "compiled" else own

        def step(own: PoseModel = own, forward: Any = forward, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.zero_grad()
            own.loss(forward(batch["crop"]), batch).backward()
            optimizer.step()

        start = time.process_time()
        step()
        if name == "compiled":
            print(f"the first compiled step: {time.process_time() - start:.0f} CPU s", file=sys.stderr)
        sides[name] = step
    times, (plain, *others) = by_turns(sides, rounds), ([*own.parameters()] for own in models.values())
    apart = [max((p - q).abs().max().item() for p, q in zip(plain, own, strict=True)) for own in others]
    return times, dict(zip(measures, apart, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["quickstart", "best_small", "resnet50", "hrnet"])
    parser.add_argument("--crops", type=int, default=1, help="of a prediction (%(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="of a training step (%(default)s)")
    parser.add_argument("--compile", action="store_true", help="compile training steps, too, which takes minutes")
    parser.add_argument("--rounds", type=int, default=6, help="(%(default)s)")
    arguments = parser.parse_args()
    measures = ("fused Adam", "compiled") if arguments.compile else ("fused Adam",)
    torch.set_num_threads(1)
    print("| model | measure | before, ms | after, ms | deviation |\n|---|---|---:|---:|---:|")
    for name in arguments.models:
        model, data = build(FitCLI(["--config", name, "--model.weights=null", "--data.root=absent"]))
        model.to(memory_format=torch.channels_last).train()  # as `PoseModel.setup`
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        momenta, batch = [norm.momentum for norm in norms], made_up_batch(arguments.batch, data.input_size, 17)
        with torch.no_grad():
            for norm in norms:
                norm.momentum = 1.0
            model(batch["crop"])
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
            crop = made_up_batch(arguments.crops, data.input_size, 17)["crop"]
            found = [predictions(model.eval(), crop, arguments.rounds)]
        for times, apart in (*found, steps(model, batch, arguments.rounds, measures)):
            for what in times.keys() - {"before"}:
                print(
                    f"| {name} | {what} | {times['before']:.1f} | {times[what]:.1f} | {apart[what]:.1g} |", flush=True
                )


if __name__ == "__main__":
    main()
