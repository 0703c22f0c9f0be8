"""A run's directory: what was asked, with what, and what came of it.

    config.yaml     every setting, defaults included
    run.json        the W&B id, and of each start: its settings, time, command, git revision, versions, machine
    metrics.csv     one row an epoch, and one for each validation within it
    log.txt         one line an event
    best.ckpt       the model of the best validation AP      last.ckpt   the last epoch that was written
    complexity.json the finished model's parameters and multiply–adds
    val_results.json, val_score.json      the last validation's detections, and their score with its protocol
    stop            made by whoever wants the run to end after its epoch; gone when it has
    wandb/          W&B's own files      .lock   held by the process at work here

The same command on the same directory goes on where it stopped. Other settings in the directory of a run are refused,
since a run whose settings changed on the way has no meaning; or they are written down as a new lineage.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catpose.errors import InputError
from catpose.files import (
    LARGEST_RECORD,
    TEMPORARY,
    as_record,
    atomic_write,
    read_json,
    refuse_owned,
    remove_leftovers,
    require_writable,
    write_json,
)
from catpose.plain_yaml import current_names, dump_yaml, flatten, read_yaml
from catpose.run.lock import LOCK, locked
from catpose.run.provenance import Start, provenance, versions_of
from catpose.text import first

#: What a run writes; the last makes the folder a run's.
FILES = (
    "config.yaml",
    "metrics.csv",
    "log.txt",
    "best.ckpt",
    "last.ckpt",
    "val_results.json",
    "val_score.json",
    "complexity.json",
    "run.json",
)


def refuse_run_file(path: Path, option: str) -> None:
    """InputError where a file that another command is to write is one of a run's own."""
    if path.name in FILES and (path.parent / "run.json").exists():
        raise InputError(f"{option} {path}: belongs to the run in {path.parent}; name another file")


@dataclass(frozen=True)
class Record:
    """The content of run.json."""

    wandb_id: str
    starts: list[Start]


@dataclass(frozen=True)
class _Settings:
    """The settings that other commands than `fit` look at, of the kinds that `fit` writes."""

    @dataclass(frozen=True)
    class Data:
        root: str | None = None
        input_size: tuple[int, int] | None = None

    @dataclass(frozen=True)
    class Trainer:
        max_epochs: int | None = None

    seed_everything: int | bool | None = None
    data: Data = Data()
    trainer: Trainer = Trainer()


class RunDirectory:
    """The directory of one run; `open` makes it or takes it up again, `path / name` are its files.

    Args:
        path: the folder.
        wandb_id: of a new run; made up where none is given.
        remedy: what to do about a damaged file, for the message's end.
    """

    def __init__(
        self, path: Path, wandb_id: str | None = None, remedy: str = "restore it or name another folder with --out"
    ) -> None:
        self.path = path
        self.config, self.record = path / "config.yaml", path / "run.json"
        self.metrics, self.log = path / "metrics.csv", path / "log.txt"
        self.best, self.last = path / "best.ckpt", path / "last.ckpt"
        self.val_results, self.val_score = path / "val_results.json", path / "val_score.json"
        self.complexity, self.stop = path / "complexity.json", path / "stop"
        self._remedy = remedy
        self._new_id = wandb_id or secrets.token_hex(4)
        self._is_new = False  # whether this start made the run

    @property
    def wandb_id(self) -> str:
        """The run's own for life: the recorded one, else that of the run about to begin."""
        return self._read().wandb_id if self.record.exists() else self._new_id

    @property
    def starts(self) -> list[Start]:
        """What was written down at each start.

        Raises:
            InputError: run.json is missing or damaged.
        """
        return self._read().starts

    @property
    def lineages(self) -> int:
        """How many the run has: 1 unless it went on under other settings. Raises as `starts`."""
        return max((start.lineage for start in self.starts), default=1)

    @property
    def settings(self) -> dict[str, Any]:
        """Those in config.yaml, by dotted name; those of run.json where a start was killed before it had written that.

        Raises:
            InputError: they can't be read, or are of other kinds than `fit` writes.
        """
        if not self.config.exists() and not self.last.exists() and self._recorded() is not None:
            return self._recorded() or {}
        written = read_yaml(self.config, self._remedy)
        if not isinstance(written, dict):
            raise InputError(f"{self.config}: holds no settings; {self._remedy}")
        try:
            as_record(_Settings, written)
        except ValueError as error:
            raise InputError(f"{self.config}: {error}, which fit doesn't write; {self._remedy}") from None
        return flatten(written)

    @property
    def versions(self) -> dict[str, str]:
        """Those of catpose and the numeric libraries, of all its starts. Raises as `starts`."""
        return versions_of(self.starts)

    def check(self, config: dict[str, Any], new_lineage: bool = False) -> bool:
        """Whether a start under these settings begins a new lineage of a run that is there. Nothing is written.

        Raises:
            InputError: the path is no folder of a run, a file of the run is damaged, or its settings differ.
        """
        require_writable(self.path, "--out", folder=True)
        if self.record.exists():
            return self._next_lineage(config, new_lineage) > self.lineages
        if self.path.is_dir():
            refuse_owned(self.path, "--out", "study")
            if not all(file.name == LOCK or TEMPORARY.fullmatch(file.name) for file in self.path.iterdir()):
                raise InputError(f"--out {self.path}: holds files but no run (no run.json); name another folder")
        return False

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the one process at work here; where no run comes of it, what was made of the folder is taken back.

        Raises:
            InputError: another is, or the folder can't be made.
        """
        new = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]  # innermost first
        try:
            with locked(self.path):
                remove_leftovers(self.path)
                yield
        finally:
            if not self.record.exists():
                with contextlib.suppress(OSError):  # somebody else's file in it keeps a folder
                    for folder in new:
                        folder.rmdir()

    def open(
        self,
        config: dict[str, Any],
        args: list[str],
        new_lineage: bool = False,
        first_epoch: int = 0,
        precision: str | None = None,
    ) -> None:
        """Write down a new run, or the start of one that is there and was made with the same settings.

        Args:
            config: every setting.
            args: the command line's.
            new_lineage: take other settings too, and write down that they are others.
            first_epoch: that this start trains.
            precision: that it trains in, Lightning's name.

        Raises:
            InputError: as `check`, or the folder can't be written; nothing is written then.
        """
        self.check(config, new_lineage)
        self._is_new = not self.record.exists()
        before = Record(self._new_id, []) if self._is_new else self._read()
        lineage = 1 if self._is_new else self._next_lineage(config, new_lineage)
        start = Start(
            **vars(provenance(args)),
            first_epoch=first_epoch,
            lineage=lineage,
            settings=_plain(config),
            precision=precision,
        )
        self.stop.unlink(missing_ok=True)  # meant an earlier start
        # First of all files: it makes the folder a run's.
        write_json(self.record, dataclasses.asdict(Record(before.wandb_id, [*before.starts, start])))
        with atomic_write(self.config) as temporary:
            temporary.write_text(dump_yaml(config), encoding="utf-8")

    def discard(self) -> None:
        """Take back what `open` and this start wrote, where it made the run and no epoch was finished."""
        if not self._is_new or self.last.exists():
            return
        shutil.rmtree(self.path / "wandb", ignore_errors=True)
        for name in FILES:
            (self.path / name).unlink(missing_ok=True)

    def history(self) -> list[dict[str, str]]:
        """The rows of metrics.csv that end an epoch; none where it isn't there. Raises as `rows`."""
        return [row for row in self.rows() if row.get("epoch_seconds") != ""]

    def rows(self) -> list[dict[str, str]]:
        """The rows of metrics.csv, those of validations within an epoch too; none where it isn't there.

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

    def _read(self) -> Record:
        try:
            return as_record(Record, read_json(self.record, LARGEST_RECORD))
        except (InputError, ValueError):
            raise InputError(f"{self.record}: is missing or damaged; {self._remedy}") from None

    def _recorded(self) -> dict[str, Any] | None:
        """The settings of the last start by dotted name, as JSON holds them; 0.1.0 wrote none down."""
        recorded = self.starts[-1].settings if self.record.exists() and self.starts else None
        return None if recorded is None else flatten(current_names(recorded))

    def _next_lineage(self, config: dict[str, Any], new_lineage: bool) -> int:
        """The number of the lineage that a start under these settings belongs to."""
        epochs = len(self.history())
        if not (epochs or self.last.exists() or self.best.exists()):
            return self.lineages  # nothing came of the settings before: an error or a kill in the first epoch
        written = self.settings  # sound, whichever counts
        from catpose.run.lineage import changes  # which needs torch

        differing = changes(self._recorded() or _plain(written), flatten(_plain(config)), epochs)
        if differing and not new_lineage:
            raise InputError(
                f"--out {self.path}: holds a run with other settings ({first(differing, 4)}); name another folder, or"
                " go on under these with --new-lineage, and no comparison will count it with the runs of either"
            )
        return self.lineages + bool(differing)


def lacking(settings: Mapping[str, Any], history: Sequence[Mapping[str, str]]) -> str | None:
    """What a run hasn't trained of that which its settings ask, "2 of 30 epochs" for example; None where it is whole.

    Args:
        settings: by dotted name.
        history: its rows, an epoch each.
    """
    epochs, steps = (settings.get(f"trainer.{key}") for key in ("max_epochs", "max_steps"))
    numbers = [int(row["epoch"]) for row in history]
    if numbers and numbers == [*range(len(numbers))] and isinstance(steps, int) and steps > 0:
        done = float(history[-1].get("step") or 0)
        if done >= steps:
            return None
        if not isinstance(epochs, int) or epochs < 1:
            return f"{done:g} of {steps} steps"
    if not isinstance(epochs, int) or epochs < 1:
        return f"{len({*numbers})} epochs, and its settings name no number of them"
    done = len({number for number in numbers if number < epochs})
    return None if done == epochs else f"{done} of {epochs} epochs"


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON can hold them: what it has no values for, such as infinity, as text."""
    return json.loads(json.dumps(config, default=str), parse_constant=str)
