"""`python -m catpose`: the list of commands."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from catpose.errors import BAD_INPUT, nearest
from catpose.version import __version__

COMMANDS = ("prepare", "check", "fit", "sweep", "test", "compare", "predict", "demo", "pack", "profile", "report")


def first_line(command: str) -> str:
    """The first line of a command's docstring, read without importing it."""
    source = Path(__file__).with_name(f"{command}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0].split(": `python")[0].rstrip(".")


def main() -> None:
    if sys.argv[1:] and sys.argv[1] not in ("-h", "--help"):
        hint = nearest(sys.argv[1], (f"catpose.{command}" for command in COMMANDS))
        print(f"catpose: error: a command is run as python -m catpose.NAME.{hint}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    print(f"catpose {__version__}: is this change to the cat pose model really better?\n")
    for command in COMMANDS:
        print(f"  python -m catpose.{command:8} {first_line(command)}")
    print("\nEach takes --help.")


if __name__ == "__main__":
    main()
