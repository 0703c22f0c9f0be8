"""The documentation does what it says: its commands are read or run, its code is run, its site asks nobody else."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import exports
import pytest
import yaml
from doc_pages import DOCS, PAGES, REPOSITORY, blocks, commands, parse, shell_lines, spans
from refused import exit_code

from catpose.data.skeletons import read_statement
from catpose.study.file import read_study

PAGE_NAMES = [str(page.relative_to(REPOSITORY)) for page in PAGES]
#: What a page's shell blocks call beside catpose.
OTHER_PROGRAMS = {
    "pip",
    "export",
    "sbatch",
    "docker",
    "kubectl",
    "read",
    "printf",
    "zensical",
    "python",
    "echo",
    "nvidia-cuda-mps-control",
}
#: Two steps of a small picture in place of a training.
SHORT = [
    *("--data.input_size=[64, 64]", "--data.batch_size=4", "--trainer.limit_train_batches=2", "--trainer.max_epochs=1"),
    *("--trainer.val_check_interval=1.0", "--trainer.check_val_every_n_epoch=1"),
    *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--wandb.mode=disabled"),
]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder beside a clone's experiments and studies, worked in."""
    for name in ("experiments", "sweeps"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_every_command_is_understood(name: str, workplace: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workplace / "data").mkdir()
    for folder in ("cats", "drawn"):
        (workplace / "data" / folder).symlink_to(drawn)
    for command, words in commands(REPOSITORY / name):
        parse(command, words, monkeypatch)


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_every_shell_line_is_one_of_known_programs(name: str) -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for words in shell_lines(REPOSITORY / name):
        assert words[0] in OTHER_PROGRAMS | {"catpose"}, words
    for group in re.findall(r"pip install -e '\.\[([\w,]+)\]'", (REPOSITORY / name).read_text(encoding="utf-8")):
        assert set(group.split(",")) <= extras.keys(), group


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_every_path_of_the_repository_is_there(name: str) -> None:
    for span in spans(REPOSITORY / name):
        if re.fullmatch(r"(?:catpose|tests|experiments|sweeps|docs)/[\w./-]*", span):
            assert (REPOSITORY / span).exists(), span
        if re.fullmatch(r"\w+\.yaml", span) and span not in ("skeleton.yaml", "config.yaml"):
            assert (REPOSITORY / "experiments" / span).exists(), span


def test_every_option_in_the_text_exists() -> None:
    """Somewhere: which command it belongs to the text tells people alone."""
    known = help_of("fit") + help_of("fit", "--model.help", "FeaturePyramid")
    known += "".join(
        help_of(name) for name in ("check", "sweep", "test", "compare", "predict", "demo", "pack", "profile", "report")
    )
    for source in re.findall(r"^    ([a-z][\w-]*)(?:  |$)", help_of("prepare"), re.MULTILINE):
        known += help_of("prepare", source)
    options = set(re.findall(r"--[\w.-]+", known)) | {"--import", "--help"}
    foreign = {"--image-root-url", "--from-config", "--user"}  # of the programs named beside them
    for page in PAGES:
        for span in spans(page):
            if span.startswith("pip ") or "--slurm." in span:
                continue
            for option in re.findall(r"(?<![\w-])--[\w.]+[\w](?:-[\w]+)*", span):
                assert option in options | foreign, (page.name, option)


def help_of(command: str, *words: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        importlib.import_module(f"catpose.{command}").main([*words, *(() if "--model.help" in words else ("--help",))])
    return printed.getvalue()


def test_yaml_is_what_it_is_said_to_be(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (skeleton,) = blocks(DOCS / "photographs.md", "yaml")
    Path("skeleton.yaml").write_text(skeleton)
    assert read_statement(Path("skeleton.yaml")).keys() == yaml.safe_load(skeleton).keys()
    (trainer,) = blocks(DOCS / "models.md", "yaml")
    Path("averaged.yaml").write_text(trainer)
    parse("fit", ["--config", "experiments/quickstart.yaml", "--config", "averaged.yaml"], monkeypatch)
    (study,) = blocks(DOCS / "studies.md", "yaml")
    Path("rates.yaml").write_text(study)
    assert len(read_study(Path("rates.yaml")).configurations) == 3


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_no_link_is_broken(name: str) -> None:
    page = REPOSITORY / name
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, target


def slug(heading: str) -> str:
    """As Python-Markdown's table of contents makes it."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def test_the_navigation_has_every_page() -> None:
    navigation = tomllib.loads((REPOSITORY / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    listed = [file for entry in navigation for file in entry.values()]
    assert sorted(listed) == sorted(page.name for page in DOCS.glob("*.md"))


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_asks_no_other_server(tmp_path: Path) -> None:
    pytest.importorskip("zensical")
    pytest.importorskip("mkdocstrings_handlers")
    for name in ("docs", "catpose"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "zensical.toml", tmp_path)
    # As on a machine without a network: what would be fetched while building fails.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, **nowhere}, timeout=600,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    pages = {file.name: file.read_text(encoding="utf-8") for file in (tmp_path / "site").glob("*.html")}
    assert {f"{page.stem}.html" for page in DOCS.glob("*.md")} <= pages.keys()
    for name, html in pages.items():
        loaded = re.findall(r"<(?:script|link|img|iframe|source|video|audio|object|embed|use)\b[^>]*>", html)
        for tag in loaded:
            for address in re.findall(r"\b(?:src|srcset|href|data|poster)=[\"']?([^\"'\s>]+)", tag):
                assert not re.match(r"(?:https?:)?//", address), (name, tag)
    for sheet in (tmp_path / "site").rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", text), sheet
    reference = re.sub(r"<[^>]+>", "", pages["api.html"])
    for signature in ("read_split(root: ", "PoseModel(", "evaluate(", "CocoSplit("):
        assert signature in reference


@pytest.mark.slow
def test_pages_can_be_followed_from_an_empty_folder(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command that needs neither a tool's file nor a download, in the pages' order, on few drawn cats."""
    (workplace / "sweeps").unlink()
    (workplace / "sweeps").mkdir()
    quick = yaml.safe_load((REPOSITORY / "sweeps" / "quick.yaml").read_text())
    quick |= {"seeds": 1, "space": {"model.lr": [2e-3, 8e-3]}}
    Path("sweeps/quick.yaml").write_text("# Question: which?\n" + yaml.safe_dump(quick))
    shutil.make_archive("export", "zip", exports.cvat(Path("exported"), exports.cats()))
    shutil.copy("export.zip", "corrected.zip")
    followed = 0
    for page in ("start", "photographs", "models", "protocol", "api"):
        for command, words in commands(DOCS / f"{page}.md"):
            arguments = prepared_for(command, words)
            if arguments is not None:
                assert exit_code(importlib.import_module(f"catpose.{command}").main, *arguments) == 0, arguments
                followed += 1
        for code in blocks(DOCS / f"{page}.md", "python"):
            shutil.copy("runs/mobilenet/best.ckpt", ".")
            shutil.copy(min(Path("data/drawn/images").iterdir()), "photo.jpg")
            exec(code, {})
    assert followed >= 20
    assert Path("runs/page/index.html").exists()
    assert len(list(Path("overlays").iterdir())) == 40


def prepared_for(command: str, words: list[str]) -> list[str] | None:
    """A page's words made short, with the files that they name put there; None where it can't be run here."""
    elsewhere = {"yolo", "deeplabcut", "sleap", "animal-pose", "torchvision", "cat.mp4", "experiments/hrnet.yaml"}
    if command == "demo" or (elsewhere | {"demo/corrections.json"}) & set(words):
        return None
    for folder in {"photos/", "new-photographs/"} & set(words):
        shutil.copytree("data/cats/images", folder, dirs_exist_ok=True)
    if "boxes.json" in words:
        shutil.copy("data/cats/annotations/val.json", "boxes.json")
    for n, name in enumerate(re.findall(r"[\w/]+\.json", " ".join(words))):
        Path(name).parent.mkdir(exist_ok=True)
        if name in ("a.json", "b.json") or "seed" in name:  # the same results twice would be refused
            results = json.loads(Path("runs/mobilenet/val_results.json").read_text())
            Path(name).write_text(json.dumps([{**result, "score": result["score"] + n + 1} for result in results]))
        elif name in ("val.json", "instances_val.json"):
            shutil.copy("data/cats/annotations/val.json", name)
    if "theirs/" in words:
        Path("theirs").mkdir()
        shutil.copy("runs/mobilenet/val_results.json", "theirs")
    if command == "fit":
        return [*words, *SHORT, "--model.weights=null"]
    if command == "sweep":
        return [*words, *SHORT]
    if "--calibrate" in words:  # on more keypoints than the dozen imported cats have
        return [word.replace("data/cats", "data/drawn") for word in words]
    return [*words, "--sizes", "24", "8", "8"] if words == ["drawn"] else words
