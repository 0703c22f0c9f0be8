"""Checkpoints are written beside the training, no oftener than is cheap; the thread's errors are heard."""

from __future__ import annotations

import itertools
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Callback

import catpose.files
from catpose.errors import InputError
from catpose.fence import CLAIM, Superseded
from catpose.fit import main
from catpose.run import checkpoint_writer
from catpose.run.checkpoint import read_checkpoint
from catpose.run.checkpoint_writer import ALLOWANCE_S, SHARE, BackgroundCheckpointIO
from catpose.run.directory import RunDirectory
from catpose.score.protocol import Score


def checkpoint(n: int, weights: float | None = None) -> dict[str, Any]:
    state = {"weights": torch.full((100,), float(n if weights is None else weights))}
    return {"epoch": n, "global_step": n, "state_dict": state, "optimizer_states": [torch.full((200,), float(n))]}


def epoch_of(file: Path) -> int:
    content = torch.load(file, weights_only=True)
    assert (content["state_dict"]["weights"] == content["epoch"]).all()
    return int(content["epoch"])


@pytest.fixture
def writer(tmp_path: Path) -> BackgroundCheckpointIO:
    return BackgroundCheckpointIO(RunDirectory(tmp_path), None)


class Slow(BackgroundCheckpointIO):
    """One whose writes take so many seconds of a clock that is set by hand."""

    def __init__(self, seconds: float | None, cost: float) -> None:
        self.now, self.cost = 0.0, cost
        super().__init__(RunDirectory(Path("nowhere")), seconds)

    def clock(self) -> float:  # type: ignore[override]
        return self.now

    def _write(self, *_: Any) -> float:
        return self._began + self.cost

    def epochs(self, seconds: float, n: int) -> list[bool]:
        """For each of n epochs of a length whether its end is written; the writes themselves take no time of theirs."""
        due = []
        for epoch in range(n):
            self.now += seconds
            due.append(self.is_due())
            if due[-1]:
                self.save_checkpoint(checkpoint(epoch), self.run.last)
                self.wait()
        return due


@given(cost=st.floats(0, 60), seconds=st.floats(0.01, 1000))
def test_writing_takes_no_more_than_its_share(cost: float, seconds: float) -> None:
    writer = Slow(None, cost)
    due = writer.epochs(seconds, 60)
    assert due[0]
    assert sum(due) * cost <= ALLOWANCE_S + SHARE * writer.now + cost + 1e-6
    gaps = [i for i, each in enumerate(due) if each]
    assert all((b - a - 1) * seconds <= cost / SHARE + 1e-6 for a, b in itertools.pairwise(gaps))
    if cost <= SHARE * seconds or 60 * cost <= ALLOWANCE_S:  # a small model's, or a short run
        assert all(due)


@pytest.mark.parametrize(("setting", "ends"), [(0, [0, 1, 2, 3, 4, 5]), (10, [0, 1, 2, 3, 4, 5]), (25, [0, 3])])
def test_the_setting_is_the_time_between_two(setting: float, ends: list[int]) -> None:
    assert [i for i, due in enumerate(Slow(setting, cost=100.0).epochs(10, 6)) if due] == ends


def test_a_write_that_goes_on_counts_while_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    writer, go = Slow(None, cost=0.0), threading.Event()
    monkeypatch.setattr(writer, "_write", lambda *_: go.wait() and writer.now)
    writer.save_checkpoint(checkpoint(0), writer.run.last)
    writer.now = ALLOWANCE_S
    assert writer.is_due()
    writer.now = 2 * ALLOWANCE_S
    assert not writer.is_due()
    go.set()
    writer.wait()
    assert not writer.is_due()


def test_training_goes_on_while_a_checkpoint_is_written(
    writer: BackgroundCheckpointIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, write = threading.Event(), checkpoint_writer.write_serialised
    monkeypatch.setattr(checkpoint_writer, "write_serialised", lambda *args: (go.wait(), write(*args)))
    content = checkpoint(1)
    writer.save_checkpoint(content, writer.run.last)
    content["state_dict"]["weights"] += 1  # by the next step
    writer.check()
    assert not writer.run.last.exists()
    go.set()
    writer.teardown()
    assert epoch_of(writer.run.last) == 1


def test_the_best_goes_with_the_next_and_before_it(
    writer: BackgroundCheckpointIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    best, last = writer.run.best, writer.run.last
    content = checkpoint(1)
    writer.save_checkpoint(content, best)
    content["state_dict"]["weights"] += 1
    assert not best.exists()
    order, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append(Path(b)), replace(a, b)))
    writer.save_checkpoint(checkpoint(2), last)
    writer.wait()
    assert order == [best, last]
    assert (epoch_of(best), epoch_of(last)) == (1, 2)
    assert "optimizer_states" not in torch.load(best)
    writer.save_checkpoint(checkpoint(3), last)
    writer.wait()
    assert (epoch_of(best), epoch_of(last)) == (1, 3)


@pytest.mark.parametrize("links", [True, False])
def test_a_best_that_is_the_last_is_one_file(
    links: bool, writer: BackgroundCheckpointIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not links:  # as on FAT
        monkeypatch.setattr(os, "link", refuse)
    best, last = writer.run.best, writer.run.last
    for n in (1, 2):
        writer.save_checkpoint(checkpoint(n), best)
        writer.save_checkpoint(checkpoint(n), last)
        writer.wait()
        assert best.samefile(last) == links
        assert best.read_bytes() == last.read_bytes()
        assert epoch_of(last) == n
    writer.save_checkpoint(checkpoint(3), last)
    writer.wait()
    assert (epoch_of(best), epoch_of(last)) == (2, 3)
    assert sorted(file.name for file in best.parent.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_weights_that_moved_after_the_validation_are_another_model(writer: BackgroundCheckpointIO) -> None:
    writer.save_checkpoint(checkpoint(1), writer.run.best)
    writer.save_checkpoint(checkpoint(1, weights=1.5), writer.run.last)
    writer.wait()
    assert not writer.run.best.samefile(writer.run.last)
    assert epoch_of(writer.run.best) == 1


def test_other_files_are_written_at_once(writer: BackgroundCheckpointIO, tmp_path: Path) -> None:
    writer.save_checkpoint(checkpoint(1), tmp_path / "mine.ckpt")
    assert epoch_of(tmp_path / "mine.ckpt") == 1


@pytest.mark.parametrize("heard", ["check", "is_due", "wait", "teardown", "save"])
def test_an_error_of_the_thread_is_heard(
    heard: str, writer: BackgroundCheckpointIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    writer.save_checkpoint(checkpoint(1), writer.run.last)
    writer.wait()
    monkeypatch.setattr(catpose.files, "_on_disk", full)
    writer.save_checkpoint(checkpoint(2), writer.run.last)
    assert writer._writing is not None
    while not writer._writing.done():
        pass
    call = getattr(writer, heard, lambda: writer.save_checkpoint(checkpoint(3), writer.run.last))
    with pytest.raises(InputError, match=r"last\.ckpt: cannot be written \(No space left on device\); make room"):
        call()
    writer.teardown()  # once
    assert epoch_of(writer.run.last) == 1


def test_the_thread_of_what_was_taken_over_writes_nothing(
    writer: BackgroundCheckpointIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mark").write_text("study:2")
    monkeypatch.setenv(CLAIM, f"study:1 {tmp_path / 'mark'}")
    writer.save_checkpoint(checkpoint(1), writer.run.last)
    with pytest.raises(Superseded):
        writer.teardown()
    assert not writer.run.last.exists()


def test_each_process_has_its_own(writer: BackgroundCheckpointIO) -> None:
    own = pickle.loads(pickle.dumps(writer))  # as `ddp_spawn` does
    own.save_checkpoint(checkpoint(1), own.run.last)
    own.teardown()
    assert epoch_of(writer.run.last) == 1


class Ends(Callback):
    """Ends a run within its fourth epoch, as a kill does, or asks that it end with its second, as $ENDS says."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        how = os.environ.get("ENDS")
        if how == "kill" and (trainer.current_epoch, batch_idx) == (3, 1):
            raise RuntimeError("killed")
        if how == "stop" and trainer.current_epoch == 1:
            Path(trainer.default_root_dir, "stop").touch()


def rows(run: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if "second" not in k} for row in RunDirectory(run).rows()]


def same_model(a: Path, b: Path) -> bool:
    one, other = read_checkpoint(a), read_checkpoint(b)
    same = all(torch.equal(value, other["state_dict"][name]) for name, value in one["state_dict"].items())
    return same and [one[key] == other[key] for key in ("epoch", "global_step")] == [True, True]


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 3])
def test_a_run_goes_back_to_its_last_checkpoint_and_comes_to_the_same(
    every: int, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its first epoch and the last of a start have one; it validates each third epoch, or all."""
    whole, run = tmp_path / "whole", tmp_path / "run"

    def fit(out: Path, seconds: int, ends: str = "") -> None:
        monkeypatch.setenv("ENDS", ends)
        options = ["--wandb.mode=disabled", "--trainer.max_epochs=5", f"--trainer.check_val_every_n_epoch={every}"]
        options += [f"--trainer.callbacks+={__name__}.Ends", f"--checkpoint_seconds={seconds}", f"--out={out}"]
        main(["--config", str(tiny), *options])

    fit(whole, 0)
    with pytest.raises(RuntimeError, match="killed"):
        fit(run, 1000, "kill")
    assert read_checkpoint(run / "last.ckpt")["epoch"] == 0
    assert rows(run) == rows(whole)[:3]
    step = Score.read(run / "val_score.json").checkpoint["step"]
    fit(run, 1000, "stop")
    assert "epochs from 1 on have no checkpoint, and are trained again" in (run / "log.txt").read_text()
    assert rows(run) == rows(whole)[:2]
    if every == 1:
        assert Score.read(run / "val_score.json").checkpoint["step"] < step
    else:  # what was validated is to be trained again
        assert not (run / "val_score.json").exists()
        assert not (run / "val_results.json").exists()
    fit(run, 1000)
    assert rows(run) == rows(whole)
    assert (run / "val_results.json").read_bytes() == (whole / "val_results.json").read_bytes()
    for name in ("best.ckpt", "last.ckpt"):
        assert same_model(run / name, whole / name), name
