"""A release written in the one layout, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from catpose.data.checks import all_findings
from catpose.data.coco import read_coco
from catpose.data.coco_split import split_hash
from catpose.data.copies import RECORD, Fingerprint, fingerprints, group_copies, shared_copies
from catpose.data.finding import Finding, refuse_errors
from catpose.data.skeletons import FILE, statement
from catpose.data.sources import Release
from catpose.data.whole import WHOLE
from catpose.errors import InputError, one_line
from catpose.files import read_json
from catpose.skeleton import AP10K
from catpose.text import counted


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
    copy_of: Mapping[int, int],
    request: dict[str, Any],
    link: bool = False,
) -> dict[str, Any]:
    """Write images/, annotations/, split.json and, for keypoints other than AP-10K's, skeleton.yaml into an empty
    folder.

    An empty split has no file. Instances without a labelled keypoint are left out, except from a test split where
    nothing is labelled: that is written as test_info.json, boxes only.

    Args:
        folder: may hold images/ already (drawn cats).
        release: what to write.
        contents: `hash_pictures` of it.
        split: image ids of each split.
        copy_of: as of `draw_split`; copies that lie in several splits are listed in the record.
        request: how it was asked for; the record keeps it.
        link: hard-link the pictures instead of copying them.

    Returns:
        the record, as in split.json.
    """
    (folder / "annotations").mkdir()
    if release.skeleton != AP10K:
        (folder / FILE).write_text(statement(release.skeleton), encoding="utf-8")
    _copy_pictures(release, folder / "images", link)
    splits: dict[str, dict[str, Any]] = {}
    written_as: dict[str, Sequence[int]] = {}
    for name, image_ids in split.items():
        if image_ids:
            stem, counts = _write_split(folder, release, name, set(image_ids), request["seed"])
            splits[stem], written_as[stem] = counts, image_ids
    names = {image["id"]: image["file_name"] for image in release.images}
    by_name = sorted((image["file_name"], contents[image["id"]]) for image in release.images)
    lines = "".join(f"{digest}  {name}\n" for name, digest in by_name)
    record = {
        "request": request,
        "images": len(release.images),
        "images_sha256": hashlib.sha256(lines.encode()).hexdigest(),  # of what `sha256sum` prints for images/ by name
        "splits": splits,
        "copies": [
            {name: [names[id_] for id_ in ids] for name, ids in places.items()}
            for places in shared_copies(written_as, copy_of)
        ],
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def _write_split(folder: Path, release: Release, name: str, images: set[int], seed: int) -> tuple[str, dict[str, Any]]:
    """Write one split's annotation file; its name without ".json", and what the record says of it."""
    annotations = [a for a in release.annotations if a["image_id"] in images]
    labelled = [annotation for annotation in annotations if annotation["num_keypoints"]]
    stem = name
    if name == "test" and not labelled:
        stem = "test_info"
        labelled = [_box_only(annotation) for annotation in annotations]
    if not labelled:
        raise InputError(
            f"the {name} split's {counted(len(images), 'image')}: no labelled instance; give another --seed"
        )
    file = folder / "annotations" / f"{stem}.json"
    coco = {
        "info": {"description": f"{release.description}; {name} split, seed {seed}"},
        "images": [image for image in release.images if image["id"] in images],
        "annotations": labelled,
        "categories": release.categories,
    }
    file.write_text(json.dumps(coco), encoding="utf-8")
    written = read_coco(file, folder / "images")
    return stem, {
        "images": len(written.images),
        "instances": len(written),
        "annotations_sha256": split_hash(written),
    }


def write_checked(
    root: Path,
    release: Release,
    split: Mapping[str, Sequence[int]],
    copy_of: Mapping[int, int],
    request: dict[str, Any],
    source: Path,
    link: bool,
) -> tuple[dict[str, Any], list[Finding]]:
    """As `write_layout` into the new folder `root`, where `check` finds no error in what is written.

    Args:
        source: the file that errors name, since nobody sees the folder before it is whole.

    Returns:
        the record; what `check` warns of.

    Raises:
        InputError: the first error that `check` would find; nothing is written then.
    """
    with new_folder(root) as folder:
        try:
            record = write_layout(folder, release, hash_pictures(release), split, copy_of, request, link)
        except InputError as error:
            unseen = rf"{re.escape(str(folder))}/annotations/(\w+)\.json"
            raise InputError(re.sub(unseen, rf"{source}: \1", str(error))) from None
        findings = all_findings(folder)
        refuse_errors(findings, source, remedy="; correct it in the source, nothing was written")
    return record, findings


def record_lines(root: Path, record: dict[str, Any]) -> list[str]:
    """What stands at `root`, in lines for the terminal: numbers and hashes of each split, and of the pictures."""
    lines = []
    for name, counts in record["splits"].items():
        digest = counts["annotations_sha256"][:12]
        lines.append(f"{name:10} {counts['images']:6} images {counts['instances']:6} instances   annotations {digest}")
    seed, digest = record["request"]["seed"], record["images_sha256"][:12]
    lines.append(f"{'':10} {record['images']:6} images, seed {seed}             pictures    {digest}")
    if copies := record.get("copies", []):
        n = sum(len(names) for group in copies for names in group.values())
        lines.append(f"in several splits: {counted(len(copies), 'picture')} ({n} files); split.json lists them")
    return [*lines, f"{root}: annotations/, images/ and split.json, which holds the hashes in full"]


def warning_lines(root: Path, findings: Sequence[Finding]) -> list[str]:
    """What is to be said of a data folder's warnings: those of a file as a whole, and how many there are."""
    lines = [one_line(f"warning: {each.split}: {each.message}") for each in findings if each.where == WHOLE]
    summary = f"{counted(len(findings), 'warning')} about the data; python -m catpose.check --data {root} lists them"
    return [*lines, summary] if findings else []


def kept_line(release: Release, record: dict[str, Any]) -> str:
    """How many of the source's annotations were brought in, and why the others were not."""
    written = sum(counts["instances"] for counts in record["splits"].values())
    unlabelled = len(release.annotations) - written
    reasons = [f"{n} {reason}" for reason, n in sorted(release.left_out.items()) if n]
    reasons += [f"{unlabelled} without a labelled keypoint"] if unlabelled else []
    return f"kept {counted(written, 'annotation')}; left out: {', '.join(reasons) or 'none'}"


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
    progress = tqdm(release.images, desc="hashing pictures", unit="", delay=2, mininterval=1, leave=False, disable=None)
    return {image["id"]: hashlib.sha256(release.path(image).read_bytes()).hexdigest() for image in progress}


def find_copies(release: Release) -> dict[int, int]:
    """For each image's id that of the first image that shows the same picture, or nearly the same.

    Raises:
        InputError: a picture that can't be read.
    """
    seen: dict[int, Fingerprint] = {}
    files = [release.path(image) for image in release.images]
    for image, look in zip(release.images, fingerprints(files), strict=True):
        if isinstance(look, InputError):
            raise look
        seen[image["id"]] = look
    return group_copies(seen)


def _copy_pictures(release: Release, target: Path, link: bool) -> None:
    if release.image_dir == target:  # drawn cats are there already
        return
    for image in tqdm(
        release.images, desc="copying pictures", unit="", delay=2, mininterval=1, leave=False, disable=None
    ):
        source, copy = release.path(image), target / image["file_name"]
        copy.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(copy):
            raise InputError(
                f"{source}: has the name of another picture, as this file system takes capitals or accents; rename one"
            )
        if link:
            os.link(source.resolve(), copy)
        else:
            shutil.copyfile(source, copy)


def _box_only(annotation: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in annotation.items() if key not in ("keypoints", "num_keypoints")}
