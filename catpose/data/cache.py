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
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, Protocol

import cv2
import numpy as np

from catpose.data.coco_split import CocoSplit, Image
from catpose.data.images import read_image, read_images
from catpose.errors import InputError, one_line

Cache = Literal["disk", "memory", "off"]

_MAGIC = b"catpose3"
_CHANNELS = 4  # OpenCV warps four channels twice as fast as three; the fourth carries nothing
_STORED = 3  # of them in a cache file
_SHARE = 0.5  # of the disk's room that cache files may take
_IN_USE_SECONDS = 86400  # a cache file opened within the last day isn't removed
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LEFT_BEHIND_SECONDS = 3600  # an unfinished file not written to for so long is that of a killed process


class Pictures(Protocol):
    """Decoded pictures by their place in `CocoSplit.images`: RGBA uint8 (height, width, 4), read-only."""

    def __getitem__(self, index: int, /) -> np.ndarray: ...


def open_pictures(split: CocoSplit, wanted: Iterable[int], cache: Cache, cache_dir: str | Path | None) -> Pictures:
    """The pictures at the places `wanted` of `split.images`, as the cache keeps them.

    Args:
        wanted: indices into `split.images`.
        cache: "disk": decoded once, when first asked for, into one file of raw pixels that all workers and processes
            share, each picture checked against its checksum at each reading; where cache files would take more than
            half of the disk's room, those used longest ago go, else a line is printed and it is "off". "memory":
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
    """The picture (H, W, 3) at a place of `split.images` as `Pictures` have it; InputError as of `open_pictures`."""
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
    source = _Source.of(split, indices)
    name = hashlib.sha256(os.path.abspath(split.file).encode()).hexdigest()[:16]
    file = folder / f"{split.file.stem}-{name}.rgb"  # one for each annotation file: the old content makes way
    found = _CacheFile.find(file, source)
    if found:
        with contextlib.suppress(OSError):
            os.utime(file)  # used last now, for `_make_room`
        return found
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    _make_room(folder, file, source.end)
    return _created(file, source)


class _Source(NamedTuple):
    """What a cache file is made from, as arrays: workers that look things up in them copy no memory."""

    split: CocoSplit
    indices: np.ndarray  # (n,) int64, ascending: places in `split.images`
    states: np.ndarray  # (n, 2) int64: size in bytes and mtime in ns of the pictures' files
    starts: np.ndarray  # (n,) int64: where their pixels are in the file, in bytes
    end: int  # bytes of the file
    key: bytes

    @classmethod
    def of(cls, split: CocoSplit, indices: list[int]) -> _Source:
        """The key is the SHA-256 of names, stated shapes, and each file's size, inode, mtime and ctime.

        A copy can keep the mtime, not the ctime.
        """
        key, states = hashlib.sha256(), []
        for index in indices:
            image = split.images[index]
            stat = _stat(image, split.file)
            content = stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, image.width, image.height
            key.update(repr((os.path.abspath(image.path), *content)).encode())
            states.append(content[:2])
        n_bytes = np.array([split.images[i].width * split.images[i].height * _STORED for i in indices], dtype=np.int64)
        ends = _header_bytes(len(indices)) + n_bytes.cumsum()
        end = int(ends[-1]) if indices else _header_bytes(0)
        states_ = np.array(states, dtype=np.int64).reshape(-1, 2)
        return cls(split, np.array(indices, dtype=np.int64), states_, ends - n_bytes, end, key.digest())


class _CacheFile:
    """The pictures of a cache file, each decoded when it is first asked for, and from then on read from the file.

    Several processes fill it at once: what they write is the same. The file isn't mapped into memory: one cut short
    while in use would kill the process. A picture that is no longer what was written is decoded again and mended.

    The file holds: `_MAGIC`, the content's key (32 bytes) and the CRC-32 of both; for each picture a checksum and the
    checksum's complement, two zeros until it is there; then the pictures' pixels, RGB, one after another. Numbers are
    little-endian. A picture's pixels are written before its checksum.
    """

    def __init__(self, opened: BinaryIO, path: Path, source: _Source) -> None:
        self._file, self._path, self._source = opened, path, source

    @classmethod
    def find(cls, path: Path, source: _Source) -> _CacheFile | None:
        """A cache file that can be used; None if it is absent, cut short, damaged or of other pictures."""
        try:
            opened = _open_to_fill(path)
        except (FileNotFoundError, PermissionError):
            return None
        header = _header(source.key)
        if os.fstat(opened.fileno()).st_size == source.end and opened.read(len(header)) == header:
            return cls(opened, path, source)
        opened.close()
        return None

    def __getitem__(self, index: int, /) -> np.ndarray:
        row = int(self._source.indices.searchsorted(index))
        if row == len(self._source.indices) or self._source.indices[row] != index:
            raise KeyError(f"picture {index} is not among those that were opened")
        image, at, entry_at = self._source.split.images[index], int(self._source.starts[row]), _header_bytes(row)
        pixels, entry = np.empty((image.height, image.width, _STORED), np.uint8), np.zeros(8, np.uint8)
        if self._read(entry, entry_at) and entry.any() and self._read(pixels, at):
            picture = _with_alpha(pixels)
            if _entry(picture) == entry.tobytes():
                return picture
        picture = read_picture(self._source.split, index)
        state = _stat(image, self._source.split.file)
        if (state.st_size, state.st_mtime_ns) != tuple(self._source.states[row].tolist()):
            raise InputError(f"{image.path}: has changed since this run began; start again")
        if self._write(np.ascontiguousarray(picture[..., :_STORED]).data, at):
            self._write(_entry(picture), entry_at)
        return picture

    def _read(self, array: np.ndarray, at: int) -> bool:
        """Fill `array` from the file's bytes at an offset; False if the file is too short."""
        try:
            if hasattr(os, "preadv"):  # processes that were forked share the file's position
                return os.preadv(self._file.fileno(), [array.data], at) == array.nbytes
            self._file.seek(at)
            return self._file.readinto(array) == array.nbytes  # type: ignore[attr-defined]
        except OSError:  # a bad sector, a file server that has gone
            return False

    def _write(self, data: bytes | memoryview, at: int) -> bool:
        """Whether all of it was written; where it can't be, the picture is decoded each time."""
        if not self._file.writable():
            return False
        try:
            if hasattr(os, "pwrite"):
                return os.pwrite(self._file.fileno(), data, at) == memoryview(data).nbytes
            self._file.seek(at)
            self._file.write(data)
            self._file.flush()
            return True
        except OSError as error:
            why = one_line(f"{self._path}: {error.strerror or error}")
            _say_once(f"catpose: {why}; pictures that aren't there yet are decoded each time, which is slow")
            return False

    def __reduce__(self) -> tuple[Any, ...]:
        """For processes that are not forked: they open the file themselves."""
        return _found_again, (self._path, self._source)


def _found_again(path: Path, source: _Source) -> Pictures:
    return _CacheFile.find(path, source) or _ReadEachTime(source.split)


def _entry(picture: np.ndarray) -> bytes:
    checksum = _checksum(picture)
    return struct.pack("<2I", checksum, checksum ^ 0xFFFFFFFF)


def _checksum(picture: np.ndarray) -> int:
    """Of a picture (height, width, 4) uint8: CRC-32 of the sums of its columns and of its rows of pixels, as 32 bits.

    What changes a pixel changes its row's sum and its column's; what disks do (a flipped bit, a stretch of zeros or of
    another file) changes many that would all have to cancel. A CRC of all bytes takes five times as long.
    """
    pixels = picture.view(np.uint32)[..., 0]
    columns, rows = (np.add.reduce(pixels, axis=axis, dtype=np.uint32) for axis in (0, 1))
    return zlib.crc32(rows, zlib.crc32(columns))


def _header(key: bytes) -> bytes:
    return _MAGIC + key + zlib.crc32(_MAGIC + key).to_bytes(4, "little")


def _header_bytes(row: int) -> int:
    """What is before the entry of the picture of a row."""
    return len(_MAGIC) + 32 + 4 + 8 * row


def _open_to_fill(path: Path) -> BinaryIO:
    """A file, to read and, where that is allowed, to write into."""
    if os.access(path, os.W_OK):
        return open(path, "r+b")
    return open(path, "rb")


def _created(file: Path, source: _Source) -> _CacheFile:
    """A cache file without a picture, made beside its place and then moved there; it takes room as it is filled.

    If several processes create it at once, as a study's trials do at their start, the first one's is everybody's.
    """
    part = file.with_name(f"{file.name}.{secrets.token_hex(8)}.part")  # pids repeat between machines
    opened = open(part, "x+b")  # noqa: SIM115 (it stays open with what is returned)
    try:
        opened.write(_header(source.key))
        opened.flush()
        os.truncate(part, source.end)
        try:
            os.link(part, file)
        except OSError:  # another's, perhaps of other content; or a file system without links
            found = _CacheFile.find(file, source)
            if found:
                opened.close()
                return found
            os.replace(part, file)
        return _CacheFile(opened, file, source)
    except BaseException:
        opened.close()
        raise
    finally:
        part.unlink(missing_ok=True)


def _make_room(folder: Path, file: Path, needed: int) -> None:
    """Remove the cache files used longest ago, until all take `_SHARE` of the disk's room for them; none in use.

    Raises:
        OSError: the file would take more.
    """
    taken, last_used, on_disk = {}, {}, 0
    for each in folder.glob("*-????????????????.rgb"):
        with contextlib.suppress(FileNotFoundError):
            stat = each.stat()
            on_disk += getattr(stat, "st_blocks", stat.st_size // 512) * 512  # of what it takes once it is filled
            if each != file:
                taken[each], last_used[each] = stat.st_size, stat.st_mtime
    room = shutil.disk_usage(folder).free + on_disk
    for each in sorted(taken, key=lambda each: last_used[each]):
        if needed + sum(taken.values()) > room * _SHARE and last_used[each] < time.time() - _IN_USE_SECONDS:
            with contextlib.suppress(OSError):  # another user's
                each.unlink(missing_ok=True)
                del taken[each]
    if needed + sum(taken.values()) > room * _SHARE:
        others = f", those of other data {_gib(sum(taken.values()))}" if taken else ""
        why = f"the decoded pictures take {_gib(needed)}{others}, {_gib(int(room * _SHARE))} are for them"
        raise OSError(errno.ENOSPC, f"{why} ({_SHARE:.0%} of what is free)")


def _remove_leftovers(folder: Path) -> None:
    for part in folder.glob("*.rgb.*.part"):
        with contextlib.suppress(OSError):  # gone, or another user's
            if part.stat().st_mtime < time.time() - _LEFT_BEHIND_SECONDS:
                part.unlink()


def _stat(image: Image, annotation_file: Path) -> os.stat_result:
    try:
        return image.path.stat()
    except OSError as error:
        raise InputError(
            f"{image.path}: can't be read ({error.strerror}); restore the file or drop its entry in {annotation_file}"
        ) from None


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
    return _with_alpha(picture)


def _with_alpha(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (H, W, 4), read-only."""
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
