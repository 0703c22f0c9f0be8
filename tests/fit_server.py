"""Runs of `fit` without the seconds that importing it takes: a process that has imported it forks one for each.

`python fit_server.py` reads a line of JSON, {"argv": [...], "output": FILE}, and answers with the process's number; at
the next line with its exit code, once it has ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path


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


def _child(fit: object, asked: dict[str, object]) -> None:
    os.setsid()
    output = os.open(str(asked["output"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code = 1
    try:
        fit.main(asked["argv"])  # type: ignore[attr-defined]
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
    """Such a process; `start`, then perhaps `os.kill(pid, …)`, then `wait`."""

    def __init__(self, output: Path) -> None:
        self.output = output  # of the last `fit`
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def start(self, argv: list[str]) -> int:
        """The number of the process that runs `fit` now."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"argv": argv, "output": str(self.output)}) + "\n")
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
