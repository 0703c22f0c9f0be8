"""Where the pictures are that labels name: found by their base names below a folder, and renamed so that all differ."""

from __future__ import annotations

import filecmp
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from catpose.errors import InputError, one_line
from catpose.files import require_folder

_NO_PICTURES = {".json", ".txt", ".csv", ".yaml", ".yml", ".xml", ".zip", ".h5", ".slp", ".md"}
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the name of a file that was uploaded


class PictureFinder:
    """The files below some folders, by base name; hidden ones and macOS's `__MACOSX` don't count."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = list(dict.fromkeys(folders))
        self._files: dict[str, list[Path]] = defaultdict(list)
        self._stems: dict[str, list[Path]] = defaultdict(list)
        for start in self.folders:
            require_folder(start)
            for folder, inside, names in os.walk(start):
                inside[:] = sorted(name for name in inside if not name.startswith(".") and name != "__MACOSX")
                for name in sorted(names):
                    file = Path(folder, name)
                    if not name.startswith(".") and file.suffix.lower() not in _NO_PICTURES and file.is_file():
                        self._files[_key(name)].append(file)
                        self._stems[_key(file.stem)].append(file)

    def find(self, name: str, labels: Path) -> Path | None:
        """The picture that a label file calls `name` (`NAME.*` with any suffix), None where there is none.

        Of several files of that name it is the one whose folders agree best with those in `name`, then one in a folder
        that the label file is called after (`person_keypoints_Train.json`, `Train/`), then one beside the label file.

        Raises:
            InputError: several fit equally, and differ.
        """
        for spelt in dict.fromkeys((name, unquote(name).rsplit("?d=", 1)[-1], unquote(_without_query(name)))):
            parts = spelt.replace("\\", "/").strip().split("/")
            found, base = self._files, parts[-1]
            if base.endswith(".*"):
                found, base = self._stems, base[:-2]
            files = found.get(_key(base)) or found.get(_key(_UPLOADED.sub("", base)))
            if files:
                return _only([_key(part) for part in parts[:-1]], files, labels, name)
        return None


def unique_names(files: Sequence[Path], above: Sequence[Path]) -> dict[Path, str]:
    """A file name for each picture, unlike any other also where a file system ignores case: its own where that is the
    only one, else with its folders below one of `above` before it."""
    times = Counter(_key(file.name) for file in files)
    names: dict[Path, str] = {}
    taken: set[str] = {key for key, n in times.items() if n == 1}
    for file in files:
        name = file.name
        if times[_key(name)] > 1:
            start = next((folder for folder in above if file.is_relative_to(folder)), file.parent)
            stem = "_".join(file.relative_to(start).with_suffix("").parts)
            name, n = f"{stem}{file.suffix}", 2
            while _key(name) in taken:
                name, n = f"{stem}_{n}{file.suffix}", n + 1
            taken.add(_key(name))
        names[file] = name
    return names


def _only(folders: list[str], files: list[Path], labels: Path, name: str) -> Path:
    def agreement(file: Path) -> tuple[int, bool, bool]:
        theirs = [_key(part) for part in file.parent.parts]
        common = 0
        while common < min(len(folders), len(theirs)) and folders[-1 - common] == theirs[-1 - common]:
            common += 1
        of_subset = any(_key(labels.stem).endswith(f"_{folder}") for folder in theirs)
        return common, of_subset, file.is_relative_to(labels.parent)

    best = max(map(agreement, files))
    fitting = [file for file in files if agreement(file) == best]
    for other in fitting[1:]:
        if not filecmp.cmp(fitting[0], other, shallow=False):
            raise InputError(
                f"{labels}: '{one_line(name)[:100]}' may be {fitting[0]} or {other}, which differ; rename one of them"
                " there and in the labels"
            )
    return fitting[0]


def _without_query(name: str) -> str:
    """What an address in a storage or on the web calls a file; any other name as it is."""
    return name if "://" not in name else re.split(r"[?#]", name)[0]


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
