from __future__ import annotations

import re
from itertools import product
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def braces(name: str) -> list[str]:
    """`a/{b,c}.py` as a/b.py and a/c.py."""
    parts = [part.split(",") if i % 2 else [part] for i, part in enumerate(re.split(r"[{}]", name))]
    return ["".join(chosen) for chosen in product(*parts)]


def test_the_file_list_has_every_module_and_nothing_else() -> None:
    section = README.split("## Which file does what")[1].split("\n## ")[0]
    listed = {name for row in re.findall(r"^\| `(catpose/[^`]+)`", section, re.MULTILINE) for name in braces(row)}
    kinds = {".py", ".html", ".css", ".js", ".yaml"}
    paths = [path for path in (REPOSITORY / "catpose").rglob("*") if path.suffix in kinds]
    files = {path.relative_to(REPOSITORY).as_posix() for path in paths}
    ours = {name for name in files if not name.endswith(("__init__.py", "__main__.py"))}
    folders = {name for name in listed if name.endswith("/")}
    assert {name for name in ours if not name.startswith(tuple(folders))} == listed - folders
    assert all((REPOSITORY / folder).is_dir() for folder in folders)


def test_the_descriptions_are_one_thing_each() -> None:
    section = README.split("## Which file does what")[1].split("\n## ")[0]
    for row in re.findall(r"^\| `catpose/\w+/[^`]+` \| (.+) \|$", section, re.MULTILINE):
        assert len(row) < 70


def test_the_continuous_integration_runs_the_test_command_of_the_readme() -> None:
    command = re.findall(r"```sh\n(pip install -e '.*)\n```", README)
    assert len(command) == 1
    assert command[0] in (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_no_link_is_broken() -> None:
    for page in ("README.md", "CONTRIBUTING.md", "RESULTS.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (REPOSITORY / page).read_text(encoding="utf-8")):
            assert target.startswith("http") or (REPOSITORY / target).exists(), (page, target)
