"""What is said before a training: its steps, and what doesn't suit the data."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging

from catpose.fit import main
from catpose.run.directory import RunDirectory
from catpose.run.outlook import UNVALIDATED, Schedule, ends_validated, first_share, outlook, progress

#: The published settings on 1000 cats.
PUBLISHED = Schedule(
    animals=1000, validated=132, batch=32, steps=32, total_steps=6720, warmup=500, milestones=[170 * 32, 200 * 32]
)
FEW = Schedule(49, 12, 14, steps=4, total_steps=840, warmup=500, milestones=[680, 800])


def test_the_published_run_has_no_warning() -> None:
    assert [*outlook(PUBLISHED)] == ["1000 animals → 32 steps an epoch, 6720 in all; warm-up ends in epoch 16"]


def test_few_animals() -> None:
    line, *warnings = outlook(FEW)
    assert line == "49 animals → 4 steps an epoch, 840 in all; warm-up ends in epoch 125"
    assert [warning.split(";")[0] for warning in warnings] == [
        "warning: warm-up takes 60% of the run",
        "warning: validation has 12 animals: a difference between two models of less than about 0.3 AP can't be told"
        " from chance",
    ]


@pytest.mark.parametrize(
    ("differing", "said"),
    [
        ({"warmup": 900}, "the whole run, which never reaches model.lr; set model.warmup_iterations to 0.1"),
        ({"milestones": [80, 840]}, "model.milestones 210 lie behind the run's end after 210 epochs"),
        ({"late_from": 210}, "data.late_from 210 lies behind the run's end after 210 epochs"),
        ({"first_share": 0.37}, "averaged weights are still 37% those of its first step"),
        ({"is_end_validated": False}, "its last step is followed by no validation"),
        ({"batch": 64}, "data.batch_size 64 exceeds the 49 animals: an epoch is one step; set data.batch_size to 12"),
    ],
)
def test_each_warning_names_its_remedy(differing: dict[str, object], said: str) -> None:
    quiet = FEW._replace(warmup=84, validated=200)
    assert len([*outlook(quiet)]) == 1
    (_, warning) = outlook(quiet._replace(**differing))
    assert said in warning
    assert "set " in warning


@given(st.floats(0.5, 0.999), st.integers(1, 300), st.integers(1, 4), st.none() | st.integers(0, 20))
def test_what_an_average_keeps_of_its_first_weights_is_what_lightnings_keeps(
    decay: float, steps: int, every: int, start: int | None
) -> None:
    """Of weights that are 1 in the first step that is averaged and 0 after it."""
    callback = EMAWeightAveraging(decay=decay, update_every_n_steps=every, update_starting_at_step=start)
    average, n = torch.tensor(0.0), 0
    for step in range(steps):
        if callback.should_update(step_idx=step):
            average = callback._kwargs["avg_fn"](average, torch.tensor(0.0), n) if n else torch.tensor(1.0)
            n += 1
    if n:
        assert first_share(callback, steps) == pytest.approx(float(average), rel=1.1 / decay - 1, abs=1e-6)
    assert first_share(EarlyStopping("val/AP"), steps) == 0


#: trainer.max_epochs, max_steps, check_val_every_n_epoch, val_check_interval, accumulate_grad_batches
LENGTHS = [
    (2, -1, 1, 1.0, 1),
    (2, -1, 1, 0.5, 1),
    (2, -1, 1, 0.3, 2),
    (3, -1, 2, None, 1),
    (4, -1, 2, None, 3),
    (3, 5, 1, None, 1),
    (-1, 6, None, 3, 1),
    (-1, 7, None, 3, 1),
    (3, -1, None, 4, 2),
    (-1, 4, 1, 2, 3),
]


@given(
    st.integers(1, 12), st.integers(1, 4), st.integers(1, 60), st.none() | st.integers(1, 3),
    st.none() | st.integers(1, 12) | st.sampled_from([0.1, 0.3, 0.5, 1.0]),
)  # fmt: skip
def test_an_end_is_validated_where_counting_batch_by_batch_says_so(
    batches: int, accumulate: int, steps: int, every: int | None, interval: float | None
) -> None:
    apart = interval if isinstance(interval, int) else max(1, int(batches * (interval or 1.0)))
    batch = taken = 0
    while taken < steps:  # Lightning's loop
        epoch, of_epoch = batch // batches + 1, batch % batches + 1
        batch += 1
        taken += of_epoch % accumulate == 0 or of_epoch == batches
        validates = batch % apart == 0 if every is None else epoch % every == 0 and of_epoch % apart == 0
    assert ends_validated(batches, accumulate, steps, every, interval) == validates


@pytest.mark.slow
@pytest.mark.parametrize(("epochs", "steps", "every", "interval", "accumulate"), LENGTHS)
def test_fit_warns_where_its_end_has_no_ap(
    tiny: Path, tmp_path: Path, epochs: int, steps: int, every: int | None, interval: float | None, accumulate: int
) -> None:
    run = RunDirectory(tmp_path / "run")
    named = {"max_epochs": epochs, "max_steps": steps, "check_val_every_n_epoch": every, "val_check_interval": interval}
    named["accumulate_grad_batches"] = accumulate
    settings = [f"--trainer.{key}={'null' if value is None else value}" for key, value in named.items()]
    main(["--config", str(tiny), "--out", str(run.path), "--wandb.mode=disabled", "--model.warmup_iterations=0",
          *settings])  # fmt: skip
    assert (UNVALIDATED in run.log.read_text()) == (not run.history()[-1].get("val/AP"))


def test_an_endless_run_and_one_without_warm_up() -> None:
    assert [*outlook(PUBLISHED._replace(total_steps=math.inf))] == [
        "1000 animals → 32 steps an epoch; warm-up ends in epoch 16"
    ]
    assert next(outlook(PUBLISHED._replace(warmup=0))).endswith("; no warm-up")


def test_the_more_animals_validate_the_smaller_is_what_can_be_seen() -> None:
    assert len([*outlook(PUBLISHED._replace(validated=96))]) == 2
    assert len([*outlook(PUBLISHED._replace(validated=97))]) == 1


def test_fit_says_it_before_its_first_epoch(tiny: Path, tmp_path: Path) -> None:
    main(["--config", str(tiny), "--out", str(tmp_path / "run"), "--wandb.mode=disabled", "--trainer.max_epochs=1",
          "--model.warmup_iterations=0.5", "--model.milestones=[0.5, 0.9]"])  # fmt: skip
    log = (tmp_path / "run" / "log.txt").read_text()
    said = [line for line in log.splitlines() if "animals → " in line or "warning: " in line]
    assert "steps an epoch, 4 in all; warm-up ends in epoch 1" in said[0] or "steps an epoch, 3 in all" in said[0]
    assert "model.warmup_iterations to 0.1" in said[1]
    assert log.index(said[0]) < log.index(" epoch 0: ")


@pytest.mark.parametrize(
    ("done", "epochs", "seconds", "line"),
    [
        (3, 50, 705.0, "epoch 3 of 50: AP 0.5321, loss 0.0123; about 12 min left"),
        (50, 50, 0.0, "epoch 50 of 50: AP 0.5321, loss 0.0123"),
        (3, None, math.inf, "epoch 3: AP 0.5321, loss 0.0123"),
    ],
)
def test_an_epoch_is_a_line_with_the_time_left(done: int, epochs: int | None, seconds: float, line: str) -> None:
    assert progress(done, epochs, {"train/loss": 0.0123, "val/AP": 0.53214, "lr": 1.0}, seconds) == line


def test_a_run_says_how_far_it_is_and_nothing_of_what_is_not_there(trained: Path) -> None:
    lines = [line for line in (trained.parent / "stdout").read_text().splitlines() if line.startswith("epoch ")]
    assert [line.split(":")[0] for line in lines] == ["epoch 1 of 3", "epoch 2 of 3", "epoch 3 of 3"]
    assert all("AP " in line and len(line) <= 80 for line in lines)
    log = (trained / "log.txt").read_text()
    assert "FeaturePyramid has " in log
    assert not any(word in log for word in ("💡", "TPU available", "FLOPs"))
