"""What every command owes to bad input: one clear line, exit code 2, and everything as it was before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lightning.pytorch  # noqa: F401 (here, since its log handler keeps the standard error of its import)
import pytest

LONGEST_LINE = 420


def exit_code(main: Callable[[list[str]], None], *argv: object) -> int:
    """That of a command with these words."""
    try:
        main([str(word) for word in argv])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def content(folder: Path) -> dict[str, bytes | str | None]:
    """Everything below a folder by its name: bytes of files, None for folders, where links lead."""
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


def refused(
    main: Callable[[list[str]], None],
    arguments: list[object],
    capsys: pytest.CaptureFixture[str],
    untouched: Path,
) -> str:
    """The line by which a command refuses `arguments`, after `untouched` was seen to be as before."""
    before = content(untouched)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    error = capsys.readouterr().err
    assert content(untouched) == before
    assert stop.value.code == 2, error
    lines = [shown for line in error.split("\n") if (shown := line.rsplit("\r", 1)[-1]).strip()]  # not a bar on its way
    assert len(lines) == 1, error
    assert lines[0].startswith(f"{main.__module__}: error: ")
    assert "Traceback" not in error
    line = lines[0].replace(str(untouched), "HERE")
    assert len(line) <= LONGEST_LINE, line  # however long a path the temporary folder has
    return line.removeprefix(f"{main.__module__}: error: ")


def says(line: str, *words: str) -> None:
    """Every word is in the line: the file, the key, the remedy."""
    assert not [word for word in words if word not in line], line
