"""A picture file's header: its format, recognised by its content, its size and its orientation.

All readers follow one rule of orientation: EXIF's tag 0x0112 (in TIFF the file's own tag, in AVIF and HEIC its
transformations), values 1 to 8, read as OpenCV reads it from JPEG: the first 16 bits of the value, whatever type the
tag states. Anything else, XMP included, is ignored.
"""

from __future__ import annotations

import io
import struct
import warnings
from functools import cache
from typing import BinaryIO, NamedTuple

from PIL import Image

from catpose.errors import InputError, one_line
from catpose.files import packed

#: Pixels of the largest picture that is read: 200-megapixel phones stay below, and RGB takes 0.8 GB.
LARGEST_PICTURE = 2**28
Image.MAX_IMAGE_PIXELS = LARGEST_PICTURE // 2  # Pillow warns of more, and refuses twice as many
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # of odd metadata, which pixels don't need

_ORIENTATION = 0x0112
_MOST_ENTRIES = 4096  # of a TIFF directory that are looked at
_HEAD = 512  # bytes that tell a file's kind

#: How files begin, and Pillow's name of their format.
_KINDS = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    *((f"P{digit}{space}".encode(), "PPM") for digit in "123456" for space in "\n\r\t "),
)
#: How files begin that are often met where a picture is meant.
_NO_PICTURE = (
    (b"\xff\x0a", "is a JPEG XL picture, which isn't read; convert it to JPEG or PNG"),
    (b"\0\0\0\x0cJXL ", "is a JPEG XL picture, which isn't read; convert it to JPEG or PNG"),
    (b"8BPS", "is a Photoshop file; export it as JPEG or PNG"),
    (b"%PDF", "is a PDF; export its pictures as JPEG or PNG"),
    (b"\0\x05\x16\x07", "is a companion file of macOS, no picture; delete it, or name the picture itself"),
    (b"\x1aE\xdf\xa3", "is a video; extract its frames as JPEG or PNG"),
    (b"<", "is a web page or XML, no picture; was a page saved in place of the file? Download it again"),
)


class Header(NamedTuple):
    """A picture as its file states it."""

    kind: str  # Pillow's name of the format
    width: int  # px, as stored
    height: int
    orientation: int  # 1..8

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright picture, px."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_header(file: BinaryIO) -> Header:
    """The header of an open picture file, from its beginning; as little as possible is read.

    Raises:
        InputError: not a supported picture, or too large; the message continues the file's name.
        OSError: of `file` itself.
    """
    kind = _kind(file.read(_HEAD))
    file.seek(0)
    try:
        with Image.open(file, formats=[kind]) as picture:
            if kind == "TIFF":
                _require_plain_tiff(picture.tag_v2)  # type: ignore[attr-defined]
                width, height = (int(picture.tag_v2[tag]) for tag in (256, 257))  # type: ignore[attr-defined]
            else:
                width, height = picture.size
            exif = bytes(picture.info.get("exif") or b"")
        if kind == "PNG":
            exif = _png_exif(file)
        elif kind == "TIFF":
            file.seek(0)
        turned = orientations(file if kind == "TIFF" else io.BytesIO(exif.removeprefix(b"Exif\0\0")))
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(
            f"has more px than the {LARGEST_PICTURE // 10**6} million that are read; scale it down"
        ) from None
    except KeyError:
        raise InputError(f"is {kind}, which the installed Pillow doesn't read; convert it to JPEG or PNG") from None
    except Exception as error:  # a decoder's, of whatever kind it may be
        raise _unreadable(kind, error) from None
    if min(width, height) < 1:
        raise InputError(f"has {width} × {height} px; restore the file or drop its entry")
    if width * height > LARGEST_PICTURE:
        raise InputError(
            f"has {width} × {height} px, more than the {LARGEST_PICTURE // 10**6} million that are read; scale it down"
        )
    value = turned[0][1] if turned and kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF") else 1
    return Header(kind, width, height, value if 1 <= value <= 8 else 1)


def _unreadable(kind: str, error: Exception) -> InputError:
    why = "" if isinstance(error, OSError) and "identify" in str(error) else f" ({one_line(error)[:100]})"
    if kind == "TIFF":
        return InputError(f"is a damaged or unusual TIFF that can't be decoded{why}; convert it to JPEG or PNG")
    return InputError(f"is no picture that can be decoded: damaged {kind}{why}; restore the file or drop its entry")


def orientations(tiff: BinaryIO) -> list[tuple[int, int]]:
    """Place (bytes from the start) and value of each orientation in a TIFF structure; none where it is broken.

    Args:
        tiff: a TIFF file, or what follows `Exif\\0\\0`; BigTIFF too.
    """
    start = tiff.read(16)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    if order is None or len(start) < 8:
        return []
    big = start[2:4] in (b"+\0", b"\0+")
    at = (
        struct.unpack(order + "Q", start[8:16].ljust(8, b"\0"))[0] if big else struct.unpack(order + "I", start[4:8])[0]
    )
    width = 8 if big else 2  # bytes of the number of entries
    length = 20 if big else 12  # of each entry; its value in the last 8 or 4
    if at >= 2**62:
        return []
    tiff.seek(at)
    counted = tiff.read(width)
    if len(counted) < width:
        return []
    found = []
    for i in range(min(struct.unpack(order + "HQ"[big], counted)[0], _MOST_ENTRIES)):
        entry = tiff.read(length)
        if len(entry) < length:
            break
        if struct.unpack(order + "H", entry[:2])[0] == _ORIENTATION:
            value = struct.unpack(order + "H", entry[length - (8 if big else 4) :][:2])[0]
            found.append((at + width + i * length, value))
    return found


def _kind(head: bytes) -> str:
    if not head:
        raise InputError("is empty: the picture is cut short; copy or download it again")
    if head[4:8] == b"ftyp":
        return _iso_kind(head)
    if head.startswith(b"RIFF") and head[8:12] in (b"WEBP", b"AVI "):
        if head[8:12] == b"WEBP":
            return "WEBP"
        raise InputError("is a video; extract its frames as JPEG or PNG")
    for start, kind in _KINDS:
        if head.startswith(start):
            return kind
    remedy = packed(head) or next((remedy for start, remedy in _NO_PICTURE if head.lstrip().startswith(start)), None)
    raise InputError(remedy or "is no picture that can be decoded; restore the file or drop its entry")


def _iso_kind(head: bytes) -> str:
    """AVIF, HEIC where pillow-heif is there, or why another file of ISO's base format (a video) isn't read."""
    brands = head[8 : max(12, min(int.from_bytes(head[:4], "big"), len(head)))]
    if b"avif" in brands or b"avis" in brands:
        return "AVIF"
    if brands[:4] in (b"mif1", b"msf1") or brands[:2] == b"he":
        if _reads_heif():
            return "HEIF"
        raise InputError(
            "is a HEIC picture, as phones take them; pip install pillow-heif to read it, or convert it to JPEG or PNG"
        )
    raise InputError("is a video; extract its frames as JPEG or PNG")


@cache
def _reads_heif() -> bool:
    """Whether pillow-heif, an extra, is installed; Pillow reads HEIC from then on, turned upright by libheif."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _require_plain_tiff(tags: dict[int, object]) -> None:
    """Refuse what would come out as other than the picture: raw files' thumbnails, numbers without a range."""

    def numbers(tag: int) -> tuple[object, ...]:
        value = tags.get(tag, ())
        return value if isinstance(value, tuple) else (value,)

    reduced = any(type(value) is int and value & 1 for value in numbers(254))
    if reduced or 50706 in tags or set(numbers(262)) & {32803, 34892}:  # DNG; colour filter array, linear raw
        raise InputError("is a camera's raw file; export it as JPEG or PNG")
    if set(numbers(339)) & {2, 3, 5, 6} or set(numbers(258)) & {32, 64}:  # signed, floating, complex; 32 bits or more
        raise InputError("holds numbers of more than 16 bits, or signed ones; convert it to 8 bits a channel")


def _png_exif(file: BinaryIO) -> bytes:
    """The content of a PNG's first eXIf chunk, which may come after the pixels."""
    file.seek(8)
    while len(chunk := file.read(8)) == 8:
        length = int.from_bytes(chunk[:4], "big")
        if chunk[4:] == b"eXIf":
            return file.read(min(length, 2**16))
        if chunk[4:] == b"IEND" or length >= 2**31:
            break
        file.seek(length + 4, io.SEEK_CUR)
    return b""
