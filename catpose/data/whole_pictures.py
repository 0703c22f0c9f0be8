"""Pictures without annotations: which a folder holds, which are left out and why, and the split that they make."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from catpose.data.coco_split import CocoSplit, Image
from catpose.data.images import picture_size
from catpose.errors import InputError
from catpose.instances import Instances
from catpose.text import first

_NAMED = 3  # of the files that are left out for one reason


class LeftOut(NamedTuple):
    """An entry of a folder that is not predicted."""

    path: Path
    reason: str


def find_pictures(
    sources: Sequence[Path], recursive: bool = False
) -> tuple[dict[Path, tuple[int, int]], list[LeftOut]]:
    """The pictures that are named, and those in the folders that are; what a file is, is told by its content.

    A picture that is named must be one; of a folder, what can't be read is left out, as are its folders and hidden
    entries (whose names begin with a dot). No pixel is decoded.

    Args:
        recursive: look into the folders of folders too, but for those that are links.

    Returns:
        width and height, px, of each picture as it stands upright, in the order of the sources, a folder's by name;
        what is left out.

    Raises:
        InputError: a source that isn't there or is no picture, or a folder that holds none.
    """
    sizes: dict[Path, tuple[int, int]] = {}
    left_out: list[LeftOut] = []
    for source in sources:
        if not os.path.lexists(source):
            raise InputError(f"{source}: no such file or folder; name pictures, folders of them, or one COCO file")
        if not source.is_dir():
            sizes[source] = picture_size(source)
            continue
        found, others = _in_folder(source, recursive)
        if not found:
            why = "; ".join(left_out_lines(others, short=True))[:200] or "it is empty"
            raise InputError(f"{source}: holds no picture that can be read ({why}); name another folder")
        sizes |= found
        left_out += others
    if not sizes:
        raise InputError("no pictures given; name image files, or a folder that holds some")
    return sizes, left_out


def _in_folder(folder: Path, recursive: bool) -> tuple[dict[Path, tuple[int, int]], list[LeftOut]]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: can't be read ({error.strerror}); check its permissions") from None
    sizes: dict[Path, tuple[int, int]] = {}
    left_out: list[LeftOut] = []
    for entry in tqdm(entries, "looking at files", unit="", delay=2, mininterval=1, leave=False, disable=None):
        if entry.name.startswith("."):
            left_out.append(LeftOut(entry, "hidden, as its name begins with a dot"))
        elif entry.is_dir():
            if recursive and not entry.is_symlink():
                found, others = _in_folder(entry, recursive)
                sizes |= found
                left_out += others
            else:
                left_out.append(LeftOut(entry, "is a folder; name it too, or give --recursive, to have its pictures"))
        else:
            try:
                sizes[entry] = picture_size(entry)
            except InputError as error:
                left_out.append(LeftOut(entry, str(error).removeprefix(f"{entry}: ")))
    return sizes, left_out


def left_out_lines(left_out: Iterable[LeftOut], short: bool = False) -> list[str]:
    """What was left out, a line for each reason, with how many there are and the first of them.

    Args:
        short: without the folder's name and the remedy.
    """
    by_reason: dict[tuple[Path, str], list[str]] = {}
    for path, reason in left_out:
        by_reason.setdefault((path.parent, reason), []).append(path.name)
    lines = []
    for (folder, reason), names in by_reason.items():
        listed = first(names, _NAMED)
        if short:
            lines.append(f"{listed}: {reason.split(';')[0]}")
        else:
            lines.append(f"{folder}: left out {len(names)} ({listed}): {reason}")
    return lines


def split_of_pictures(sizes: dict[Path, tuple[int, int]], sources: Sequence[Path] = ()) -> CocoSplit:
    """A split without annotations: each picture is one instance, whose box is the whole picture.

    Images and annotations are numbered from 1, in the order given. An image's `file_name` is its path from the source
    that it was found in.

    Args:
        sizes: width and height of each picture, px; at least one.
        sources: the folders that pictures were found in.
    """

    def name(file: Path) -> str:
        found_in = next((source for source in sources if source != file and file.is_relative_to(source)), file.parent)
        return file.relative_to(found_in).as_posix()

    return split_of_images(
        [
            Image(id=i, file_name=name(file), path=file, width=width, height=height)
            for i, (file, (width, height)) in enumerate(sizes.items(), start=1)
        ]
    )


def split_of_images(images: Sequence[Image]) -> CocoSplit:
    """A split of these pictures, at least one, each of which is one instance, whose box is the whole picture."""
    coco = {
        "images": [{"id": i.id, "file_name": i.file_name, "width": i.width, "height": i.height} for i in images],
        "annotations": [
            {"id": i.id, "image_id": i.id, "category_id": 1, "bbox": [0, 0, i.width, i.height]} for i in images
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    return CocoSplit(
        **vars(Instances.from_coco(coco)),
        file=images[0].path,
        coco=coco,
        images=tuple(images),
        stated_areas=np.full(len(images), np.nan),
        has_keypoints=False,
    )
