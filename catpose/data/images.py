"""Reading pictures upright, as RGB."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from catpose.data.coco_split import CocoSplit
from catpose.data.header import Header, orientations, read_header
from catpose.errors import InputError, one_line
from catpose.machine import map_ahead, usable_cores

# Unreadable pictures are reported in one line of our own. (OpenCV 4's function moved in 5.)
(getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel)(0)

LARGEST_FILE = 2**30  # bytes: no picture of `LARGEST_PICTURE` px has more, but for 16 bits a channel, unpacked
_PILLOWS = ("GIF", "AVIF", "HEIF")  # not read by every OpenCV
_OPENCVS = ("JPEG", "PNG", "WEBP")  # what OpenCV refuses of these is damaged; of others Pillow reads more
EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")  # Pillow's modes that RGB can hold


def read_image(path: str | Path) -> np.ndarray:
    """A picture as RGB uint8 of shape (height, width, 3), upright by the rule of `catpose.data.header`.

    Of several frames or pages it is the first. Grey pictures get three equal channels, an alpha channel is dropped,
    16 bits become 8.

    Raises:
        InputError: missing, no regular file, cut short, damaged, too large, or no picture of a kind that is read.
    """
    return decode_image(_content(path), path)


def decode_image(data: bytes, path: str | Path, most_pixels: int | None = None) -> np.ndarray:
    """`read_image` of a file's content: RGB uint8 of shape (height, width, 3); `path` is what messages call it.

    Args:
        most_pixels: refuse a picture of more, before anything is decoded; None: as `read_image`.

    Raises:
        InputError: as `read_image`.
    """
    header = _header(path, io.BytesIO(data))
    if most_pixels and header.width * header.height > most_pixels:
        raise InputError(
            f"{path}: has {header.width} × {header.height} px, more than the {most_pixels // 10**6} million that are"
            " taken here; scale it down"
        )
    if _is_cut_short(data):
        raise InputError(f"{path}: the picture is cut short; copy or download it again")
    try:
        picture = _stored_pixels(data, header)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except MemoryError:
        raise InputError(
            f"{path}: decoded, {header.width} × {header.height} px are too large for the memory there is; scale it down"
        ) from None
    except Exception as error:  # a decoder's, of whatever kind it may be
        raise InputError(
            f"{path}: is no picture that can be decoded ({one_line(error)[:100]}); restore the file or drop its entry"
        ) from None
    if picture.shape[:2] != (header.height, header.width):
        raise InputError(
            f"{path}: has {picture.shape[1]} × {picture.shape[0]} px, but its header says {header.width} × "
            f"{header.height}; save it anew"
        )
    return _upright(picture, header.orientation)


def picture_size(path: str | Path) -> tuple[int, int]:
    """Width and height of what `read_image` gives, px, from the file's header.

    Raises:
        InputError: as `read_image`, but for faults of the pixels themselves.
    """
    with _opened(path) as file:
        return _header(path, file).size


def _opened(path: str | Path) -> io.BufferedReader:
    """A regular file, open to read: whatever else a path may lead to (a pipe, a device, a folder) is refused."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            what = "folder" if stat.S_ISDIR(status.st_mode) else "pipe or device"
            raise InputError(f"{path}: can't be read (is a {what}, not a file); restore the file or drop its entry")
        return open(path, "rb")
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _content(path: str | Path) -> bytes:
    with _opened(path) as file:
        try:
            data = file.read(min(os.fstat(file.fileno()).st_size, LARGEST_FILE) + 1)  # read(n) sets n bytes aside
        except (OSError, MemoryError) as error:
            raise _unreadable(path, error) from None
    if len(data) > LARGEST_FILE:
        raise InputError(f"{path}: has more than the {LARGEST_FILE >> 20} MiB that are read; scale the picture down")
    return data


def _unreadable(path: str | Path, error: Exception) -> InputError:
    why = one_line(getattr(error, "strerror", None) or error or type(error).__name__)
    if os.path.islink(path):
        why += f"; it is a link to {os.readlink(path)[:100]!r}"
    return InputError(f"{path}: can't be read ({why}); restore the file or drop its entry")


def _header(path: str | Path, file: io.BufferedReader | io.BytesIO) -> Header:
    try:
        return read_header(file)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _is_cut_short(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end; some releases of OpenCV fill the missing part with grey, silently."""
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    if not data.startswith(b"\xff\xd8"):
        return not data
    at = 2  # go on to the scan itself: a thumbnail before it has an end of its own
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.rfind(b"\xff\xd9", at) < 0


def _stored_pixels(data: bytes, header: Header) -> np.ndarray:
    """(height, width, 3) uint8 RGB, as stored, not yet upright."""
    stored = _without_orientation(data) if header.kind == "TIFF" else data
    picture = None
    if header.kind not in _PILLOWS:
        try:
            flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
            picture = cv2.imdecode(np.frombuffer(stored, np.uint8), flags)
        except cv2.error:
            picture = None
    if picture is not None:
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=picture)
    if header.kind in _OPENCVS:
        raise InputError("is no picture that can be decoded; restore the file or drop its entry")
    with Image.open(io.BytesIO(stored), formats=[header.kind]) as opened:
        if opened.mode not in EIGHT_BITS:
            raise InputError(f"is no picture that can be decoded (mode {opened.mode}); convert it to JPEG or PNG")
        return np.array(opened.convert("RGB"))


def _without_orientation(tiff: bytes) -> bytearray:
    """A TIFF file that is stored upright: libtiff turns pictures itself, and can't be told not to."""
    data = bytearray(tiff)
    little = tiff[:2] == b"II"
    for place, _ in orientations(io.BytesIO(tiff)):
        length = 8 if tiff[2:4] in (b"+\0", b"\0+") else 4  # of the number of values
        one = (1).to_bytes(2, "little" if little else "big")
        data[place + 2 : place + 4] = (3).to_bytes(2, "little" if little else "big")  # type SHORT
        data[place + 4 + length : place + 4 + 2 * length] = one.ljust(length, b"\0")
    return data


def _upright(picture: np.ndarray, orientation: int) -> np.ndarray:
    """A stored picture turned as EXIF's orientation 1..8 says; the tests hold it against OpenCV's own turning."""
    if orientation in (5, 6, 7, 8):
        picture = cv2.transpose(picture)
    flips = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}  # cv2.flip's: 1 left and right, 0 top and bottom, -1 both
    return cv2.flip(picture, flips[orientation]) if orientation in flips else picture


def read_pictures(split: CocoSplit, wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """`read_images` of the pictures that `wanted` instances, (N,) bool, are on, with their places among the split's.

    Raises:
        InputError: a picture that can't be read.
    """
    used = np.unique(split.image_index[wanted]).tolist()
    yield from zip(used, read_images([split.images[i].path for i in used]), strict=True)


def read_images(paths: Sequence[Path]) -> Iterator[np.ndarray]:
    """`read_image` of each path, in order, decoded by up to 8 threads that run two pictures each ahead.

    A progress bar appears after two seconds.
    """
    decoded = map_ahead(read_image, paths, min(8, usable_cores()))
    yield from tqdm(
        decoded, "decoding pictures", len(paths), unit="", delay=2, mininterval=1, leave=False, disable=None
    )
