"""A run's directory: what was asked, with what, and what came of it.

    config.yaml     every setting, defaults included
    run.json        the W&B id, and of each start: time, command, git revision, versions, machine
    metrics.csv     one row an epoch
    log.txt         one line an event
    best.ckpt       the epoch of the best validation AP      last.ckpt   the last finished epoch
    val_results.json, val_score.json      the last epoch's detections, and their score with its contract
    stop            made by whoever wants the run to end after its epoch; gone when it has
    wandb/          W&B's own files

The same command on the same directory goes on where it stopped. Other settings in a directory that is in use are
refused, since a run whose settings changed on the way has no meaning.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

import catpose
from catpose.errors import InputError
from catpose.files import atomic_write, require_writable, write_json

#: Settings that may differ between the starts of one run: they change how long or where it runs, not its numbers.
FREE = (
    "config",
    "out",
    "wandb",
    "data.num_workers",
    "data.cache",
    "data.cache_dir",
    "trainer.max_epochs",
    "trainer.max_time",
    "trainer.accelerator",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.log_every_n_steps",
    "trainer.profiler",
    "trainer.logger",
    "trainer.callbacks",
)

PACKAGES = ("torch", "lightning", "timm", "torchmetrics", "albumentations", "numpy", "opencv-python-headless", "wandb")


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as {"a.b.c": value}; `init_args` levels, which nobody types, are left out of the names."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = prefix if key == "init_args" else f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, dict) and value:
            flat.update(flatten(value, name))
        else:
            flat[name] = value
    return flat


def provenance(argv: list[str]) -> dict[str, Any]:
    """What a number depends on beside its settings: code, versions, machine, command."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": argv,
        "git": _git(),
        "catpose": catpose.__version__,
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "machine": {
            "platform": platform.platform(),
            "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "gpus": _gpus(),
        },
    }


class RunDirectory:
    """The directory of one run; `open` makes it or takes it up again, `path / name` are its files.

    Args:
        path: the folder.
        wandb_id: of a new run; made up where none is given.
    """

    def __init__(self, path: Path, wandb_id: str | None = None) -> None:
        self.path = path
        self._new_id = wandb_id or secrets.token_hex(4)
        self._made: list[Path] | None = None  # the folders that this start made, innermost first; None where it resumes

    @property
    def last(self) -> Path:
        return self.path / "last.ckpt"

    @property
    def best(self) -> Path:
        return self.path / "best.ckpt"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def stop(self) -> Path:
        return self.path / "stop"

    @property
    def val_results(self) -> Path:
        return self.path / "val_results.json"

    @property
    def val_score(self) -> Path:
        return self.path / "val_score.json"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def wandb_id(self) -> str:
        """The run's own for life: the recorded one, else that of the run about to begin."""
        record = self.path / "run.json"
        return self._read(record)["wandb_id"] if record.exists() else self._new_id

    def check(self, config: dict[str, Any]) -> None:
        """Nothing is written.

        Raises:
            InputError: the path is no folder of a run, a file of the run is damaged, or its settings differ.
        """
        require_writable(self.path, "--out", folder=True)
        record = self.path / "run.json"
        if record.exists():
            self._same_settings(config)
            self._read(record)
            self.history()
        elif self.path.is_dir() and any(self.path.iterdir()):
            raise InputError(f"--out {self.path}: holds files but no run (no run.json); name another folder")

    def open(self, config: dict[str, Any], argv: list[str]) -> None:
        """Write down a new run, or the start of one that is there and was made with the same settings.

        Raises:
            InputError: as `check`, or the folder can't be written; nothing is written then.
        """
        self.check(config)
        record = self.path / "run.json"
        started: dict[str, Any] = {"wandb_id": self._new_id, "starts": []}
        if record.exists():
            started = self._read(record)
        else:
            self._made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        started["starts"].append(provenance(argv))
        self.stop.unlink(missing_ok=True)  # meant an earlier start
        with atomic_write(self.path / "config.yaml") as temporary:
            temporary.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        write_json(record, started)

    def discard(self) -> None:
        """Take back what `open` and this start wrote, where it made the run and no epoch was finished."""
        if self._made is None or self.last.exists():
            return
        for name in ("config.yaml", "run.json", "log.txt", "metrics.csv", "val_results.json", "val_score.json"):
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / "wandb", ignore_errors=True)
        with contextlib.suppress(OSError):  # somebody else's file in it keeps a folder
            for folder in self._made:
                folder.rmdir()

    def history(self) -> list[dict[str, str]]:
        """The rows of metrics.csv, an epoch each; none where it isn't there.

        Raises:
            InputError: the file is damaged.
        """
        try:
            with self.metrics.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                rows = list(reader)
            whole = all(row["epoch"].isdecimal() and None not in {*row, *row.values()} for row in rows)
            if whole and "epoch" in (reader.fieldnames or ()):
                return rows
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error):
            pass
        raise InputError(f"{self.metrics}: is damaged; restore it, or delete it to go on without the epochs so far")

    def _read(self, record: Path) -> dict[str, Any]:
        try:
            content = json.loads(record.read_text(encoding="utf-8"))
            if isinstance(content["wandb_id"], str) and isinstance(content["starts"], list):
                return content
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        raise InputError(f"{record}: is damaged; restore it or name another folder with --out")

    def _same_settings(self, config: dict[str, Any]) -> None:
        file = self.path / "config.yaml"
        try:
            before = yaml.safe_load(file.read_text(encoding="utf-8"))
            before = flatten(before)
        except (OSError, ValueError, AttributeError, RecursionError, yaml.YAMLError):
            raise InputError(f"{file}: is missing or damaged; restore it or name another folder with --out") from None
        now = flatten(config)
        differing = [
            f"{key} {before.get(key, 'absent')} → {now.get(key, 'absent')}"
            for key in [*now, *(key for key in before if key not in now)]
            if before.get(key) != now.get(key) and not any(key == free or key.startswith(free + ".") for free in FREE)
        ]
        if differing:
            shown = ", ".join(differing[:4]) + (f" and {len(differing) - 4} more" if len(differing) > 4 else "")
            raise InputError(f"--out {self.path}: holds a run with other settings ({shown}); name another folder")


def _git() -> dict[str, Any] | None:
    """Revision of the checkout that the package runs from, and whether it has changes; None outside of one."""
    here = Path(catpose.__file__).parent
    try:

        def ask(*words: str) -> str:
            return subprocess.run(
                ["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()

        if "catpose/__init__.py" not in ask("ls-files", "--full-name", "__init__.py"):
            return None  # installed into somebody else's repository
        return {"revision": ask("rev-parse", "HEAD"), "changed": bool(ask("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _gpus() -> list[str]:
    torch = sys.modules.get("torch")
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch else []
