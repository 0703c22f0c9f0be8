"""BatchNorm and single samples: said before the training, or not at all."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from refused import exit_code, refused, says

from catpose.fit import main

fit = functools.partial(exit_code, main)


def options(tiny: Path, out: Path, *more: str) -> list[object]:
    return ["--config", tiny, "--out", out, "--wandb.mode=disabled", "--trainer.max_epochs=1", *more]


def test_maps_of_one_pixel_are_refused_before_the_training(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--data.batch_size=1", "--data.input_size=[32, 32]"]
    line = refused(main, options(tiny, tmp_path / "run", *small), capsys, tmp_path)
    says(line, "data.batch_size: 1", "BatchNorm", "give two or more")


@pytest.mark.slow
def test_of_larger_maps_a_line_is_said(tiny: Path, tmp_path: Path) -> None:
    alone = ["--data.batch_size=1", "--trainer.limit_train_batches=2"]
    assert fit(*options(tiny, tmp_path / "run", *alone)) == 0
    log = (tmp_path / "run" / "log.txt").read_text()
    said, first_epoch = (
        log.index("data.batch_size: 1: BatchNorm learns from one picture at a time"),
        log.index(" epoch 0: "),
    )
    assert said < first_epoch


@pytest.mark.slow
def test_two_samples_are_not_mentioned(tiny: Path, tmp_path: Path) -> None:
    two = ["--data.batch_size=2", "--data.input_size=[32, 32]", "--trainer.limit_train_batches=1"]
    assert fit(*options(tiny, tmp_path / "run", *two)) == 0
    assert "BatchNorm learns" not in (tmp_path / "run" / "log.txt").read_text()
