"""What an annotation file must hold to be used: every rule once, for reading it and for checking it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, NamedTuple

from catpose.skeleton import KEYPOINTS, N_KEYPOINTS

#: Longest side and largest coordinate accepted, px: OpenCV's own limit for the side of a picture it decodes.
LARGEST_PX = 2**20

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


class Entries(NamedTuple):
    """The entries of a file that keep all rules, by id."""

    images: dict[int, dict[str, Any]]
    annotations: dict[int, dict[str, Any]]
    has_keypoints: bool


def examine(coco: object, split: str, image_dir: Path) -> tuple[Entries, list[Finding]]:
    """Hold a parsed COCO file against the rules.

    Args:
        coco: what `json.load` gave.
        split: its name, for the findings.
        image_dir: the folder that `file_name` is relative to and must not leave. Whether the pictures are there is
            not looked at.

    Returns:
        the entries without an error, and all findings in the order of the file.
    """
    findings: list[Finding] = []

    def report(where: str, fault: Fault) -> None:
        findings.append(Finding(fault.kind, fault.severity, split, where, fault.message))

    if not isinstance(coco, dict):
        report(
            "top level", Fault("wrong type", f"is {_type(coco)}, not an object with images, annotations, categories")
        )
        return Entries({}, {}, False), findings
    for key in ("images", "annotations", "categories"):
        if key not in coco:
            report(key, Fault("missing key", f"has no '{key}'; is this a COCO keypoint file?"))
        elif not isinstance(coco[key], list):
            report(key, Fault("wrong type", f"'{key}' is {_type(coco[key])}, not a list"))
        elif not coco[key]:
            report(key, Fault("nothing there", f"'{key}' is empty; a split needs at least one"))
    if findings:
        return Entries({}, {}, False), findings

    has_keypoints = any(isinstance(entry, dict) and "keypoints" in entry for entry in coco["annotations"])
    escapes = _escape_test(image_dir)
    category_ids, _ = _sound(coco["categories"], "categories", lambda e: _category_faults(e, has_keypoints), report)
    image_ids, images = _sound(coco["images"], "images", lambda e: _image_faults(e, escapes), report)
    _, annotations = _sound(
        coco["annotations"],
        "annotations",
        lambda e: _annotation_faults(e, image_ids, category_ids, has_keypoints),
        report,
    )
    annotations = {id_: entry for id_, entry in annotations.items() if entry["image_id"] in images}
    return Entries(images, annotations, has_keypoints), findings


def _sound(
    entries: list[object],
    key: str,
    faults: Callable[[dict[str, Any]], Iterator[Fault]],
    report: Callable[[str, Fault], None],
) -> tuple[set[int], dict[int, dict[str, Any]]]:
    """All ids in a list of the file, and those of its entries that have no error; the rest is reported."""
    one = {"categories": "category", "images": "image", "annotations": "annotation"}[key]
    ids: set[int] = set()
    sound: dict[int, dict[str, Any]] = {}
    for index, entry in enumerate(entries):
        where = f"{key}[{index}]"
        if not isinstance(entry, dict):
            report(where, Fault("wrong type", f"is {_type(entry)}, not an object"))
            continue
        id_ = entry.get("id")
        if type(id_) is not int or abs(id_) >= 2**53:
            report(where, _absent_or_wrong(entry, "id", f"a whole number of its own; number the {key}"))
            continue
        where = f"{one} {id_}"
        found = list(faults(entry))
        if id_ in ids:
            found.insert(0, Fault("duplicate id", f"is there twice in '{key}'; give each its own id"))
        ids.add(id_)
        for fault in found:
            report(where, fault)
        if all(fault.severity == "warning" for fault in found):
            sound[id_] = entry
    return ids, sound


def _category_faults(entry: dict[str, Any], has_keypoints: bool) -> Iterator[Fault]:
    names = entry.get("keypoints")
    if not isinstance(entry.get("name"), str):
        yield Fault("missing key", "has no 'name'")
    if names is None and not has_keypoints:
        return
    if not isinstance(names, list):
        yield Fault("keypoint names", f"has no list 'keypoints'; write the 17 names there, {KEYPOINTS[0]} first")
    elif names != list(KEYPOINTS):
        if len(names) != N_KEYPOINTS:
            difference = f"{len(names)} names, not {N_KEYPOINTS}"
        else:
            i = next(i for i in range(N_KEYPOINTS) if names[i] != KEYPOINTS[i])
            difference = f"{_shown(names[i])} at place {i}, not {KEYPOINTS[i]}"
        yield Fault("keypoint names", f"'keypoints' has {difference}; bring keypoints and names into AP-10K's order")


def _image_faults(entry: dict[str, Any], escapes: Callable[[str], bool]) -> Iterator[Fault]:
    name = entry.get("file_name")
    if not isinstance(name, str) or not name:
        yield _absent_or_wrong(entry, "file_name", "a file in images/")
    elif not _encodable(name):
        yield Fault("wrong type", f"'file_name' is {_shown(name)}, which no file can be called")
    elif escapes(name):
        yield Fault(
            "path leaves images/", f"'file_name' is {_shown(name)}; put the picture into images/ and name it so"
        )
    for key in ("width", "height"):
        if not _is_number(entry.get(key)) or entry[key] != int(entry[key]) or not 1 <= entry[key] <= LARGEST_PX:
            yield _absent_or_wrong(entry, key, f"a whole number of px from 1 to {LARGEST_PX}")


def _annotation_faults(
    entry: dict[str, Any], image_ids: set[int], category_ids: set[int], has_keypoints: bool
) -> Iterator[Fault]:
    for key, ids in (("image_id", image_ids), ("category_id", category_ids)):
        value = entry.get(key)
        if type(value) is not int:
            yield _absent_or_wrong(entry, key, "a whole number")
        elif value not in ids:
            what = "image" if key == "image_id" else "category"
            yield Fault(f"unknown {what}", f"'{key}' is {value}, which the file has no {what} for; drop it or add that")
    yield from _box_faults(entry)
    if entry.get("iscrowd", 0) not in (0, 1):
        yield Fault("wrong type", f"'iscrowd' is {_shown(entry['iscrowd'])}, not 0 or 1")
    if has_keypoints:
        yield from _keypoint_faults(entry)


def _box_faults(entry: dict[str, Any]) -> Iterator[Fault]:
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_coordinate, box)):
        yield _absent_or_wrong(entry, "bbox", f"4 numbers x, y, width, height within ±{LARGEST_PX} px")
    elif box[2] <= 0 or box[3] <= 0:
        yield Fault("box of no size", f"'bbox' is {box[2]} × {box[3]} px; x, y, width, height are meant")
    if entry.get("area") is None:
        yield Fault("absent area", "has no 'area'; its box's width × height is taken", "warning")
    elif not _is_number(entry["area"]) or not 0 < entry["area"] <= LARGEST_PX**2:
        yield Fault("bad area", f"'area' is {_shown(entry['area'])}, not a number of px² above 0; OKS divides by it")


def _keypoint_faults(entry: dict[str, Any]) -> Iterator[Fault]:
    triples = entry.get("keypoints")
    if not isinstance(triples, list):
        yield _absent_or_wrong(entry, "keypoints", f"{3 * N_KEYPOINTS} numbers")
    elif len(triples) != 3 * N_KEYPOINTS:
        yield Fault("keypoint count", f"'keypoints' has {len(triples)} numbers, not 51 (17 × x, y, v)")
    elif not _are_coordinates(triples):
        i = next(i for i, value in enumerate(triples) if not _is_coordinate(value))
        message = f"'keypoints' has {_shown(triples[i])} for {KEYPOINTS[i // 3]}, not a number within ±{LARGEST_PX}"
        yield Fault("wrong type", message)
    elif not set(triples[2::3]) <= {0, 1, 2}:
        i = next(i for i in range(N_KEYPOINTS) if triples[3 * i + 2] not in (0, 1, 2))
        message = f"'keypoints' has visibility {triples[3 * i + 2]} for {KEYPOINTS[i]}, not 0, 1 or 2"
        yield Fault("visibility", message)
    else:
        labelled = N_KEYPOINTS - triples[2::3].count(0)
        if entry.get("num_keypoints", labelled) != labelled:
            message = f"'num_keypoints' is {_shown(entry['num_keypoints'])}, but {labelled} are labelled; correct it"
            yield Fault("num_keypoints", message, "warning")


def _escape_test(image_dir: Path) -> Callable[[str], bool]:
    """A test whether a `file_name` leads out of `image_dir`, by its text or over a symbolic link."""
    home = os.path.realpath(image_dir)
    folders: dict[str, str] = {}  # resolved once each: one lstat a picture is all that is left

    def escapes(name: str) -> bool:
        if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or ".." in PureWindowsPath(name).parts:
            return True
        path = os.path.join(home, name)
        folder = os.path.dirname(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        real = os.path.realpath(path) if os.path.islink(path) else os.path.join(folders[folder], os.path.basename(path))
        return os.path.commonpath([home, real]) != home

    return escapes


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) < 2**53  # type: ignore[arg-type]  # and so no nan, no inf


def _is_coordinate(value: object) -> bool:
    return type(value) in (int, float) and -LARGEST_PX <= value <= LARGEST_PX  # type: ignore[operator]


def _are_coordinates(values: list[Any]) -> bool:
    """`_is_coordinate` of each, five times as fast: a nan slips through the bounds, but not through the sum."""
    if not set(map(type, values)) <= {int, float}:
        return False
    return min(values) >= -LARGEST_PX and max(values) <= LARGEST_PX and abs(sum(values)) >= 0


def _encodable(name: str) -> bool:
    try:
        return b"\0" not in os.fsencode(name) and len(os.fsencode(name)) <= 4096
    except UnicodeEncodeError:
        return False


def _absent_or_wrong(entry: dict[str, Any], key: str, wanted: str) -> Fault:
    if key not in entry:
        return Fault("missing key", f"has no '{key}', {wanted}")
    return Fault("wrong type", f"'{key}' is {_shown(entry[key])}, not {wanted}")


def _type(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _shown(value: object) -> str:
    """A value for an error line: printable, short, never a screenful."""
    if isinstance(value, int) and abs(value) > 10**30:
        return "a number of more than 30 digits"
    text = ascii(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
