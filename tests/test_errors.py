"""Bad input as one line, and how a command ends."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catpose.errors import InputError, Parser, command, natural, nearest, one_line

KNOWN = ["model.lr", "model.warmup_iterations", "data.batch_size", "data.input_size", "trainer.max_epochs", "--out"]


@pytest.mark.parametrize(
    ("word", "right"),
    [
        ("model.lrr", "model.lr"),
        ("data.bach_size", "data.batch_size"),
        ("trainer.max_epoch", "trainer.max_epochs"),
        ("model.warmup", "model.warmup_iterations"),
        ("batch_size", "data.batch_size"),
        ("DATA.INPUT_SIZE", "data.input_size"),
        ("--oot", "--out"),
    ],
)
def test_the_nearest_is_found(word: str, right: str) -> None:
    assert nearest(word, KNOWN) == f" Did you mean {right}?"


@pytest.mark.parametrize("known", [KNOWN, []])
def test_nothing_is_said_where_nothing_is_near(known: list[str]) -> None:
    assert nearest("xyzzy", known) == ""


@pytest.mark.parametrize("word", KNOWN)
def test_a_known_word_is_nearest_to_itself(word: str) -> None:
    assert nearest(word, KNOWN) == f" Did you mean {word}?"


@given(st.text())
def test_one_line_is_one_line_of_the_same_words(text: str) -> None:
    line = one_line(text)
    assert line.split() == text.split()
    assert len(line.splitlines()) <= 1
    assert one_line(line) == line


@pytest.mark.parametrize("text", ["1", "32", "007"])
def test_natural_numbers(text: str) -> None:
    assert natural(text) == int(text)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "x", "1e3", "²", " 1"])
def test_what_is_no_natural_number(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no whole number from 1"):
        natural(text)


def ending(raised: Callable[[], BaseException] | None) -> tuple[object, list[object]]:
    """The exit code of a command that raises, and the arguments it got."""
    got: list[object] = []

    @command
    def main(argv: list[str] | None = None) -> None:
        """What it does."""
        got.append(argv)
        if raised:
            raise raised()

    try:
        main(["--x"])
    except SystemExit as stop:
        return stop.code, got
    return 0, got


def test_bad_input_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(lambda: InputError("a.yaml: key lr\n  is -1;\tgive more")) == (2, [["--x"]])
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == f"{__name__}: error: a.yaml: key lr is -1; give more\n"


def test_ctrl_c_is_exit_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(KeyboardInterrupt)[0] == 130
    assert capsys.readouterr().err == f"{__name__}: interrupted\n"


def test_a_command_that_ends_well_and_one_that_says_its_own_code() -> None:
    assert ending(None) == (0, [["--x"]])
    assert ending(lambda: SystemExit(143))[0] == 143


def test_a_bug_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        ending(ZeroDivisionError)


@pytest.mark.parametrize("lines", [100_000, 3])
def test_a_reader_that_leaves_is_no_error(lines: int) -> None:
    """`… | head`, with more output than a pipe takes, and with so little that it is written only at the end."""
    code = f"""
import sys
from catpose.errors import command
@command
def main(argv=None):
    sys.stdin.read()
    for i in range({lines}):
        print("line", i)
main()
"""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=buffered,
    )
    assert process.stdout
    assert process.stdin
    assert process.stderr
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 0


def test_a_parser_takes_no_abbreviation_and_names_the_nearest() -> None:
    parser = Parser(prog="x")
    parser.add_argument("--checkpoint")
    parser.add_argument("--batch-size", type=natural)
    with pytest.raises(InputError, match=r"--chekpoint.* Did you mean --checkpoint\?"):
        parser.parse_args(["--chekpoint", "a"])
    with pytest.raises(InputError, match=r"--check.* Did you mean --checkpoint\?"):
        parser.parse_args(["--check", "a"])
    with pytest.raises(InputError, match="--batch-size: 0 is no whole number from 1"):
        parser.parse_args(["--batch-size", "0"])
    with pytest.raises(InputError, match="see --help") as error:
        parser.parse_args(["stray"])
    assert "Did you mean" not in str(error.value)
