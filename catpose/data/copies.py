"""Copies of one picture under several names, which leak from the training split into the scored ones.

Two pictures are copies where their decoded pixels are equal, or nearly so (encoded anew, scaled): where the signs of
256 gradients of a thumbnail agree. Known copies, which a published split can't be rid of, stand in ROOT/split.json, so
that `check` needn't call them errors again and `test` scores a split with and without them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from tqdm import tqdm

from catpose.data.images import read_image
from catpose.errors import InputError
from catpose.files import read_json
from catpose.machine import usable_cores

T = TypeVar("T")
#: What `prepare` writes beside annotations/ and images/: how the split was drawn, its hashes, its known copies.
RECORD = "split.json"
#: Bits of 256 in which two pictures' gradients may differ and still count as nearly the same: among the 1324 cats of
#: Animal-Pose, copies differ in at most 1 and different pictures in at least 47.
NEAR_BITS = 20
N_BITS = 256
#: Grey levels' standard deviation up to which a thumbnail has no gradients to compare.
FLAT = 2.0


@dataclass(frozen=True)
class Fingerprint:
    """Digest and gradients of a decoded picture."""

    digest: bytes  # of size and pixels
    size: tuple[int, int]  # width, height
    gradients: np.ndarray  # (256,) bool: brighter to the right?
    contrast: float  # standard deviation of its thumbnail, grey levels


def fingerprint(picture: np.ndarray) -> Fingerprint:
    """Of a picture (H, W, 3) uint8 RGB."""
    height, width = picture.shape[:2]
    digest = hashlib.sha256(f"{width} {height} ".encode() + picture.tobytes()).digest()
    thumbnail = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (17, 16), interpolation=cv2.INTER_AREA)
    thumbnail = thumbnail.astype(np.int16)
    return Fingerprint(digest, (width, height), (thumbnail[:, 1:] > thumbnail[:, :-1]).ravel(), float(thumbnail.std()))


def fingerprints(files: Sequence[Path]) -> Iterator[Fingerprint | InputError]:
    """Each file's, in their order, read by all cores; the error where a file can't be read as a picture."""

    def look(file: Path) -> Fingerprint | InputError:
        try:
            return fingerprint(read_image(file))
        except InputError as error:
            return error

    with ThreadPoolExecutor(min(8, usable_cores())) as threads:
        looks = threads.map(look, files)
        yield from tqdm(looks, "pictures", len(files), unit="", delay=2, mininterval=1, leave=False)


def near_pairs(seen: Sequence[Fingerprint]) -> Iterator[tuple[int, int]]:
    """Places (i, j), i < j, of pictures that are nearly the same; those without contrast have nothing to compare."""
    places = [i for i, look in enumerate(seen) if look.contrast > FLAT]
    signs = np.array([np.where(seen[i].gradients, 1, -1) for i in places], dtype=np.float32).reshape(-1, N_BITS)
    block = 1024  # rows at once, which bounds the memory
    for start in range(0, len(places), block):
        differing = (N_BITS - signs[start : start + block] @ signs.T) / 2
        for i, j in np.argwhere(differing <= NEAR_BITS):
            if start + i < j:
                yield places[start + i], places[j]


def group_copies(seen: Mapping[T, Fingerprint]) -> dict[T, T]:
    """For each picture the first, in the mapping's order, of those that it is a copy of, over any number of steps."""
    keys = list(seen)
    parent = list(range(len(keys)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    first: dict[bytes, int] = {}
    exact = ((first.setdefault(look.digest, i), i) for i, look in enumerate(seen.values()))
    for pairs in (exact, near_pairs(list(seen.values()))):
        for i, j in pairs:
            a, b = sorted((root(i), root(j)))
            parent[b] = a
    return {key: keys[root(i)] for i, key in enumerate(keys)}


def shared_copies(split: Mapping[str, Iterable[T]], group: Mapping[T, T]) -> list[dict[str, list[T]]]:
    """Groups of copies of which more than one split has some: for each, its pictures by split."""
    by_group: dict[T, dict[str, list[T]]] = {}
    for name, pictures in split.items():
        for picture in pictures:
            by_group.setdefault(group[picture], {}).setdefault(name, []).append(picture)
    return [places for places in by_group.values() if len(places) > 1]


def known_copies(root: Path) -> list[dict[str, list[str]]]:
    """The groups of copies that ROOT/split.json lists: file names by split; none where it lists none.

    Raises:
        InputError: the file is there and can't be read.
    """
    file = root / RECORD
    if not file.is_file():
        return []
    record = read_json(file)
    listed = record.get("copies", []) if isinstance(record, dict) else None
    if not isinstance(listed, list) or not all(_is_group(group) for group in listed):
        raise InputError(f"{file}: 'copies' is no list of file names by split; restore the file or delete it")
    return listed


def _is_group(group: object) -> bool:
    return isinstance(group, dict) and all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in group.values()
    )
