"""`python -m catpose`, and that each command that it lists answers to --help."""

from __future__ import annotations

import ast
import importlib
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
        (line,) = [line for line in lines if line.strip().startswith(f"python -m catpose.{command} ")]
        assert line.endswith(first_line(command))
        assert len(line) <= 120
        assert "`" not in line


@pytest.mark.parametrize(("word", "hint"), [("fitt", "catpose.fit"), ("predict", "catpose.predict"), ("xyzzy", "")])
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
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"catpose.{command}").main(["--help"])
    assert not stop.value.code
    output = capsys.readouterr()
    assert f"python -m catpose.{command}" in output.out
    assert output.err == ""


def test_the_list_comes_without_torch() -> None:
    code = "import runpy, sys; sys.argv = ['catpose']; runpy.run_module('catpose', run_name='__main__')\n"
    code += "assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "catpose.prepare" in done.stdout


@pytest.mark.parametrize("command", ["prepare", "check"])
def test_a_command_on_files_starts_without_torch(command: str) -> None:
    code = f"import sys, catpose.{command} as c\ntry: c.main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
