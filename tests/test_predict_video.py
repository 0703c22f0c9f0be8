"""`predict VIDEO` as its user sees it, with an exported model that is made up."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from onnx_graphs import graph, save
from refused import exit_code, refused, says

from catpose.data.video import Video, Writer
from catpose.predict import main
from catpose.synthetic import draw

predict = functools.partial(exit_code, main)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A video of ten frames, a picture and a model."""
    save(graph(), tmp_path / "cat.onnx")
    picture = draw(0, 1).picture[:120, :160]
    with Writer(tmp_path / "cat.mp4", 10.0, (160, 120)) as writer:
        for i in range(10):
            writer.write(np.roll(picture, i, axis=1))
    return tmp_path


def test_a_part_of_a_video_is_predicted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [folder / "cat.mp4", "--checkpoint", folder / "cat.onnx"]
    assert predict(*words, "--out", folder / "a.json", "--frames", "2:9", "--overlays", folder / "drawn") == 0
    says(capsys.readouterr().out, "7 frames", "a.json", "cat.mp4")
    assert [entry["image_id"] for entry in json.loads((folder / "a.json").read_text())] == list(range(2, 9))
    with Video(folder / "drawn" / "cat.mp4") as drawn:
        assert drawn.n == 7
    assert predict(*words, "--out", folder / "b.csv", "--frames", ":3") == 0
    assert len((folder / "b.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["cat.mp4", "--boxes", "x.json"], ["cat.mp4", "by itself", "--boxes"]),
        (["cat.mp4", "cat.mp4"], ["by itself", "other sources"]),
        (["cat.mp4", "--out", "cat.onnx"], ["--out", "is there already"]),
        (["cat.mp4", "--frames", "10:"], ["has 10 frames"]),
        (["cat.mp4", "--frames", "5"], ["--frames", "300:600"]),
        (["cat.mp4", "--frames", "5:5"], ["--frames", "no frame"]),
        (["none.mp4"], ["none.mp4", "no such file"]),
        (["cat.onnx", "--frames", "5:"], ["--frames", "video"]),
    ],
)
def test_what_a_video_cannot_be_predicted_with_is_said(
    words: list[str], told: list[str], folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    says(refused(main, [*words, "--checkpoint", "cat.onnx"], capsys, folder), *told)
