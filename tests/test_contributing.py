"""CONTRIBUTING.md does what it says: its own code blocks are taken from the page and run on drawn cats."""

from __future__ import annotations

import csv
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import catpose
from catpose.run.cli import FitCLI
from catpose.skeleton import KEYPOINTS

REPOSITORY = Path(__file__).parents[1]
PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")

#: Two steps instead of a training.
SHORT = [
    *("--data.input_size=[64, 64]", "--data.batch_size=4", "--trainer.limit_train_batches=2", "--trainer.max_epochs=1"),
    *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--wandb.mode=disabled"),
]


def blocks(heading: str, language: str) -> list[str]:
    """The code blocks of a language below a heading."""
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def commands(heading: str) -> list[tuple[str, list[str]]]:
    """The commands of a section's only shell block: name and words."""
    (block,) = blocks(heading, "sh")
    found = []
    for line in block.splitlines():
        python, m, module, *words = shlex.split(line)
        assert (python, m) == ("python", "-m")
        found.append((module.removeprefix("catpose."), words))
    return found


def run(command: str, words: list[str]) -> int:
    """The exit code."""
    try:
        importlib.import_module(f"catpose.{command}").main(words)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def workplace(tmp_path: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data/cats and some pictures, worked in as with `python -m`."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cats").symlink_to(drawn)
    (tmp_path / "cats").mkdir()
    for file in sorted((drawn / "images").iterdir())[:2]:
        shutil.copy(file, tmp_path / "cats")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("model", ["FeaturePyramid", "TimmBackbone"])
def test_a_timm_backbone_is_one_yaml(model: str, workplace: Path) -> None:
    (text,) = blocks("Add a timm backbone: one YAML", "yaml")
    assert text.startswith("# Question: ")
    ((command, words),) = commands("Add a timm backbone: one YAML")
    file = workplace / words[words.index("--config") + 1]
    file.parent.mkdir()
    file.write_text(text.replace("class_path: FeaturePyramid", f"class_path: {model}"))
    assert run(command, [*words, *SHORT, "--model.weights=null"]) == 0
    run_folder = workplace / "runs" / file.stem
    assert [row["step"] for row in rows(run_folder)] == ["2"]
    settings = yaml.safe_load((run_folder / "config.yaml").read_text())["model"]
    assert settings["class_path"].endswith(f".{model}")
    assert settings["init_args"]["name"] == yaml.safe_load(text)["model"]["init_args"]["name"]


def test_a_backbone_of_ones_own_is_one_file(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heading = "Add a backbone of your own: one file"
    (code,) = blocks(heading, "python")
    (workplace / "my_net.py").write_text(code)
    (fit, words), *others = commands(heading)
    assert fit == "fit"
    assert [command for command, _ in others] == ["test", "predict"]
    assert run(fit, [*words, *SHORT]) == 0
    run_folder = workplace / words[words.index("--out") + 1]
    assert [row["step"] for row in rows(run_folder)] == ["2"]
    assert {f"val/AP/{name}" for name in KEYPOINTS} <= rows(run_folder)[0].keys()
    settings = yaml.safe_load((run_folder / "config.yaml").read_text())["model"]
    assert settings["class_path"] == "my_net.MyNet"
    assert settings["init_args"]["width"] == int(words[words.index("--model.width") + 1])
    assert settings["init_args"]["flip_test"] is True, "PoseModel's own arguments are settings too"
    for command, words in others:
        assert run(command, words) == 0
        at = words.index("--import")
        assert words[at + 1] == "my_net"
        capsys.readouterr()
        assert run(command, words[:at] + words[at + 2 :]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "my_net.MyNet" in error
        assert "--import" in error


def test_its_settings_are_explained(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("Add a backbone of your own: one file", "python")
    (workplace / "my_net.py").write_text(code)
    assert run("fit", ["--model.help", "my_net.MyNet"]) == 0
    help_text = capsys.readouterr().out
    assert "channels of the first convolution" in " ".join(help_text.split())
    assert "--model.lr" in help_text
    assert run("fit", ["--model", "my_net.MyNet", "--model.widht", "48"]) == 2
    assert "Did you mean model.width?" in capsys.readouterr().err


def test_its_own_defaults_hold(workplace: Path) -> None:
    """Not those of the model that is trained where none is named, as jsonargparse would have it."""
    (code,) = blocks("Add a backbone of your own: one file", "python")
    assert "width: int = 32" in code
    (workplace / "own_defaults.py").write_text(code.replace("width: int = 32", "width: int = 24, lr: float = 0.01")
                                               .replace("weights=weights", "weights=weights, lr=lr"))  # fmt: skip
    for argv in (["--model", "own_defaults.MyNet"], ["--model", "own_defaults.MyNet", "--model.gamma", "0.5"]):
        settings = FitCLI(argv).resolved()["model"]["init_args"]
        assert (settings["width"], settings["lr"], settings["weights"]) == (24, 0.01, None)


def test_in_the_package_it_needs_no_module_name_and_no_import(workplace: Path) -> None:
    """In a copy of the package, by processes of their own, which find that copy first."""
    shutil.copytree(Path(catpose.__file__).parent, workplace / "catpose", ignore=shutil.ignore_patterns("__pycache__"))
    (code,) = blocks("Add a backbone of your own: one file", "python")
    (workplace / "catpose" / "model" / "my_net.py").write_text(code)
    fit = ["--model", "MyNet", "--out", "runs/ours", *SHORT]
    test = ["--checkpoint", "runs/ours/best.ckpt"]
    script = (
        "import catpose.fit, catpose.test, pathlib\n"
        "assert pathlib.Path(catpose.__file__).parent == pathlib.Path('catpose').resolve()\n"
        f"catpose.fit.main({fit})\ncatpose.test.main({test})"
    )
    environment = {**os.environ, "PYTHONPATH": str(workplace)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=workplace, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    settings = yaml.safe_load((workplace / "runs" / "ours" / "config.yaml").read_text())
    assert settings["model"]["class_path"] == "catpose.model.my_net.MyNet"


def test_a_codec_of_ones_own_is_one_class(workplace: Path) -> None:
    code = "from catpose.model.codec import Unbiased\n\n\nclass MyCodec(Unbiased):\n    pass\n"
    (workplace / "my_codec.py").write_text(code)
    model = ["--model=FeaturePyramid", "--model.name=test_resnet", "--model.weights=null"]
    assert run("fit", [*model, "--model.codec", "my_codec.MyCodec", "--out", "runs/mine", *SHORT]) == 0
    settings = yaml.safe_load((workplace / "runs" / "mine" / "config.yaml").read_text())["model"]["init_args"]
    assert settings["codec"]["class_path"] == "my_codec.MyCodec"
    test = ["--checkpoint", "runs/mine/best.ckpt"]
    assert run("test", test) == 2
    assert run("test", [*test, "--import", "my_codec"]) == 0


def test_the_page_names_what_is_there() -> None:
    for name in re.findall(r"`((?:catpose|tests|experiments)/[\w./]+)`", PAGE):
        if name != "experiments/convnext.yaml":  # the one that the page adds
            assert (REPOSITORY / name).exists(), name
    targets = re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:^|`)make (\w+)", PAGE, re.MULTILINE)) <= set(targets)
