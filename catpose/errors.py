"""The one exception for bad input, and how a command ends on it."""

from __future__ import annotations

import argparse
import difflib
import functools
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn

BAD_INPUT = 2
INTERRUPTED = 130


class InputError(Exception):
    """Bad input. Its text is one line that names the file, the key and the remedy.

    Raised wherever data, a setting or a file given by the user can't be used; commands print it and exit with
    code 2, without a traceback. An exception of any other kind is a bug of ours and keeps its traceback.
    """


def nearest(word: str, known: Iterable[str]) -> str:
    """`" Did you mean X?"` for the known word closest to `word`, or nothing where none is close.

    Of dotted keys the last parts are compared, then the wholes: that is the part that people half remember.
    """

    def likeness(key: str) -> float:
        said, right = word.rsplit(".", 1)[-1].lower(), key.rsplit(".", 1)[-1].lower()
        tail = difflib.SequenceMatcher(None, said, right).ratio()
        if len(said) > 2 and (right.startswith(said) or said.startswith(right)):
            tail = max(tail, 0.9)
        return tail + 0.2 * difflib.SequenceMatcher(None, word, key).ratio()

    best = max(known, key=likeness, default="")
    return f" Did you mean {best}?" if best and likeness(best) >= 0.7 else ""


def one_line(text: object) -> str:
    """`text` with every run of white space, line breaks included, made one blank."""
    return re.sub(r"\s+", " ", str(text)).strip()


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line with the nearest option, and which accepts no abbreviations."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        unknown = re.search(r"unrecognized arguments: (--[\w.-]+)", message)
        if unknown:
            message += "." + nearest(unknown[1], (o for a in self._actions for o in a.option_strings))
        raise InputError(f"{one_line(message)} (see --help)")


def natural(text: str) -> int:
    """A whole number from 1, as an option's `type`."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1")
    return int(text)


def command(main: Callable[[list[str] | None], None]) -> Callable[..., None]:
    """Wrap a command's `main`: bad input ends in one line on standard error and exit code 2, Ctrl-C in 130."""

    @functools.wraps(main)
    def wrapped(argv: list[str] | None = None) -> None:
        name = main.__module__ if main.__module__ != "__main__" else _module_run()
        try:
            main(argv)
            sys.stdout.flush()  # else a closed pipe would show only when the interpreter ends
        except InputError as error:
            print(f"{name}: error: {one_line(error)}", file=sys.stderr)
            sys.exit(BAD_INPUT)
        except KeyboardInterrupt:
            print(f"{name}: interrupted", file=sys.stderr)
            sys.exit(INTERRUPTED)
        except BrokenPipeError:  # `… | head`: nobody reads on, which is no error of ours
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return wrapped


def _module_run() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else "catpose"
