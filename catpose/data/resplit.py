"""Random divisions of a data folder's training and validation pictures, each a data folder of its own.

The test split stays what it is. A division has as many validation pictures as val.json, or a few less so that copies of
one picture stay in one split (`draw_split`); which they are follows from its number and the pictures' names.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from catpose.data.coco import read_split
from catpose.data.coco_split import CocoSplit, split_hash
from catpose.data.copies import RECORD, copies_among, recorded_pool
from catpose.data.layout import BOXES_ONLY
from catpose.data.skeletons import FILE
from catpose.data.split import draw_split
from catpose.data.writing import new_folder
from catpose.errors import InputError


def resplit(root: Path, n: int, folder: Path) -> list[Path]:
    """The data folders FOLDER/0 to FOLDER/(n - 1), made where they aren't there yet.

    Args:
        root: the data folder whose train.json and val.json are divided anew. Its images are linked, not copied.
        n: how many divisions.

    Raises:
        InputError: the two files can't be read or put together, a picture can't be read, or a folder there is of
            other data.
    """
    root = root.resolve()
    splits = [read_split(root, name) for name in ("train", "val")]
    pool = _pool_hash(splits)
    folders = [folder / str(number) for number in range(n)]
    missing = [number for number, each in enumerate(folders) if not each.exists()]
    if missing:
        content = _together(splits)
        names = {entry["id"]: entry["file_name"] for entry in content["images"]}
        same = copies_among([root / "images" / name for name in names.values()])
        ids = {root / "images" / name: id_ for id_, name in names.items()}
        copy_of = {ids[file]: ids[first] for file, first in same.items()}
        sizes = (len(names) - len(splits[1].images), len(splits[1].images), 0)
        for number in missing:
            divided = draw_split(names, copy_of, sizes, f"division {number}", frozenset(), whole=True)
            _write(root, folders[number], content, divided, {"pool": pool, "division": number})
    for each in folders:
        if recorded_pool(each) != pool:
            raise InputError(f"{each}: is a division of other data than {root}; remove it, and it is made anew")
    return folders


def _pool_hash(splits: Sequence[CocoSplit]) -> str:
    """SHA-256 (hex) of what several splits say together."""
    return hashlib.sha256(" ".join(map(split_hash, splits)).encode()).hexdigest()


def _together(splits: Sequence[CocoSplit]) -> dict[str, Any]:
    """Both files' entries in one; the ids of the second are shifted where both use one.

    Raises:
        InputError: they have other categories, or one picture by name.
    """
    first, second = splits
    if first.coco["categories"] != second.coco["categories"]:
        raise InputError(f"{second.file}: its categories are others than {first.file}'s; splits needs them alike")
    twice = {image.file_name for image in first.images} & {image.file_name for image in second.images}
    if twice:
        raise InputError(f"{second.file}: {min(twice)} is in {first.file.name} too; see python -m catpose.check")
    images, annotations = ([each.coco[key] for each in splits] for key in ("images", "annotations"))
    by_image, by_animal = _shift(images), _shift(annotations)
    return {
        "images": [*images[0], *(entry | {"id": entry["id"] + by_image} for entry in images[1])],
        "annotations": [
            *annotations[0],
            *(e | {"id": e["id"] + by_animal, "image_id": e["image_id"] + by_image} for e in annotations[1]),
        ],
        "categories": first.coco["categories"],
    }


def _shift(entries: Sequence[Sequence[dict[str, Any]]]) -> int:
    """What to add to the second file's ids so that none is one of the first file's; 0 where none is."""
    first, second = ({entry["id"] for entry in each} for each in entries)
    return max(first) - min(second) + 1 if first & second else 0


def _write(
    root: Path, folder: Path, content: dict[str, Any], divided: Mapping[str, Sequence[int]], record: dict[str, Any]
) -> None:
    if not divided["val"]:
        raise InputError(f"{root}: its pictures are copies of too few for a validation split; see catpose.check")
    try:
        with new_folder(folder) as temporary:
            (temporary / "annotations").mkdir()
            (temporary / "images").symlink_to(root / "images", target_is_directory=True)
            for name in ("train", "val"):
                chosen = set(divided[name])
                part = content | {
                    "images": [entry for entry in content["images"] if entry["id"] in chosen],
                    "annotations": [entry for entry in content["annotations"] if entry["image_id"] in chosen],
                }
                (temporary / "annotations" / f"{name}.json").write_text(json.dumps(part), encoding="utf-8")
            for name in ("test", BOXES_ONLY):
                if (root / "annotations" / f"{name}.json").exists():
                    (temporary / "annotations" / f"{name}.json").symlink_to(root / "annotations" / f"{name}.json")
            if (root / FILE).exists():
                shutil.copyfile(root / FILE, temporary / FILE)
            (temporary / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except InputError:
        if not (folder / RECORD).exists():  # else another worker of the study has just made it
            raise
