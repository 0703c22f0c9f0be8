from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path

import pytest

from catpose.cost.runtime import COLUMNS, run_time
from catpose.errors import InputError

ROWS = [(0, 10, 9.0, 10.0, 8.0), (1, 20, 4.0, 5.0, 20.0), (2, 30, 5.0, 7.0, 16.0), (3, 40, 3.0, 3.0, 24.0)]


def written(folder: Path, rows: list[tuple] = ROWS, starts: list[dict] | None = None) -> Path:
    lines = [",".join(COLUMNS), *(",".join(map(str, row)) for row in rows)]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    if starts is not None:
        (folder / "run.json").write_text(json.dumps({"wandb_id": "a", "starts": starts}))
    return folder


def test_times_by_hand(tmp_path: Path) -> None:
    time = run_time(written(tmp_path))
    assert (time.epochs, time.starts, time.first_epochs, time.first_epochs_s) == (4, 1, (0,), (10.0,))
    assert (time.epoch.mean_s, time.epoch.std_s) == (5.0, statistics.stdev([5, 7, 3]))
    assert (time.epoch.slowest_s, time.epoch.slowest_epoch) == (7.0, 2)
    assert (time.epoch.fastest_s, time.epoch.fastest_epoch) == (3.0, 3)
    assert time.iteration is not None
    assert time.iteration.mean_s == pytest.approx(0.4)  # training alone, ten steps
    assert (time.iteration.slowest_epoch, time.iteration.fastest_epoch) == (2, 3)
    assert time.training_share == 12 / 15
    assert time.images_per_s == pytest.approx((4 * 20 + 5 * 16 + 3 * 24) / 12)
    assert time.total_s == 25.0


def test_the_first_epoch_of_each_start_is_apart(tmp_path: Path) -> None:
    """The second start finished no epoch, and the fourth has finished none so far."""
    time = run_time(written(tmp_path, starts=[{"first_epoch": epoch} for epoch in (0, 2, 2, 4)]))
    assert time.starts == 4
    assert time.first_epochs == (0, 2)
    assert time.first_epochs_s == (10.0, 7.0)
    assert time.epoch.mean_s == 4.0
    assert time.total_s == 25.0


@pytest.mark.parametrize(("starts", "first"), [([{}, {}], (0,)), ([{}, {"first_epoch": 2}], (0, 2))])
def test_0_1_0_wrote_no_first_epochs_down(starts: list[dict], first: tuple[int, ...], tmp_path: Path) -> None:
    time = run_time(written(tmp_path, starts=starts))
    assert time.starts == 2
    assert time.first_epochs == first


def test_a_single_epoch_stands_for_itself(tmp_path: Path) -> None:
    time = run_time(written(tmp_path, ROWS[:1]))
    assert time.epoch.mean_s == time.epoch.slowest_s == time.epoch.fastest_s == 10.0
    assert time.epoch.std_s is None
    assert time.iteration is not None
    assert time.iteration.mean_s == 0.9


def test_iterations_that_the_rows_do_not_tell(tmp_path: Path) -> None:
    """Rows from epoch 5 on: of that one the number of steps is unknown."""
    rows = [(epoch + 5, *row) for epoch, *row in ROWS]
    time = run_time(written(tmp_path, rows[:1]))
    assert time.iteration is None
    time = run_time(written(tmp_path, rows))
    assert time.iteration is not None
    assert time.iteration.mean_s == pytest.approx(0.4)


def test_a_real_run(trained: Path) -> None:
    time = run_time(trained)
    with (trained / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    seconds = [float(row["epoch_seconds"]) for row in rows]
    assert time.epochs == len(rows) == 3
    assert time.starts == 1
    assert time.first_epochs == (0,)
    assert time.total_s == pytest.approx(sum(seconds))
    assert time.epoch.mean_s == pytest.approx(statistics.fmean(seconds[1:]))
    assert time.epoch.fastest_s <= time.epoch.mean_s <= time.epoch.slowest_s
    assert time.iteration is not None
    assert time.iteration.mean_s == pytest.approx(
        statistics.fmean(float(row["train_seconds"]) / int(rows[0]["step"]) for row in rows[1:])
    )
    assert 0 < time.training_share < 1


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no epoch in a metrics\.csv"):
        run_time(tmp_path)
    with pytest.raises(InputError, match=r"has no epoch in a metrics\.csv"):
        run_time(written(tmp_path, []))


@pytest.mark.parametrize("cell", ["nan", "inf", "-1", "0", "x", "1e999", "9" * 400])
def test_senseless_times_are_refused(cell: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"metrics\.csv: has no usable epoch, step, train_seconds"):
        run_time(written(tmp_path, [(0, 10, cell, 10.0, 8.0)]))


def test_columns_that_are_missing_are_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,step\n0,10\n")
    with pytest.raises(InputError, match="images_per_second"):
        run_time(tmp_path)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"epoch,step\nzero,1\n", b"a,b\n1,2,3\n"])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        run_time(tmp_path)
