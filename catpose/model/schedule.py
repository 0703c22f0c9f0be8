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
    warmup_iterations: int,
    warmup_ratio: float,
    schedule: Literal["multistep", "cosine"],
    milestones: Sequence[int],
    gamma: float,
) -> float:
    """What the learning rate is multiplied by in optimiser step `step`, counted from 0.

    The warm-up is MMCV's, by which the published models were trained: from `warmup_ratio` in step 0 straight to 1 in
    step `warmup_iterations`, as a factor on the schedule below, which runs from step 0 as well.

    Args:
        steps_per_epoch: optimiser steps in an epoch.
        total_steps: optimiser steps of the whole run; cosine only.
        schedule: "multistep" multiplies by `gamma` at the start of each epoch in `milestones` (epochs count from 0);
            "cosine" falls from 1 to 0 at `total_steps` (Loshchilov and Hutter, "SGDR", ICLR 2017, without restarts).
    """
    warmup = warmup_ratio + (1 - warmup_ratio) * min(1.0, step / warmup_iterations) if warmup_iterations else 1.0
    if schedule == "cosine":
        return warmup * (1 + math.cos(math.pi * min(1.0, step / total_steps))) / 2
    epoch = step // steps_per_epoch
    return warmup * gamma ** sum(epoch >= milestone for milestone in milestones)
