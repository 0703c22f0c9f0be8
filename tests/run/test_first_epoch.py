"""A run that ends badly in its first epoch keeps nobody from another try in its folder, with other settings too."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from refused import exit_code

from catpose.fit import main
from catpose.run.directory import RunDirectory

fit = functools.partial(exit_code, main)


class Fails(pl.Callback):
    """An exception at a moment of the first epoch."""

    def __init__(self, hook: str) -> None:
        setattr(self, hook, self.fail)

    def fail(self, *_: Any) -> None:
        raise RuntimeError("a bug of somebody's")


def failing(trainer: pl.Trainer, original: Any, hook: str, *arguments: Any, **named: Any) -> None:
    """`Trainer.fit` with a callback more, which is no setting of the run."""
    trainer.callbacks.append(Fails(hook))
    original(trainer, *arguments, **named)


def options(tiny: Path, out: Path, *more: str) -> list[object]:
    return ["--config", tiny, "--out", out, "--wandb.mode=disabled", "--trainer.max_epochs=1", *more]


slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize(
    "hook",
    [
        *map(slow, ("on_train_start", "on_train_batch_start", "on_train_batch_end", "on_validation_start")),
        "on_validation_batch_end",
    ],
)
def test_an_exception(hook: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(pl.Trainer, "fit", functools.partialmethod(failing, pl.Trainer.fit, hook))
        with pytest.raises(RuntimeError, match="a bug of somebody's"):
            main([str(option) for option in options(tiny, tmp_path / "run")])
    assert (tmp_path / "run" / "log.txt").exists()  # what happened is kept
    assert fit(*options(tiny, tmp_path / "run", "--model.lr=1e-3")) == 0
    assert [row["epoch"] for row in RunDirectory(tmp_path / "run").history()] == ["0"]
    assert RunDirectory(tmp_path / "run").lineages == 1
    assert fit(*options(tiny, tmp_path / "run")) == 2  # now there is a run to protect


@pytest.mark.slow
def test_a_loss_that_is_no_number(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(*options(tiny, tmp_path / "run", "--model.lr=1e30")) == 2
    assert "the training loss is" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    with monkeypatch.context() as patched:
        patched.setattr(pl.Trainer, "fit", functools.partialmethod(failing, pl.Trainer.fit, "on_train_batch_end"))
        with pytest.raises(RuntimeError, match="a bug of somebody's"):
            main([str(option) for option in options(tiny, tmp_path / "run")])
    assert fit(*options(tiny, tmp_path / "run", "--model.lr=1e30")) == 2  # in a folder that it didn't make
    assert not (tmp_path / "run" / "best.ckpt").exists()
    assert fit(*options(tiny, tmp_path / "run", "--model.lr=1e-3")) == 0


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, slow(1)])
def test_a_picture_that_cant_be_read(
    workers: int, tiny: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    shutil.copytree(drawn, root)
    picture = root / "images" / json.loads((root / "annotations" / "train.json").read_text())["images"][0]["file_name"]
    whole = picture.read_bytes()
    picture.write_bytes(whole[: len(whole) // 2])
    from_there = [f"--data.root={root}", "--data.cache=off", f"--data.num_workers={workers}"]
    assert fit(*options(tiny, tmp_path / "run", *from_there)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"catpose.fit: error: {picture}: ")
    assert "Traceback" not in lines[0]
    picture.write_bytes(whole)
    assert fit(*options(tiny, tmp_path / "run", *from_there, "--model.lr=1e-3")) == 0
