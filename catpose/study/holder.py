"""Who holds a trial: a process, described so that others on its machine can tell whether it is still there."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """The holder that this process is: machine, host, pid, when it started, and its SLURM job."""
    pid = os.getpid()
    stat = _stat(pid)
    return {
        "machine": _machine(),
        "host": socket.gethostname(),
        "pid": pid,
        "started": None if stat is None else stat[1],
        "pgid": None,  # the process group of its training, once there is one
        "job": os.environ.get("SLURM_JOB_ID"),
    }


def _machine() -> str:
    """What two processes have in common that can see each other by pid: this boot, and this namespace of pids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return f"{socket.gethostname()} {uuid.getnode():x}"


def _stat(pid: int) -> tuple[str, int] | None:
    """A process's state and start time in clock ticks since the boot; None where Linux doesn't say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def is_dead(holder: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that is no more; False where that can't be said."""
    if holder.get("machine") != _machine() or os.name != "posix":
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:  # it lives, and is someone else's
        pass
    stat = _stat(holder["pid"])
    return stat is not None and (stat[0] in "ZX" or holder["started"] not in (None, stat[1]))
