"""Results as text: numbers, alignment, order, and the files of a run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from skeletons import KEYPOINTS

from catpose.run.table import closing_table, score_table, size
from catpose.score.protocol import EvaluationProtocol, Score


def test_a_score_is_the_family_then_each_keypoint() -> None:
    values = {f"AP/{name}": 0.5 for name in KEYPOINTS} | {"AR": 0.7, "AP": 0.6, "loss": 9.0}
    rows = [line.split() for line in score_table(values).splitlines()[2:]]
    assert rows == [["AP", "0.6000"], ["AR", "0.7000"], *([name, "0.5000"] for name in KEYPOINTS)]


def test_a_value_that_rests_on_nothing_is_blank() -> None:
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
    protocol = EvaluationProtocol("val", "0123", "", "", True, "", instances=9, seen=9)
    score = Score({"AP": 0.5, "AP/neck": 0.25}, protocol, checkpoint={"epoch": 4, "step": 20})
    text = closing_table(score, 20, "best val/AP 0.6250 in epoch 3", tmp_path)
    assert (
        "last 0.5000 on 9 of 9 instances (epoch 4, step 20 of 20)\nbest.ckpt: best val/AP 0.6250 in epoch 3\n" in text
    )
    files = text.split("files:\n")[1].splitlines()
    assert [line.split()[0] for line in files] == [
        str(tmp_path / "best.ckpt"),
        str(tmp_path / "metrics.csv"),
        str(tmp_path / "wandb" / "offline-run-1"),
    ]
    assert f"wandb sync {tmp_path / 'wandb' / 'offline-run-1'}" in files[-1]
    assert "inner.txt" not in text


def test_a_run_without_validation_has_no_score(tmp_path: Path) -> None:
    assert "nothing was validated\nbest.ckpt: none\n" in closing_table(None, 20, "none", tmp_path)
