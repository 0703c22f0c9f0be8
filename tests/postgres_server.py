"""A real PostgreSQL server of one's own, with a password, that can be stopped and started again."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
PASSWORD = "s3cret"


def missing() -> str | None:
    """Why there can be no such server here."""
    if not BINARIES or (os.geteuid() == 0 and not shutil.which("runuser")):
        return "no PostgreSQL server is installed (Debian: postgresql)"
    return None


class Postgres:
    """A server on a free port of loopback, its data below `folder`, which is to be of no value."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.data = BINARIES[-1], folder / "data"
        self.as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        folder.chmod(0o777)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        secret = folder / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._do("initdb", "-D", self.data, "-U", "cat", "-A", "scram-sha-256", "--pwfile", secret)
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(
                f"\nport = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\n"
            )

    @property
    def url(self) -> str:
        return f"postgresql://cat:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        self._do("pg_ctl", "-D", self.data, "-w", "-l", self.data / "log", "start")

    def stop(self, mode: str = "fast") -> None:
        self._do("pg_ctl", "-D", self.data, "-w", "-m", mode, "stop")

    def _do(self, program: str, *words: object) -> None:
        command = [*self.as_user, str(self.bin / program), *map(str, words)]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300)
