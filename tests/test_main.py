"""`python -m catpose`, and that each command that it lists answers to --help."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import catpose
from catpose.__main__ import COMMANDS, first_line, main

PACKAGE = Path(catpose.__file__).parent


def has_main(file: Path) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in ast.parse(file.read_text()).body)


def test_no_command_is_forgotten() -> None:
    assert set(COMMANDS) == {file.stem for file in PACKAGE.glob("*.py") if has_main(file)} - {"__main__"}


def test_all_are_listed_with_what_they_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["catpose"])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert catpose.__version__ in lines[0]
    for command in COMMANDS:
        (line,) = [line for line in lines if line.strip().startswith(f"catpose {command} ")]
        assert line.endswith(first_line(command))
        assert len(line) <= 120
        assert "`" not in line


@pytest.mark.parametrize(("word", "hint"), [("fitt", "fit"), ("catpose.fit", "fit"), ("xyzzy", "")])
def test_another_word_is_one_line(
    word: str, hint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["catpose", word])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert (f"Did you mean {hint}?" in output.err) == bool(hint)


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"catpose.{command}").main(["--help"])
    assert not stop.value.code
    output = capsys.readouterr()
    assert f"catpose {command}" in output.out
    assert output.out.count(f"\n  catpose {command} ") >= 2, "examples"
    assert all(len(line) <= 80 for line in output.out.splitlines()), max(output.out.splitlines(), key=len)
    assert output.err == ""


def test_the_list_comes_without_torch() -> None:
    code = "import runpy, sys; sys.argv = ['catpose']; runpy.run_module('catpose', run_name='__main__')\n"
    code += "assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "catpose prepare" in done.stdout


def test_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["catpose", "--version"])
    main()
    assert capsys.readouterr().out == f"catpose {catpose.__version__}\n"


@pytest.mark.slow
def test_a_command_by_its_name_is_that_of_python_m(tmp_path: Path) -> None:
    """Errors, exit codes and what Lightning starts its other processes by are those of `python -m catpose.check`."""
    for start in (["catpose", "check"], ["catpose.check"]):
        done = subprocess.run(
            [sys.executable, "-m", *start, "--data", "nowhere"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=300,
        )
        assert done.returncode == 2
        assert done.stderr.startswith("catpose.check: error: nowhere"), done.stderr


@pytest.mark.parametrize("command", ["prepare", "check"])
def test_a_command_on_files_starts_without_torch(command: str) -> None:
    code = f"import sys, catpose.{command} as c\ntry: c.main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_the_help_of_fit_is_of_ones_own_settings_first(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        importlib.import_module("catpose.fit").main(["--help"])
    text = capsys.readouterr().out
    places = [
        text.index(part)
        for part in ("--model.lr LR", "--data.root ROOT", "--wandb.project P", "--trainer.max_epochs N")
    ]
    assert places == sorted(places)
    assert text[places[-1] :].count("\n") < 20


def test_the_help_of_sweep_names_the_keys_of_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    from catpose.study.file import _File

    with pytest.raises(SystemExit):
        importlib.import_module("catpose.sweep").main(["--help"])
    words = set(re.findall(r"\w+", capsys.readouterr().out))
    assert {*_File.model_fields, "CATPOSE_STORAGE"} <= words
