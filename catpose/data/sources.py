"""The published releases, each turned into COCO entries with the 17 keypoints: Animal-Pose, AP-10K, drawn cats."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from catpose.data.coco import read_json
from catpose.data.structure import Entries, examine
from catpose.errors import InputError, nearest
from catpose.skeleton import KEYPOINTS, LIMBS

#: Animal-Pose's name of each of the 17; its ears and withers have no counterpart. Its "elbow" and "knee" are the
#: upper and the middle joint of every leg, AP-10K's shoulder and elbow in front, hip and knee behind.
ANIMAL_POSE: dict[str, str] = {
    "left_eye": "left_eye",
    "right_eye": "right_eye",
    "nose": "nose",
    "neck": "throat",
    "root_of_tail": "tailbase",
    "left_shoulder": "left_front_elbow",
    "left_elbow": "left_front_knee",
    "left_front_paw": "left_front_paw",
    "right_shoulder": "right_front_elbow",
    "right_elbow": "right_front_knee",
    "right_front_paw": "right_front_paw",
    "left_hip": "left_back_elbow",
    "left_knee": "left_back_knee",
    "left_back_paw": "left_back_paw",
    "right_hip": "right_back_elbow",
    "right_knee": "right_back_knee",
    "right_back_paw": "right_back_paw",
}

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


def read_animal_pose(keypoints_json: Path, image_dir: Path, species: Sequence[str]) -> Release:
    """Animal-Pose's `keypoints.json` (Cao et al., "Cross-Domain Adaptation for Animal Pose Estimation", ICCV 2019).

    Boxes x0, y0, x1, y1 become x, y, width, height; a labelled point gets v = 2, since the release does not say
    whether it is occluded. An annotation's id is its place in the file, counted from 1. An image on which not one of
    the 20 keypoints is labelled counts as withheld.

    Args:
        keypoints_json: the release's file.
        image_dir: where its pictures are.
        species: names of categories, or "all".

    Raises:
        InputError: where the file breaks its format, or pictures are missing.
    """
    file = keypoints_json
    release = _top_level(file, {"images": dict, "annotations": list, "categories": list})
    kept = _pick_species(file, release["categories"], species)
    places = {id_: _places(file, category) for id_, category in kept.items()}
    new_ids = {id_: i for i, id_ in enumerate(kept, start=1)}
    annotations = []
    labelled: Counter[int] = Counter()
    for number, entry in enumerate(release["annotations"], start=1):
        where = f"{file}: annotations[{number - 1}]"
        if _id(entry, "category_id") not in kept:
            continue
        if _id(entry, "image_id") is None:
            raise InputError(f"{where}: has no whole number 'image_id'; correct it or leave that annotation out")
        x0, y0, x1, y1 = _numbers(entry.get("bbox"), 4, f"{where}: 'bbox'")
        points = entry.get("keypoints")
        names = kept[entry["category_id"]]["keypoints"]
        if not isinstance(points, list) or len(points) != len(names):
            raise InputError(f"{where}: 'keypoints' is not a list of {len(names)} points x, y, v")
        points = [_numbers(point, 3, f"{where}: 'keypoints'") for point in points]
        labelled[entry["image_id"]] += sum(v > 0 for _, _, v in points)
        triples = [(x, y, 2) if v > 0 else (0, 0, 0) for x, y, v in (points[i] for i in places[entry["category_id"]])]
        box = [x0, y0, x1 - x0, y1 - y0]
        annotations.append(_annotation(number, entry["image_id"], new_ids[entry["category_id"]], box, triples))
    used = {annotation["image_id"] for annotation in annotations}
    images = [
        {"id": int(id_), "file_name": name, "width": 1, "height": 1}
        for id_, name in release["images"].items()
        if id_.isdecimal() and int(id_) in used
    ]
    categories = [_category(new_ids[id_], category["name"]) for id_, category in kept.items()]
    if annotations:
        _sound_entries(file, {"images": images, "annotations": annotations, "categories": categories}, image_dir)
    withheld = frozenset(id_ for id_ in used if not labelled[id_])
    description = "Animal-Pose, 20 keypoints mapped to 17"
    result = _with_pictures(file, description, image_dir, images, annotations, categories, withheld)
    for image in result.images:
        image["width"], image["height"] = _picture_size(image_dir / image["file_name"])
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
    for name in AP10K_FILES:
        file = folder / "annotations" / name
        coco = _top_level(file, {"images": list, "annotations": list, "categories": list})
        kept = _pick_species(file, coco["categories"], species)
        ours = [entry for entry in coco["annotations"] if _id(entry, "category_id") in kept]
        used = {_id(entry, "image_id") for entry in ours}
        part = {
            "images": [entry for entry in coco["images"] if _id(entry, "id") in used],
            "annotations": ours,
            "categories": list(kept.values()),
        }
        if not ours:
            continue
        entries = _sound_entries(file, part, folder / "data")
        repeated = entries.images.keys() & images.keys() or entries.annotations.keys() & annotations.keys()
        if repeated:
            raise InputError(f"{file}: id {min(repeated)} is in another split file too; take all three of one release")
        annotations |= entries.annotations
        images |= entries.images
    new_ids = {id_: i for i, id_ in enumerate(kept, start=1)}
    return _with_pictures(
        folder,
        "AP-10K",
        folder / "data",
        [{key: image[key] for key in ("id", "file_name", "width", "height")} for image in images.values()],
        [
            _annotation(
                id_,
                entry["image_id"],
                new_ids[entry["category_id"]],
                entry["bbox"],
                [(x, y, v) if v else (0, 0, 0) for x, y, v in zip(*[iter(entry["keypoints"])] * 3, strict=True)],
                entry.get("area"),
            )
            for id_, entry in annotations.items()
        ],
        [_category(new_ids[id_], category["name"]) for id_, category in kept.items()],
    )


def draw_release(image_dir: Path, n_images: int, seed: int) -> Release:
    """Drawn cats, their pictures written into `image_dir` as JPEG of quality 95, their boxes' and keypoints' places
    rounded to 0.01 px."""
    import cv2

    from catpose.data.drawn import draw

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in tqdm(range(n_images), desc="drawing", unit="", delay=2, mininterval=1, leave=False):
        drawn = draw(seed, index)
        height, width = drawn.picture.shape[:2]
        name = f"drawn_{index:06d}.jpg"
        content = cv2.imencode(".jpg", drawn.picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        (image_dir / name).write_bytes(content.tobytes())
        images.append({"id": index + 1, "file_name": name, "width": width, "height": height})
        for box, keypoints in zip(drawn.boxes, drawn.keypoints, strict=True):
            triples = [(round(float(x), 2), round(float(y), 2), int(v)) if v else (0, 0, 0) for x, y, v in keypoints]
            box = [round(float(value), 2) for value in box]
            annotations.append(_annotation(len(annotations) + 1, index + 1, 1, box, triples))
    return Release("drawn cats", image_dir, images, annotations, [_category(1, "cat")])


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
            hint = nearest(name, names) or f" There are: {', '.join(names)}"
            raise InputError(f"{file}: has no species '{name}'.{hint}")
    return {category["id"]: category for category in categories if "all" in species or category["name"] in species}


def _places(file: Path, category: dict[str, Any]) -> list[int]:
    """Where each of the 17 stands among a category's own keypoints."""
    names = category.get("keypoints")
    names = names if isinstance(names, list) else []
    for name in ANIMAL_POSE.values():
        if name not in names:
            raise InputError(
                f"{file}: category '{category['name']}' has no keypoint '{name}'; is it the release's own?"
            )
    return [names.index(ANIMAL_POSE[name]) for name in KEYPOINTS]


def _numbers(value: object, n: int, where: str) -> list[Any]:
    if not isinstance(value, list) or len(value) != n or not all(type(number) in (int, float) for number in value):
        raise InputError(f"{where} has not {n} numbers where it should; correct it or leave that annotation out")
    return value


def _annotation(
    id_: int,
    image_id: int,
    category_id: int,
    box: list[Any],
    triples: Iterable[tuple[Any, Any, int]],
    area: float | None = None,
) -> dict[str, Any]:
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


def _category(id_: int, name: str) -> dict[str, Any]:
    return {
        "id": id_,
        "name": name,
        "supercategory": "animal",
        "keypoints": list(KEYPOINTS),
        "skeleton": [[a + 1, b + 1] for a, b in LIMBS],  # COCO counts from 1
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


def _sound_entries(file: Path, coco: dict[str, Any], image_dir: Path) -> Entries:
    """All entries of the COCO content; InputError at the first one with an error."""
    entries, findings = examine(coco, file.stem, image_dir)
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
    withheld: frozenset[int] = frozenset(),
) -> Release:
    """The release in the order of its ids; InputError where it holds nothing or pictures are missing."""
    if not annotations:
        raise InputError(f"{source}: has no instance of {', '.join(category['name'] for category in categories)}")
    repeated = [name for name, n in Counter(image["file_name"] for image in images).items() if n > 1]
    if repeated:
        raise InputError(f"{source}: '{repeated[0]}' is the picture of two images; leave one of them out")
    missing = [image["file_name"] for image in images if not os.path.isfile(image_dir / image["file_name"])]
    if missing:
        raise InputError(
            f"{image_dir}: {len(missing)} of the {len(images)} pictures are not there, '{missing[0]}' for one; "
            f"complete the folder or give the right one"
        )
    images.sort(key=lambda image: image["id"])
    annotations.sort(key=lambda annotation: (annotation["image_id"], annotation["id"]))
    return Release(description, image_dir, images, annotations, categories, withheld)


def _picture_size(file: Path) -> tuple[int, int]:
    """Width and height of a picture, px, as it stands upright (its EXIF orientation applied), from its header."""
    try:
        with Image.open(file) as picture:
            turned = picture.getexif().get(0x0112, 1) >= 5
            return (picture.height, picture.width) if turned else (picture.width, picture.height)
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise InputError(f"{file}: is not a picture that can be read ({error}); fetch it again") from None
