"""A calibration in a model's own file: nothing else there changes, and no score does."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up import shaken
from refused import exit_code, refused, says
from torch import Tensor, nn

from catpose import test
from catpose.data.coco import read_split
from catpose.model.weights_file import KEYS, write_weights
from catpose.run import lock
from catpose.run.calibrating import calibrate, calibration_text
from catpose.run.checkpoint import load_model, read_checkpoint
from catpose.run.network import Network
from catpose.score.trust import Trust
from catpose.skeleton import AP10K

score = functools.partial(exit_code, test.main)


def equal(ours: Any, theirs: Any) -> bool:
    """Whether two contents are alike, tensors to the last bit."""
    if isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(equal(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, list | tuple):
        return len(ours) == len(theirs) and all(map(equal, ours, theirs))
    return torch.equal(ours, theirs) if isinstance(theirs, Tensor) else ours == theirs


def test_a_checkpoint_keeps_all_that_it_held(drawn: Path, tmp_path: Path) -> None:
    split = read_split(drawn, "val")
    file = tmp_path / "last.ckpt"
    content = {
        "catpose": "model: {}",
        "state_dict": {"head.weight": torch.randn(3, 4).half(), "n": torch.tensor(5)},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3}]}],
        "loops": {"fit_loop": {"epoch_progress": {"current": {"ready": 2, "processed": 2}}}},
        "epoch": 1,
    }
    torch.save(content, file)
    before = read_checkpoint(file)
    for _ in range(2):  # a second one takes the first one's place
        learnt = calibrate(file, split, shaken(split, 0.06, 0))
    after = read_checkpoint(file)
    assert Trust.from_plain(after.pop("calibration"), 17) == learnt.trust
    assert equal(after, before)
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]
    says(calibration_text(file, split, learnt), str(file), "ECE", "cross-fitted", "90% of a keypoint's errors")


def test_a_weights_file_keeps_all_that_it_held(drawn: Path, tmp_path: Path) -> None:
    split, file = read_split(drawn, "val"), tmp_path / "cat.safetensors"
    texts = dict.fromkeys(KEYS, "text") | {"skeleton": json.dumps(AP10K.to_plain())}
    write_weights(file, nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), texts)
    before = read_checkpoint(file)
    assert "calibration" not in before
    (tmp_path / "any").touch()
    modes = [file.stat().st_mode]
    learnt = calibrate(file, split, shaken(split, 0.06, 0))
    modes.append(file.stat().st_mode)
    assert modes == 2 * [(tmp_path / "any").stat().st_mode]  # whoever may read any file may read this one
    after = read_checkpoint(file)
    assert Trust.from_plain(after.pop("calibration"), 17) == learnt.trust
    assert equal(after, before)


@pytest.mark.parametrize(
    ("checkpoint", "split", "why"), [("none.ckpt", "train", "trained on"), ("cats", "val", "calibrate a copy of it")]
)
def test_what_must_not_be_calibrated_is_refused_before_it_predicts(
    checkpoint: str, split: str, why: str, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(Network, "load", lambda *_: pytest.fail("a model was read"))
    (tmp_path / "none.ckpt").write_bytes(b"")
    checkpoint = checkpoint if checkpoint == "cats" else str(tmp_path / checkpoint)
    line = refused(
        test.main, ["--checkpoint", checkpoint, "--data", drawn, "--split", split, "--calibrate"], capsys, tmp_path
    )
    says(line, why)


def test_results_of_no_model_have_nothing_to_calibrate(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text("[]")
    line = refused(test.main, ["--predictions", tmp_path / "a.json", "--data", drawn, "--calibrate"], capsys, tmp_path)
    says(line, "--calibrate", "--checkpoint")


def test_a_checkpoint_in_use_is_left_alone(
    trained: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer one that the training writes meanwhile would be put back."""
    monkeypatch.setattr(lock, "PATIENCE_S", 0.0)
    for name in ("run.json", "last.ckpt"):
        shutil.copy(trained / name, tmp_path)
    with lock.locked(tmp_path):
        words: list[object] = ["--checkpoint", tmp_path / "last.ckpt", "--data", drawn, "--calibrate"]
        says(refused(test.main, words, capsys, tmp_path), "another fit is at work there", "wait for its end")


@pytest.mark.slow
def test_no_score_changes(trained: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = shutil.copy(trained / "best.ckpt", tmp_path / "best.ckpt")
    words = ["--checkpoint", file, "--data", drawn, "--draws", 20]
    assert score(*words, "--out", tmp_path / "before", "--calibrate") == 0
    assert "ECE of confidences" in capsys.readouterr().out
    assert load_model(file)[0].calibration is not None
    assert score(*words, "--out", tmp_path / "after") == 0
    for name in ("results_val.json", "score_val.json"):
        assert (tmp_path / "before" / name).read_text() == (tmp_path / "after" / name).read_text()
