"""DeepLabCut's labels: CollectedData_*.csv beside the frames of each video."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path

from catpose.data.importers.labels import Animal, Labels, Picture
from catpose.data.values import is_coordinate
from catpose.errors import InputError, one_line
from catpose.files import LARGEST_JSON
from catpose.text import counted

CATEGORY = "cat"
#: The individual under which a project of several animals keeps points that belong to none, such as a cage's corner.
_NOBODY = "single"


def read_deeplabcut(source: Path, names: Sequence[str] | None) -> Labels:
    """All CollectedData_*.csv of a project (`labeled-data/VIDEO/`), of one animal or several.

    Args:
        source: a file, or a folder with any number below it.
        names: of the keypoints, in place of the file's own.

    Raises:
        InputError: no such file, other columns than DeepLabCut's, or the first cell that can't be used.
    """
    files = [source] if source.is_file() else sorted(source.rglob("CollectedData_*.csv"))
    files = [file for file in files if not file.name.startswith(".") and "__MACOSX" not in file.parts]
    if not files:
        raise InputError(
            f"{source}: holds no CollectedData_*.csv; name DeepLabCut's project or labeled-data, and save the labels as"
            " CSV too"
        )
    labels = Labels("DeepLabCut", {}, [], files)
    for file in files:
        _add(labels, file, names)
    return labels


def _add(labels: Labels, file: Path, names: Sequence[str] | None) -> None:
    rows = _rows(file)
    header = {row[0].strip(): row for row in rows[:4] if row}
    if not {"bodyparts", "coords"} <= header.keys():
        raise InputError(f"{file}: has no rows 'bodyparts' and 'coords' on top; is it DeepLabCut's CollectedData?")
    n_header = list(header).index("coords") + 1
    coords, parts = header["coords"], header["bodyparts"]
    first = next((i for i, word in enumerate(coords) if word.strip() == "x"), 0)
    animals = header.get("individuals", [""] * len(coords))
    if (
        not first
        or len(parts) != len(coords)
        or len(animals) != len(coords)
        or coords[first:] != ["x", "y"] * ((len(coords) - first) // 2)
    ):
        raise InputError(
            f"{file}: its columns aren't x, y, x, y, … of the body parts; is it DeepLabCut's CollectedData?"
        )
    columns: dict[str, list[int]] = {}
    for column in range(first, len(coords), 2):
        columns.setdefault(animals[column].strip(), []).append(column)
    nobody = columns.pop(_NOBODY, []) if len(columns) > 1 else []
    for animal, own in columns.items():
        found = tuple(parts[column].strip() for column in own)
        if names is not None and len(names) != len(found):
            raise InputError(
                f"--keypoints has {counted(len(names), 'name')}, a line each, but {file} has {len(found)} body parts"
            )
        found = tuple(names) if names is not None else found
        if labels.keypoints.setdefault(CATEGORY, found) != found:
            raise InputError(
                f"{file}: '{one_line(animal or file.parent.name)}' has other body parts than another; import one"
            )
    for number, row in enumerate(rows[n_header:], start=n_header + 1):
        where = f"{file}: line {number}"
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(coords):
            raise InputError(f"{where}: has {len(row)} cells, not {len(coords)}; save it from DeepLabCut again")
        name = "/".join(cell.strip() for cell in row[:first] if cell.strip()).replace("\\", "/")
        picture = Picture(name, file, group=f"video {name.rsplit('/', 2)[-2] if '/' in name else file.parent.name}")
        for own in columns.values():
            points = tuple(_point(where, row[column : column + 2]) for column in own)
            if any(v for _, _, v in points):  # an animal that isn't in the picture has no line of its own to be without
                picture.animals.append(Animal(CATEGORY, points))
        labels.left_out["points that belong to no animal"] += sum(_point(where, row[c : c + 2])[2] > 0 for c in nobody)
        labels.pictures.append(picture)


def _rows(file: Path) -> list[list[str]]:
    try:
        if os.path.getsize(file) > LARGEST_JSON:
            raise InputError(
                f"{file}: has more than the {LARGEST_JSON / 2**20:g} MiB that are read; is it the right file?"
            )
        with file.open(encoding="utf-8-sig", newline="") as opened:
            return list(csv.reader(opened))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: can't be read as CSV ({one_line(error)}); save it from DeepLabCut again") from None


def _point(where: str, cells: Sequence[str]) -> tuple[float, float, int]:
    """x, y, v; unlabelled where a cell is empty or nan."""
    try:
        x, y = (float(cell) if cell.strip() else math.nan for cell in cells)
    except ValueError:
        raise InputError(f"{where}: {one_line(', '.join(cells))[:60]} is no place; correct it") from None
    if math.isnan(x) or math.isnan(y):
        return 0, 0, 0
    if not is_coordinate(x) or not is_coordinate(y):
        raise InputError(f"{where}: {one_line(', '.join(cells))[:60]} is no place in a picture; correct it")
    return x, y, 2
