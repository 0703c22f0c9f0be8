"""The published releases, each turned into COCO entries with the 17 keypoints: Animal-Pose, AP-10K."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from catpose.data.images import picture_size
from catpose.data.importers.own import keep_keypoints
from catpose.data.structure import Entries, examine
from catpose.errors import InputError, nearest, one_line
from catpose.files import read_json, require_folder
from catpose.naming import ANIMAL_POSE
from catpose.skeleton import AP10K, Skeleton

#: Limbs of Animal-Pose's own 20 keypoints beside those of AP-10K between their counterparts.
ANIMAL_POSE_LIMBS = (("left_eye", "left_ear"), ("right_eye", "right_ear"), ("throat", "withers"))

#: AP-10K's first published split; the union of its three files is the whole release.
AP10K_FILES = tuple(f"ap10k-{split}-split1.json" for split in ("train", "val", "test"))


@dataclass(frozen=True)
class Release:
    """A source as COCO entries: images and annotations in the order of their ids, pictures under `image_dir`."""

    description: str
    image_dir: Path
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    withheld: frozenset[int] = frozenset()  # ids of images whose keypoints the release does not give
    left_out: Mapping[str, int] = field(default_factory=dict)  # why annotations aren't in it, and how many
    files: Mapping[int, Path] = field(default_factory=dict)  # by image id, pictures that lie elsewhere
    skeleton: Skeleton = AP10K  # the categories'

    def path(self, image: Mapping[str, Any]) -> Path:
        """Where an image's picture is."""
        return self.files.get(image["id"], self.image_dir / image["file_name"])


def read_animal_pose(keypoints_json: Path, image_dir: Path, species: Sequence[str], own: bool = False) -> Release:
    """Animal-Pose's `keypoints.json` (Cao et al., "Cross-Domain Adaptation for Animal Pose Estimation", ICCV 2019).

    Boxes x0, y0, x1, y1 become x, y, width, height; a labelled point gets v = 2, since the release does not say
    whether it is occluded. An annotation's id is its place in the file, counted from 1. An image on which not one of
    the 20 keypoints is labelled counts as withheld.

    Args:
        keypoints_json: the release's file.
        image_dir: where its pictures are.
        species: names of categories, or "all".
        own: keep the release's 20 keypoints, or else AP-10K's 17 of them, under AP-10K's names.

    Raises:
        InputError: where the file breaks its format, or pictures are missing.
    """
    file = keypoints_json
    release = _top_level(file, {"images": dict, "annotations": list, "categories": list})
    wanted = _pick_species(file, release["categories"], species)
    places = {id_: _places(file, category, own) for id_, category in wanted.items()}
    new_ids = {id_: i for i, id_ in enumerate(wanted, start=1)}
    annotations = []
    labelled: Counter[int] = Counter()
    ours, left_out = _of_species(file, release, wanted)
    for index, entry in ours:
        number, where = index + 1, f"{file}: annotations[{index}]"
        x0, y0, x1, y1 = _numbers(entry.get("bbox"), 4, f"{where}: 'bbox'")
        points = entry.get("keypoints")
        names = wanted[entry["category_id"]]["keypoints"]
        if not isinstance(points, list) or len(points) != len(names):
            raise InputError(f"{where}: 'keypoints' is not a list of {len(names)} points x, y, v")
        points = [_numbers(point, 3, f"{where}: 'keypoints'") for point in points]
        labelled[entry["image_id"]] += sum(v > 0 for _, _, v in points)
        triples = [(x, y, 2) if v > 0 else (0, 0, 0) for x, y, v in (points[i] for i in places[entry["category_id"]])]
        box = [x0, y0, x1 - x0, y1 - y0]
        annotations.append(make_annotation(number, entry["image_id"], new_ids[entry["category_id"]], box, triples))
    used = {annotation["image_id"] for annotation in annotations}
    images = [
        {"id": int(id_), "file_name": name, "width": 1, "height": 1}
        for id_, name in release["images"].items()
        if id_.isdecimal() and int(id_) in used
    ]
    skeleton = _own_skeleton(file, wanted, places) if own else AP10K
    categories = [category_entry(new_ids[id_], category["name"], skeleton) for id_, category in wanted.items()]
    if annotations:
        _sound_entries(file, {"images": images, "annotations": annotations, "categories": categories})
    withheld = frozenset(id_ for id_ in used if not labelled[id_])
    description = "Animal-Pose" if own else "Animal-Pose, 20 keypoints mapped to 17"
    result = _with_pictures(file, description, image_dir, images, annotations, categories, left_out, withheld)
    result = replace(result, skeleton=skeleton)
    for image in result.images:
        image["width"], image["height"] = picture_size(image_dir / image["file_name"])
    return result


def read_ap10k(folder: Path, species: Sequence[str]) -> Release:
    """AP-10K's release (Yu et al., NeurIPS 2021): annotations/ap10k-{train,val,test}-split1.json merged, data/*.jpg.

    Ids, boxes, areas and visibility stay as they are; instances of other species are left out.

    Args:
        folder: the one that holds annotations/ and data/.
        species: names of categories, or "all".

    Raises:
        InputError: where a file is missing or breaks its format, or pictures are missing.
    """
    images: dict[int, dict[str, Any]] = {}
    annotations: dict[int, dict[str, Any]] = {}
    left_out: Counter[str] = Counter()
    require_folder(folder)
    for name in AP10K_FILES:
        file = folder / "annotations" / name
        coco = _top_level(file, {"images": list, "annotations": list, "categories": list})
        wanted = _pick_species(file, coco["categories"], species)
        numbered, others = _of_species(file, coco, wanted)
        ours = [entry for _, entry in numbered]
        left_out.update(others)
        used = {entry["image_id"] for entry in ours}
        part = {
            "images": [entry for entry in coco["images"] if _id(entry, "id") in used],
            "annotations": ours,
            "categories": list(wanted.values()),
        }
        if not ours:
            continue
        entries = _sound_entries(file, part)
        difference = entries.skeleton.difference(AP10K)
        if difference:
            raise InputError(f"{file}: its keypoints aren't AP-10K's: {difference}; is it the release's own?")
        repeated = entries.images.keys() & images.keys() or entries.annotations.keys() & annotations.keys()
        if repeated:
            raise InputError(f"{file}: id {min(repeated)} is in another split file too; take all three of one release")
        annotations |= entries.annotations
        images |= entries.images
    new_ids = {id_: i for i, id_ in enumerate(wanted, start=1)}
    return _with_pictures(
        folder,
        "AP-10K",
        folder / "data",
        [{key: image[key] for key in ("id", "file_name", "width", "height")} for image in images.values()],
        [
            make_annotation(
                id_,
                entry["image_id"],
                new_ids[entry["category_id"]],
                entry["bbox"],
                [(x, y, v) if v else (0, 0, 0) for x, y, v in zip(*[iter(entry["keypoints"])] * 3, strict=True)],
                entry.get("area"),
            )
            for id_, entry in annotations.items()
        ],
        [category_entry(new_ids[id_], category["name"]) for id_, category in wanted.items()],
        left_out,
    )


def _pick_species(file: Path, categories: list[Any], species: Sequence[str]) -> dict[int, dict[str, Any]]:
    """The categories of these names by id, in the order of the file."""
    for index, category in enumerate(categories):
        if _id(category, "id") is None or not isinstance(category.get("name"), str):
            raise InputError(
                f"{file}: categories[{index}] has no whole number 'id' and 'name'; is it the release's own?"
            )
    names = [category["name"] for category in categories]
    for name in species:
        if name not in names and name != "all":
            hint = nearest(name, names) or f" There are: {one_line(', '.join(names))}"
            raise InputError(f"{file}: has no species '{name}'.{hint}")
    return {category["id"]: category for category in categories if "all" in species or category["name"] in species}


def _of_species(
    file: Path, release: dict[str, Any], wanted: Mapping[int, Any]
) -> tuple[list[tuple[int, dict[str, Any]]], Counter[str]]:
    """The annotations of the categories `wanted` with their places in the file, and why the others are left out.

    Raises:
        InputError: an annotation that doesn't say what it belongs to: it may well be one of those that are wanted.
    """
    names = {category["id"]: category["name"] for category in release["categories"]}
    ours: list[tuple[int, dict[str, Any]]] = []
    left_out: Counter[str] = Counter()
    for index, entry in enumerate(release["annotations"]):
        for key in ("category_id", "image_id"):
            if _id(entry, key) is None:
                value = entry.get(key) if isinstance(entry, dict) else entry
                raise InputError(
                    f"{file}: annotations[{index}]: '{key}' is {one_line(repr(value))[:60]}, not a whole number;"
                    " correct it or leave that annotation out"
                )
        category = entry["category_id"]
        if category in wanted:
            ours.append((index, entry))
        else:
            left_out["of " + names.get(category, f"category {category}, which the file doesn't list")] += 1
    return ours, left_out


def _own_skeleton(file: Path, wanted: Mapping[int, Any], places: Mapping[int, list[int]]) -> Skeleton:
    """Animal-Pose's 20, as the first of the categories `wanted` orders them.

    Raises:
        InputError: another one has other names.
    """
    lists = [[category["keypoints"][k] for k in places[id_]] for id_, category in wanted.items()]
    if any(names != lists[0] for names in lists):
        raise InputError(f"{file}: its categories have different keypoints; is it the release's own?")
    names = lists[0]
    known = [(ANIMAL_POSE[AP10K.names[a]], ANIMAL_POSE[AP10K.names[b]]) for a, b in AP10K.limbs]
    limbs = [(names.index(a), names.index(b)) for a, b in (*known, *ANIMAL_POSE_LIMBS)]
    return keep_keypoints(names, file, "Animal-Pose", limbs).skeleton


def _places(file: Path, category: dict[str, Any], own: bool) -> list[int]:
    """Where each of the keypoints that are taken stands among a category's: all of its own, or AP-10K's 17."""
    names = category.get("keypoints")
    names = names if isinstance(names, list) else []
    wanted = dict.fromkeys([*ANIMAL_POSE.values(), *(name for limb in ANIMAL_POSE_LIMBS for name in limb)])
    for name in wanted if own else ANIMAL_POSE.values():
        if name not in names:
            raise InputError(
                f"{file}: category '{category['name']}' has no keypoint '{name}'; is it the release's own?"
            )
    return list(range(len(names))) if own else [names.index(ANIMAL_POSE[name]) for name in AP10K.names]


def _numbers(value: object, n: int, where: str) -> list[Any]:
    if not isinstance(value, list) or len(value) != n or not all(type(number) in (int, float) for number in value):
        raise InputError(f"{where} has not {n} numbers where it should; correct it or leave that annotation out")
    return value


def make_annotation(
    id_: int,
    image_id: int,
    category_id: int,
    box: list[Any],
    triples: Iterable[tuple[Any, Any, int]],
    area: float | None = None,
) -> dict[str, Any]:
    """A COCO annotation; `triples` are x, y, v of each keypoint, `area` is the box's where it is None."""
    points = list(triples)
    return {
        "id": id_,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": box,
        "area": box[2] * box[3] if area is None else area,
        "iscrowd": 0,
        "num_keypoints": sum(v > 0 for _, _, v in points),
        "keypoints": [value for point in points for value in point],
    }


def category_entry(id_: int, name: str, skeleton: Skeleton = AP10K) -> dict[str, Any]:
    """A COCO category of a skeleton's keypoints."""
    return {
        "id": id_,
        "name": name,
        "supercategory": "animal",
        "keypoints": list(skeleton.names),
        "skeleton": [[a + 1, b + 1] for a, b in skeleton.limbs],  # COCO counts from 1
    }


def _top_level(file: Path, keys: dict[str, type]) -> dict[str, Any]:
    content = read_json(file)
    for key, kind in keys.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), kind):
            raise InputError(f"{file}: has no {'object' if kind is dict else 'list'} '{key}'; is it the release's own?")
    return content


def _id(entry: object, key: str) -> int | None:
    """The whole number under a key of an entry that may be anything."""
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if type(value) is int else None


def _sound_entries(file: Path, coco: dict[str, Any]) -> Entries:
    """All entries of the COCO content; InputError at the first one with an error."""
    entries, findings = examine(coco, file.stem)
    for finding in findings:
        if finding.severity == "error":
            raise InputError(f"{file}: {finding.where}: {finding.message}")
    return entries


def _with_pictures(
    source: Path,
    description: str,
    image_dir: Path,
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    categories: list[dict[str, Any]],
    left_out: Mapping[str, int],
    withheld: frozenset[int] = frozenset(),
) -> Release:
    """The release in the order of its ids; InputError where it holds nothing or pictures are missing."""
    if not annotations:
        raise InputError(f"{source}: has no instance of {', '.join(category['name'] for category in categories)}")
    repeated = [name for name, n in Counter(image["file_name"] for image in images).items() if n > 1]
    if repeated:
        raise InputError(f"{source}: '{repeated[0]}' is the picture of two images; leave one of them out")
    require_folder(image_dir)
    missing = [image["file_name"] for image in images if not os.path.isfile(image_dir / image["file_name"])]
    if missing:
        raise InputError(
            f"{image_dir}: {len(missing)} of the {len(images)} pictures are not there, '{missing[0]}' for one; "
            f"complete the folder or give the right one"
        )
    images.sort(key=lambda image: image["id"])
    annotations.sort(key=lambda annotation: (annotation["image_id"], annotation["id"]))
    return Release(description, image_dir, images, annotations, categories, withheld, left_out)
