"""The package as others get it: a wheel alone, an editable clone, and the files that other programs read."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import catpose

REPOSITORY = Path(__file__).parents[1]
CI = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
WORKFLOW = REPOSITORY / ".github" / "workflows" / "ci.yml"


def run(*words: str | Path, cwd: Path) -> str:
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # which would be this checkout
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, cwd=cwd, timeout=900, env=alone)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize(
    ("schema", "file"), [("vendor.github-workflows", WORKFLOW), ("vendor.citation-file-format", "CITATION.cff")]
)
def test_what_other_programs_read_keeps_to_its_schema(schema: str, file: str | Path) -> None:
    pytest.importorskip("check_jsonschema")
    words = ("-m", "check_jsonschema", "--builtin-schema", schema, REPOSITORY / file)
    run(sys.executable, *words, cwd=REPOSITORY)


def test_github_runs_the_parts_of_the_ci() -> None:
    jobs = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"].values()
    commands = " && ".join(step["run"] for job in jobs for step in job["steps"] if "run" in step)
    parts = re.findall(
        r"^(?:pip|ruff|mypy|lint-imports|\.ci/servers|python -m pytest).*", CI.replace("\\\n    ", ""), re.M
    )
    assert len(parts) >= 7
    for part in parts:
        assert part.split(" || ")[0] in commands, part
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    for hook in hooks:
        assert any(line.startswith(hook["name"]) or hook["entry"] in line for line in [*parts, *CI.splitlines()]), hook


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == catpose.__version__
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert citation["license"] == project["license"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in project["authors"]]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that sees this one's libraries, none of them installed in it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    libraries = [path for path in sys.path if path.endswith("-packages")]
    (site / "libraries.pth").write_text("\n".join(libraries))
    return folder


def install(environment: Path, *words: str | Path) -> None:
    """Install with this interpreter's pip, which needs no network."""
    python = environment / "bin" / "python"
    pip = ("-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation")
    run(sys.executable, *pip, *words, cwd=environment)


@pytest.mark.slow
def test_a_wheel_alone_draws_trains_and_predicts_in_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    wheel_words = (
        "-m",
        "pip",
        "wheel",
        REPOSITORY,
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "-w",
        tmp_path / "w",
    )
    run(sys.executable, *wheel_words, cwd=tmp_path)
    (wheel,) = (tmp_path / "w").glob("catpose-*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    assert {name.split("/")[0] for name in names} == {"catpose", f"catpose-{catpose.__version__}.dist-info"}
    for folder in ("experiments", "sweeps"):
        for file in (REPOSITORY / folder).rglob("*.yaml"):
            assert f"catpose/{file.relative_to(REPOSITORY).as_posix()}" in names
    package = {f.relative_to(REPOSITORY).as_posix() for f in (REPOSITORY / "catpose").rglob("*") if f.is_file()}
    assert {name for name in package if "__pycache__" not in name} <= names
    install(environment, wheel)
    command = environment / "bin" / "catpose"
    home = tmp_path / "empty"
    home.mkdir()
    assert run(command, "--version", cwd=home) == f"catpose {catpose.__version__}\n"
    run(command, "prepare", "drawn", "--out", "cats", "--sizes", "16", "4", "4", cwd=home)
    small = ("--trainer.max_epochs=1", "--data.input_size=[64,64]", "--data.cache=off", "--wandb.mode=disabled")
    run(command, "fit", "--config", "quickstart", "--data.root", "cats", *small, cwd=home)
    assert (home / "runs" / "quickstart" / "best.ckpt").is_file()
    picture = next((home / "cats" / "images").iterdir())
    run(command, "predict", picture, "--checkpoint", "runs/quickstart/best.ckpt", "--overlays", "drawn", cwd=home)
    assert (home / "drawn" / f"{picture.stem}.jpg").is_file()


@pytest.mark.slow
def test_an_editable_clone_works_beside_itself(environment: Path, tmp_path: Path) -> None:
    """From the clone's parent, where a folder of the package's name comes first on the path."""
    pytest.importorskip("hatchling")
    clone = tmp_path / "catpose"
    for name in ("catpose", "experiments", "sweeps"):
        shutil.copytree(REPOSITORY / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, clone)
    install(environment, "--force-reinstall", "--editable", clone)
    python = environment / "bin" / "python"
    assert "catpose predict" in run(python, "-m", "catpose", cwd=tmp_path)
    code = "import catpose, catpose.shipped as s; print(catpose.__file__, s.find_config('hrnet', 'experiments'))"
    found = run(python, "-c", code, cwd=tmp_path).split()
    assert found == [str(clone / "catpose" / "__init__.py"), str(clone / "experiments" / "hrnet.yaml")]
