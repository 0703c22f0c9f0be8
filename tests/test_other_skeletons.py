"""Data of another skeleton than AP-10K's from check to report, and what is said where two skeletons meet."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from refused import exit_code
from skeletons import HEAD, LEGS, OTHERS, relabelled

from catpose import check, fit, predict, report, test
from catpose.run.checkpoint import load_model, read_checkpoint
from catpose.score.protocol import Score
from catpose.skeleton import AP10K, Skeleton

Run = Callable[..., int]
commands: dict[str, Run] = {
    module.__name__.rpartition(".")[2]: functools.partial(exit_code, module.main)
    for module in (check, fit, predict, report, test)
}


def train(tiny: Path, data: Path, out: Path, *more: object) -> int:
    options = ("--data.root", data, "--out", out, "--trainer.max_epochs=1", "--wandb.mode=disabled")
    return commands["fit"]("--config", tiny, *options, *more)


@pytest.mark.slow
@pytest.mark.parametrize("skeleton", OTHERS.values(), ids=lambda skeleton: skeleton.name)
def test_from_check_to_report(
    skeleton: Skeleton, drawn: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = relabelled(drawn, tmp_path / "data", skeleton), tmp_path / "run"
    assert commands["check"]("--data", data, "--report", tmp_path / "check") == 0
    assert f"{len(skeleton)} keypoints" in capsys.readouterr().out
    assert skeleton.names[-1].replace("_", " ") in (tmp_path / "check" / "report.md").read_text()

    assert train(tiny, data, run) == 0
    assert f"{len(skeleton)} keypoints" in capsys.readouterr().out
    head = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert [key.removeprefix("val/AP/") for key in head if key.startswith("val/AP/")] == sorted(skeleton.names)
    model, _ = load_model(run / "best.ckpt")
    assert model.skeleton.difference(skeleton) == ""
    assert Score.read(run / "val_score.json").protocol.sigmas == model.skeleton.sigmas
    assert train(tiny, data, run, "--trainer.max_epochs=2") == 0  # goes on
    capsys.readouterr()

    scored = ("--data", data, "--out", tmp_path / "test", "--draws", 10)
    assert commands["test"]("--checkpoint", run / "last.ckpt", *scored) == 0
    assert "pycocotools agrees" in capsys.readouterr().out
    analysis = json.loads((tmp_path / "test" / "analysis_val.json").read_text())
    assert list(analysis["delta_AP_by_keypoint"]) == list(skeleton.names)

    found = tmp_path / "found.json"
    for source in (data / "annotations" / "test.json", drawn / "images"):  # boxes, whole pictures
        drawn_into = ("--out", found, "--overlays", tmp_path / "overlays" / source.stem)
        assert commands["predict"](source, "--checkpoint", run / "last.ckpt", *drawn_into) == 0
        assert {len(entry["keypoints"]) for entry in json.loads(found.read_text())} == {3 * len(skeleton)}

    assert commands["report"](run, "--out", tmp_path / "page", "--draws", 10) == 0
    page = (tmp_path / "page" / "index.html").read_text()
    assert all(name.replace("_", " ") in page for name in skeleton.names)
    assert "root of tail" not in page


@pytest.mark.slow
def test_two_skeletons_are_never_mixed(
    drawn: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    legs, head = relabelled(drawn, tmp_path / "legs", LEGS), relabelled(drawn, tmp_path / "head", HEAD)
    assert train(tiny, legs, tmp_path / "run") == 0
    capsys.readouterr()
    checkpoint = ("--checkpoint", tmp_path / "run" / "last.ckpt")
    difference = "17 keypoints, not 12, with left_eye, right_eye, nose, neck, root_of_tail"
    assert commands["test"](*checkpoint, "--data", drawn) == 2
    assert difference in one_line(capsys)
    assert commands["predict"](drawn / "annotations" / "val.json", *checkpoint, "--out", tmp_path / "found.json") == 2
    assert difference in one_line(capsys)
    assert train(tiny, head, tmp_path / "run", "--new-lineage") == 2
    assert "the data have 6 keypoints, not 12" in one_line(capsys)
    assert train(tiny, head, tmp_path / "other", "--model.weights", tmp_path / "run" / "last.ckpt") == 0
    assert "heatmaps by name: 0 of 6 keypoints from the file's 12" in capsys.readouterr().out
    assert train(tiny, drawn, tmp_path / "all", "--model.weights", tmp_path / "run" / "last.ckpt") == 0
    assert "heatmaps by name: 12 of 17 keypoints from the file's 12" in capsys.readouterr().out
    assert read_checkpoint(tmp_path / "all" / "last.ckpt")["skeleton"] == AP10K.to_plain()
    assert torch.load(tmp_path / "other" / "last.ckpt")["state_dict"]["head.final.bias"].shape == (6,)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    text = capsys.readouterr().err.strip()
    assert "\n" not in text
    return text
