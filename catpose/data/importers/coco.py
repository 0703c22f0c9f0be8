"""COCO keypoint files as CVAT, Label Studio, Roboflow, COCO Annotator, MMPose and COCO itself write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from catpose.data.importers.labels import Animal, Labels, Picture, made_from, split_in
from catpose.data.values import is_coordinate, is_number, shown
from catpose.errors import InputError, one_line
from catpose.files import read_json
from catpose.text import counted

#: What tells other exports from COCO's, and what to do with them.
_OTHERS = {
    "data.yaml": "YOLO's labels are brought in by `python -m catpose.prepare yolo`",
    "CollectedData_*": "DeepLabCut's labels are brought in by `python -m catpose.prepare deeplabcut`",
    "*.slp": "SLEAP's labels are brought in by `python -m catpose.prepare sleap`",
    "annotations.xml": "export CVAT's labels as COCO Keypoints 1.0",
    "*.zip": "unpack it, and name what is inside",
}


def read_coco_labels(source: Path, names: Sequence[str] | None = None) -> Labels:
    """All COCO keypoint files of an export.

    Args:
        source: a JSON file, or a folder with any number below it; those that hold no keypoints are passed over.
        names: of the keypoints, in place of the files' own.

    Raises:
        InputError: no JSON, no COCO file or none with keypoints, or the first entry that can't be used.
    """
    files = [source] if source.is_file() else _json_files(source)
    contents = {file: read_json(file) for file in files}
    coco = {file: content for file, content in contents.items() if _is_coco(content)}
    if not coco:
        what = "is no COCO file" if source.is_file() else f"holds {counted(len(files), 'JSON file')}, but no COCO file"
        if any(map(_is_label_studio, contents.values())):
            raise InputError(f"{source}: {what}; it is Label Studio's own JSON: export as COCO with images there")
        raise InputError(
            f"{source}: {what} (an object with images, annotations and categories); export it as COCO keypoints"
        )
    labels = Labels("COCO", {}, [], [])
    for file, content in coco.items():
        _add(labels, file, content, names, alone=source.is_file())
    if not labels.files:
        raise InputError(
            f"{source}: no annotation has keypoints; label some, and export them as COCO keypoints (boxes and outlines"
            " alone are not enough)"
        )
    return labels


def _json_files(folder: Path) -> list[Path]:
    files = sorted(
        file
        for file in folder.rglob("*.json")
        if not any(part.startswith(".") or part == "__MACOSX" for part in file.relative_to(folder).parts)
    )
    if not files:
        other, remedy = next(
            ((file.name, remedy) for pattern, remedy in _OTHERS.items() for file in sorted(folder.rglob(pattern))),
            ("", "name an export in COCO's format, or its zip file"),
        )
        found = f", but '{one_line(other)[:100]}'" if other else ""
        raise InputError(f"{folder}: holds no JSON file{found}; {remedy}")
    return files


def _is_coco(content: Any) -> bool:
    keys = ("images", "annotations", "categories")
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in keys)


def _is_label_studio(content: Any) -> bool:
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and "data" in first and "annotations" in first


def _add(labels: Labels, file: Path, content: dict[str, Any], names: Sequence[str] | None, alone: bool) -> None:
    """Add a file's pictures and animals to the labels; nothing where it has no keypoints."""
    entries = [_object(file, "annotations", i, entry) for i, entry in enumerate(content["annotations"])]
    if not any(entry.get("keypoints") for entry in entries):
        return
    labels.files.append(file)
    info = content.get("info")
    if isinstance(info, dict) and info.get("contributor") == "Label Studio":
        labels.only_seen = labels.one_a_picture = True
    categories = _by_id(file, "categories", content["categories"])
    pictures = _pictures(file, content["images"], alone)
    for index, entry in enumerate(entries):
        where = f"{file}: annotations[{index}]"
        picture = pictures.get(_hashable(entry.get("image_id")))
        category = categories.get(_hashable(entry.get("category_id")))
        if picture is None or category is None:
            key = "image_id" if picture is None else "category_id"
            raise InputError(f"{where}: '{key}' is {shown(entry.get(key))}, which the file lists nowhere; correct it")
        box = _box(where, entry.get("bbox"))
        if entry.get("iscrowd"):
            labels.left_out["crowds"] += 1
        elif not entry.get("keypoints"):
            if box is not None:
                picture.rectangles.append(box)
            labels.left_out["without keypoints"] += 1
        else:
            name = str(category.get("name") or f"category {entry['category_id']}")
            own = _names(file, category, name, names, entry["keypoints"])
            if labels.keypoints.setdefault(name, own) != own:
                raise InputError(
                    f"{file}: category '{one_line(name)}' has other keypoints than in another file; import one"
                )
            labels.limbs.setdefault(name, _limbs(category, len(own)))
            area = entry.get("area")
            picture.animals.append(
                Animal(name, _points(where, entry["keypoints"], own), box, area if is_number(area) else None)
            )
    labels.pictures += pictures.values()


def _pictures(file: Path, images: list[Any], alone: bool) -> dict[Any, Picture]:
    split = None if alone else split_in(file.stem) or split_in(file.parent.name)
    pictures: dict[Any, Picture] = {}
    for id_, image in _by_id(file, "images", images).items():
        name = image.get("file_name") or image.get("path")
        if not isinstance(name, str) or "\0" in name:
            raise InputError(f"{file}: image {shown(id_)}: 'file_name' is {shown(name)}, not a file's name; correct it")
        size = image.get("width"), image.get("height")
        sound = all(is_number(side) and side >= 1 and side == int(side) for side in size)  # type: ignore[operator,arg-type]
        video = image.get("video_id", image.get("video"))
        pictures[id_] = Picture(
            name,
            file,
            size=(int(size[0]), int(size[1])) if sound else None,  # type: ignore[arg-type]
            split=split,
            group=f"video {video}" if isinstance(video, (str, int)) else made_from(name),
        )
    return pictures


def _by_id(file: Path, key: str, entries: list[Any]) -> dict[Any, dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    for index, entry in enumerate(entries):
        id_ = _object(file, key, index, entry).get("id")
        if not isinstance(id_, (int, str)) or isinstance(id_, bool):
            raise InputError(f"{file}: {key}[{index}]: 'id' is {shown(id_)}, not a number; give each its own")
        if id_ in found:
            raise InputError(f"{file}: {key}[{index}]: 'id' {shown(id_)} is there twice; give each its own")
        found[id_] = entry
    return found


def _object(file: Path, key: str, index: int, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise InputError(f"{file}: {key}[{index}] is {shown(entry)}, not an object; is it a COCO file?")
    return entry


def _hashable(id_: Any) -> Any:
    return id_ if isinstance(id_, (int, str)) and not isinstance(id_, bool) else None


def _names(
    file: Path, category: dict[str, Any], name: str, own_names: Sequence[str] | None, numbers: Any
) -> tuple[str, ...]:
    names = category.get("keypoints")
    if own_names is not None:
        n = len(numbers) // 3 if isinstance(numbers, list) else 0
        if n != len(own_names):
            raise InputError(
                f"--keypoints has {counted(len(own_names), 'name')}, a line each, but '{one_line(name)}' of {file} has"
                f" {n} keypoints"
            )
        return tuple(own_names)
    if not isinstance(names, list) or not names or not all(isinstance(each, str) for each in names):
        raise InputError(
            f"{file}: category '{one_line(name)}' doesn't name its keypoints; write their names into a file, a line"
            " each, and give it with --keypoints"
        )
    return tuple(names)


def _limbs(category: dict[str, Any], n: int) -> list[tuple[int, int]]:
    """Pairs of places that the category's `skeleton`, which counts from 1, joins; none where it isn't such a list."""
    limbs = category.get("skeleton")
    sound = isinstance(limbs, list) and all(
        isinstance(limb, list) and len(limb) == 2 and all(type(end) is int and 1 <= end <= n for end in limb)
        for limb in limbs
    )
    return [(a - 1, b - 1) for a, b in limbs] if sound else []  # type: ignore[union-attr]


def _points(where: str, values: Any, names: Sequence[str]) -> tuple[tuple[float, float, int], ...]:
    if not isinstance(values, list) or len(values) != 3 * len(names):
        n = len(values) if isinstance(values, list) else shown(values)
        raise InputError(
            f"{where}: 'keypoints' has {n} numbers, not {3 * len(names)} ({len(names)} × x, y, v); correct it"
        )
    points = []
    for k, name in enumerate(names):
        x, y, v = values[3 * k : 3 * k + 3]
        if v not in (0, 1, 2) or isinstance(v, bool):
            raise InputError(f"{where}: visibility {shown(v)} of {one_line(name)} is not 0, 1 or 2; correct it")
        if v and not (is_coordinate(x) and is_coordinate(y)):
            raise InputError(f"{where}: {one_line(name)} is at {shown(x)}, {shown(y)}, which is no place; correct it")
        points.append((x, y, int(v)) if v else (0, 0, 0))
    return tuple(points)


def _box(where: str, box: Any) -> tuple[float, float, float, float] | None:
    """The box, None where it is absent or has no size."""
    if box is None or box == []:
        return None
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_coordinate, box)):
        raise InputError(f"{where}: 'bbox' is {shown(box)}, not x, y, width, height; correct or delete it")
    return (box[0], box[1], box[2], box[3]) if box[2] > 0 and box[3] > 0 else None
