"""Parameters and multiply–adds of a model's parts, by fvcore's count and in the published convention.

FLOPs are twice the multiply–adds. fvcore's count follows every operation, and leaves out bias, activations, pooling and
additions (`catpose.cost.metrics.gmacs`). The published convention is that of the tool behind the "FLOPs" of MMPose's
tables and of the report, MMCV 1's `get_model_complexity_info` (after Sovrasov's ptflops): every module is counted when
it is called, by the rule of its kind, so that bias, ReLU and pooling are in; what a network calculates outside of
modules that the tool knows is not.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from catpose.cost.metrics import RELU, evaluated, macs, traced
from catpose.cost.record import Complexity, Part
from catpose.errors import one_line
from catpose.files import write_json
from catpose.model.pose import PoseModel

log = logging.getLogger("catpose")

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)
NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LayerNorm),
)
RELUS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU)
POOLS = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
)
COUNTED = (*CONVOLUTIONS, nn.Linear, *NORMS, *RELUS, *POOLS, nn.Upsample)


def complexity(model: PoseModel, input_size: tuple[int, int]) -> Complexity:
    """What each part of a model costs.

    Args:
        input_size: (width, height) of the crop, px, multiples of 32.

    Raises:
        InputError: a size that the model can't take.
    """
    counts, others = traced(model, input_size)
    published = published_macs(model, input_size)
    modules = dict(model.named_modules())

    def of(name: str, roots: list[str]) -> Part:
        params = {id(each): each.numel() for root in roots for each in modules[root].parameters()}
        below = tuple(f"{root}." for root in roots)
        ours = (sum(kinds.values()) for module, kinds in published.items() if f"{module}.".startswith(below))
        return Part(name, sum(params.values()), sum(macs(counts[root]) for root in roots if root in counts), sum(ours))

    parts = [of(name, roots) for name, roots in _parts_of(model).items()]
    kinds = sum(published.values(), Counter[str]())
    params = sum(parameter.numel() for parameter in model.parameters())
    whole = Part("", params, macs(counts[""]), kinds.total())
    rest = Part(
        "outside of these",
        whole.params - sum(part.params for part in parts),
        whole.macs - sum(part.macs for part in parts),
        whole.published_macs - sum(part.published_macs for part in parts),
    )
    unseen: Counter[str] = Counter()
    for name in counts:
        if not isinstance(modules[name], COUNTED):
            unseen.update(own(counts, name))
            unseen.update(dict.fromkeys(own(others, name), 0))
    if RELU in unseen:  # a count of calls
        unseen[RELU] = 0
    return Complexity(
        *input_size,
        parts=tuple(part for part in [*parts, rest] if part.params or part.macs or part.published_macs),
        params=whole.params,
        macs=whole.macs,
        published_macs=whole.published_macs,
        published_kinds=dict(kinds),
        left_out={_plain(name): calls for name, calls in others[""].most_common()}
        | ({RELU: counts[""][RELU]} if counts[""][RELU] else {}),
        unseen={_plain(name): int(n) for name, n in unseen.most_common()},
    )


def write_complexity(model: PoseModel, input_size: tuple[int, int], file: Path) -> None:
    """Write what a model costs for whoever reads the run's folder without building it, such as `report`.

    A model that fvcore can't follow has no such file.

    Args:
        input_size: (width, height) of the crop, px.
        file: complexity.json.
    """
    try:
        counted = complexity(model, input_size)
    except Exception as error:  # whatever a model of one's own does while it is traced
        log.info("multiply–adds aren't counted: %s", one_line(error)[:160])
        return
    write_json(file, dataclasses.asdict(counted))


def _parts_of(model: PoseModel) -> dict[str, list[str]]:
    """The modules' names that each part is made of: stem and stages of the backbone, layers of the head."""
    parts: dict[str, list[str]] = {}
    before = True
    for name, module in _stages("backbone", model.backbone):
        before = before and _is_layer(module)
        parts.setdefault("backbone.stem" if before else name, []).append(name)
    if list(parts) == ["backbone.stem"] or not parts:
        parts = {"backbone": ["backbone"]}
    last: dict[str, list[str]] = {}
    for name, module in model.head.named_children():
        path, number = f"head.{name}", 0
        if name == "final":
            last[path] = [path]
        elif any(isinstance(layer, nn.ConvTranspose2d) for layer in module.children()):
            for index, layer in module.named_children():
                number += isinstance(layer, nn.ConvTranspose2d)
                parts.setdefault(f"head.deconvolution {number}", []).append(f"{path}.{index}")
        else:
            parts[path] = [path]
    return parts | last if len(list(model.head.children())) else parts | {"head": ["head"]}


def _stages(name: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
    """The children; in the place of a sequence of sequences, its children."""
    stages = []
    for key, child in module.named_children():
        path, below = f"{name}.{key}", list(child.children())
        nested = isinstance(child, nn.Sequential) and all(isinstance(each, nn.Sequential) for each in below)
        stages += _stages(path, child) if nested and below else [(path, child)]
    return stages


def _is_layer(module: nn.Module) -> bool:
    """A layer, or a few in a row, rather than a stage of blocks."""
    return not any(list(child.children()) for child in module.children())


def published_macs(model: PoseModel, input_size: tuple[int, int]) -> dict[str, Counter[str]]:
    """Multiply–adds in the published convention of each module that it knows, by kind."""
    counted: dict[str, Counter[str]] = {}

    def watch(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            counted.setdefault(name, Counter()).update(_rule(module, inputs[0], output))

        return module.register_forward_hook(hook)

    hooks = [watch(name, module) for name, module in model.named_modules() if isinstance(module, COUNTED)]
    try:
        with evaluated(model):
            model(torch.zeros(1, input_size[1], input_size[0], 3, dtype=torch.uint8, device=model.device))
    finally:
        for hook in hooks:
            hook.remove()
    return counted


def _rule(module: Any, input: Tensor, output: Tensor) -> dict[str, int]:
    """What one call of a module counts for in the published convention, by kind."""
    if isinstance(module, CONVOLUTIONS):
        # A convolution works at each of its output's positions, a transposed one at each of its input's.
        positions = input if isinstance(module, nn.ConvTranspose2d) else output
        n = module.weight.numel() * len(input) * math.prod(positions.shape[2:])
        return {"convolution": n} | ({"bias": output.numel()} if module.bias is not None else {})
    if isinstance(module, nn.Linear):
        return {"linear": input.numel() * module.out_features}  # without its bias
    if isinstance(module, NORMS):
        learnt = getattr(module, "affine", False) or getattr(module, "elementwise_affine", False)
        return {"normalisation": input.numel() * (2 if learnt else 1)}
    if isinstance(module, RELUS):
        return {"ReLU": output.numel()}
    return {"pooling": input.numel()} if isinstance(module, POOLS) else {"upsampling": output.numel()}


def own(counts: dict[str, Counter[str]], name: str) -> Counter[str]:
    """What a module does itself rather than through those below it."""
    remaining = Counter(counts[name])
    depth = name.count(".") + 1 if name else 0
    for other, below in counts.items():
        if other and other.startswith(f"{name}." if name else "") and other.count(".") == depth:
            remaining.subtract(below)
    return +remaining


def _plain(operation: str) -> str:
    """`add` of `aten::add_`."""
    return operation.removeprefix("aten::").rstrip("_")
