"""The files of one claim of a trial: where it trains, what it takes up from the claims before it, what it leaves.

A worker that was taken for gone may be there all the same, and so may its training: frozen, in another container,
behind a network that was away. So no two claims write the same files: each has a folder and a log of its own, the
folder begun as a copy of what an earlier claim had finished. They share one mark, the newest claim's token, which each
compares with its own before it writes. Of a finished trial the last claim's folder remains, with W&B's files of all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from catpose.errors import REASON_FILE, InputError
from catpose.fence import CLAIM, CLAIM_FOLDER, newest
from catpose.files import atomic_write
from catpose.model.stored import read_checkpoint
from catpose.study.directory import StudyDirectory

#: What a run goes on from, the checkpoint first: all else is at least as new then, and `fit` drops what is newer.
TAKEN_UP = (
    *("last.ckpt", "best.ckpt", "metrics.csv", "val_results.json", "val_score.json"),
    *("config.yaml", "log.txt", "run.json"),
)


@dataclass(frozen=True)
class Claim:
    """A claim's files."""

    directory: StudyDirectory
    name: str  # the trial's, as a folder is called
    token: int  # the claim's, of the ledger
    study_id: str  # another study's claims, of a storage that is lost, count for nothing

    @property
    def own_name(self) -> str:
        return self.name if self.token == 1 else f"{self.name}-claim{self.token}"

    @property
    def folder(self) -> Path:
        return self.directory.trials / self.own_name

    @property
    def log(self) -> Path:
        return self.directory.logs / f"{self.own_name}.log"

    @property
    def reason(self) -> Path:
        """Where its training writes why it fails."""
        return self.directory.logs / f"{self.own_name}.reason"

    @property
    def mark(self) -> Path:
        return self.directory.logs / f"{self.name}.holder"

    @property
    def environment(self) -> dict[str, str]:
        """Tells its training of it."""
        return {REASON_FILE: str(self.reason), CLAIM: f"{self.study_id}:{self.token} {self.mark}"}

    @property
    def _copying(self) -> Path:
        return self.directory.logs / f"{self.own_name}.copying"

    def stands(self) -> bool:
        """Whether no newer claim has set the mark; an older one's, which may have been slow to set it, is set again."""
        known = newest(self.mark, self.study_id)
        if known < self.token:  # where it can't be set, there are the ledger and a folder of one's own
            with contextlib.suppress(InputError), atomic_write(self.mark) as temporary:
                temporary.write_text(f"{self.study_id}:{self.token}", encoding="utf-8")
        return known <= self.token

    def earlier(self) -> list[Claim]:
        """The claims before this one that have left a folder, the one that has come farthest first."""
        names = [path.name for path in (self.directory.trials).glob(f"{self.name}-claim*")]
        tokens = [1, *(int(found[1]) for name in names if (found := CLAIM_FOLDER.search(name)))]
        claims = [dataclasses.replace(self, token=token) for token in tokens if token < self.token]
        return sorted((claim for claim in claims if claim.folder.is_dir()), key=_progress, reverse=True)

    def take_up(self, other: Claim) -> bool:
        """Copy what another claim has finished, whole or not at all; False where it has no checkpoint.

        It is a copy and no link: the other's training may be writing there.
        """
        shutil.rmtree(self._copying, ignore_errors=True)
        self._copying.mkdir(parents=True)
        try:
            for name in TAKEN_UP:
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(other.folder / name, self._copying / name)
            if not all((self._copying / name).exists() for name in ("last.ckpt", "config.yaml", "run.json")):
                return False
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._copying.rename(self.folder)
            return True
        finally:
            shutil.rmtree(self._copying, ignore_errors=True)

    def drop(self) -> None:
        """Remove this claim's folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def replace(self, others: list[Claim]) -> None:
        """Remove others' folders, their W&B files kept in this one's.

        A training that is still there finds nothing to go on with, and was to write nothing more.
        """
        for other in others:
            for run in (other.folder / "wandb").glob("*run-*"):
                with contextlib.suppress(OSError):
                    (self.folder / "wandb").mkdir(exist_ok=True)
                    os.rename(run, self.folder / "wandb" / run.name)
            other.drop()
        for left in (self.directory.logs).glob(f"{self.name}-claim*.copying"):  # of a worker that was killed meanwhile
            found = CLAIM_FOLDER.search(left.stem)
            if found and int(found[1]) < self.token:
                shutil.rmtree(left, ignore_errors=True)


def _progress(claim: Claim) -> tuple[int, int]:
    """The epoch of its checkpoint, which metrics.csv may be ahead of; of equals the newest claim is farthest."""
    try:
        return int(read_checkpoint(claim.folder / "last.ckpt")["epoch"]), claim.token
    except (InputError, LookupError, TypeError, ValueError):
        return -1, claim.token
