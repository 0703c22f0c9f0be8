"""A training that another has taken over from ends at its next write, and doesn't make it.

Whoever starts a training that others may take over names in its environment which claim it is of, and the file that
holds the newest claim. The training looks there by itself: its starter may be frozen, and know nothing.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

#: In a command's environment: its claim as `CLAIMANT:TOKEN`, a blank, and the file with the newest claim.
CLAIM = "CATPOSE_CLAIM"
#: How the folder of a second or later claim's run ends.
CLAIM_FOLDER = re.compile(r"-claim(\d+)$")
#: The exit code of what was taken over from.
SUPERSEDED = 76


class Superseded(SystemExit):
    """Another has taken over from this process."""

    def __init__(self) -> None:
        super().__init__(SUPERSEDED)


def newest(mark: Path, claimant: str) -> int:
    """The token of the newest claim for a claimant that stands in a file; 0 where none does."""
    try:
        other, _, token = mark.read_text(encoding="utf-8").strip().rpartition(":")
        return int(token) if other == claimant else 0
    except (OSError, ValueError):
        return 0


def newest_claims(folders: Iterable[Path]) -> list[Path]:
    """Of each trial's folders that of the newest claim, which alone is the trial's; sorted by name."""
    found: dict[str, tuple[int, Path]] = {}
    for folder in folders:
        claim = CLAIM_FOLDER.search(folder.name)
        name, token = (folder.name[: claim.start()], int(claim[1])) if claim else (folder.name, 1)
        if token >= found.get(name, (0, folder))[0]:
            found[name] = (token, folder)
    return [found[name][1] for name in sorted(found)]


def require_current() -> None:
    """Go on where no newer claim than this process's stands in its file, or where it is of none.

    Raises:
        Superseded: there is a newer one.
    """
    claim, _, mark = os.environ.get(CLAIM, "").partition(" ")
    claimant, _, token = claim.rpartition(":")
    if token.isdecimal() and newest(Path(mark), claimant) > int(token):
        print("another worker has taken this training over; nothing more is written here", file=sys.stderr)
        raise Superseded
