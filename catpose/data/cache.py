"""The decoded pictures of a split, kept at hand for all workers and processes."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np

from catpose.data.coco import CocoSplit, Image
from catpose.data.images import read_image, read_images
from catpose.errors import InputError, one_line

Cache = Literal["disk", "memory", "off"]

_MAGIC = b"catpose1"
_CHANNELS = 4  # OpenCV warps four channels twice as fast as three; the fourth carries nothing
_LEFT_BEHIND_SECONDS = 3600  # an unfinished file not written to for so long is that of a killed process


class Pictures(Protocol):
    """Decoded pictures by their place in `CocoSplit.images`: RGBA uint8 (height, width, 4), read-only."""

    def __getitem__(self, index: int, /) -> np.ndarray: ...


def open_pictures(split: CocoSplit, wanted: Iterable[int], cache: Cache, cache_dir: str | Path | None) -> Pictures:
    """The pictures at the places `wanted` of `split.images`, as the cache keeps them.

    Args:
        wanted: places in `split.images`.
        cache: "disk": decoded once into one file of raw pixels, which all workers and processes map, so that memory
            holds it once (in the system's page cache); "memory": decoded now, shared with forked workers but not with
            other processes; "off": decoded each time they are asked for.
        cache_dir: where "disk" keeps its files; None: `catpose` in $XDG_CACHE_HOME or ~/.cache.

    Raises:
        InputError: a picture that can't be read or whose size is not the one stated, or no room for the cache.
    """
    indices = sorted(set(wanted))
    if cache == "off":
        return _ReadEachTime(split)
    if cache == "memory":
        return _in_memory(split, indices)
    return _on_disk(split, indices, Path(cache_dir) if cache_dir is not None else _default_dir())


def _default_dir() -> Path:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "catpose"
    except RuntimeError:
        raise InputError("data.cache_dir: there is no home folder to keep decoded pictures in; name a folder") from None


class _ReadEachTime:
    """Pictures read anew each time; the last one stays, since a split's instances come image by image."""

    def __init__(self, split: CocoSplit) -> None:
        self._split = split
        self._last: tuple[int, np.ndarray] | None = None

    def __getitem__(self, index: int, /) -> np.ndarray:
        if self._last is None or self._last[0] != index:
            image = self._split.images[index]
            self._last = index, _checked(read_image(image.path), image, self._split.file)
        return self._last[1]


def _in_memory(split: CocoSplit, indices: list[int]) -> Pictures:
    needed, there = _n_bytes(split, indices), _memory_bytes()
    if there is not None and needed > there:
        raise InputError(
            f"data.cache: the pictures of {split.file} decoded take {_gib(needed)}, this machine has {_gib(there)} of "
            f"memory; set data.cache to disk or off"
        )
    return dict(zip(indices, _decoded(split, indices), strict=True))


def _on_disk(split: CocoSplit, indices: list[int], folder: Path) -> Pictures:
    header = _MAGIC + _content_key(split, indices)
    name = hashlib.sha256(os.path.abspath(split.file).encode()).hexdigest()[:16]
    file = folder / f"{split.file.stem}-{name}.rgb"  # one for each annotation file: the old content makes way
    try:
        pictures = _map(file, header, split, indices)
        if pictures is None:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(folder)
            needed, free = _n_bytes(split, indices), shutil.disk_usage(folder).free
            if needed > free:
                raise OSError(None, f"the decoded pictures take {_gib(needed)}, {_gib(free)} are free")
            _write(file, header, _decoded(split, indices))
            pictures = _map(file, header, split, indices)
    except OSError as error:
        raise InputError(
            f"data.cache_dir: {folder}: {one_line(error.strerror or error)}; "
            f"set data.cache_dir to another folder, or data.cache to memory or off"
        ) from None
    if pictures is None:
        raise InputError(f"data.cache_dir: {file} was changed meanwhile; start again, or set data.cache to memory")
    return pictures


def _map(file: Path, header: bytes, split: CocoSplit, indices: list[int]) -> Pictures | None:
    """Views of a finished cache file's pixels; None where it is absent, cut short or made from other pictures."""
    try:
        with open(file, "rb") as opened:
            whole = os.fstat(opened.fileno()).st_size == len(header) + _n_bytes(split, indices)
            if not whole or opened.read(len(header)) != header:
                return None
            pixels = np.frombuffer(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    except FileNotFoundError:
        return None
    pictures, at = {}, len(header)
    for index in indices:
        shape = split.images[index].height, split.images[index].width, _CHANNELS
        pictures[index] = pixels[at : at + shape[0] * shape[1] * _CHANNELS].reshape(shape)
        at += pictures[index].size
    return pictures


def _write(file: Path, header: bytes, pictures: Iterable[np.ndarray]) -> None:
    """Write a cache file beside its place, then move it there; of two processes at it at once, the later one stays."""
    part = file.with_name(f"{file.name}.{os.getpid()}-{time.monotonic_ns()}.part")
    try:
        with open(part, "xb") as opened:
            opened.write(header)
            for picture in pictures:
                opened.write(picture.data)
            opened.flush()
            os.fsync(opened.fileno())  # else a power cut could leave the full length without the content
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def _remove_leftovers(folder: Path) -> None:
    for part in folder.glob("*.rgb.*.part"):
        with contextlib.suppress(FileNotFoundError):
            if part.stat().st_mtime < time.time() - _LEFT_BEHIND_SECONDS:
                part.unlink()


def _content_key(split: CocoSplit, indices: list[int]) -> bytes:
    """What a cache file was made from: its pictures' names, sizes, times of change and stated shapes, as 32 bytes."""
    key = hashlib.sha256()
    for index in indices:
        image = split.images[index]
        try:
            stat = image.path.stat()
        except OSError as error:
            raise InputError(
                f"{image.path}: can't be read ({error.strerror}); restore the file or drop its entry in {split.file}"
            ) from None
        content = os.path.abspath(image.path), stat.st_size, stat.st_mtime_ns, image.width, image.height
        key.update(repr(content).encode())
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
    except (AttributeError, ValueError, OSError):  # not told on this system
        return None


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB"
