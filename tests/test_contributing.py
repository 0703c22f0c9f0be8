"""CONTRIBUTING.md does what it says: its own code blocks are taken from the page and run on drawn cats."""

from __future__ import annotations

import csv
import importlib
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from made_up import shaken
from skeletons import KEYPOINTS

import catpose
from catpose.data import augment, sources
from catpose.data.coco import read_split
from catpose.errors import InputError
from catpose.instances import Instances
from catpose.run.cli import FitCLI
from catpose.score import full
from catpose.score.detections import Detections

REPOSITORY = Path(__file__).parents[1]
PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")

#: Two steps instead of a training.
SHORT = [
    *("--data.input_size=[64, 64]", "--data.batch_size=4", "--trainer.limit_train_batches=2", "--trainer.max_epochs=1"),
    *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--wandb.mode=disabled"),
]

#: `experiments/my_net.yaml` of the page's study.
EXPERIMENT = """
model: {class_path: MyNet, init_args: {lr: 1.0e-3}}
data: {root: data/cats, input_size: [64, 64], batch_size: 8, cache: memory}
trainer: {max_epochs: 1, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false}
wandb: {mode: disabled}
"""


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


@pytest.mark.one_in(2)
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


@pytest.mark.slow
def test_in_the_package_it_needs_no_module_name_and_no_import(workplace: Path) -> None:
    """In a copy of the package, by processes of their own, which find that copy first."""
    shutil.copytree(Path(catpose.__file__).parent, workplace / "catpose", ignore=shutil.ignore_patterns("__pycache__"))
    (code,) = blocks("Add a backbone of your own: one file", "python")
    (workplace / "catpose" / "model" / "backbones" / "my_net.py").write_text(code)
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
    assert settings["model"]["class_path"] == "catpose.model.backbones.my_net.MyNet"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("heading", "settings"),
    [("Add a codec: one class", ["--model.name=test_resnet", "--model.weights=null"]),
     ("Add a loss: one method", ["--model.name=test_resnet", "--model.weights=null"])],
)  # fmt: skip
def test_a_class_of_ones_own_is_trained_and_tested(heading: str, settings: list[str], workplace: Path) -> None:
    (code,) = blocks(heading, "python")
    (fit, words), (test, test_words) = commands(heading)
    module = test_words[test_words.index("--import") + 1]
    (class_path,) = (word for word in words if word.startswith(f"{module}."))
    (workplace / f"{module}.py").write_text(code)
    assert run(fit, [*words, *settings, *SHORT]) == 0
    assert f"class_path: {class_path}\n" in (workplace / words[words.index("--out") + 1] / "config.yaml").read_text()
    assert run(test, test_words[: test_words.index("--import")]) == 2
    assert run(test, test_words) == 0


def test_an_augmentation_is_three_lines_of_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's lines, put where it says."""
    (block,) = blocks("Add an augmentation: one file", "diff")
    field, limits, transform = (line.removeprefix("+") for line in block.splitlines())
    code = Path(augment.__file__).read_text(encoding="utf-8")
    places = (
        ("    dropout_size: float = 0.25", field),
        ('    "dropout_size": (0.01, 1),', limits),
        ("p=self.blur_probability),", transform),
    )
    for place, line in places:
        assert code.count(f"{place}\n") == 1
        code = code.replace(f"{place}\n", f"{place}\n{line}\n")
    changed = ModuleType("changed_augment")
    monkeypatch.setitem(sys.modules, changed.__name__, changed)
    exec(code, changed.__dict__)
    with pytest.raises(InputError, match=r"data\.augment\.grey_probability"):
        changed.Augmentation(grey_probability=2.0)
    assert changed.Augmentation().pixel_changes() is None
    changes = changed.Augmentation(grey_probability=1.0).pixel_changes()
    crop = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    grey = changes(crop, random.Random(0))
    assert (grey == grey[..., :1]).all()


def test_a_data_source_is_a_script(workplace: Path, drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "data" / "mine").mkdir()
    (workplace / "data" / "mine" / "images").symlink_to(drawn / "images")
    with (workplace / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["split", "file", "x", "y", "width", "height", "…"])
        for split in ("train", "val", "test"):
            coco = json.loads((drawn / "annotations" / f"{split}.json").read_text())
            names = {image["id"]: image["file_name"] for image in coco["images"]}
            for each in coco["annotations"]:
                table.writerow([split, names[each["image_id"]], *each["bbox"], *each["keypoints"]])
    (code,) = blocks("Add a data source: one annotation file a split", "python")
    exec(code, {})
    ((check, words),) = commands("Add a data source: one annotation file a split")
    assert run(check, words) == 0
    assert "0 errors" in capsys.readouterr().out
    theirs, ours = (read_split(root, "val") for root in (drawn, workplace / "data" / "mine"))
    assert np.array_equal(theirs.boxes, ours.boxes)


def test_an_importer_is_a_function(drawn: Path) -> None:
    (code,) = blocks("Add an importer: one function", "python")
    namespace = vars(sources) | {}
    exec(code, namespace)
    release = namespace["read_mine"](drawn / "annotations" / "val.json", drawn / "images")
    assert len(release.annotations) == len(read_split(drawn, "val"))


def test_a_metric_is_a_function(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks("Add a metric: one function", "python")
    namespace = vars(full) | {}
    exec(code, namespace)
    monkeypatch.setitem(full.METRICS, "detected", namespace["detected"])
    split = read_split(drawn, "val")
    truth = Instances.from_coco(split.coco)
    half = sorted({each["image_id"] for each in split.coco["annotations"]})[::2]
    results = [each for each in shaken(truth, 0.05, 0).to_results() if each["image_id"] in half]
    evaluation = full.evaluate(truth, Detections.from_results(results, truth), draws=50)
    assert evaluation.values["detected"] == len(half) / len(split.images)
    assert abs(evaluation.draws["detected"].mean() - evaluation.values["detected"]) < 0.2
    assert evaluation.draws["detected"].std() > 0


def test_a_figure_is_a_function() -> None:
    (code,) = blocks("Add a figure: one function", "python")
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    files = namespace["draw_scores"](np.linspace(0, 1, 30))
    assert files["png"].startswith(b"\x89PNG")
    assert b"<svg" in files["svg"]


@pytest.mark.slow
def test_a_backbone_of_ones_own_in_a_study_and_on_the_page(workplace: Path) -> None:
    """By following the page alone: trials with a cost, the chosen configuration's test score, the report."""
    (workplace / "my_net.py").write_text(blocks("Add a backbone of your own: one file", "python")[0])
    for folder in ("experiments", "sweeps"):
        (workplace / folder).mkdir()
    (workplace / "experiments" / "my_net.yaml").write_text(EXPERIMENT)
    (study,) = blocks("Add a study: one YAML", "yaml")
    (workplace / "sweeps" / "my_net.yaml").write_text(study)
    printed = {}
    for command, words in commands("Add a study: one YAML"):
        line = [sys.executable, "-m", f"catpose.{command}", *words]
        ended = subprocess.run(line, capture_output=True, text=True, cwd=workplace, timeout=1800)
        assert ended.returncode == 0, (line, ended.stdout[-2000:], ended.stderr[-2000:])
        printed[command] = printed.get(command, "") + ended.stdout
    assert "AP on the test split" in printed["sweep"]
    assert "multiply–adds" in printed["report"]
    with (workplace / "runs" / "widths" / "report.csv").open(newline="") as file:
        smaller, larger = (float(row["GMACs"]) for row in csv.DictReader(file))
    assert 0 < smaller < larger


def test_the_page_says_how_much_there_is_to_read() -> None:
    package = Path(catpose.__file__).parent
    lines = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in package.rglob("*.py")}
    modules = sum(map(bool, lines.values()))
    (stated,) = re.findall(r"about ([\d,]+) lines in (\d+) modules", PAGE)
    for number, count in zip(stated, (sum(lines.values()), modules), strict=True):
        assert abs(int(number.replace(",", "")) / count - 1) < 0.1
    (first,) = re.findall(r"Ten modules\nshow how training works, about ([\d,]+) lines.*?\n\n", PAGE, re.DOTALL)
    named = re.findall(r"`(catpose/[\w/]+\.py)`", PAGE.split("Ten modules")[1].split("\n\n")[0])
    assert len(named) == 10
    total = sum(lines[package.parent / name] for name in named)
    assert abs(int(first.replace(",", "")) - total) < 250


def test_the_page_names_what_is_there() -> None:
    for name in re.findall(r"`((?:catpose|tests|experiments)/[\w./]+)`", PAGE):
        if name not in ("experiments/convnext.yaml", "experiments/my_net.yaml"):  # which the page adds
            assert (REPOSITORY / name).exists(), name
    targets = re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:^|`)make (\w+)", PAGE, re.MULTILINE)) <= set(targets)


def test_the_list_of_packages_has_each_and_nothing_else() -> None:
    package = Path(catpose.__file__).parent
    listed = re.findall(r"^\| `catpose/(\w*)/?` \|", PAGE, re.MULTILINE)
    assert sorted(listed) == sorted(["", *(each.parent.name for each in package.glob("*/__init__.py"))])


def test_each_module_says_what_it_is_in_its_first_line() -> None:
    for module in Path(catpose.__file__).parent.rglob("*.py"):
        text = module.read_text(encoding="utf-8")
        assert text.startswith('"""') or not text, module
