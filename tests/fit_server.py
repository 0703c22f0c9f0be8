"""Runs of `fit` without the seconds that importing it takes: a process that has imported it forks one for each.

`python fit_server.py` reads a line of JSON, {"argv": [...], "output": FILE, "environment": {...}, "fresh": false}, and
answers with the process's number; at the next line with its exit code, once it has ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any


def serve() -> None:
    from catpose import fit
    from catpose.run import (
        table,  # noqa: F401
        training,  # noqa: F401  (what fit imports as it runs)
    )

    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            _child(fit, asked)
        print(child, flush=True)
        sys.stdin.readline()  # until it is waited for its number is nobody else's
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _child(fit: Any, asked: dict[str, Any]) -> None:
    os.setsid()
    # A shell starts what runs in the background deaf to Ctrl-C, and so would be what the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(asked["environment"])
    output = os.open(asked["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if asked["fresh"]:
        os.execv(sys.executable, [sys.executable, "-m", "catpose.fit", *asked["argv"]])
    code = 1
    try:
        fit.main(asked["argv"])
        code = 0
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class FitServer:
    """Such a process; `start`, then perhaps `os.killpg(pid, …)`, then `wait`. Runs can import what lies beside it."""

    def __init__(self, output: Path) -> None:
        self.output = output  # of the last `fit`
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, "PYTHONPATH": path},
        )

    def start(self, argv: list[str], environment: dict[str, str] | None = None, fresh: bool = False) -> int:
        """The number of the process that runs `fit` now, the leader of its own group.

        Args:
            environment: variables more. fresh: a new interpreter, as runs of two processes need.
        """
        assert self.process.stdin is not None
        asked = {"argv": argv, "output": str(self.output), "environment": environment or {}, "fresh": fresh}
        self.process.stdin.write(json.dumps(asked) + "\n")
        return self._read()

    def wait(self) -> int:
        """Its exit code; negative where a signal ended it."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        return self._read()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _read(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())


if __name__ == "__main__":
    serve()
