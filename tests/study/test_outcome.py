"""What a trial's process came to, by its exit code, its reason and its log."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from catpose.analysis.configurations import Design, gather
from catpose.errors import BAD_INPUT
from catpose.page.runs import read_runs
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


def test_the_best_validation_may_be_within_an_epoch_as_that_of_best_ckpt(finished: Path, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    shutil.copytree(finished, run.path, ignore=shutil.ignore_patterns("*.ckpt", "wandb"))
    rows = list(csv.DictReader(run.metrics.open(newline="")))
    within = rows[1] | {"epoch_seconds": "", "val/AP": "0.99"}
    with run.metrics.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows([rows[0] | {"val/AP": "nan"}, within, *rows[1:]])
    outcome = result(run, "val/AP", Outcome(), False).outcome
    (training,) = read_runs([run.path]).trainings
    assert (outcome.best_ap, outcome.best_epoch, training.best_ap) == (0.99, 1, 0.99)
    assert outcome.values["val/AP"] == training.values["val/AP"] == float(rows[-1]["val/AP"])


@pytest.mark.parametrize("reader", ["study", "page"])
def test_a_run_whose_last_epoch_has_no_validation_has_no_ap(finished: Path, tmp_path: Path, reader: str) -> None:
    """Neither in a study nor on a page, where the AP is the last epoch's, of the weights that --final takes."""
    run = RunDirectory(tmp_path / "run")
    shutil.copytree(finished, run.path, ignore=shutil.ignore_patterns("*.ckpt", "wandb"))
    rows = list(csv.DictReader(run.metrics.open(newline="")))
    rows[-1] |= {key: "" for key in rows[-1] if key.startswith("val/")}
    with run.metrics.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    if reader == "study":
        ended = result(run, "val/AP", Outcome(), False)
        assert (ended.how, ended.outcome.values) == ("failed", {})
        reason = ended.outcome.reason
    else:
        (configuration,) = gather(Design("page"), read_runs([run.path]).trainings)
        assert not configuration.seeds
        reason = str(configuration.losses[0])
    assert "last epoch" in str(reason)
