"""optuna-dashboard as people see it: served on this machine, opened in a headless Chromium.

    python tests/study/browser.py STORAGE OUT.png [PAGE]

writes a picture of the storage's first study; PAGE is `trials` for its list of trials.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Debian's name first, then others'.
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    *("--headless", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"),
    # Nothing but the page: the browser calls no one, and a page that needs the network shows that it does.
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
#: Of the page's own clock, which runs ahead while nothing happens: what is drawn after it is not seen.
PATIENCE_MS = 30_000


def dashboard_program() -> str | None:
    """The command of this interpreter's optuna-dashboard, or None where it isn't installed."""
    beside = Path(sys.executable).with_name("optuna-dashboard")
    return str(beside) if beside.exists() else shutil.which("optuna-dashboard")


@contextlib.contextmanager
def dashboard(storage: str, folder: Path) -> Iterator[str]:
    """Serve a storage by `optuna-dashboard` during the block, and give the address.

    The storage's URL may hold a password: it goes by a file in `folder` that only its owner reads, not by the command.
    """
    program = dashboard_program()
    assert program is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config, log = folder / "dashboard.toml", folder / "dashboard.log"
    with open(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(f"[optuna_dashboard]\nstorage = {json.dumps(storage)}\nhost = '127.0.0.1'\nport = {port}\n")
    with log.open("w") as said:
        server = subprocess.Popen([program, "--from-config", str(config)], stdout=said, stderr=said)
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError):
                studies(address)
                break
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait(30)


def studies(address: str) -> list[dict[str, Any]]:
    """The studies that the dashboard knows."""
    with urllib.request.urlopen(f"{address}/api/studies", timeout=30) as answer:
        return json.load(answer)["study_summaries"]


def look(url: str, picture: Path, width: int = 1280, height: int = 2060) -> str:
    """Open a page, write its picture, and return its DOM as HTML, both as they are once the scripts have run."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile:
        done = subprocess.run(
            [
                *(CHROMIUM, *OPTIONS, f"--user-data-dir={profile}", f"--window-size={width},{height}"),
                *(["--no-sandbox"] if os.geteuid() == 0 else []),  # its sandbox refuses root
                *(f"--virtual-time-budget={PATIENCE_MS}", "--dump-dom", f"--screenshot={picture}", url),
            ],
            capture_output=True,
            timeout=300,
            check=False,
        )
    assert (done.returncode, picture.exists()) == (0, True), done.stderr.decode(errors="replace")[-2000:]
    return done.stdout.decode()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made, dashboard(sys.argv[1], Path(made)) as at:
        page = f"{at}/dashboard/studies/{studies(at)[0]['study_id']}/{''.join(sys.argv[3:4])}"
        look(page.rstrip("/"), Path(sys.argv[2]))
