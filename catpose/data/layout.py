"""A data folder's layout, ROOT/annotations/NAME.json and ROOT/images/, and the remedy where it isn't kept."""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote

from catpose.errors import InputError
from catpose.files import require_folder

#: The file of a test split whose labels are withheld: it is read for its boxes alone.
BOXES_ONLY = "test_info"
SPLITS = ("train", "val", "test", BOXES_ONLY)


def annotation_files(root: Path) -> tuple[list[Path], list[Path]]:
    """The annotation files of a data folder, train first, and the JSON files beside them that aren't looked at.

    Where none has a split's name all are taken. Files that begin with a dot, as macOS writes beside each, are no data.

    Raises:
        InputError: no annotation file exists.
    """
    files = _json_files(root / "annotations")
    ours = [file for name in SPLITS for file in files if file.stem == name]
    if not files:
        raise InputError(f"{root / 'annotations'}: no such folder or no .json in it; {_remedy(root)}")
    return (ours, [file for file in files if file not in ours]) if ours else (files, [])


def split_file(root: str | Path, split: str) -> Path:
    """The annotation file of a split: "train", "val", "test" or any other NAME of annotations/NAME.json; "test" falls
    back to test_info.json.

    Raises:
        InputError: it doesn't exist; the message says how to make it.
    """
    folder = Path(root) / "annotations"
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; {_remedy(Path(root))}")
    names = [split, BOXES_ONLY] if split == "test" else [split]
    for name in names:
        if Path(name).name == name and (folder / f"{name}.json").exists():
            return folder / f"{name}.json"
    present = ", ".join(file.stem for file in _json_files(folder)) or f"none; {_remedy(Path(root))}"
    raise InputError(f"{folder}: no {' or '.join(f'{name}.json' for name in names)}; splits there: {present}")


def _json_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.json") if not file.name.startswith("."))


def _remedy(root: Path) -> str:
    """How to get data to ROOT, by what it holds; InputError if it is a file."""
    make = (
        f"make the data (drawn cats: `python -m catpose.prepare drawn --out {root}`, other sources:"
        " `python -m catpose.prepare --help`) or name the folder that holds annotations/"
    )
    require_folder(root)
    if any(file.stem in SPLITS for file in _json_files(root)) and root.name == "annotations":
        return f"name the folder above, --data {root.parent}"
    found = [file for pattern in ("*", "*/*", "*/*/*") for file in _json_files_at(root, pattern)]
    if not found:
        packed = [file.name for file in root.glob("*.zip")] if root.is_dir() else []
        return f"bring it in: `python -m catpose.prepare coco {root / packed[0]}`" if packed else make
    example = found[0].relative_to(root).as_posix()
    kind = "Roboflow's layout, " if found[0].name == "_annotations.coco.json" else ""
    return f"{kind}{example} is there: bring it in with `python -m catpose.prepare coco {root}`"


def _json_files_at(root: Path, pattern: str) -> list[Path]:
    files = sorted(root.glob(f"{pattern}.json"))
    return [file for file in files if not any(part.startswith(".") for part in file.relative_to(root).parts)]


#: Differences in spelling, tried one on top of the other.
_SPELLINGS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("slashes or blanks", lambda name: posixpath.normpath(name.strip().replace("\\", "/"))),
    ("%-escapes", unquote),
    ("Unicode form", lambda name: unicodedata.normalize("NFC", name)),
    ("upper and lower case", str.casefold),
    ("the folder", posixpath.basename),
    ("the suffix", lambda name: posixpath.splitext(name)[0]),
)


def other_spellings(image_dir: Path, names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """For missing pictures that exist under another spelling: by name, the path in `image_dir` and what differs."""
    if not names:
        return {}
    present = [
        os.path.relpath(os.path.join(folder, file), image_dir).replace(os.sep, "/")
        for folder, _, files in os.walk(image_dir)
        for file in files
        if not file.startswith(".") and os.path.isfile(os.path.join(folder, file))  # a link may lead to nothing
    ]
    wanted, keys, found = {name: name for name in names}, {file: file for file in present}, {}
    for difference, plain in _SPELLINGS:
        wanted = {name: plain(key) for name, key in wanted.items() if name not in found}
        keys = {file: plain(key) for file, key in keys.items()}
        by_key: dict[str, list[str]] = defaultdict(list)
        for file, key in keys.items():
            by_key[key].append(file)
        for name, key in wanted.items():
            if len(by_key.get(key, ())) == 1:
                found[name] = (by_key[key][0], difference)
    return found
