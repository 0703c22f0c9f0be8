"""Whole runs of a small network: files, repeated commands, two processes; test_resume.py disturbs them."""

from __future__ import annotations

import contextlib
import csv
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.strategies import SingleDeviceStrategy
from refused import exit_code, refused, says
from skeletons import SIGMAS

from catpose.data.coco import read_split
from catpose.data.coco_split import split_hash
from catpose.errors import InputError
from catpose.fit import main
from catpose.run.checkpoint import read_checkpoint
from catpose.score.ap import average_precision, match
from catpose.score.detections import Detections
from catpose.score.protocol import Score

fit = functools.partial(exit_code, main)
#: Where frozen.py is found.
PYTHON_PATH = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
OFF = "--wandb.mode=disabled"


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def same_weights(a: Path, b: Path) -> bool:
    states = [read_checkpoint(path)["state_dict"] for path in (a, b)]
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k]) for k in states[0])


@pytest.fixture(scope="module")
def whole(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four epochs that nobody disturbed."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    with (out.parent / "stdout").open("w") as file, contextlib.redirect_stdout(file):
        assert fit("--config", tiny, "--out", out, "--trainer.max_epochs=4", OFF) == 0
    return out


@pytest.mark.slow
def test_a_run_leaves_every_file_that_it_promises_and_names_them(whole: Path) -> None:
    stdout = (whole.parent / "stdout").read_text()
    kept = ("val_results.json", "val_score.json")
    for name in ("config.yaml", "run.json", "metrics.csv", "log.txt", "best.ckpt", "last.ckpt", *kept):
        assert (whole / name).stat().st_size > 0
        assert str(whole / name) in stdout
    assert "left_back_paw" in stdout
    assert f"best val/AP {float(max(rows(whole), key=lambda r: float(r['val/AP']))['val/AP']):.4f}" in stdout
    record = json.loads((whole / "run.json").read_text())
    assert record["starts"][0]["packages"]["torch"] == torch.__version__.split("+")[0] or torch.__version__
    settings = yaml.safe_load((whole / "config.yaml").read_text())
    assert settings["model"]["init_args"]["lr"] == 2e-3
    assert settings["trainer"]["max_epochs"] == 4
    assert [row["epoch"] for row in rows(whole)] == ["0", "1", "2", "3"]


@pytest.mark.slow
def test_a_finished_run_is_left_as_it_is_and_a_longer_one_goes_on(whole: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "short"
    assert fit("--config", tiny, "--out", out, "--trainer.max_epochs=2", OFF) == 0
    before = (out / "last.ckpt").read_bytes()
    assert fit("--config", tiny, "--out", out, "--trainer.max_epochs=2", OFF) == 0
    assert (out / "last.ckpt").read_bytes() == before
    assert len(rows(out)) == 2
    assert fit("--config", tiny, "--out", out, "--trainer.max_epochs=4", OFF) == 0
    assert same_weights(out / "last.ckpt", whole / "last.ckpt")


@pytest.mark.slow
def test_other_settings_in_the_same_folder_are_refused(
    whole: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", tiny, "--out", whole, "--trainer.max_epochs=4", OFF, "--model.lr=1e-4"]
    says(refused(main, words, capsys, whole), "model.lr 0.002 → 0.0001")


@pytest.mark.slow
def test_two_processes_score_as_one(whole: Path, tiny: Path, tmp_path: Path) -> None:
    """One epoch at learning rate next to nothing: both see the same weights, and must find the same AP and loss."""
    # Batch norm's running statistics move even so: with momentum 0 in neither run would they differ; freeze by eval.
    still = ("--trainer.callbacks+=frozen.FrozenNorms", f"--model.weights={whole / 'best.ckpt'}", "--model.lr=1e-30")
    alone, together = tmp_path / "alone", tmp_path / "together"
    common = ("--config", str(tiny), "--trainer.max_epochs=1", OFF, *still)
    assert fit(*common, "--out", alone) == 0
    two = [sys.executable, "-m", "catpose.fit", *common, f"--out={together}"]
    two += ["--trainer.devices=2", "--trainer.strategy=ddp"]
    done = subprocess.run(
        two, capture_output=True, text=True, timeout=600, env={**os.environ, "PYTHONPATH": PYTHON_PATH}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name, value in rows(alone)[0].items():
        if name.startswith("val/") and value:
            assert float(rows(together)[0][name]) == pytest.approx(float(value), abs=1e-6), name
    assert len(rows(together)) == 1


def test_the_detections_kept_are_those_that_the_last_epoch_was_scored_by(trained: Path, drawn: Path) -> None:
    split = read_split(drawn, "val")
    entries = json.loads((trained / "val_results.json").read_text())
    score, last = Score.read(trained / "val_score.json"), rows(trained)[-1]
    again = average_precision(match(split, Detections.from_results(entries, split)))
    assert float(again["AP"]) == pytest.approx(float(last["val/AP"]), abs=1e-6)
    assert score.values["AP"] == pytest.approx(float(again["AP"]), abs=1e-12)
    assert score.protocol.split_hash == split_hash(split)
    for entry in entries:  # one cat a picture: OKS by its definition
        i = split.ids.tolist().index(entry["annotation_id"])
        distance = np.linalg.norm(np.reshape(entry["keypoints"], (17, 3))[:, :2] - split.keypoints[i], axis=1)
        similar = np.exp(-(distance**2) / (2 * split.areas[i] * (2 * np.array(SIGMAS)) ** 2))
        assert entry["oks"] == pytest.approx(similar[split.labelled[i]].mean(), abs=1e-9)


@pytest.mark.slow
def test_averaged_weights_are_on_the_device_that_trains(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Lightning alone where the model is built: with a GPU each step would copy all weights to the CPU."""
    devices = []

    def setup(averaging: EMAWeightAveraging, *_: object, **__: object) -> None:
        devices.append(averaging._device)
        raise InputError("that is all")

    monkeypatch.setattr(EMAWeightAveraging, "setup", setup)
    monkeypatch.setattr(SingleDeviceStrategy, "root_device", torch.device("cpu", 0))
    ema = "--trainer.callbacks={class_path: EMAWeightAveraging}"
    assert fit("--config", tiny, "--out", tmp_path / "run", ema, OFF) == 2
    assert devices == [torch.device("cpu", 0)]


@pytest.mark.slow
def test_without_a_compiler_a_line_says_so_and_no_run_is_begun(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    torch._dynamo.reset()
    with torch._inductor.config.patch({"cpp.cxx": (None, str(tmp_path / "none"))}):
        assert fit("--config", tiny, "--out", tmp_path / "run", "--model.compile=true", OFF) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "model.compile: " in last
    assert "set it to false" in last
    assert not (tmp_path / "run" / "run.json").exists()
