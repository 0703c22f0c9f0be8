"""`catpose`, or `python -m catpose`: the list of commands, and each of them by its name."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

from catpose.errors import BAD_INPUT, nearest, one_line
from catpose.version import __version__

COMMANDS = (
    "prepare",
    "check",
    "fit",
    "sweep",
    "test",
    "compare",
    "predict",
    "demo",
    "export",
    "pack",
    "profile",
    "report",
)


def first_line(command: str) -> str:
    """The first line of a command's docstring, read without importing it."""
    source = Path(__file__).with_name(f"{command}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0].split(": `python")[0].rstrip(".")


def main() -> None:
    name, *args = sys.argv[1:] or ["--help"]
    if name in COMMANDS:
        sys.argv[1:] = args
        runpy.run_module(f"catpose.{name}", run_name="__main__", alter_sys=True)  # as `python -m` does it
    elif name == "--version":
        print(f"catpose {__version__}")
    elif name in ("-h", "--help"):
        print(f"catpose {__version__}: is this change to the cat pose model really better?\n")
        for command in COMMANDS:
            print(f"  catpose {command:8} {first_line(command)}")
        print("\nEach takes --help. `python -m catpose.NAME` is the same as `catpose NAME`.")
    else:
        hint = nearest(name, COMMANDS) or " See catpose --help."
        print(f"catpose: error: there is no command {one_line(name)[:40]}.{hint}", file=sys.stderr)
        sys.exit(BAD_INPUT)


if __name__ == "__main__":
    main()
