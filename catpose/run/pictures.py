"""Overlays of a whole split's detections, as picture files."""

from __future__ import annotations

import contextlib
import os
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from catpose.data.coco_split import CocoSplit
from catpose.errors import InputError

_LONGEST_NAME = 200  # bytes; file systems take 255
LARGEST_JPEG = 65500  # px of a side
_COMMENT = b"catpose overlay"
#: How an overlay's JPEG begins, by which it is known for one: with a comment.
OVERLAY_START = b"\xff\xd8\xff\xfe" + (len(_COMMENT) + 2).to_bytes(2, "big") + _COMMENT


@contextmanager
def overlay_folder(split: CocoSplit, folder: Path) -> Iterator[Callable[[int, np.ndarray], None]]:
    """What writes an overlay: called with a place in `split.images` and the pixels, (height, width, 3) uint8 RGB.

    It is a JPEG under its image's own name, folders in these names kept. All of them are put into the folder once the
    block has ended well; none, where it hasn't.

    Raises:
        InputError: the folder can't be made or written.
    """
    names = overlay_names(split)
    with _arriving_together(folder) as unfinished:

        def write(place: int, picture: np.ndarray) -> None:
            suffix = ".jpg" if max(picture.shape) <= LARGEST_JPEG else ".png"
            _, content = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            file = unfinished / f"{names[place]}{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            data = content.tobytes()
            file.write_bytes(OVERLAY_START + data[2:] if suffix == ".jpg" else data)

        yield write


def overlay_names(split: CocoSplit) -> list[str]:
    """The name of each picture's overlay, without its suffix."""
    return file_names([image.file_name for image in split.images])


@contextmanager
def _arriving_together(folder: Path) -> Iterator[Path]:
    """A folder inside `folder`, whose files move there at the end; folders that had to be made go again on a fault."""
    created: list[Path] = []
    try:
        for place in reversed([folder, *folder.parents]):
            if not place.exists():
                place.mkdir()
                created.append(place)
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as unfinished:
            yield Path(unfinished)
            for file in sorted(file for file in Path(unfinished).rglob("*") if file.is_file()):
                place = folder / file.relative_to(unfinished)
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, place)
            created.clear()
    except OSError as error:
        raise InputError(
            f"--overlays {folder}: can't be written ({error.strerror or error}); name another folder"
        ) from None
    finally:
        for place in reversed(created):
            with contextlib.suppress(OSError):  # somebody put something there meanwhile
                place.rmdir()


def file_names(paths: Sequence[str]) -> list[str]:
    """A name without suffix for what is made of each file: its own path where no other has that, else numbered from 1.

    No two are equal, not even where a file system takes capitals for small letters and composed for decomposed ones.
    """
    own = [Path(path).parent / _shortened(Path(path).stem) for path in paths]
    counts = Counter(map(_folded, own))
    taken = {place for place, n in counts.items() if n == 1}
    names = []
    for number, place in enumerate(own, start=1):
        named = place
        if counts[_folded(place)] > 1:
            named = place.with_name(f"{number}_{place.name}")
            while _folded(named) in taken:
                named = place.with_name(f"{number}_{named.name}")
            taken.add(_folded(named))
        names.append(named.as_posix())
    return names


def _folded(place: Path) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", place.as_posix()).casefold())


def _shortened(stem: str) -> str:
    while len(os.fsencode(stem)) > _LONGEST_NAME:
        stem = stem[:-1]
    return stem
