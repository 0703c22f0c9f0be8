"""The one exception for bad input, and how a command ends on it."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import functools
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import NoReturn

BAD_INPUT = 2
INTERRUPTED = 130
TERMINATED = 143  # 128 + SIGTERM, as a shell has it
#: In a command's environment: the file into which it writes why it fails, as {"error": one line}, for who started it.
REASON_FILE = "CATPOSE_REASON_FILE"
LONGEST_REASON = 1000  # characters


class InputError(Exception):
    """Bad input. Its text is one line that names the file, the key and the remedy.

    Raised wherever data, a setting or a file given by the user can't be used; commands print it and exit with
    code 2, without a traceback. An exception of any other kind is a bug of ours and keeps its traceback.
    """

    def __init__(self, line: str) -> None:
        if line.startswith("Caught InputError in "):  # torch makes a worker's anew, its traceback being the text
            line = line.strip().splitlines()[-1].partition(": ")[2]
        super().__init__(line)


def nearest(name: str, known: Iterable[str]) -> str:
    """`" Did you mean X?"`, in one line, for the known name closest to `name`, or nothing where none is close.

    Of dotted keys the last parts are compared, then the wholes: that is the part that people half remember.
    """

    def likeness(key: str) -> float:
        typed, right = name.rsplit(".", 1)[-1].lower(), key.rsplit(".", 1)[-1].lower()
        tail = difflib.SequenceMatcher(None, typed, right).ratio()
        if len(typed) > 2 and (right.startswith(typed) or typed.startswith(right)):
            tail = max(tail, 0.9)
        return tail + 0.2 * difflib.SequenceMatcher(None, name, key).ratio()

    best = max(known, key=likeness, default="")
    return f" Did you mean {one_line(best)}?" if best and likeness(best) >= 0.7 else ""


def printable(text: object) -> str:
    """`text` for a terminal, its lines and tabs kept: what could steer one, in a stranger's name, is shown as `\\x1b`.

    That is: control characters, escape sequences' first among them, marks that turn the direction of writing, and
    halves of characters, which can't be printed at all.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in str(text))


def one_line(text: object) -> str:
    """`text` as `printable`, with every run of white space, line breaks included, made one blank."""
    return printable(re.sub(r"\s+", " ", str(text)).strip())


class _Paragraphs(argparse.HelpFormatter):
    """argparse's, each paragraph of a text filled by itself."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        return "\n\n".join(fill(paragraph, width, indent) for paragraph in text.split("\n\n"))


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line with the nearest option, and which accepts no abbreviations.

    Args:
        examples: command lines that its help ends with.
    """

    def __init__(self, *args: object, examples: Sequence[str] = (), **kwargs: object) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", _Paragraphs)
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._examples = examples

    def format_help(self) -> str:
        """argparse's, then the examples."""
        return "\n  ".join([super().format_help(), *self._examples]) + "\n" * bool(self._examples)

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


def whole(text: str) -> int:
    """A whole number from 0, as an option's `type`."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 0")
    return int(text)


def whole_between(key: str, value: object, low: int, high: int) -> int:
    """A setting's value, where it is a whole number from `low` to `high`; else InputError, which names the setting."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
        raise InputError(f"{key}: must be a whole number between {low} and {high}, not {value!r}")
    return int(value)


def command(main: Callable[[list[str] | None], None]) -> Callable[..., None]:
    """Wrap a command's `main`: bad input ends in one line on standard error and exit code 2, Ctrl-C in 130."""

    @functools.wraps(main)
    def wrapped(argv: list[str] | None = None) -> None:
        name = main.__module__ if main.__module__ != "__main__" else _module_run()
        try:
            main(argv)
            sys.stdout.flush()  # else a closed pipe would show only when the interpreter ends
        except InputError as error:
            _leave_reason(one_line(error))
            print(f"{name}: error: {one_line(error)}", file=sys.stderr)
            sys.exit(BAD_INPUT)
        except KeyboardInterrupt:
            print(f"{name}: interrupted", file=sys.stderr)
            sys.exit(INTERRUPTED)
        except BrokenPipeError:  # `… | head`: nobody reads on, which is no error of ours
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
                line = f"{one_line(error.filename)[:60]}…: is too long for a file's name; choose a shorter one"
                _leave_reason(line)
                print(f"{name}: error: {line}", file=sys.stderr)
                sys.exit(BAD_INPUT)
            _leave_reason(f"{type(error).__name__}: {one_line(error)}")
            raise

    return wrapped


def _leave_reason(reason: str) -> None:
    """Write down why this command fails where it was asked to; of several processes the first, whose error it was."""
    file = os.environ.get(REASON_FILE)
    if file:
        with contextlib.suppress(OSError), open(file, "x", encoding="utf-8") as opened:
            json.dump({"error": reason[:LONGEST_REASON]}, opened)


def _module_run() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else "catpose"
