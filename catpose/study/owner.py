"""Who owns a trial: a process, described so that others on its machine can tell whether it is still there."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path

import psutil

from catpose.study.stored import Owner

#: Seconds that two readings of a process's start may differ by, where the system's clock was set between them.
CLOCK_S = 2.0


def this_process() -> Owner:
    """The owner that this process is."""
    return Owner(
        machine=_machine(),
        host=socket.gethostname(),
        pid=os.getpid(),
        started_s=_started(psutil.Process()),
        job=os.environ.get("SLURM_JOB_ID"),
    )


def _machine() -> str:
    """What two processes have in common that can see each other by pid: this boot, and this namespace of pids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return f"{socket.gethostname()} {uuid.getnode():x}"


def _started(process: psutil.Process) -> float:
    """Seconds from the system's boot to a process's start, which setting the clock doesn't change."""
    boot = psutil.boot_time()
    return process.create_time() - boot


def is_dead(owner: Owner) -> bool:
    """Whether the owner was a process of this machine that is no more; False where that can't be said."""
    if owner.machine != _machine() or os.name != "posix":
        return False
    try:
        os.kill(owner.pid, 0)  # not psutil's pid_exists, for which processes that /proc hides are gone
        process = psutil.Process(owner.pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return True
        return owner.started_s is not None and abs(owner.started_s - _started(process)) > CLOCK_S
    except (ProcessLookupError, psutil.NoSuchProcess):
        return True
    except (OSError, psutil.Error):  # someone else's
        return False
