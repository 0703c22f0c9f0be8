"""One rule of orientation: each format's pictures come out upright, and their size is known before their pixels."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import made_up
import numpy as np
import pytest
from data.test_images import UPRIGHT
from PIL import Image, features

from catpose.data.images import picture_size, read_image

SHORT, LONG = 3, 4
PICTURE = made_up.picture(2, 48, 32)[..., ::-1]  # RGB
WITH_EXIF = ("JPEG", "PNG", "WEBP")
#: 0 and 9 are none of EXIF's eight.
VALUES = (*UPRIGHT, 0, 9, 255)


def exif(value: int, kind: int = SHORT, order: str = ">") -> bytes:
    """The smallest EXIF block that says how a picture is to be turned."""
    stated = struct.pack(order + ("HH" if kind == SHORT else "I"), *((value, 0) if kind == SHORT else (value,)))
    start = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "IH", 8, 1)
    return b"Exif\0\0" + start + struct.pack(order + "HHI", 0x0112, kind, 1) + stated + bytes(4)


def saved(kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    Image.fromarray(PICTURE).save(content, kind, **options)
    return content.getvalue()


def assert_upright(path: Path, content: bytes, plain: bytes, value: int) -> None:
    """`content`, stated to be turned by `value`, is `plain` turned; its size is known from the header."""
    stored, turned = path.with_name("plain"), path.with_name("turned")
    stored.write_bytes(plain)
    turned.write_bytes(content)
    picture = read_image(turned)
    assert picture_size(turned) == picture.shape[1::-1]
    assert (picture == UPRIGHT.get(value, UPRIGHT[1])(read_image(stored))).all()


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", WITH_EXIF)
def test_exif(tmp_path: Path, kind: str, order: str, value: int) -> None:
    lossless = {"lossless": True} if kind == "WEBP" else {}
    content = saved(kind, exif=exif(value, SHORT, order), **lossless)
    assert_upright(tmp_path / "a", content, saved(kind, **lossless), value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_jpeg_and_png_are_as_opencv_turns_them(tmp_path: Path, kind: str) -> None:
    """Whatever type the tag states: a picture's pixels must not move between releases of this package."""
    for order in "<>":
        for type_ in (SHORT, LONG):
            for value in VALUES:
                file = tmp_path / f"{kind}.x"
                file.write_bytes(saved(kind, exif=exif(value, type_, order)))
                by_opencv = cv2.imread(str(file), cv2.IMREAD_COLOR)[..., ::-1]
                assert (read_image(file) == by_opencv).all(), (order, type_, value)
                assert picture_size(file) == by_opencv.shape[1::-1]


def test_a_png_that_says_so_after_its_pixels(tmp_path: Path) -> None:
    content = saved("PNG", exif=exif(6))
    start = content.index(b"eXIf") - 4
    chunk = content[start : start + 12 + int.from_bytes(content[start : start + 4], "big")]
    without = content.replace(chunk, b"")
    end = without.index(b"IEND") - 4
    assert_upright(tmp_path / "a", without[:end] + chunk + without[end:], without, 6)


@pytest.mark.parametrize("kind", WITH_EXIF)
@pytest.mark.parametrize(
    "broken",
    [b"", b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(7), b"\0" * 50],
    ids=range(5),
)
def test_broken_exif_leaves_a_picture_as_it_is(tmp_path: Path, kind: str, broken: bytes) -> None:
    assert_upright(tmp_path / "a", saved(kind, exif=broken), saved(kind), 1)


XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>"""


def test_xmp_turns_nothing(tmp_path: Path) -> None:
    segment = b"http://ns.adobe.com/xap/1.0/\0" + XMP
    plain = saved("JPEG")
    content = plain[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + plain[2:]
    assert_upright(tmp_path / "a", content, plain, 1)


def tiff(value: int | None, order: str, type_: int, big: bool, pixels: np.ndarray) -> bytes:
    """An uncompressed TIFF or BigTIFF of one strip."""
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else 3
    bits = pixels.dtype.itemsize * 8
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    word, header = ("Q", 16) if big else ("I", 8)
    shape = [(256, width), (257, height), (258, bits), (259, 1), (262, 1 if channels == 1 else 2)]
    entries = [(tag, SHORT, number) for tag, number in (*shape, (277, channels), (278, height))]
    entries += [(273, LONG, header), (279, LONG, len(data))]
    if value is not None:
        entries.append((0x0112, type_, value))
    body = b""
    for tag, kind, number in sorted(entries):
        n = channels if tag == 258 and big else 1  # three of them fit a BigTIFF's entry only
        packed = struct.pack(order + ("H" if kind == SHORT else "I"), number) * n
        body += struct.pack(order + "HH" + word, tag, kind, n) + packed.ljust(8 if big else 4, b"\0")
    body = struct.pack(order + ("Q" if big else "H"), len(entries)) + body + bytes(8 if big else 4)
    start = b"II" if order == "<" else b"MM"
    at = header + len(data)
    start += struct.pack(order + "HHHQ", 43, 8, 0, at) if big else struct.pack(order + "HI", 42, at)
    return start + data + body


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("type_", [SHORT, LONG])
@pytest.mark.parametrize(  # Pillow doesn't read a BigTIFF of the other order
    ("what", "order"), [("grey", "<"), ("grey", ">"), ("deep grey", "<"), ("deep grey", ">"), ("big rgb", "<")]
)
def test_tiff(tmp_path: Path, what: str, type_: int, order: str, value: int) -> None:
    grey = np.ascontiguousarray(PICTURE[..., 0])
    pixels = {"grey": grey, "deep grey": grey.astype(np.uint16) * 257, "big rgb": PICTURE}[what]
    content, plain = (tiff(v, order, type_, what.startswith("big"), pixels) for v in (value, None))
    seen = value if type_ == SHORT or order == "<" else 1  # the first 16 bits, whatever the type, are the rule
    assert_upright(tmp_path / "a", content, plain, seen)
    assert (
        np.abs(read_image(tmp_path / "plain").astype(int) - (PICTURE if what == "big rgb" else grey[..., None])).max()
        <= 1
    )


@pytest.mark.parametrize("value", UPRIGHT)
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate"])
def test_packed_tiff(tmp_path: Path, compression: str, value: int) -> None:
    content, plain = (saved("TIFF", compression=compression, tiffinfo=info) for info in ({0x0112: value}, {}))
    assert_upright(tmp_path / "a", content, plain, value)


@pytest.mark.skipif("avif" not in features.modules or not features.check("avif"), reason="this Pillow reads no AVIF")
@pytest.mark.parametrize("value", UPRIGHT)
def test_avif(tmp_path: Path, value: int) -> None:
    assert_upright(tmp_path / "a", saved("AVIF", exif=exif(value), quality=95), saved("AVIF", quality=95), value)


@pytest.mark.parametrize("kind", ["GIF", "JPEG2000", "BMP", "PPM"])
def test_formats_without_an_orientation(tmp_path: Path, kind: str) -> None:
    content = saved(kind)
    (tmp_path / "a.x").write_bytes(content)
    picture = read_image(tmp_path / "a.x")
    assert picture_size(tmp_path / "a.x") == (48, 32)
    assert np.abs(picture.astype(int) - np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))).max() <= 1
