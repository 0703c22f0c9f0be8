"""Reading the one data format: COCO keypoint JSON beside a folder of images.

ROOT/annotations/{train,val,test}.json and ROOT/images/; a `test_info.json` holds images and boxes without keypoints
and serves prediction only.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from catpose.data.structure import Entries, Finding, examine
from catpose.errors import InputError
from catpose.skeleton import N_KEYPOINTS

DEFAULT_ROOT = "data/cats"


@dataclass(frozen=True)
class Image:
    """One picture: its id and size as the JSON states them, and where its file is."""

    id: int
    file_name: str
    path: Path
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class CocoSplit:
    """One annotation file, checked and as arrays; instances in the order of (image id, annotation id).

    N instances; `image_index` (N,) points into `images`, which are in the order of their ids.
    """

    file: Path
    coco: dict[str, Any]  # the file as it was read, for those who speak COCO (pycocotools, the score)
    images: tuple[Image, ...]
    annotation_ids: np.ndarray  # (N,) int64
    image_index: np.ndarray  # (N,) int64
    category_ids: np.ndarray  # (N,) int64
    boxes: np.ndarray  # (N, 4) float64: x, y, width, height, image px
    areas: np.ndarray  # (N,) float64, px²; nan where the file has none
    crowd: np.ndarray  # (N,) bool
    keypoints: np.ndarray  # (N, 17, 2) float64, image px; nan where not labelled
    visibility: np.ndarray  # (N, 17) int64: 0 not labelled, 1 labelled but hidden, 2 visible
    has_keypoints: bool  # False for a file of boxes only

    def __len__(self) -> int:
        return len(self.annotation_ids)


def read_split(root: str | Path, split: str) -> CocoSplit:
    """ROOT/annotations/SPLIT.json, checked; `test` falls back to test_info.json where there is no test.json.

    Raises:
        InputError: where the folder or the file is missing, or as `read_coco`.
    """
    return read_coco(split_file(root, split), Path(root) / "images")


def split_file(root: str | Path, split: str) -> Path:
    """The annotation file of a split: "train", "val", "test" or any other NAME of annotations/NAME.json.

    Raises:
        InputError: where it is not there; the text says how to make it.
    """
    folder = Path(root) / "annotations"
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; make the data (drawn cats: `python -m catpose.prepare drawn --out {root}`,"
            f" other sources: `python -m catpose.prepare --help`) or name the folder that holds annotations/"
        )
    names = [split, "test_info"] if split == "test" else [split]
    for name in names:
        if Path(name).name == name and (folder / f"{name}.json").exists():
            return folder / f"{name}.json"
    there = ", ".join(sorted(file.stem for file in folder.glob("*.json"))) or "none"
    raise InputError(f"{folder}: no {' or '.join(f'{name}.json' for name in names)}; splits there: {there}")


def read_coco(annotation_file: str | Path, image_dir: str | Path) -> CocoSplit:
    """A COCO keypoint file, held against every rule of `catpose.data.structure`; pictures are not opened.

    Args:
        annotation_file: COCO keypoint JSON whose categories list the 17 keypoints in order. Where no annotation has
            `keypoints` it is a file of boxes: `has_keypoints` is False and all visibility 0.
        image_dir: the folder that `file_name` is relative to.

    Raises:
        InputError: at the first error, in one line: file, annotation or image id, key, remedy.
    """
    file = Path(annotation_file)
    split, findings = examine_file(file, Path(image_dir))
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        more = f" ({len(errors) - 1} more errors: `python -m catpose.check` lists them all)" if len(errors) > 1 else ""
        raise InputError(f"{file}: {errors[0].where}: {errors[0].message}{more}")
    return split


def examine_file(file: Path, image_dir: Path) -> tuple[CocoSplit, list[Finding]]:
    """The entries of a COCO keypoint file that keep all rules, and what was found wrong with the others.

    Raises:
        InputError: where it can't be read or is no JSON.
    """
    coco = read_json(file)
    entries, findings = examine(coco, file.stem, image_dir)
    return _as_arrays(file, coco if isinstance(coco, dict) else {}, entries, image_dir), findings


def read_json(file: Path) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: where it is missing, empty, no regular file, not UTF-8 or no JSON.
    """
    if not file.exists():
        raise InputError(f"{file}: no such file")
    if not file.is_file():
        raise InputError(f"{file}: is a {'folder' if file.is_dir() else 'device'}, not a JSON file")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{file}: can't be read ({error.strerror}); check its permissions") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not UTF-8 (byte {error.start}); is it a JSON file? Save it as UTF-8") from None
    if not text.strip():
        raise InputError(f"{file}: is empty; make or copy it again")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise InputError(f"{file}: is not JSON ({where}); was it cut short? Make or copy it again") from None
    except ValueError as error:  # a whole number of more digits than Python converts
        raise InputError(f"{file}: can't be read as JSON ({error}); correct that number") from None
    except RecursionError:
        raise InputError(f"{file}: can't be read as JSON (nested too deeply); is this a COCO keypoint file?") from None


def split_hash(split: CocoSplit) -> str:
    """SHA-256 (hex) of what a split says: images' ids, names and sizes; instances' ids, boxes, areas and keypoints.

    Equal for files that differ in layout, in the order of their entries or in `info` only.
    """
    images = json.dumps([[image.id, image.file_name, image.width, image.height] for image in split.images])
    digest = hashlib.sha256(images.encode())
    whole = (split.annotation_ids, split.image_index, split.category_ids, split.crowd, split.visibility)
    for array in whole:
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    for array in (split.boxes, split.areas, split.keypoints):
        # + 0.0: no negative zeros; and one nan of the many.
        digest.update(np.where(np.isnan(array), np.nan, np.asarray(array, dtype="<f8") + 0.0).astype("<f8").tobytes())
    return digest.hexdigest()


def _as_arrays(file: Path, coco: dict[str, Any], entries: Entries, image_dir: Path) -> CocoSplit:
    images = tuple(
        Image(id_, entry["file_name"], image_dir / entry["file_name"], int(entry["width"]), int(entry["height"]))
        for id_, entry in sorted(entries.images.items())
    )
    index = {image.id: i for i, image in enumerate(images)}
    annotations = sorted(entries.annotations.values(), key=lambda entry: (entry["image_id"], entry["id"]))
    n = len(annotations)
    if entries.has_keypoints:
        triples = np.array([entry["keypoints"] for entry in annotations], dtype=np.float64).reshape(n, N_KEYPOINTS, 3)
    else:
        triples = np.zeros((n, N_KEYPOINTS, 3))
    visibility = triples[..., 2].astype(np.int64)
    areas = [np.nan if entry.get("area") is None else entry["area"] for entry in annotations]
    return CocoSplit(
        file=file,
        coco=coco,
        images=images,
        annotation_ids=np.array([entry["id"] for entry in annotations], dtype=np.int64),
        image_index=np.array([index[entry["image_id"]] for entry in annotations], dtype=np.int64),
        category_ids=np.array([entry["category_id"] for entry in annotations], dtype=np.int64),
        boxes=np.array([entry["bbox"] for entry in annotations], dtype=np.float64).reshape(n, 4),
        areas=np.array(areas, dtype=np.float64),
        crowd=np.array([bool(entry.get("iscrowd", 0)) for entry in annotations], dtype=bool),
        keypoints=np.where(visibility[..., None] > 0, triples[..., :2], np.nan),
        visibility=visibility,
        has_keypoints=entries.has_keypoints,
    )
