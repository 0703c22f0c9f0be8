"""Copies of one picture under several names, which leak from the training split into the scored ones.

Two pictures are copies where their decoded pixels are equal, or nearly so (encoded anew, scaled): where the signs of
256 gradients of a thumbnail agree. Known copies, which a published split can't be rid of, stand in ROOT/split.json, so
that `check` needn't call them errors again and `test` scores a split with and without them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from tqdm import tqdm

from catpose.data.coco_split import CocoSplit
from catpose.data.groups import Groups
from catpose.data.images import read_image
from catpose.errors import InputError
from catpose.files import read_json
from catpose.machine import map_ahead, usable_cores

T = TypeVar("T")
#: What `prepare` writes beside annotations/ and images/: how the split was drawn, its hashes, its known copies.
RECORD = "split.json"
#: Bits of 256 in which two pictures' gradients may differ and still count as nearly the same: among the 1324 cats of
#: Animal-Pose, copies differ in at most 1 and different pictures in at least 47.
NEAR_BITS = 20
N_BITS = 256
_BANDS = NEAR_BITS // 2 + 1  # so few differences for so many bands: one has at most one of them
_ONES = np.array([n.bit_count() for n in range(256)], dtype=np.uint8)  # of a byte
_AT_ONCE = 2**18  # pairs that are compared at once, which bounds the memory
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

    looks = map_ahead(look, files, min(8, usable_cores()))
    yield from tqdm(looks, "pictures", len(files), unit="", delay=2, mininterval=1, leave=False, disable=None)


def near_pairs(seen: Sequence[Fingerprint]) -> list[tuple[int, int]]:
    """Places (i, j), i < j, of pictures that are nearly the same, one pair fewer than each group of such has pictures:
    they join all that are nearly the same, over any number of steps. Those without contrast have nothing to compare.

    Of 256 bits in 11 bands, 20 or fewer differing ones leave a band in which at most one differs. So the pairs to look
    at are those whose bands are equal or a bit apart (multi-index hashing; Norouzi, Punjani and Fleet, 2012), which
    sorted numbers give without comparing all with all: 100,000 pictures take seconds. Nor do thousands of frames of one
    scene: first each is compared with the first one of an equal band, then only what is in several groups still.
    """
    places = np.array([i for i, look in enumerate(seen) if look.contrast > FLAT], dtype=np.int64)
    bits = np.array([seen[i].gradients for i in places], dtype=bool).reshape(-1, N_BITS)
    packed = np.packbits(bits, axis=1)
    groups = Groups({i: i for i in range(len(places))})
    found: list[tuple[int, int]] = []

    def join(i: np.ndarray, j: np.ndarray) -> None:
        near = _ONES[packed[i] ^ packed[j]].sum(axis=1) <= NEAR_BITS
        found.extend(pair for pair in zip(i[near].tolist(), j[near].tolist(), strict=True) if groups.join(*pair))

    own = [bits[:, band::_BANDS] for band in range(_BANDS)]  # spread over the picture: neighbouring gradients are alike
    keys = [each.astype(np.int64) @ (1 << np.arange(each.shape[1])) for each in own]
    for key in (np.unique(packed, axis=0, return_inverse=True)[1].reshape(-1), *keys):
        _, first, which = np.unique(key, return_index=True, return_inverse=True)
        others = np.flatnonzero(first[which] != np.arange(len(key)))
        join(first[which[others]], others)
    for key, each in zip(keys, own, strict=True):
        for i, j in _band_pairs(key, each.shape[1], np.array([groups.of(i) for i in range(len(key))], dtype=np.int64)):
            join(i, j)
    return sorted((int(places[min(pair)]), int(places[max(pair)])) for pair in found)


def _band_pairs(keys: np.ndarray, n_bits: int, group: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of keys (n,) int64 that differ in one of their bits at most and are in different groups (n,), 0 to
    n - 1, once each, as places (m,) and (m,)."""
    n = len(keys)
    order = np.lexsort((group, keys))
    key, own = keys[order], group[order]
    ordered = key * n + own
    for flip in (0, *(1 << np.arange(n_bits))):
        partner = key ^ flip
        start = ordered.searchsorted(partner * n + own, side="right")  # the one of the lower group has the other
        count = ordered.searchsorted((partner + 1) * n) - start
        first, total = np.flatnonzero(count), count[count > 0].cumsum()
        for some in np.split(first, total.searchsorted(np.arange(_AT_ONCE, total.max(initial=0), _AT_ONCE))):
            within = np.arange(count[some].sum()) - np.repeat(count[some].cumsum() - count[some], count[some])
            yield order[np.repeat(some, count[some])], order[np.repeat(start[some], count[some]) + within]


def group_copies(seen: Mapping[T, Fingerprint]) -> dict[T, T]:
    """For each picture the first, in the mapping's order, of those that it is a copy of, over any number of steps."""
    keys, looks = list(seen), list(seen.values())
    groups = Groups({i: i for i in range(len(keys))})
    first: dict[bytes, int] = {}
    for i, look in enumerate(looks):
        groups.join(first.setdefault(look.digest, i), i)
    for i, j in near_pairs(looks):
        groups.join(i, j)
    return {key: keys[groups.of(i)] for i, key in enumerate(keys)}


def copies_among(files: Sequence[Path]) -> dict[Path, Path]:
    """For each picture the first that it is a copy of, exact or nearly so, as `group_copies`.

    Raises:
        InputError: a picture that can't be read.
    """
    every = list(dict.fromkeys(files))
    seen: dict[Path, Fingerprint] = {}
    for file, look in zip(every, fingerprints(every), strict=True):
        if isinstance(look, InputError):
            raise look
        seen[file] = look
    return group_copies(seen)


def copies_of(files: Sequence[Path], known: Sequence[Path]) -> list[Path]:
    """Those of some pictures that are copies of known ones, in their order. Raises as `copies_among`."""
    group = copies_among([*known, *files])
    groups = {group[file] for file in known}
    return [file for file in files if group[file] in groups]


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


def recorded_pool(root: Path) -> str:
    """The hash of the pool of which a data folder is a random division (`data.resplit`), by ROOT/split.json.

    Empty where it is none.

    Raises:
        InputError: the file is there and can't be read.
    """
    file = root / RECORD
    record = read_json(file) if file.is_file() else {}
    return str(record.get("pool", "")) if isinstance(record, dict) else ""


def pool_of(split: CocoSplit) -> str:
    """The same of a training or validation split; empty of any other."""
    return recorded_pool(split.file.parent.parent) if split.file.stem in ("train", "val") else ""


def _is_group(group: object) -> bool:
    return isinstance(group, dict) and all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in group.values()
    )
