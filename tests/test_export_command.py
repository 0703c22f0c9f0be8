"""`export` as its user sees it: a checkpoint to a file, what is printed and kept, and what is refused."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import torch
from refused import exit_code, refused, says

from catpose.cost.agreement import Agreement
from catpose.export import doubts, main
from catpose.files import parse_json
from catpose.model.codec import UDPHeatmap
from catpose.model.onnx_file import OnnxModel
from catpose.skeleton import AP10K

export = functools.partial(exit_code, main)

NET = """
import torch
from torch import nn

from catpose.model.head import DeconvolutionHead
from catpose.model.pose import PoseModel


class Small(PoseModel):
    def __init__(self, weights: str | None = None, **kwargs):
        layers = [nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1)]
        super().__init__(nn.Sequential(*layers), DeconvolutionHead(8, stride=8, channels=8), weights=weights, **kwargs)
"""
SETTINGS = """
model: {class_path: net_to_export.Small, init_args: {codec: {class_path: catpose.model.codec.UDPHeatmap}}}
data: {input_size: [64, 64]}
"""
AGREEING = Agreement(crops=10, same=1.0, largest_px=0.01, latency_ms=1.0, pytorch_latency_ms=2.0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with random weights, of a small network of one's own (`--import net_to_export`)."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "net_to_export.py").write_text(NET)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        from net_to_export import Small  # type: ignore[import-not-found]

        torch.manual_seed(0)
        model = Small(codec=UDPHeatmap(2.0))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, 0.3)
        content = {"catpose": SETTINGS, "state_dict": model.state_dict(), "skeleton": AP10K.to_plain(), "epoch": 0}
        torch.save(content, folder / "best.ckpt")
        yield folder / "best.ckpt"


@pytest.mark.slow
def test_a_checkpoint_becomes_a_file_that_tells_how_it_agrees(
    checkpoint: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "cat.onnx"
    assert export("--checkpoint", checkpoint, "--import", "net_to_export", "--out", out, "--data", drawn) == 0
    printed = capsys.readouterr().out
    says(printed, str(out), "fp32", "64 x 64 px", "in the graph", "within 0.05 px", "AP: ", "by onnxruntime")
    described = OnnxModel(out).described
    assert {"same", "largest_px", "latency_ms", "AP", "pytorch_AP"} <= described.agreement.keys()
    assert described.agreement["same"] >= 0.99
    assert described.agreement["AP"] == pytest.approx(described.agreement["pytorch_AP"], abs=1e-3)
    assert described.padding == 1.25
    assert described.mean == pytest.approx((123.675, 116.28, 103.53))
    assert described.protocol["sigmas"] == list(AP10K.sigmas)


@pytest.mark.slow
def test_without_data_drawn_cats_are_compared_and_the_file_lies_beside_the_checkpoint(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("--checkpoint", checkpoint, "--import", "net_to_export", "--precision", "fp16") == 0
    out = checkpoint.with_suffix(".fp16.onnx")
    says(capsys.readouterr().out, str(out), "drawn cats")
    assert OnnxModel(out).described.precision == "fp16"
    assert "AP" not in OnnxModel(out).described.agreement


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--precision", "int8"], ["--precision int8", "--data ROOT"]),
        (["--out", "HERE/a.pt"], ["a.pt", "ends in .onnx"]),
        (["--out", "HERE/file/a.onnx"], ["is a file", "choose another place"]),
        (["--format", "coreml"], ["--format", "onnx"]),
        ([], ["net_to_export.Small", "--import"]),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line(
    arguments: list[str], words: list[str], checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    given = [each.replace("HERE", str(tmp_path)) for each in arguments]
    says(refused(main, ["--checkpoint", checkpoint, *given], capsys, tmp_path), *words)


def test_a_checkpoint_that_isnt_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    says(refused(main, ["--checkpoint", tmp_path / "none.ckpt"], capsys, tmp_path), "none.ckpt", "no such file")


def test_an_export_that_isnt_the_model_is_doubted() -> None:
    assert doubts(AGREEING, "fp32") == []
    (line,) = doubts(Agreement(10, 0.9, 3.0, 1.0, 2.0), "fp32")
    says(line, "90.0%", "0.05 px")
    assert doubts(Agreement(10, 0.9, 3.0, 1.0, 2.0), "fp16") == []
    (line,) = doubts(Agreement(10, 0.5, 3.0, 1.0, 2.0, AP=0.5, pytorch_AP=0.6), "int8")
    says(line, "int8 costs 0.100", "fp32")
    assert doubts(Agreement(10, 0.5, 3.0, 1.0, 2.0, AP=0.6, pytorch_AP=0.5), "int8") == []


def test_what_is_known_of_an_agreement_is_json() -> None:
    known = AGREEING.known()
    assert parse_json(json.dumps(known), "it") == known
    assert "AP" not in known
