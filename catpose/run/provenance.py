"""What a number depends on beside its settings: code, versions, machine, command."""

from __future__ import annotations

import contextlib
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from catpose.machine import usable_cores
from catpose.version import __version__

#: Libraries whose version may move a number.
NUMERIC = ("torch", "torchvision", "timm", "lightning", "torchmetrics", "albumentations", "numpy", "opencv", "pillow")
#: OpenCV is one library under several names.
_NAMES = {"opencv": [f"opencv-{kind}python{head}" for kind in ("", "contrib-") for head in ("-headless", "")]}


@dataclass(frozen=True)
class Git:
    """The checkout that the package ran from."""

    revision: str
    changed: bool  # whether tracked files differed from it


@dataclass(frozen=True)
class Machine:
    """The machine that a run was trained on."""

    platform: str = ""
    cpus: int | None = None  # that the process might use
    gpus: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Provenance:
    """Where a number comes from."""

    time: str = ""  # local, ISO 8601
    command: list[str] = field(default_factory=list)  # arguments
    git: Git | None = None
    catpose: str | None = None
    python: str = ""
    packages: dict[str, str] = field(default_factory=dict)  # versions
    machine: Machine = field(default_factory=Machine)


@dataclass(frozen=True)
class Start(Provenance):
    """A start of a run, as run.json keeps it."""

    first_epoch: int | None = None  # that it trains; None where 0.1.0 started it
    lineage: int = 1
    settings: dict[str, Any] | None = None  # all of them; None where 0.1.0 started it
    precision: str | None = None  # Lightning's name; the device's default where the settings have none


def provenance(args: list[str]) -> Provenance:
    """Of this process; `args` are its command line's."""
    return Provenance(
        time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        args,
        _git(),
        __version__,
        platform.python_version(),
        _versions((*NUMERIC, "wandb")),
        Machine(platform.platform(), usable_cores(), _gpus()),
    )


def numeric_versions() -> dict[str, str]:
    """catpose's version, and those of the libraries that its numbers come from, as they are here."""
    return {"catpose": __version__, **_versions(NUMERIC)}


def versions_of(starts: Sequence[Provenance]) -> dict[str, str]:
    """The versions that a run's starts wrote down, "2.7.0, 2.9.1" where they differ."""
    each = [{"catpose": start.catpose, **start.packages} for start in starts]
    names = [name for name in ("catpose", *NUMERIC) if any(versions.get(name) for versions in each)]
    return {name: ", ".join(dict.fromkeys(str(v[name]) for v in each if v.get(name))) for name in names}


def _git() -> Git | None:
    """Revision of the checkout that the package runs from, and whether it has changes; None outside of one."""
    file = Path(__file__)
    try:

        def ask(*args: str) -> str:
            return subprocess.run(
                ["git", "-C", str(file.parent), *args], capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()

        if "catpose/run/provenance.py" not in ask("ls-files", "--full-name", file.name):
            return None  # installed into somebody else's repository
        return Git(ask("rev-parse", "HEAD"), bool(ask("status", "--porcelain", "-uno")))
    except (OSError, subprocess.SubprocessError):
        return None


def _versions(names: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        for package in _NAMES.get(name, [name]):
            with contextlib.suppress(metadata.PackageNotFoundError):
                found.setdefault(name, metadata.version(package))
    return found


def _gpus() -> list[str]:
    torch = sys.modules.get("torch")
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch else []
