"""Results as text: figures, alignment, order, and the files of a run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from catpose.show.table import closing_table, figure, score_table, size, table
from catpose.skeleton import KEYPOINTS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (math.nan, ""),
        (0.0, "0.0000"),
        (0.67325, "0.6733"),
        (1.0, "1.0000"),
        (132, "132"),
        (12.3456, "12.35"),
    ],
)
def test_figures(value: float | None, text: str) -> None:
    assert figure(value) == text


def test_columns_are_aligned() -> None:
    lines = table([("a", "1.0", "x"), ("longer", "100.25", "")], ("name", "n", "note")).splitlines()
    assert lines == [
        "name         n  note",
        "------  ------  ----",
        "a          1.0     x",
        "longer  100.25",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    assert table([], ("name", "value")).splitlines() == ["name  value", "----  -----"]


def test_a_score_is_the_family_then_each_keypoint() -> None:
    values = {f"val/AP/{name}": 0.5 for name in reversed(KEYPOINTS)} | {"val/AR": 0.7, "val/AP": 0.6, "val/loss": 9.0}
    rows = [line.split() for line in score_table(values, "val/").splitlines()[2:]]
    assert rows == [["AP", "0.6000"], ["AR", "0.7000"], *([name, "0.5000"] for name in KEYPOINTS)]


def test_a_figure_that_rests_on_nothing_is_blank() -> None:
    lines = score_table({"AP": 0.25, "AP_M": math.nan, "AP_L": None}).splitlines()
    assert [line.split() for line in lines[2:]] == [["AP", "0.2500"], ["AP_M"], ["AP_L"]]


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0.0 kB"), (1500, "1.5 kB"), (999_949, "999.9 kB"), (5_040_000, "5.0 MB"), (2_000_000_000, "2000.0 MB")],
)
def test_sizes(n: int, text: str, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(n)
    assert size(tmp_path / "file") == text


def test_the_closing_table_names_the_files_and_the_runs_that_wandb_has_yet_to_send(tmp_path: Path) -> None:
    (tmp_path / "wandb" / "offline-run-1" / "files").mkdir(parents=True)
    (tmp_path / "wandb" / "offline-run-1" / "files" / "inner.txt").write_text("W&B's own")
    for name in ("best.ckpt", "metrics.csv"):
        (tmp_path / name).write_text("content")
    text = closing_table({"val/AP": 0.5, "val/AP/neck": 0.25}, 0.625, 3, tmp_path)
    assert "last epoch 0.5000, best 0.6250 in epoch 3" in text
    files = text.split("files:\n")[1].splitlines()
    assert [line.split()[0] for line in files] == [
        str(tmp_path / "best.ckpt"),
        str(tmp_path / "metrics.csv"),
        str(tmp_path / "wandb" / "offline-run-1"),
    ]
    assert f"wandb sync {tmp_path / 'wandb' / 'offline-run-1'}" in files[-1]
    assert "inner.txt" not in text


def test_a_run_without_validation_has_no_figure(tmp_path: Path) -> None:
    assert "last epoch , best " in closing_table({"train/loss": 0.1}, math.nan, -1, tmp_path)
