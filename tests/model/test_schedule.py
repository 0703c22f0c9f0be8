"""The learning rate against torch's own schedulers and in closed form."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise

import pytest
import torch
from torch.optim import lr_scheduler

from catpose.model.schedule import depends_on_the_end, lr_factor

PUBLISHED = {
    "steps_per_epoch": 31,
    "total_steps": 210 * 31,
    "warmup_iterations": 500,
    "warmup_ratio": 0.001,
    "schedule": "multistep",
    "milestones": (170, 200),
    "gamma": 0.1,
}


def rates(scheduler, optimizer, steps):
    """The learning rate of each step that a torch scheduler gives."""
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scheduler.step()
    return found


@pytest.mark.parametrize("warmup_iterations", [1, 7, 40])
@pytest.mark.parametrize("schedule", ["multistep", "cosine"])
def test_it_is_torchs_warm_up_times_torchs_schedule(schedule, warmup_iterations):
    settings = PUBLISHED | {
        "steps_per_epoch": 5,
        "total_steps": 60,
        "milestones": (4, 6, 11),
        "gamma": 0.3,
        "warmup_iterations": warmup_iterations,
        "warmup_ratio": 0.02,
        "schedule": schedule,
    }
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    warmup = lr_scheduler.LinearLR(optimizer, start_factor=0.02, total_iters=warmup_iterations)
    if schedule == "cosine":
        main = lr_scheduler.CosineAnnealingLR(optimizer, T_max=60)
    else:
        main = lr_scheduler.MultiStepLR(optimizer, milestones=[20, 30, 55], gamma=0.3)
    expected = rates(lr_scheduler.ChainedScheduler([warmup, main], optimizer=optimizer), optimizer, 60)
    assert [lr_factor(step, **settings) for step in range(60)] == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("cosine_from", [0.25, 0.5, 0.9])
def test_a_late_cosine_is_flat_and_then_torchs(cosine_from):
    settings = PUBLISHED | {"total_steps": 40, "warmup_iterations": 0, "schedule": "cosine", "cosine_from": cosine_from}
    start = round(40 * cosine_from)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    falling = rates(lr_scheduler.CosineAnnealingLR(optimizer, T_max=40 - start), optimizer, 40 - start)
    assert [lr_factor(step, **settings) for step in range(40)] == pytest.approx([1.0] * start + falling, abs=1e-9)
    assert lr_factor(40, **settings) == pytest.approx(0, abs=1e-12)


def test_the_published_schedule_in_closed_form():
    """MMCV's linear warm-up: lr·(1 - k), k = (1 - i/N)(1 - ratio)."""
    for step in (0, 1, 250, 499):
        assert lr_factor(step, **PUBLISHED) == pytest.approx(1 - (1 - step / 500) * (1 - 0.001))
    assert lr_factor(0, **PUBLISHED) == pytest.approx(0.001)
    assert lr_factor(500, **PUBLISHED) == 1
    assert lr_factor(170 * 31 - 1, **PUBLISHED) == 1
    assert lr_factor(170 * 31, **PUBLISHED) == pytest.approx(0.1)
    assert lr_factor(200 * 31 - 1, **PUBLISHED) == pytest.approx(0.1)
    assert lr_factor(200 * 31, **PUBLISHED) == pytest.approx(0.01)


def test_without_warm_up_the_first_step_is_whole():
    assert lr_factor(0, **PUBLISHED | {"warmup_iterations": 0}) == 1


def test_a_cosine_ends_at_0():
    cosine = PUBLISHED | {"schedule": "cosine", "total_steps": 100, "warmup_iterations": 0}
    assert lr_factor(0, **cosine) == 1
    assert lr_factor(50, **cosine) == pytest.approx(0.5)
    assert lr_factor(75, **cosine) == pytest.approx((1 - math.sqrt(0.5)) / 2)
    assert lr_factor(100, **cosine) == pytest.approx(0, abs=1e-12)
    assert lr_factor(130, **cosine) == pytest.approx(0, abs=1e-12)


def test_it_never_grows_after_the_warm_up():
    for schedule in ("multistep", "cosine"):
        factors = [lr_factor(step, **PUBLISHED | {"schedule": schedule}) for step in range(500, 210 * 31)]
        assert all(later <= earlier for earlier, later in pairwise(factors))


@pytest.mark.parametrize("total", [40, 41, 1000])
def test_shares_are_the_steps_that_they_come_to(total):
    shares = PUBLISHED | {"total_steps": total, "warmup_iterations": 0.1, "milestones": (0.5, 0.8)}
    warmup, first, second = (math.ceil(share * total) for share in (0.1, 0.5, 0.8))
    in_steps = shares | {"steps_per_epoch": 1, "warmup_iterations": warmup, "milestones": (first, second)}
    assert [lr_factor(step, **shares) for step in range(total)] == [
        lr_factor(step, **in_steps) for step in range(total)
    ]


def test_what_depends_on_the_runs_length_differs_between_lengths():
    for schedule in ("multistep", "cosine"):
        for warmup in (0, 5, 0.2):
            for milestones in ((2, 3), (0.4, 0.8)):
                settings = PUBLISHED | {"steps_per_epoch": 10, "schedule": schedule}
                settings |= {"warmup_iterations": warmup, "milestones": milestones}
                short, long = (
                    [lr_factor(step, **settings | {"total_steps": total}) for step in range(40)] for total in (40, 80)
                )
                assert (short != long) == depends_on_the_end(schedule, warmup, milestones)
