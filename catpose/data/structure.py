"""What an annotation file must hold to be used: every rule once, for reading it and for checking it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import Any, NamedTuple

from catpose.data.finding import Fault, Finding
from catpose.data.skeletons import skeleton_of_category
from catpose.data.values import (
    LARGEST_PX,
    absent_or_wrong,
    are_coordinates,
    encodable,
    id_fault,
    is_coordinate,
    is_number,
    remedy,
    shown,
    type_name,
)
from catpose.errors import InputError
from catpose.instances import AreaRule
from catpose.skeleton import AP10K, Skeleton

#: Shares of its box that a stated area may have: COCO's are of outlines within it, and rounded.
AREA_SHARES = (0.05, 1.05)
#: Of a skeleton, where no skeleton.yaml is.
NOTHING: Mapping[str, Any] = MappingProxyType({})
#: From so many entries on, a fault of all of them is told once.
MANY = 3


class Entries(NamedTuple):
    """The entries of a file that keep all rules, by id, and all categories; annotations as `_plain` makes them."""

    images: dict[int, dict[str, Any]]
    annotations: dict[int, dict[str, Any]]
    categories: dict[int, dict[str, Any]]
    has_keypoints: bool
    skeleton: Skeleton  # AP-10K's where no used category lists keypoints


def examine(
    coco: object, split: str, *, labels: bool = True, area: AreaRule = "box", stated: Mapping[str, Any] = NOTHING
) -> tuple[Entries, list[Finding]]:
    """Hold a parsed COCO file against the rules. Nothing is asked of what nobody uses, and no picture is looked for.

    Args:
        coco: what `json.load` gave.
        split: its name, for the findings.
        labels: whether keypoints are used; where only boxes are, keypoints may be anything and are left out.
        area: whose area is used.
        stated: of the skeleton, in skeleton.yaml.

    Returns:
        the entries without an error, and all findings in the order of the file; a fault of all entries is one.
    """
    findings: list[Finding] = []

    def report(where: str, fault: Fault) -> None:
        findings.append(Finding(fault.kind, fault.severity, split, where, fault.message))

    for where, fault in _top_faults(coco):
        report(where, fault)
    if findings or not isinstance(coco, dict):
        return Entries({}, {}, {}, False, AP10K), findings
    entries = [entry for entry in coco["annotations"] if isinstance(entry, dict)]
    has_keypoints = labels and any(entry.get("keypoints") not in (None, []) for entry in entries)
    used = {entry["category_id"] for entry in entries if type(entry.get("category_id")) is int}
    skeletons: list[Skeleton] = []  # of the used categories, which must be one

    def category_faults(entry: dict[str, Any]) -> Iterator[Fault]:
        if entry["id"] in used and (has_keypoints or isinstance(entry.get("keypoints"), list)):
            found = _skeleton(entry, stated, skeletons)
            if isinstance(found, Skeleton):
                skeletons.append(found)
            elif has_keypoints:
                yield found

    def annotation_faults(entry: dict[str, Any]) -> Iterator[Fault]:
        yield from _annotation_faults(entry, image_ids, category_ids, area)
        if has_keypoints:
            yield from _keypoint_faults(entry, skeleton)

    category_ids, _ = _sound(coco["categories"], "categories", category_faults, report)
    skeleton = skeletons[0] if skeletons else AP10K
    image_ids, images = _sound(coco["images"], "images", _image_faults, report)
    _, annotations = _sound(coco["annotations"], "annotations", annotation_faults, report)
    for where, fault in _unused_images(images, entries):
        report(where, fault)
    annotations = {
        id_: _plain(entry, has_keypoints) for id_, entry in annotations.items() if entry["image_id"] in images
    }
    categories = [entry for entry in coco["categories"] if isinstance(entry, dict) and type(entry.get("id")) is int]
    by_id = {entry["id"]: entry for entry in categories if entry["id"] in category_ids}
    return Entries(images, annotations, by_id, has_keypoints, skeleton), findings


def _top_faults(coco: object) -> Iterator[tuple[str, Fault]]:
    if not isinstance(coco, dict):
        what = f"is {type_name(coco)}, not an object with images, annotations, categories"
        yield "top level", Fault("wrong type", what)
        return
    for key in ("images", "annotations", "categories"):
        if key not in coco:
            yield key, Fault("missing key", f"has no '{key}'; is this a COCO keypoint file?")
        elif not isinstance(coco[key], list):
            yield key, Fault("wrong type", f"'{key}' is {type_name(coco[key])}, not a list")
        elif not coco[key]:
            yield key, Fault("nothing there", f"'{key}' is empty; a split needs at least one")


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
    found: list[tuple[str, Fault]] = []
    for index, entry in enumerate(entries):
        where = f"{key}[{index}]"
        if not isinstance(entry, dict):
            found.append((where, Fault("wrong type", f"is {type_name(entry)}, not an object")))
            continue
        fault = id_fault(entry, "id")
        if fault:
            found.append((where, fault))
            continue
        id_ = entry["id"]
        here = [(f"{one} {id_}", fault) for fault in faults(entry)]
        if id_ in ids:
            again = Fault("duplicate id", f"is there twice in '{key}'; give each its own id")
            here.insert(0, (f"{one} {id_}", again))
        ids.add(id_)
        found += here
        if all(fault.severity == "warning" for _, fault in here):
            sound[id_] = entry
    for where, fault in _together(found, len(entries)):
        report(where, fault)
    return ids, sound


def _together(found: list[tuple[str, Fault]], n: int) -> Iterator[tuple[str, Fault]]:
    """Faults in their order; an error that each of the n entries has is told once, a warning always."""
    places: dict[str, set[str]] = {}
    for where, fault in found:
        places.setdefault(fault.kind, set()).add(where)
    reported: set[str] = set()
    for where, fault in found:
        others = len(places[fault.kind]) - 1
        of_all = others == n - 1 and n >= MANY
        if not of_all and (fault.severity == "error" or not others):
            yield where, fault
        elif fault.kind not in reported:
            reported.add(fault.kind)
            yield f"{where} and {'all ' if of_all else ''}{others} other{'s' * (others > 1)}", fault


def _skeleton(category: dict[str, Any], stated: Mapping[str, Any], before: Sequence[Skeleton]) -> Skeleton | Fault:
    """A category's, which is that of the used categories before it."""
    if not isinstance(category.get("keypoints"), list):
        return Fault(
            "keypoint names", f"has no list 'keypoints'; write the keypoints' names there, such as {AP10K.names[0]}"
        )
    try:
        skeleton = skeleton_of_category(category, stated)
    except InputError as error:
        return Fault("keypoint names", str(error).removeprefix("skeleton: "))
    if before and skeleton != before[0]:
        difference = skeleton.difference(before[0]) or "other limbs"
        return Fault("keypoint names", f"has {difference} than the category before it")
    return skeleton


def _image_faults(entry: dict[str, Any]) -> Iterator[Fault]:
    name = entry.get("file_name")
    if not isinstance(name, str) or not name:
        yield absent_or_wrong(entry, "file_name", "a file in images/")
    elif not encodable(name):
        yield Fault("wrong file_name", f"'file_name' is {shown(name)}, which no file can be called")
    elif "://" in name:
        yield Fault("wrong file_name", f"'file_name' is {shown(name)}, an address; put the picture into images/")
    elif _escapes(name):
        yield Fault("path leaves images/", f"'file_name' is {shown(name)}; put the picture into images/ and name it so")
    for key in ("width", "height"):
        if not is_number(entry.get(key)) or entry[key] != int(entry[key]) or not 1 <= entry[key] <= LARGEST_PX:
            yield absent_or_wrong(entry, key, f"a whole number of px from 1 to {LARGEST_PX}")


def _unused_images(
    images: dict[int, dict[str, Any]], annotations: Sequence[dict[str, Any]]
) -> Iterator[tuple[str, Fault]]:
    """Sound images that no annotation names."""
    named = {entry["image_id"] for entry in annotations if type(entry.get("image_id")) is int}
    for id_, entry in images.items() if named & images.keys() else ():  # else the ids themselves are at fault
        if id_ not in named:
            message = f"{entry['file_name']} has no instance, so it neither trains nor scores anything"
            yield f"image {id_}", Fault("image without instance", message, "warning")


def _annotation_faults(
    entry: dict[str, Any], image_ids: set[int], category_ids: set[int], area: AreaRule
) -> Iterator[Fault]:
    """All but those of its keypoints."""
    for key, ids, what in (("image_id", image_ids, "image"), ("category_id", category_ids, "category")):
        fault = id_fault(entry, key, ids, what)
        if fault:
            yield fault
    yield from _box_faults(entry, area)
    if entry.get("iscrowd") not in (None, 0, 1):
        wrong = entry["iscrowd"]
        yield Fault("wrong iscrowd", f"'iscrowd' is {shown(wrong)}, not 0 or 1{remedy(wrong)}")


def _box_faults(entry: dict[str, Any], rule: AreaRule) -> Iterator[Fault]:
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_coordinate, box)):
        yield absent_or_wrong(entry, "bbox", f"4 numbers x, y, width, height within ±{LARGEST_PX} px")
    elif box[2] <= 0 or box[3] <= 0:
        yield Fault("box of no size", f"'bbox' is {box[2]} × {box[3]} px; x, y, width, height are meant")
    else:
        yield from _area_faults(entry, box[2] * box[3], rule)


def _area_faults(entry: dict[str, Any], box_area: float, rule: AreaRule) -> Iterator[Fault]:
    area = entry.get("area")
    if rule == "box" and area is None:
        return
    low, high = AREA_SHARES
    if not is_number(area) or not low * box_area <= area <= high * box_area:  # type: ignore[operator]
        what = f"is {shown(area)}" if "area" in entry else "is absent"
        meant = f"'area' {what}, not {low:.0%} to {high:.0%} of its box's {box_area:g} px²"
        if rule == "file":
            yield Fault("wrong area", f"{meant}; correct it, or leave out data.area: file (--area file)")
        else:
            yield Fault("area unlike its box", f"{meant}; the box's is used, without data.area: file", "warning")


def _keypoint_faults(entry: dict[str, Any], skeleton: Skeleton) -> Iterator[Fault]:
    n = len(skeleton)
    triples, wanted = entry.get("keypoints"), 3 * n
    if not isinstance(triples, list):
        yield absent_or_wrong(entry, "keypoints", f"{wanted} numbers; write {wanted} zeros where nothing is labelled")
    elif len(triples) == n and all(isinstance(point, (list, dict)) for point in triples):
        what = "'keypoints' has a list for each keypoint"
        yield Fault("nested keypoints", f"{what}; write one row of {wanted} numbers: x, y, v, x, y, v, …")
    elif len(triples) != wanted:
        why = "; is v missing?" if len(triples) == 2 * n else ""
        why = why or ("" if triples else f"; write {wanted} zeros where nothing is labelled")
        yield Fault("keypoint count", f"'keypoints' has {len(triples)} numbers, not {wanted} ({n} × x, y, v){why}")
    elif not are_coordinates(triples := _without_unlabelled(triples)):
        i = next(i for i, value in enumerate(triples) if not is_coordinate(value))
        wrong = (
            f"{shown(triples[i])} for {skeleton.names[i // 3]}, not a number within ±{LARGEST_PX}{remedy(triples[i])}"
        )
        why = "; write 0, 0, 0 where a keypoint is not labelled" if triples[i] is None else ""
        yield Fault("wrong keypoints", f"'keypoints' has {wrong}{why}")
    elif not set(triples[2::3]) <= {0, 1, 2}:
        i = next(i for i in range(n) if triples[3 * i + 2] not in (0, 1, 2))
        what = f"visibility {triples[3 * i + 2]} for {skeleton.names[i]}, not 0, 1 or 2"
        yield Fault("visibility", f"'keypoints' has {what} (not labelled, hidden, visible)")
    else:
        labelled = n - triples[2::3].count(0)
        stated = entry.get("num_keypoints", labelled)
        if type(stated) is not int or stated != labelled:
            message = f"'num_keypoints' is {shown(stated)}, but {labelled} are labelled, which counts"
            yield Fault("num_keypoints", message, "warning")


def _without_unlabelled(triples: list[Any]) -> list[Any]:
    """Keypoints whose unlabelled ones (v = 0) stand at 0, 0 where their place is null, nan or beyond any picture."""
    if are_coordinates(triples):
        return triples
    plain = list(triples)
    for k in range(0, len(plain), 3):
        x, y, v = plain[k : k + 3]
        if type(v) in (int, float) and v == 0 and all(c is None or type(c) in (int, float) for c in (x, y)):
            plain[k : k + 2] = [c if is_coordinate(c) else 0 for c in (x, y)]
    return plain


def _plain(entry: dict[str, Any], has_keypoints: bool) -> dict[str, Any]:
    """A sound annotation as all use it: without `num_keypoints`, which follows from `keypoints`; without keypoints
    where none are used; with 0 for an `iscrowd` of null."""
    plain = {key: value for key, value in entry.items() if key not in ("keypoints", "num_keypoints")}
    plain["iscrowd"] = int(entry.get("iscrowd") or 0)
    return plain | ({"keypoints": _without_unlabelled(entry["keypoints"])} if has_keypoints else {})


def _escapes(name: str) -> bool:
    """Whether a `file_name` leads out of its folder by its text; the folder's own links may lead anywhere."""
    return bool(PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or ".." in PureWindowsPath(name).parts)
