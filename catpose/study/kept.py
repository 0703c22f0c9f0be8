"""Finished runs as small folders, without checkpoints, which the same command takes as done on another machine.

config.yaml, run.json, metrics.csv, val_score.json    the run's own
val_results.json.gz                                   its last validation's detections, packed
costs.json                                            what a study asked of the model: GMACs, …
"""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from catpose.data.coco import read_split
from catpose.data.coco_split import split_hash
from catpose.errors import InputError, one_line, printable
from catpose.files import LARGEST_JSON, read_json, write_json
from catpose.plain_yaml import flatten
from catpose.run.cli import FitCLI
from catpose.run.directory import RunDirectory, lacking
from catpose.run.lineage import changes
from catpose.run.provenance import numeric_versions
from catpose.score.protocol import Score
from catpose.text import first

FILES = ("config.yaml", "run.json", "metrics.csv", "val_score.json")
_PACKED = "val_results.json.gz"
#: A run's data may lie elsewhere on another machine; the score holds the hash of what it was validated on.
_LOCAL = ("data.root ",)


def keep(run: Path, place: Path, costs: Mapping[str, float]) -> None:
    """Write the small folder of a finished run, whole or not at all.

    Args:
        run: its folder. place: the small one's.
        costs: of the model, by name.

    Raises:
        InputError: it can't be written.
    """
    half = place.with_name(f".{place.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    try:
        half.mkdir(parents=True)
        for name in FILES:
            shutil.copyfile(run / name, half / name)
        packed = gzip.compress((run / "val_results.json").read_bytes(), mtime=0)
        (half / _PACKED).write_bytes(packed)
        write_json(half / "costs.json", dict(costs))
        shutil.rmtree(place, ignore_errors=True)
        half.rename(place)
    except OSError as error:
        raise InputError(f"{place}: can't be written ({error.strerror or error}); name another --results") from None


def taken(place: Path, args: Sequence[str], folder: Path, mixed_versions: bool, title: str) -> bool:
    """Whether what was kept of a run stands in its folder now: where it is the run that is asked for, and whole.

    Says what was done, or why it wasn't.

    Args:
        args: `fit`'s, of the run that is asked for.
        folder: where it would train; what is there already stays.
        mixed_versions: take runs of other versions of catpose or its libraries too.
        title: before the line that is printed.

    Raises:
        InputError: the folder can't be written, or the data can't be read.
    """
    if not place.exists() or folder.exists():
        return False
    why = _take(place, args, folder, mixed_versions)
    stays = f"not taken, since {why}; it stays, and what is trained isn't kept: delete it, or name another --results"
    print(printable(f"{title}{place}: {stays if why else 'finished, taken as it is'}"), flush=True)
    return why is None


def _take(place: Path, args: Sequence[str], folder: Path, mixed_versions: bool) -> str | None:
    run, settings = RunDirectory(place, remedy="delete it"), flatten(FitCLI([*args]).resolved())
    try:
        short, others = lacking(settings, run.history()), differing_settings(run, settings)
        versions, here = run.versions, numeric_versions()
        scored_on = Score.read(place / "val_score.json").protocol.split_hash
        contents = {name: (place / name).read_bytes() for name in FILES}
        with gzip.open(place / _PACKED) as file:
            contents["val_results.json"] = file.read(LARGEST_JSON)
    except (InputError, OSError, EOFError, zlib.error) as error:
        return f"it is damaged ({one_line(error)[:120]})"
    if short or others:
        return short or f"it has other settings ({first(others, 2)})"
    differing = [f"{name} {versions.get(name)}, here {here[name]}" for name in here if versions.get(name) != here[name]]
    if differing and not mixed_versions:
        return f"it is of other versions ({first(differing, 2)}); --mixed-versions takes it"
    val = read_split(settings["data.root"], "val", settings["data.area"])
    if scored_on != split_hash(val):
        return f"it was validated on other data than {val.file}"
    half = folder.with_name(f".{folder.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    try:
        half.mkdir(parents=True)
        for name, content in contents.items():
            (half / name).write_bytes(content)
        half.rename(folder)
    except OSError as error:
        raise InputError(f"{folder}: can't be written ({error.strerror or error}); name another --out") from None
    return None


def differing_settings(run: RunDirectory, settings: dict[str, Any]) -> list[str]:
    """Settings by which a run differs from what is asked for, by dotted name, that could change its numbers.

    Raises:
        InputError: the run's files are damaged.
    """
    found = changes(run.settings, settings, len(run.history()))
    return [each for each in found if not each.startswith(_LOCAL)]


def costs_in(place: Path, names: Sequence[str]) -> dict[str, float] | None:
    """Those that were kept of a model, by name; None where one is missing."""
    try:
        found = read_json(place / "costs.json")
        return {name: float(found[name]) for name in names}
    except (InputError, KeyError, TypeError, ValueError):
        return None
