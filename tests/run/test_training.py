"""Whole runs of a small network: files, resumption, two processes, W&B. Each test starts real processes or trains."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from skeletons import SIGMAS

from catpose.data.coco import read_split
from catpose.data.coco_split import split_hash
from catpose.run.checkpoint import read_checkpoint
from catpose.score.ap import average_precision, match
from catpose.score.detections import Detections
from catpose.score.protocol import Score

FROZEN = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}  # where frozen.py is found


def fit(config: Path, out: Path, *options: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
    """`python -m catpose.fit` in a process of its own."""
    return subprocess.run(command(config, out, *options), capture_output=True, text=True, timeout=600, **kwargs)  # type: ignore[call-overload]


def command(config: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "catpose.fit", "--config", str(config), "--out", str(out), *options]


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def same_weights(a: Path, b: Path) -> bool:
    states = [read_checkpoint(path)["state_dict"] for path in (a, b)]
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def numbers(run: Path) -> list[dict[str, str]]:
    """The rows of a run without its times."""
    return [{k: v for k, v in row.items() if "second" not in k} for row in rows(run)]


@pytest.fixture(scope="module")
def whole(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four epochs that nobody disturbed."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    done = fit(tiny, out, "--trainer.max_epochs", "4")
    assert done.returncode == 0, done.stderr
    (out.parent / "stdout").write_text(done.stdout)
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
def test_a_run_killed_in_its_third_epoch_ends_as_one_left_alone(whole: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    process = subprocess.Popen(
        command(tiny, out, "--trainer.max_epochs", "4"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.time() + 300
    while time.time() < deadline and (not (out / "metrics.csv").exists() or len(rows(out)) < 2):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    killed_in = read_checkpoint(out / "last.ckpt")["epoch"]
    assert killed_in < 3, "the run was over before it was killed"
    done = fit(tiny, out, "--trainer.max_epochs", "4")
    assert done.returncode == 0, done.stderr
    assert same_weights(out / "last.ckpt", whole / "last.ckpt")
    assert same_weights(out / "best.ckpt", whole / "best.ckpt")
    assert numbers(out) == numbers(whole)
    record = json.loads((out / "run.json").read_text())
    assert len(record["starts"]) == 2
    ids = {path.name.rsplit("-", 1)[1] for path in (out / "wandb").glob("offline-run-*")}
    assert ids == {record["wandb_id"]}


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(whole: Path, tiny: Path, tmp_path: Path) -> None:
    done = fit(tiny, tmp_path / "workers", "--trainer.max_epochs", "4", "--data.num_workers", "2")
    assert done.returncode == 0, done.stderr
    assert same_weights(tmp_path / "workers" / "last.ckpt", whole / "last.ckpt")


@pytest.mark.slow
def test_a_finished_run_is_left_as_it_is_and_a_longer_one_goes_on(whole: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "short"
    assert fit(tiny, out, "--trainer.max_epochs", "2").returncode == 0
    before = (out / "last.ckpt").read_bytes()
    assert fit(tiny, out, "--trainer.max_epochs", "2").returncode == 0
    assert (out / "last.ckpt").read_bytes() == before
    assert len(rows(out)) == 2
    assert fit(tiny, out, "--trainer.max_epochs", "4").returncode == 0
    assert same_weights(out / "last.ckpt", whole / "last.ckpt")


@pytest.mark.slow
def test_other_settings_in_the_same_folder_are_refused(whole: Path, tiny: Path) -> None:
    before = {file.name: file.read_bytes() for file in whole.iterdir() if file.is_file()}
    refused = fit(tiny, whole, "--trainer.max_epochs", "4", "--model.lr", "1e-4")
    assert refused.returncode == 2
    assert "model.lr 0.002 → 0.0001" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert {file.name: file.read_bytes() for file in whole.iterdir() if file.is_file()} == before


@pytest.mark.slow
def test_two_processes_score_as_one(whole: Path, tiny: Path, tmp_path: Path) -> None:
    """One epoch at learning rate next to nothing: both see the same weights, and must find the same AP and loss."""
    still = ("--trainer.max_epochs", "1", "--model.lr", "1e-30", "--model.weights", str(whole / "best.ckpt"))
    alone, together = tmp_path / "alone", tmp_path / "together"
    # Batch norm's running statistics move even so: with momentum 0 in neither run would they differ; freeze by eval.
    assert fit(tiny, alone, *still, "--trainer.callbacks+=frozen.FrozenNorms", env=FROZEN).returncode == 0
    done = fit(
        tiny,
        together,
        *still,
        "--trainer.callbacks+=frozen.FrozenNorms",
        "--trainer.devices=2",
        "--trainer.strategy=ddp",
        env=FROZEN,
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
