"""YOLO-pose labels, as Ultralytics lays them out and CVAT and Roboflow export them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from catpose.data.images import picture_size
from catpose.data.importers.labels import Animal, Labels, Picture, made_from, split_in
from catpose.data.importers.pictures import PictureFinder
from catpose.data.values import shown
from catpose.errors import InputError, one_line
from catpose.files import read_json
from catpose.plain_yaml import read_yaml
from catpose.text import counted

NOTES = "notes.json"
_LARGEST_TEXT = 2**24  # bytes; a line an animal
_SLACK = 0.01  # by which a place may lie beyond its picture, in parts of it


def read_yolo(source: Path, names: Sequence[str] | None, finder: PictureFinder) -> Labels:
    """A YOLO-pose data set: data.yaml (of Label Studio notes.json), and a text for each picture in a folder `labels`.

    Places are fractions of the picture's size, so that the pictures are looked at. Which keypoint is which only newer
    files say (`kpt_names`).

    Args:
        source: that file, or the folder that it is in.
        names: of the keypoints, in place of the file's own.
        finder: of the pictures.

    Raises:
        InputError: no data.yaml, no names, no label file, or the first line that can't be used.
    """
    file = _settings_file(source)
    of_label_studio = file.name == NOTES
    settings = _of_notes(file) if of_label_studio else read_yaml(file, "export it again as YOLO pose (Ultralytics)")
    n, dims = _shape(file, settings)
    classes = _classes(file, settings)
    keypoints = tuple(names) if names is not None else _names(file, settings, n)
    if len(keypoints) != n:
        raise InputError(
            f"--keypoints has {counted(len(keypoints), 'name')}, a line each, but {file} has {n} keypoints"
            " ('kpt_shape')"
        )
    texts = sorted(
        text for text in file.parent.rglob("*.txt")
        if "labels" in text.relative_to(file.parent).parts and not text.name.startswith(".")
    )  # fmt: skip
    if not texts:
        raise InputError(f"{file.parent}: has no folder 'labels' with text files in it; export the labels with it")
    labels = Labels("YOLO", dict.fromkeys(classes.values(), keypoints), [], [file, *texts])
    labels.flip_pairs = _flip_pairs(settings, n)
    labels.only_seen = of_label_studio
    for text in texts:
        lines = _lines(text)
        if not lines:
            continue
        parts = text.relative_to(file.parent).parts[:-1]
        name = "/".join(["images" if part == "labels" else part for part in parts] + [f"{text.stem}.*"])
        split = next(filter(None, map(split_in, parts)), None) or _split_of(settings, name)
        picture = Picture(name, text, split=split, group=made_from(text.stem))
        path = finder.find(name, text)
        if path is not None:  # else it is told with all others that are missing
            picture.size = picture_size(path)
            for number, line in lines:
                picture.animals.append(_animal(f"{text}: line {number}", line.split(), classes, n, dims, picture.size))
        else:
            picture.animals.append(Animal(next(iter(classes.values())), ((0, 0, 2),) * n))
        labels.pictures.append(picture)
    if of_label_studio and not any(v for p in labels.pictures for animal in p.animals for _, _, v in animal.points):
        raise InputError(
            f"{source}: no rectangle has keypoints; put each animal's into its rectangle in Label Studio's list of"
            " regions, and export again"
        )
    return labels


def _settings_file(source: Path) -> Path:
    if source.is_file():
        return source
    found = sorted(source.glob("*.y*ml")) or sorted(source.glob("*/*.y*ml"))
    found = [file for file in found if file.suffix in (".yaml", ".yml") and not file.name.startswith(".")]
    if not found and (source / NOTES).is_file():
        return source / NOTES
    if len(found) != 1:
        what = f"{len(found)} YAML files" if found else "no data.yaml"
        raise InputError(f"{source}: holds {what}; name the file that has 'kpt_shape', or export YOLO pose again")
    return found[0]


def _of_notes(file: Path) -> dict[str, Any]:
    """What Label Studio writes in place of data.yaml, as if it stood there."""
    content = read_json(file)
    categories = content.get("categories") if isinstance(content, dict) else None
    if not isinstance(categories, list) or not categories or not all(map(_has_keypoints, categories)):
        raise InputError(
            f"{file}: holds no categories with keypoints; export a project that has rectangles and keypoints"
        )
    return {
        "kpt_shape": [len(categories[0]["keypoints"]), 3],
        "names": {each.get("id"): each.get("name") for each in categories},
        "kpt_names": {each.get("id"): each["keypoints"] for each in categories},
    }


def _has_keypoints(category: Any) -> bool:
    return isinstance(category, dict) and isinstance(category.get("keypoints"), list) and bool(category["keypoints"])


def _shape(file: Path, settings: Any) -> tuple[int, int]:
    shape = settings.get("kpt_shape") if isinstance(settings, dict) else None
    sound = isinstance(shape, list) and len(shape) == 2 and all(type(value) is int for value in shape)
    if not sound or not 1 <= shape[0] <= 1000 or shape[1] not in (2, 3):  # type: ignore[index]
        raise InputError(
            f"{file}: 'kpt_shape' is {shown(shape)}, not [keypoints, 2 or 3]; is it a data set of poses? Export it as"
            " YOLO pose"
        )
    return shape[0], shape[1]  # type: ignore[index]


def _classes(file: Path, settings: dict[str, Any]) -> dict[int, str]:
    classes = settings.get("names")
    if isinstance(classes, list):
        classes = dict(enumerate(classes))
    if not isinstance(classes, dict) or not classes or not all(type(number) is int for number in classes):
        raise InputError(f"{file}: 'names' is {shown(classes)}, not the classes' names by number; write {{0: cat}}")
    return {number: str(name) for number, name in classes.items()}


def _names(file: Path, settings: dict[str, Any], n: int) -> tuple[str, ...]:
    names = settings.get("kpt_names", settings.get("node_names"))  # Ultralytics' own key, sleap-io's
    if isinstance(names, dict):
        lists = [tuple(each) if isinstance(each, list) else each for each in names.values()]
        names = lists[0] if lists and all(each == lists[0] for each in lists) else None
    if names is None:
        raise InputError(
            f"{file}: doesn't say which keypoint is which of its {n}; write their names in order into a file, a line"
            " each, and give it with --keypoints"
        )
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names) or len(names) != n:
        raise InputError(f"{file}: 'kpt_names' is {shown(names)}, not {n} names; correct it, or give --keypoints FILE")
    return tuple(names)


def _flip_pairs(settings: dict[str, Any], n: int) -> list[tuple[int, int]]:
    """What `flip_idx` exchanges, the earlier as left; nothing where it is no such list."""
    flip = settings.get("flip_idx")
    if not isinstance(flip, list) or sorted(map(str, flip)) != sorted(map(str, range(n))):
        return []
    places = [int(place) for place in flip]
    return [(k, place) for k, place in enumerate(places) if k < place and places[place] == k]


def _split_of(settings: dict[str, Any], name: str) -> str | None:
    """The split whose folder, by data.yaml, a picture is in."""
    for key in ("train", "val", "test"):
        folders = settings.get(key)
        for folder in folders if isinstance(folders, list) else [folders]:
            parts = [part for part in str(folder or "").replace("\\", "/").split("/") if part not in ("", ".", "..")]
            if parts and f"/{name}".find(f"/{'/'.join(parts)}/") >= 0:
                return key
    return None


def _lines(text: Path) -> list[tuple[int, str]]:
    """The lines that aren't empty, with their numbers."""
    try:
        if os.path.getsize(text) > _LARGEST_TEXT:
            raise InputError(
                f"{text}: has more than the {_LARGEST_TEXT / 2**20:g} MiB that are read; is it a label file?"
            )
        lines = text.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{text}: can't be read as text ({error}); export it again") from None
    return [(i, line) for i, line in enumerate(lines, start=1) if line.strip()]


def _animal(where: str, words: list[str], classes: dict[int, str], n: int, dims: int, size: tuple[int, int]) -> Animal:
    if len(words) != 5 + n * dims:
        raise InputError(
            f"{where}: has {len(words)} numbers, not {5 + n * dims} (class, box and {n} × {dims} by 'kpt_shape');"
            " export it as YOLO pose"
        )
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise InputError(f"{where}: {one_line(' '.join(words))[:60]} are no numbers; export it again") from None
    if values[0] not in classes:
        raise InputError(f"{where}: class {words[0]} isn't among 'names' of data.yaml; correct one of them")
    x, y, width, height = values[1:5]
    points = []
    for k in range(n):
        place = values[5 + k * dims : 7 + k * dims]
        v = values[7 + k * dims] if dims == 3 else 2.0 * any(place)
        if v not in (0, 1, 2):
            raise InputError(
                f"{where}: visibility {words[7 + k * dims]} of keypoint {k + 1} is not 0, 1 or 2; correct it"
            )
        if v and not all(-_SLACK <= value <= 1 + _SLACK for value in place):
            raise InputError(
                f"{where}: keypoint {k + 1} is at {place[0]:g}, {place[1]:g}, not within 0..1; export it again"
            )
        points.append((place[0] * size[0], place[1] * size[1], int(v)) if v else (0, 0, 0))
    if not all(math.isfinite(value) and -_SLACK <= value <= 1 + _SLACK for value in values[1:5]):
        raise InputError(f"{where}: the box {' '.join(words[1:5])[:60]} is not within 0..1; export it again")
    box = ((x - width / 2) * size[0], (y - height / 2) * size[1], width * size[0], height * size[1])
    return Animal(classes[int(values[0])], tuple(points), box if width > 0 and height > 0 else None)
