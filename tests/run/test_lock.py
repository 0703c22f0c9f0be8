"""One process at a time in a run's folder. The others here are real processes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from catpose.errors import InputError
from catpose.run import lock
from catpose.run.directory import RunDirectory
from catpose.run.lock import LOCK, locked

HOLD = """
import os, sys, time
from pathlib import Path
from catpose.run.lock import locked
with locked(Path(sys.argv[1])):
    {meanwhile}
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PATIENCE_S", 0.2)


def held(folder: Path, meanwhile: str = "pass") -> subprocess.Popen[str]:
    """A process that holds a folder's lock until it is killed."""
    code = HOLD.format(meanwhile=meanwhile)
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_told_who_is_there_and_the_dead_keep_no_lock(tmp_path: Path) -> None:
    process = held(tmp_path)
    with (
        pytest.raises(InputError, match=rf"another fit is at work there \(process {process.pid} on .* since 2\d\d\d"),
        locked(tmp_path),
    ):
        pass
    process.kill()
    process.wait()
    with locked(tmp_path):
        pass


def test_a_stopped_process_still_holds_it(tmp_path: Path) -> None:
    process = held(tmp_path)
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(InputError, match="at work"), locked(tmp_path):
        pass
    process.kill()
    process.wait()


def test_a_forked_worker_doesnt_keep_its_killed_parents_lock(tmp_path: Path) -> None:
    note = "(Path(sys.argv[1]) / 'child').write_text(str(os.getpid()))"
    process = held(tmp_path, f"os.fork() or ({note}, time.sleep(600))")
    while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():
        time.sleep(0.01)
    process.kill()
    process.wait()
    child = int((tmp_path / "child").read_text())
    os.kill(child, 0)  # lives
    with locked(tmp_path):
        pass
    os.kill(child, signal.SIGKILL)


def test_whoever_waits_takes_it_once_it_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PATIENCE_S", 60.0)
    process = held(tmp_path, "import threading; threading.Timer(0.5, lambda: os.kill(os.getpid(), 9)).start()")
    with locked(tmp_path):
        pass
    process.wait()


def test_a_lock_on_a_file_that_was_removed_meanwhile_counts_for_nothing(tmp_path: Path) -> None:
    process = held(tmp_path)
    (tmp_path / LOCK).unlink()
    with locked(tmp_path):
        assert (tmp_path / LOCK).stat().st_size > 0
    process.kill()
    process.wait()


def test_whoever_lost_its_lock_file_leaves_the_next_ones(tmp_path: Path) -> None:
    with locked(tmp_path):
        (tmp_path / LOCK).unlink()  # by hand
        process = held(tmp_path)
    with pytest.raises(InputError, match=rf"process {process.pid} "), locked(tmp_path):
        pass
    process.kill()
    process.wait()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_without_locks_is_said_once_and_nothing_fails(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flock(descriptor: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with locked(tmp_path):
        pass
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_folder_in_which_no_run_began_is_taken_back(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "a" / "b").locked():
        assert (tmp_path / "a" / "b" / LOCK).exists()
    assert not any(tmp_path.iterdir())


def test_a_damaged_note_of_the_holder_is_no_traceback(tmp_path: Path) -> None:
    process = held(tmp_path)
    (tmp_path / LOCK).write_text('{"pid": "\\u001b[2J"}')
    with pytest.raises(InputError, match="isn't known"), locked(tmp_path):
        pass
    process.kill()
    process.wait()


def test_leftovers_of_killed_processes_go_with_the_next_start_and_are_no_foreign_files(tmp_path: Path) -> None:
    left = tmp_path / ".run.json.0123456789ab.tmp"
    left.write_text("{")
    mine = tmp_path / ".notes.tmp"
    run = RunDirectory(tmp_path)
    with run.locked():
        run.check({})
        assert not left.exists()
    mine.write_text("x")
    with pytest.raises(InputError, match="holds files but no run"):
        run.check({})
    assert mine.exists()
