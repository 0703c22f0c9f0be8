"""The learning rate as a pure function of the optimiser's step: linear warm-up times multi-step or cosine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal


def lr_factor(
    step: int,
    *,
    steps_per_epoch: int,
    total_steps: float,
    warmup_iterations: float,
    warmup_ratio: float,
    schedule: Literal["multistep", "cosine"],
    milestones: Sequence[float],
    gamma: float,
    cosine_from: float = 0.0,
) -> float:
    """What the learning rate is multiplied by in optimiser step `step`, counted from 0.

    The warm-up is MMCV's, by which the published models were trained: from `warmup_ratio` in step 0 straight to 1 in
    step `warmup_iterations`, as a factor on the schedule below, which runs from step 0 as well.

    Args:
        steps_per_epoch: optimiser steps in an epoch.
        total_steps: optimiser steps of the whole run; multistep looks at it for shares only.
        warmup_iterations: steps, or below 1 a share of the run.
        milestones: epochs, counted from 0, or below 1 shares of the run.
        schedule: "multistep" multiplies by `gamma` from the start of each epoch in `milestones` on; "cosine" falls from
            1 after the part `cosine_from` of the run to 0 at `total_steps` (Loshchilov and Hutter, "SGDR", ICLR 2017,
            without restarts).
    """
    n_warmup = steps_of(warmup_iterations, 1, total_steps)
    warmup = warmup_ratio + (1 - warmup_ratio) * min(1.0, step / n_warmup) if n_warmup else 1.0
    if schedule == "cosine":
        start = cosine_from * total_steps
        part = min(1.0, max(0.0, (step - start) / (total_steps - start)))
        return warmup * (1 + math.cos(math.pi * part)) / 2
    return warmup * gamma ** sum(step >= steps_of(milestone, steps_per_epoch, total_steps) for milestone in milestones)


def steps_of(length: float, unit: int, total_steps: float) -> float:
    """The optimiser steps of a length that is a number of units or, below 1, a share of the run's.

    Args:
        unit: steps in one unit.
        total_steps: of the whole run.
    """
    return math.ceil(length * total_steps) if 0 < length < 1 else length * unit


def depends_on_the_end(schedule: str, warmup_iterations: float, milestones: Sequence[float]) -> bool:
    """Whether a run of another length has another learning rate in the steps that both have."""
    shares = [warmup_iterations, *(milestones if schedule == "multistep" else ())]
    return schedule == "cosine" or any(0 < share < 1 for share in shares)
