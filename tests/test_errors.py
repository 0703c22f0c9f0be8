"""Bad input as one line, and how a command ends."""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from catpose import check
from catpose.errors import REASON_FILE, InputError, Parser, command, natural, nearest, one_line, printable

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
    assert line.split() == [printable(word) for word in text.split()]
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


def test_who_started_a_command_can_read_why_it_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for raised, reason in [(InputError("x.yaml: y:\nz"), "x.yaml: y: z"), (ValueError("1\n2"), "ValueError: 1 2")]:
        file = tmp_path / type(raised).__name__
        monkeypatch.setenv(REASON_FILE, str(file))
        for again in (raised, InputError("another process's, which came later")):
            with contextlib.suppress(ValueError):
                ending(functools.partial(lambda error: error, again))
        assert json.loads(file.read_text()) == {"error": reason}
    monkeypatch.setenv(REASON_FILE, str(tmp_path / "no folder" / "x"))
    assert ending(lambda: InputError("x"))[0] == 2
    monkeypatch.setenv(REASON_FILE, str(tmp_path / "none"))
    assert ending(None)[0] == 0
    assert not (tmp_path / "none").exists()


STEERING = {
    "a window's title": "\x1b]0;owned\x07",
    "a cleared screen": "\x1b[2J",
    "a line written over": "\x1b[1A\x1b[2K",
    "a C1 sequence": "\x9b31m",
    "backspaces": "good\x08\x08\x08\x08",
    "direction turned": "cat\u202egnp.exe",
    "an isolate": "\u2066x\u2069",
    "nothing to see": "a\u200bb",
    "a bell": "\x07",
    "half a character": "\udcff",
    "delete": "\x7f",
    "a line separator of Unicode": "a\u2028b",
    "a carriage return": "error: no\rok",
}


@pytest.mark.parametrize("kind", STEERING)
def test_nothing_steers_a_terminal(kind: str) -> None:
    for shown in (printable(STEERING[kind]), one_line(STEERING[kind])):
        assert shown.isprintable()
        shown.encode()


@pytest.mark.parametrize("text", ["größe", "猫", "128×128", "5e-4 → 1e-3", "“x”", "🐈"])
def test_what_people_write_is_shown_as_it_is(text: str) -> None:
    assert printable(text) == one_line(text) == text
    assert printable(f"{text}\n\t{text}") == f"{text}\n\t{text}"


@pytest.mark.parametrize("kind", STEERING)
def test_names_in_a_strangers_data_do_not_steer_a_terminal(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """File names, categories and keys of a COCO file; names of files on the command line."""
    evil = STEERING[kind]
    images = [{"id": 1, "file_name": f"{evil}.png", "width": 96, "height": 80}, {"id": 1, "file_name": evil}]
    entries = [{"id": 1, "image_id": 1, "category_id": evil, "bbox": [evil], "keypoints": evil}]
    categories = [{"id": 1, "name": evil, "keypoints": [evil]}, {"id": evil, "name": evil, evil: evil}]
    (tmp_path / "data" / "annotations").mkdir(parents=True)
    coco = {"images": images, "annotations": entries, "categories": categories, evil: evil}
    (tmp_path / "data" / "annotations" / "val.json").write_text(json.dumps(coco))
    for arguments in (["--data", str(tmp_path / "data"), "--all"], ["--data", f"{tmp_path}/{evil}"], [evil]):
        with pytest.raises(SystemExit):
            check.main(arguments)
        said = capsys.readouterr()
        shown = said.out + said.err
        assert shown
        assert shown.replace("\n", "").isprintable()


class Unreadable(Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, _: int) -> int:
        raise InputError("1.png: the picture is cut short; copy it again")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loaders_worker_says_what_it_would_have_said_at_home(workers: int) -> None:
    with pytest.raises(InputError) as caught:
        list(DataLoader(Unreadable(), num_workers=workers))
    assert str(caught.value) == "1.png: the picture is cut short; copy it again"
