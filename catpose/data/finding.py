"""Findings: the faults of a data set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from catpose.errors import InputError
from catpose.text import counted

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One fault of a data set. An error stops training or falsifies its score; a warning is for a person to look at."""

    kind: str
    severity: Severity
    split: str
    where: str  # "annotation 12", "image 7" or "annotations[3]" where there is no id to name
    message: str  # what is wrong, then the remedy


class Fault(NamedTuple):
    """A finding whose place its caller knows."""

    kind: str
    message: str
    severity: Severity = "error"


def refuse_errors(findings: Iterable[Finding], source: Path, *, listed_by: str = "", remedy: str = "") -> None:
    """Raise InputError with the first error, and how many more there are.

    Args:
        source: the file, or the folder, that was looked at.
        listed_by: the command that lists them all.
        remedy: what to do, where the message doesn't say it.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if not errors:
        return
    first = errors[0]
    place = [str(source), *([first.split] if first.split != source.stem else []), first.where]
    where = "" if first.message.startswith(str(source)) else ": ".join(place) + ": "
    listed = f": {listed_by}" if listed_by else ""
    more = f" (and {counted(len(errors) - 1, 'more error')}{listed})" if len(errors) > 1 else ""
    raise InputError(f"{where}{first.message}{more}{remedy}")
