"""A cache of a split's decoded pictures, shared by all workers and processes."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import secrets
import shutil
import struct
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import cv2
import numpy as np

from catpose.data.coco_split import CocoSplit, Image
from catpose.data.images import read_image, read_images
from catpose.errors import InputError, one_line

Cache = Literal["disk", "memory", "off"]

_MAGIC = b"catpose2"
_CHANNELS = 4  # OpenCV warps four channels twice as fast as three; the fourth carries nothing
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LEFT_BEHIND_SECONDS = 3600  # an unfinished file not written to for so long is that of a killed process


class Pictures(Protocol):
    """Decoded pictures by their place in `CocoSplit.images`: RGBA uint8 (height, width, 4), read-only."""

    def __getitem__(self, index: int, /) -> np.ndarray: ...


def open_pictures(split: CocoSplit, wanted: Iterable[int], cache: Cache, cache_dir: str | Path | None) -> Pictures:
    """The pictures at the places `wanted` of `split.images`, as the cache keeps them.

    Args:
        wanted: indices into `split.images`.
        cache: "disk": decoded once into one file of raw pixels that all workers and processes read, each picture
            checked against its checksum; without room for the file, a line is printed and it is "off". "memory":
            decoded now, shared with forked workers but not with other processes. "off": decoded at each access.
        cache_dir: where "disk" keeps its files; None: `catpose` in $XDG_CACHE_HOME or ~/.cache.

    Raises:
        InputError: a picture that can't be read or whose size is not the one stated, no memory for all of them, or a
            `cache_dir` that can't be used.
    """
    indices = sorted(set(wanted))
    if cache == "off":
        return _ReadEachTime(split)
    if cache == "memory":
        return _in_memory(split, indices)
    try:
        return _on_disk(split, indices, Path(cache_dir) if cache_dir is not None else _default_dir())
    except OSError as error:
        why = one_line(f"data.cache_dir: {cache_dir or _default_dir()}: {error.strerror or error}")
        if cache_dir is not None and error.errno not in _NO_ROOM:
            raise InputError(f"{why}; set data.cache_dir to another folder, or data.cache to memory or off") from None
        _say_once(
            f"catpose: {why}; pictures are decoded each time instead, which is slow: set data.cache_dir to another"
            " folder, or data.cache to memory"
        )
        return _ReadEachTime(split)


def read_picture(split: CocoSplit, index: int) -> np.ndarray:
    """The picture at a place of `split.images` as `Pictures` have it; InputError as of `open_pictures`."""
    image = split.images[index]
    return _checked(read_image(image.path), image, split.file)


def _default_dir() -> Path:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "catpose"
    except RuntimeError:
        raise InputError("data.cache_dir: there is no home folder to keep decoded pictures in; name a folder") from None


@functools.cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr)


class _ReadEachTime:
    """Pictures read anew each time; the last one stays, since a split's instances come image by image."""

    def __init__(self, split: CocoSplit) -> None:
        self._split = split
        self._last: tuple[int, np.ndarray] | None = None

    def __getitem__(self, index: int, /) -> np.ndarray:
        if self._last is None or self._last[0] != index:
            self._last = index, read_picture(self._split, index)
        return self._last[1]


def _in_memory(split: CocoSplit, indices: list[int]) -> Pictures:
    needed, memory = _n_bytes(split, indices), _memory_bytes()
    if memory is not None and needed > memory:
        raise InputError(
            f"data.cache: the pictures of {split.file} decoded take {_gib(needed)}, this machine has {_gib(memory)} of "
            f"memory; set data.cache to disk or off"
        )
    return dict(zip(indices, _decoded(split, indices), strict=True))


def _on_disk(split: CocoSplit, indices: list[int], folder: Path) -> Pictures:
    key = _content_key(split, indices)
    name = hashlib.sha256(os.path.abspath(split.file).encode()).hexdigest()[:16]
    file = folder / f"{split.file.stem}-{name}.rgb"  # one for each annotation file: the old content makes way
    found = _CacheFile.find(file, key, split, indices)
    if found:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    needed, free = _n_bytes(split, indices), shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"the decoded pictures take {_gib(needed)}, {_gib(free)} are free")
    return _built(file, key, split, indices)


class _CacheFile:
    """The pictures of a cache file, each read anew and held against its checksum.

    The file isn't mapped into memory: one cut short while in use would kill the process. A picture that is no longer
    what was written is decoded again and mended in the file.

    The file holds: `_MAGIC`, the content's key (32 bytes), a checksum of each picture and a CRC-32 of all that is
    before it (little-endian), then the pictures' pixels one after another.
    """

    def __init__(self, opened: BinaryIO, path: Path, key: bytes, split: CocoSplit, indices: list[int]) -> None:
        self._file = opened
        self._where = path, key, indices
        self._split = split
        self._place: dict[int, int] = {}  # bytes from the start of the file, by place in `split.images`
        self._checksum: dict[int, int] = {}
        at = _header_bytes(len(indices))
        for index in indices:
            self._place[index] = at
            at += _n_bytes(split, [index])
        self._end = at

    @classmethod
    def find(cls, path: Path, key: bytes, split: CocoSplit, indices: list[int]) -> _CacheFile | None:
        """A finished cache file; None if it is absent, cut short, damaged or built from other pictures."""
        try:
            opened = _open_to_mend(path)
        except (FileNotFoundError, PermissionError):
            return None
        found = cls(opened, path, key, split, indices)
        header = opened.read(_header_bytes(len(indices)))
        body, checksum = header[:-4], header[-4:]
        whole = os.fstat(opened.fileno()).st_size == found._end and zlib.crc32(body) == int.from_bytes(
            checksum, "little"
        )
        if not whole or not body.startswith(_MAGIC + key):
            opened.close()
            return None
        found._take(struct.unpack(f"<{len(indices)}I", body[len(_MAGIC + key) :]))
        return found

    def _take(self, checksums: Sequence[int]) -> None:
        self._checksum = dict(zip(self._place, checksums, strict=True))

    def write(self) -> None:
        """Decode the pictures into the file, which is a new one."""
        self._file.seek(_header_bytes(len(self._place)))  # the header comes last: without it there is no cache file
        checksums = []
        for picture in _decoded(self._split, list(self._place)):
            self._file.write(picture.data)
            checksums.append(_checksum(picture))
        header = _MAGIC + self._where[1] + struct.pack(f"<{len(checksums)}I", *checksums)
        self._file.seek(0)
        self._file.write(header + zlib.crc32(header).to_bytes(4, "little"))
        self._file.flush()
        os.fsync(self._file.fileno())  # else a power cut could leave the full length without the content
        self._take(checksums)

    def __getitem__(self, index: int, /) -> np.ndarray:
        image = self._split.images[index]
        picture = np.empty((image.height, image.width, _CHANNELS), np.uint8)
        if not self._read(picture, self._place[index]) or _checksum(picture) != self._checksum[index]:
            picture = read_picture(self._split, index)
            if _checksum(picture) != self._checksum[index]:
                raise InputError(
                    f"{image.path}: has changed since its decoded copy was made, which is damaged; start again"
                )
            self._mend(picture, self._place[index])
        picture.flags.writeable = False
        return picture

    def _read(self, picture: np.ndarray, at: int) -> bool:
        """Fill `picture` from the file's bytes at an offset; False if the file is too short."""
        try:
            if hasattr(os, "preadv"):  # processes that were forked share the file's position
                return os.preadv(self._file.fileno(), [picture.data], at) == picture.nbytes
            self._file.seek(at)
            return self._file.readinto(picture) == picture.nbytes  # type: ignore[attr-defined]
        except OSError:  # a bad sector, a file server that has gone
            return False

    def _mend(self, picture: np.ndarray, at: int) -> None:
        with contextlib.suppress(OSError):  # one that may not be written, or a full disk: it is decoded each time
            if hasattr(os, "pwrite") and self._file.writable():
                os.pwrite(self._file.fileno(), picture.data, at)

    def __reduce__(self) -> tuple[Any, ...]:
        """For processes that are not forked: they open the file themselves."""
        return _found_again, (*self._where, self._split)


def _found_again(path: Path, key: bytes, indices: list[int], split: CocoSplit) -> Pictures:
    return _CacheFile.find(path, key, split, indices) or _ReadEachTime(split)


def _checksum(picture: np.ndarray) -> int:
    """Of a picture (height, width, 4) uint8: CRC-32 of the sums of its columns and of its rows of pixels, as 32 bits.

    What changes a pixel changes its row's sum and its column's; what disks do (a flipped bit, a stretch of zeros or of
    another file) changes many that would all have to cancel. A CRC of all bytes takes five times as long.
    """
    pixels = picture.view(np.uint32)[..., 0]
    columns, rows = (np.add.reduce(pixels, axis=axis, dtype=np.uint32) for axis in (0, 1))
    return zlib.crc32(rows, zlib.crc32(columns))


def _header_bytes(n_pictures: int) -> int:
    return len(_MAGIC) + 32 + 4 * n_pictures + 4


def _open_to_mend(path: Path) -> BinaryIO:
    """A file, to read and, where that is allowed, to mend."""
    if os.access(path, os.W_OK):
        return open(path, "r+b")
    return open(path, "rb")


def _built(file: Path, key: bytes, split: CocoSplit, indices: list[int]) -> _CacheFile:
    """A new cache file, written beside its place and then moved there.

    If two processes build it at once, the later one's stays; the other goes on with its own open file.
    """
    part = file.with_name(f"{file.name}.{secrets.token_hex(8)}.part")  # pids repeat between machines
    opened = open(part, "x+b")  # noqa: SIM115 (it stays open with what is returned)
    try:
        built = _CacheFile(opened, file, key, split, indices)
        built.write()
        os.replace(part, file)
        return built
    except BaseException:
        opened.close()
        raise
    finally:
        part.unlink(missing_ok=True)


def _remove_leftovers(folder: Path) -> None:
    for part in folder.glob("*.rgb.*.part"):
        with contextlib.suppress(FileNotFoundError):
            if part.stat().st_mtime < time.time() - _LEFT_BEHIND_SECONDS:
                part.unlink()


def _content_key(split: CocoSplit, indices: list[int]) -> bytes:
    """SHA-256 of what a cache file is built from: names, stated shapes, and each file's size, inode, mtime and ctime.

    A copy can keep the mtime, not the ctime.
    """
    key = hashlib.sha256()
    for index in indices:
        image = split.images[index]
        try:
            stat = image.path.stat()
        except OSError as error:
            raise InputError(
                f"{image.path}: can't be read ({error.strerror}); restore the file or drop its entry in {split.file}"
            ) from None
        content = stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, image.width, image.height
        key.update(repr((os.path.abspath(image.path), *content)).encode())
    return key.digest()


def _decoded(split: CocoSplit, indices: list[int]) -> Iterator[np.ndarray]:
    images = [split.images[index] for index in indices]
    for image, picture in zip(images, read_images([image.path for image in images]), strict=True):
        yield _checked(picture, image, split.file)


def _checked(picture: np.ndarray, image: Image, annotation_file: Path) -> np.ndarray:
    """The picture as `Pictures` gives it; InputError where its size is not the one stated."""
    height, width = picture.shape[:2]
    if (width, height) != (image.width, image.height):
        raise InputError(
            f"{image.path}: is {width} × {height} px, but {annotation_file} says {image.width} × {image.height}; "
            f"run `python -m catpose.check` and correct one of them"
        )
    picture = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA)
    picture.flags.writeable = False
    return picture


def _n_bytes(split: CocoSplit, indices: list[int]) -> int:
    return sum(split.images[index].width * split.images[index].height * _CHANNELS for index in indices)


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # unknown on this system
        return None


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB"
