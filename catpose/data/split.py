"""From a release to the one layout on disk: which image goes to which split, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from catpose.data.coco import read_coco, read_json, split_hash
from catpose.data.sources import Release
from catpose.errors import InputError

SPLITS = ("train", "val", "test")

#: Images in train, val and test: the published split of the cats of Animal-Pose.
SIZES = (1000, 128, 200)

#: What `prepare` writes beside annotations/ and images/: how the split was drawn, and the hashes to compare.
RECORD = "split.json"


def resolve_sizes(sizes: Sequence[int | None], n_images: int) -> tuple[int, int, int]:
    """The three sizes, with the one that is None ("rest") filled up.

    Raises:
        InputError: where they don't add up to the number of images; the text says how many there are.
    """
    fixed = sum(size for size in sizes if size is not None)
    free = list(sizes).count(None)
    if free > 1 or fixed > n_images or (free == 0 and fixed != n_images):
        shown = " ".join("rest" if size is None else str(size) for size in sizes)
        train, _, test = (0 if size is None else size for size in sizes)
        if not 0 < n_images - train - test < train:  # then the published proportions
            train, test = n_images * SIZES[0] // sum(SIZES), n_images * SIZES[2] // sum(SIZES)
        raise InputError(
            f"--sizes {shown}: {'only one can be the rest' if free > 1 else f'adds up to {fixed}'}, "
            f"but there are {n_images} images; --sizes {train} {n_images - train - test} {test} would fit"
        )
    train, val, test = (n_images - fixed if size is None else size for size in sizes)
    return train, val, test


def draw_split(
    file_names: Mapping[int, str],
    contents: Mapping[int, str],
    sizes: tuple[int, int, int],
    seed: int,
    test: frozenset[int],
) -> dict[str, list[int]]:
    """Which image goes to which split.

    Images are drawn in the order of SHA-256("SEED/FILE NAME"): the same on every machine and for every version of
    numpy, whatever their order in the file. Images of one content are drawn together, or a release that holds a
    picture twice would be trained on what it is scored on; where one of them is given as a test image, the others go
    to val rather than train.

    Args:
        file_names: by image id.
        contents: the pictures' hashes, by image id.
        sizes: of train, val and test; their sum is the number of images.
        seed: of the order.
        test: images that go to the test split before any other.

    Returns:
        for each split, its image ids in rising order.
    """
    order = sorted(file_names, key=lambda id_: hashlib.sha256(f"{seed}/{file_names[id_]}".encode()).digest())
    given = [id_ for id_ in order if id_ in test][: sizes[2]]
    groups: dict[str, list[int]] = {contents[id_]: [] for id_ in given}  # first of all the copies of test images
    for id_ in order:
        groups.setdefault(contents[id_], [])
        if id_ not in given:
            groups[contents[id_]].append(id_)
    drawn, left = _take(list(groups.values()), sizes[2] - len(given))
    val, left = _take(left, sizes[1])
    return {"train": sorted(id_ for group in left for id_ in group), "val": sorted(val), "test": sorted(given + drawn)}


def _take(groups: list[list[int]], size: int) -> tuple[list[int], list[list[int]]]:
    """Whole groups in their order until `size` is reached, and those left; only the last is torn, if need be."""
    taken: list[int] = []
    left = []
    for group in groups:
        if len(taken) + len(group) <= size:
            taken += group
        else:
            left.append(group)
    while len(taken) < size:
        taken.append(left[0].pop())
        left = [group for group in left if group]
    return taken, left


def read_test_ids(file: Path, file_names: Mapping[int, str]) -> frozenset[int]:
    """The images that a list names: a text file with an id or a file name in each line, a JSON list of them, or a
    COCO file such as a published `test_info.json`, whose images are taken by their file names.

    Raises:
        InputError: where the file can't be read, or names an image that is not there.
    """
    if file.suffix == ".json":
        listed = read_json(file)
        if isinstance(listed, dict):
            listed = listed.get("images")
            if isinstance(listed, list):
                listed = [image.get("file_name") if isinstance(image, dict) else None for image in listed]
        if not isinstance(listed, list) or not all(isinstance(item, (str, int)) for item in listed):
            raise InputError(f"{file}: is neither a list of image ids or file names nor a COCO file with 'images'")
    else:
        try:
            listed = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: can't be read as a list of test images ({error})") from None
        listed = [line for line in listed if line and not line.startswith("#")]
    known = {str(id_): id_ for id_ in file_names} | {name: id_ for id_, name in file_names.items()}
    unknown = [str(item) for item in listed if str(item) not in known]
    if unknown or not listed:
        what = f"{unknown[0]!r} is none of the {len(file_names)} images" if unknown else "names no image"
        raise InputError(f"{file}: {what}{_more(unknown)}; list image ids or file names of this source")
    return frozenset(known[str(item)] for item in listed)


@contextmanager
def new_folder(root: Path) -> Iterator[Path]:
    """A temporary folder beside `root` that takes its name at the end, or is removed where something failed.

    Raises:
        InputError: where `root` is there already, or can't be made.
    """
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise InputError(f"{root}: is there already with other data; remove it or give another folder with --out")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{root.name}.unfinished-", dir=root.parent))
    except OSError as error:
        raise InputError(f"{root}: can't be made ({error.strerror}); give another folder with --out") from None
    try:
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)  # mkdtemp's 0700 is for secrets
        yield temporary
        temporary.rename(root)
    except OSError as error:
        raise InputError(f"{root}: can't be written ({error}); see to the disk or give another --out") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_layout(
    folder: Path,
    release: Release,
    contents: Mapping[int, str],
    split: Mapping[str, Sequence[int]],
    request: dict[str, Any],
    link: bool = False,
) -> dict[str, Any]:
    """Write images/, annotations/ and split.json into an empty folder.

    An empty split has no file. Instances without a labelled keypoint are left out, except from a test split where
    nothing is labelled: that is written as test_info.json, boxes only.

    Args:
        folder: may hold images/ already (drawn cats).
        release: what to write.
        contents: `hash_pictures` of it.
        split: image ids of each split.
        request: how it was asked for; the record keeps it.
        link: hard-link the pictures instead of copying them.

    Returns:
        the record, as in split.json.
    """
    (folder / "annotations").mkdir()
    _copy_pictures(release, folder / "images", link)
    splits = {}
    for name, image_ids in split.items():
        if not image_ids:
            continue
        images = set(image_ids)
        annotations = [a for a in release.annotations if a["image_id"] in images]
        labelled = [annotation for annotation in annotations if annotation["num_keypoints"]]
        stem = name
        if name == "test" and not labelled:
            stem = "test_info"
            labelled = [_box_only(annotation) for annotation in annotations]
        if not labelled:
            raise InputError(f"the {name} split's {len(images)} images hold no labelled instance; give another --seed")
        file = folder / "annotations" / f"{stem}.json"
        coco = {
            "info": {"description": f"{release.description}; {name} split, seed {request['seed']}"},
            "images": [image for image in release.images if image["id"] in images],
            "annotations": labelled,
            "categories": release.categories,
        }
        file.write_text(json.dumps(coco), encoding="utf-8")
        written = read_coco(file, folder / "images")
        splits[stem] = {
            "images": len(written.images),
            "instances": len(written),
            "annotations_sha256": split_hash(written),
        }
    by_name = sorted((image["file_name"], contents[image["id"]]) for image in release.images)
    lines = "".join(f"{digest}  {name}\n" for name, digest in by_name)
    record = {
        "request": request,
        "images": len(release.images),
        "images_sha256": hashlib.sha256(lines.encode()).hexdigest(),  # of what `sha256sum` prints for images/ by name
        "splits": splits,
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def same_as_there(root: Path, request: dict[str, Any]) -> dict[str, Any] | None:
    """The record of a data set that stands at `root` and answers the same request, whole; None where there is none."""
    if not (root / RECORD).is_file():
        return None
    record = read_json(root / RECORD)
    if not isinstance(record, dict) or record.get("request") != request:
        return None
    files = [root / "annotations" / f"{name}.json" for name in record["splits"]]
    pictures = sum(len(files) for _, _, files in os.walk(root / "images"))
    return record if all(file.is_file() for file in files) and pictures == record["images"] else None


def hash_pictures(release: Release) -> dict[int, str]:
    """SHA-256 (hex) of each picture's file, by image id."""
    progress = tqdm(release.images, desc="hashing pictures", unit="", delay=2, mininterval=1, leave=False)
    return {
        image["id"]: hashlib.sha256((release.image_dir / image["file_name"]).read_bytes()).hexdigest()
        for image in progress
    }


def _copy_pictures(release: Release, target: Path, link: bool) -> None:
    if release.image_dir == target:  # drawn cats are there already
        return
    for image in tqdm(release.images, desc="copying pictures", unit="", delay=2, mininterval=1, leave=False):
        source, copy = release.image_dir / image["file_name"], target / image["file_name"]
        copy.parent.mkdir(parents=True, exist_ok=True)
        if link:
            os.link(source.resolve(), copy)
        else:
            shutil.copyfile(source, copy)


def _box_only(annotation: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in annotation.items() if key not in ("keypoints", "num_keypoints")}


def _more(items: Sequence[object]) -> str:
    return f" (and {len(items) - 1} more)" if len(items) > 1 else ""
