"""The learning rate as a pure function of the optimiser's step: linear warm-up times multi-step or cosine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from catpose.errors import InputError


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


def require(holds: bool, key: str, value: object, remedy: str) -> None:
    """InputError about one of the model's settings, unless what is asked of it holds."""
    if not holds:
        raise InputError(f"model.{key}: {value!r} can't be used; give {remedy}")


def require_schedule(
    schedule: str,
    warmup_iterations: float,
    warmup_ratio: float,
    milestones: tuple[float, ...],
    gamma: float,
    cosine_from: float,
) -> None:
    """InputError where one of `lr_factor`'s settings can't be used."""
    require(0 < gamma <= 1, "gamma", gamma, "a factor above 0 and at most 1, such as 0.1")
    require(0 <= cosine_from < 1, "cosine_from", cosine_from, "a part of the run from 0, below 1")
    require(not cosine_from or schedule == "cosine", "cosine_from", cosine_from, "model.schedule cosine with it")
    require(schedule in ("multistep", "cosine"), "schedule", schedule, "multistep or cosine")
    require(
        0 <= warmup_iterations < 1 or (float(warmup_iterations).is_integer() and warmup_iterations > 0),
        "warmup_iterations",
        warmup_iterations,
        "0 (no warm-up), a number of steps, or a share of the run below 1",
    )
    require(0 <= warmup_ratio <= 1, "warmup_ratio", warmup_ratio, "a part of the learning rate from 0 to 1")
    rising = list(milestones) == sorted(set(milestones)) and all(
        0 < milestone < 1 or (milestone >= 1 and float(milestone).is_integer()) for milestone in milestones
    )
    alike = len({milestone < 1 for milestone in milestones}) < 2
    what = "rising epochs from 1, such as [170, 200], or rising shares of the run, such as [0.8, 0.95]"
    require(rising and alike, "milestones", list(milestones), what)
