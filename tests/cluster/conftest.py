"""The real servers of these tests, each in a folder of its own and gone afterwards, however a test ends."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import postgres_server
import pytest
import slurm_cluster


@pytest.fixture(scope="session")
def slurm() -> Iterator[slurm_cluster.Slurm]:
    """A SLURM of two nodes on this machine."""
    why_not = slurm_cluster.missing()
    if why_not:
        pytest.skip(why_not)
    folder = Path(tempfile.mkdtemp(prefix="catpose-slurm-"))  # a socket's path is short
    cluster = slurm_cluster.Slurm(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """The URL, with a password, of an empty database that is reached over the network."""
    why_not = postgres_server.missing()
    if why_not:
        pytest.skip(why_not)
    folder = Path(tempfile.mkdtemp(prefix="catpose-pg-"))
    server = postgres_server.Postgres(folder)
    try:
        server.start()
        yield server.url
    finally:
        with contextlib.suppress(subprocess.SubprocessError):
            server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)
