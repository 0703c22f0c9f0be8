"""One process at a time in a run's folder.

The lock is the kernel's (`flock`), on a file in the folder: a process that has died, be it by `kill -9`, keeps none,
and it holds between containers of one machine, whose process numbers mean nothing to each other.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from catpose.errors import InputError, one_line
from catpose.files import LARGEST_RECORD, read_json

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
#: Seconds in which a process that was killed has gone, the GPU's memory freed and all.
PATIENCE_S = 5.0

_held: set[int] = set()  # descriptors of this process's locks


def _let_go() -> None:
    """In a forked child, a loader's worker for example: it would keep the lock of a parent that was killed."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made where there is none.

    Where its file system has no locks that is said on standard error, and nothing is held.

    Raises:
        InputError: another process holds it; the line tells which, and since when.
    """
    descriptor = _acquire(folder)
    try:
        yield
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                if _is_still(folder / LOCK, descriptor):  # else it is another's: ours was removed by hand
                    (folder / LOCK).unlink()
            _held.discard(descriptor)
            os.close(descriptor)


def _acquire(folder: Path) -> int | None:
    file = folder / LOCK
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise InputError(f"{file}: cannot be written ({error.strerror}); choose another place with --out") from None
        try:
            if fcntl is None:
                raise OSError("no flock")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(file, descriptor):
                _held.add(descriptor)
                _sign(descriptor)
                return descriptor
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(descriptor)
                raise InputError(
                    f"--out {folder}: another fit is at work there ({_owner(file)}); wait for its end or stop it, or"
                    " name another folder"
                ) from None
            time.sleep(0.1)
        except OSError:
            os.close(descriptor)
            print(f"catpose.fit: {folder}: no locks here; see to it that no second fit runs there", file=sys.stderr)
            return None
        os.close(descriptor)


def _is_still(file: Path, descriptor: int) -> bool:
    """Whether the file that was locked is the one that others find: whoever held it has removed it."""
    try:
        return os.path.samestat(os.stat(file), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    """Write down who holds the lock, for whoever finds it taken."""
    about = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    with contextlib.suppress(OSError):  # a full disk
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(about).encode(), 0)


def _owner(file: Path) -> str:
    try:
        about = read_json(file, LARGEST_RECORD)
        return one_line(f"process {int(about['pid'])} on {about['host']} since {about['since']}")[:200]
    except (InputError, ValueError, OverflowError, KeyError, TypeError):
        return "which one isn't known"
