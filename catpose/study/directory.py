"""A study's directory.

study.yaml              the study file as it was run, below the command line
study.db                the storage, where none is named
trials/NAME             the run of a trial's first claim; trials/NAME-claim2 that of the second, …
logs/NAME.log           what a training prints
logs/NAME.holder        the newest claim of a trial
study.json              what it compares and how its trials stand, for `report`
divisions/N             the data with its training and validation pictures divided anew, of a study with `splits`
report.md, .csv, .png, .svg
final/                  the winner and the reference on the test split
slurm/                  the jobs' output
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from catpose.files import atomic_write


@dataclass(frozen=True)
class StudyDirectory:
    """The files and folders of a study below its output folder."""

    path: Path

    @property
    def file(self) -> Path:
        return self.path / "study.yaml"

    @property
    def database(self) -> Path:
        return self.path / "study.db"

    @property
    def summary(self) -> Path:
        return self.path / "study.json"

    @property
    def trials(self) -> Path:
        return self.path / "trials"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def divisions(self) -> Path:
        return self.path / "divisions"

    @property
    def final(self) -> Path:
        return self.path / "final"

    @property
    def slurm(self) -> Path:
        return self.path / "slurm"

    @property
    def was_run(self) -> bool:
        """Whether a study was begun here before."""
        return self.file.exists()

    def record(self, command: str, text: str) -> None:
        """Write the study's file down, with the command line that runs it."""
        with atomic_write(self.file) as temporary:
            temporary.write_text(f"# {command}\n{text}", encoding="utf-8")

    def set_aside(self, corrections: int) -> None:
        """Move what trials left behind before their study's settings were corrected out of the way of new ones."""
        mark = self.trials / ".corrections"
        try:
            known = int(mark.read_text(encoding="ascii"))
        except (OSError, ValueError):
            known = 0
        if known >= corrections:
            return
        for folder in (self.trials, self.logs):
            with contextlib.suppress(OSError):  # there is none; or another worker here was quicker
                folder.rename(folder.with_name(f"{folder.name}-before-correction-{corrections}"))
        mark.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(mark) as temporary:
            temporary.write_text(str(corrections), encoding="ascii")
