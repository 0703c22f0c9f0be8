"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from catpose.errors import InputError


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place once the block has ended well; else `path` stays as it was.

    Raises:
        InputError: the file can't be written (no folder, no right, no space).
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")  # pids repeat between machines
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, path)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written ({error.strerror or error}); choose another place with --out"
            ) from None
    finally:
        with contextlib.suppress(OSError):  # a parent may be a file
            temporary.unlink(missing_ok=True)


def require_writable(path: Path, option: str, folder: bool = False) -> None:
    """InputError where no file (no folder) can be written at `path`: said before the work rather than after it."""
    if folder and path.exists() and not path.is_dir():
        raise InputError(f"{option} {path}: is a file; name a folder")
    if not folder and path.is_dir():
        raise InputError(f"{option} {path}: is a folder; name a file")
    there = next(place for place in (path if folder else path.parent, *path.parents) if os.path.exists(place))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "may not be written" if there.is_dir() else "is a file"
        raise InputError(f"{option} {path}: {there} {why}; choose another place")


def write_json(path: Path, content: object, indent: int | None = 1) -> None:
    """`content` as JSON, atomically; numbers that JSON doesn't have (nan, inf) are refused with ValueError."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=indent, allow_nan=False) + "\n", encoding="utf-8")
