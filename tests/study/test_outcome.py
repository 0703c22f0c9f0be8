"""What a trial's process came to, by its exit code, its reason and its log."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from catpose.errors import BAD_INPUT
from catpose.run.directory import RunDirectory
from catpose.study.outcome import failure, last_words, reason_of, result
from catpose.study.stored import Outcome


@pytest.mark.parametrize(
    ("code", "how", "reason"),
    [
        (BAD_INPUT, "failed", "out of cats"),
        (1, "failed", "exit code 1: out of cats"),
        (-9, "vanished", "its process was ended by SIGKILL"),
        (137, "vanished", "its process was ended by SIGKILL"),
        (143, "vanished", "its process was ended by SIGTERM"),
        (255, "vanished", "its process was ended by signal 127"),
    ],
)
def test_an_exit_code_tells_how_a_process_ended(code: int, how: str, reason: str) -> None:
    ended = failure(code, "out of cats", Outcome(run="runs/x"))
    assert (ended.how, ended.outcome) == (how, Outcome(run="runs/x", reason=reason))
    assert ended.is_refused == (code == BAD_INPUT)


@pytest.mark.parametrize(
    ("printed", "last"),
    [
        ("one\ntwo\n\n", "its last line: two"),
        (
            "Killed by me\n\rEpoch 0:  10%|█ | 1/10\rEpoch 0:  90%|█████████ | 9/10, v_num=x",
            "its last line: Killed by me",
        ),
        ("Killed by me\r\n\rEpoch 0: 9/10\rEpoch 0: 10/10\n", "its last line: Killed by me"),
        ("\rEpoch 0: 1/10\rEpoch 0: 2/10", "printed nothing"),
        ("", "printed nothing"),
        ("before\n", "printed nothing"),
    ],
)
def test_a_progress_bar_is_nobodys_last_words(tmp_path: Path, printed: str, last: str) -> None:
    log = tmp_path / "log"
    log.write_text(printed, newline="")
    assert last_words(log, log.stat().st_size if printed == "before\n" else 0).endswith(last)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"error": ', '{"error": ""}', "{}", "[" * 7000, '{"error": "' + "x" * 9000]
)
def test_a_damaged_reason_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "reason").write_text(text)
    assert reason_of(tmp_path / "reason") is None
    assert reason_of(tmp_path / "no such") is None


def test_epochs_without_a_validation_take_time_too(trained: Path, tmp_path: Path) -> None:
    seldom = Path(shutil.copytree(trained, tmp_path / "run"))
    with (seldom / "metrics.csv").open(newline="") as file:
        first, *others = csv.DictReader(file)
    rows = [{name: "" if name.startswith("val/") else value for name, value in first.items()}, *others]
    with (seldom / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*first])
        writer.writeheader()
        writer.writerows(rows)
    always, sometimes = (result(RunDirectory(each), "val/AP", Outcome(), False) for each in (trained, seldom))
    assert sometimes.how == "complete"
    assert sometimes.outcome.seconds == always.outcome.seconds
    assert sometimes.outcome.seconds == pytest.approx(sum(float(row["epoch_seconds"]) for row in rows), abs=0.05)
