"""The documentation's pages taken apart: code blocks, commands, code in the text."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from catpose.errors import Parser

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md"))]


class ParsedError(Exception):
    """A command's words were understood; it was to do no more."""


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def shell_lines(page: Path) -> Iterator[list[str]]:
    """The words of each command of its shell blocks; those that `&&` and pipes join come one by one."""
    for block in blocks(page, "sh"):
        begun = ""
        for line in block.replace("\\\n", " ").splitlines():
            begun += line
            try:
                words = shlex.split(begun, comments=True)
            except ValueError:  # a quotation goes on
                begun += "\n"
                continue
            begun = ""
            while words:
                end = next((i for i, word in enumerate(words) if word in ("&&", "|")), len(words))
                yield words[:end]
                words = words[end + 1 :]


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """The page's commands of catpose: name and arguments."""
    found = []
    for words in shell_lines(page):
        if words[:2] == ["python", "-m"] and words[2].startswith("catpose."):
            found.append((words[2].removeprefix("catpose."), words[3:]))
        elif words[0] == "catpose":
            found.append((words[1], words[2:]))
    return found


def spans(page: Path) -> list[str]:
    """Code within the text."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`]+)`", text)


def parse(command: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a command read its arguments, and do nothing else.

    Raises:
        SystemExit: they are wrong.
    """
    if command == "fit":
        from catpose.run.cli import FitCLI

        FitCLI(words)
        return
    parse_known_args = Parser.parse_known_args
    outermost = True

    def patched(self: Parser, args: list[str] | None = None, namespace: argparse.Namespace | None = None) -> None:
        nonlocal outermost
        first, outermost = outermost, False
        known, rest = parse_known_args(self, args, namespace)
        if not first:
            return known, rest  # type: ignore[return-value]
        settings = ("--model", "--data.", "--trainer.", "--wandb.", "--slurm.")
        if command in ("sweep", "profile"):
            rest = [word for word in rest if not word.startswith(settings) and word.startswith("--")]
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        raise ParsedError

    with monkeypatch.context() as patch:
        patch.setattr(Parser, "parse_known_args", patched)
        with pytest.raises(ParsedError):
            importlib.import_module(f"catpose.{command}").main(words)
