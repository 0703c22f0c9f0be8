"""A model of one's own in every place: fit, profile, a study with its cost, its end, the page."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from refused import exit_code

from catpose import profile, report, sweep
from catpose.errors import InputError
from catpose.run.cli import FitCLI
from catpose.run.options import import_modules, split_imports
from catpose.study.file import read_study

NET = """
from torch import nn

from catpose.model.head import DeconvolutionHead
from catpose.model.pose import PoseModel


class MyNet(PoseModel):
    def __init__(self, width: int = 4, weights: str | None = None, **kwargs):
        backbone = nn.Sequential()
        for channels_in, channels_out in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
            backbone.extend([nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1), nn.ReLU()])
        super().__init__(backbone, DeconvolutionHead(4 * width, stride=8), weights=weights, **kwargs)
"""
EXPERIMENT = """
model:
  class_path: {model}
  init_args: {{lr: 1.0e-3, codec: {{class_path: UDPHeatmap, init_args: {{sigma: 1.0}}}}}}
data: {{root: {data}, input_size: [64, 64], batch_size: 8, cache_dir: {folder}}}
trainer: {{max_epochs: 1, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false}}
wandb: {{mode: disabled}}
"""
STUDY = """
experiment: mine.yaml
{imports}space: {{model.width: [2, 4]}}
metric: {{val/AP: maximize, GMACs: minimize}}
"""


def write(folder: Path, drawn: Path, module: str, model: str) -> Path:
    """A folder to work in: a module, an experiment with its model, a study of it."""
    (folder / f"{module}.py").write_text(NET)
    (folder / "mine.yaml").write_text(EXPERIMENT.format(model=model, data=drawn, folder=folder))
    study = folder / "study.yaml"
    study.write_text(STUDY.format(imports=f"imports: [{module}]\n"))
    return study


@pytest.mark.slow
def test_a_model_of_ones_own_works_in_every_place(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `--import`; by a study's `imports` in tests/test_contributing.py."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as with `python -m`
    study = write(tmp_path, drawn, "net_of_ours", "net_of_ours.MyNet")
    study.write_text(STUDY.format(imports=""))

    def run(command: Callable[[list[str]], None], *words: str) -> str:
        assert exit_code(command, *words) == 0, capsys.readouterr()
        return capsys.readouterr().out

    sweep_ours = functools.partial(run, sweep.main, "--import", "net_of_ours", "--config", "study.yaml", "--out", "out")
    assert "width 4" in sweep_ours()
    table = (tmp_path / "out" / "report.csv").read_text().splitlines()
    costs = [float(line.split(",")[table[0].split(",").index("GMACs")]) for line in table[1:]]
    assert 0 < costs[0] < costs[1]
    assert "AP on the test split" in sweep_ours("--final")
    assert json.loads((tmp_path / "out" / "final" / "final.json").read_text())["AP"]["mean"] >= 0
    page = run(report.main, "out", "--out", "page", "--draws", "20", "--import", "net_of_ours")
    assert "multiply–adds" in page
    skip = ("--skip", "training", "--skip", "predictions")
    assert "MyNet" in run(profile.main, "--import", "net_of_ours", "--config", "mine.yaml", *skip)


def test_a_name_that_a_module_defines_is_known(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = write(tmp_path, drawn, "cats_of_mine", "MyNet").resolve()
    (tmp_path / "cats_of_mine.py").write_text(NET.replace("MyNet", "NetOfMine"))
    experiment = tmp_path / "mine.yaml"
    experiment.write_text(experiment.read_text().replace("MyNet", "NetOfMine"))
    monkeypatch.chdir(tmp_path)
    read = read_study(study, imports=["cats_of_mine", "json"])
    assert read.imports == ("cats_of_mine", "json")
    config = FitCLI(read.args(read.space.configurations()[0], 0)).config
    assert config.model.class_path == "cats_of_mine.NetOfMine"
    assert config.model.init_args.width == 2


def test_imports_are_taken_off_a_command_line() -> None:
    words = ["--import", "a", "--model.lr=1", "--import=b.c", "x"]
    assert split_imports(words) == (["a", "b.c"], ["--model.lr=1", "x"])
    for words in (["--import"], ["--import="]):
        with pytest.raises(InputError, match="--import: names no module"):
            split_imports(words)


@pytest.mark.parametrize(
    ("module", "named"),
    [("no_such_module", "No module named"), ("broken_net", "ZeroDivisionError"), ("half_net", "SyntaxError"),
     ("my_net.py", "without .py"), ("", "--import"), ("..", "--import"), ("a b\nc", "--import a b c")],
)  # fmt: skip
def test_a_module_that_cannot_be_imported_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, named: str
) -> None:
    (tmp_path / "broken_net.py").write_text("1 / 0\n")
    (tmp_path / "half_net.py").write_text("def half(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != os.getcwd()])
    with pytest.raises(InputError) as error:
        import_modules([module])
    assert named in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("imports", ["1", "{a: b}", "[1]", "['a b']", "[my_net.py/x]", "['']", "[os; rm]", "[-m]"])
def test_what_is_no_module_in_a_study_is_said(
    tmp_path: Path, drawn: Path, imports: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write(tmp_path, drawn, "unused_net", "MyNet")
    study.write_text(STUDY.format(imports=f"imports: {imports}\n"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"study\.yaml: imports: .* is no list of modules"):
        read_study(study)
