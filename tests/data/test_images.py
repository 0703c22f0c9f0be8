"""Reading pictures: what comes out, and the one line for each file that is none."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import made_up
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from catpose.data.images import picture_size, read_image, read_images
from catpose.errors import InputError


def jpeg(picture_bgr: np.ndarray, *, exif: bytes = b"") -> bytes:
    """A JPEG file's content, with an APP1 segment put after its first marker where `exif` is given."""
    content = cv2.imencode(".jpg", picture_bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif if exif else b""
    return content[:2] + segment + content[2:]


def orientation(value: int) -> bytes:
    """The smallest EXIF block that says how a picture is to be turned."""
    entry = (0x0112).to_bytes(2, "big") + (3).to_bytes(2, "big") + (1).to_bytes(4, "big") + value.to_bytes(2, "big")
    return b"Exif\0\0MM\0\x2a\0\0\0\x08" + (1).to_bytes(2, "big") + entry + b"\0\0" + b"\0\0\0\0"


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p.swapaxes(0, 1)[:, ::-1],
    7: lambda p: p.swapaxes(0, 1)[::-1, ::-1],
    8: lambda p: p.swapaxes(0, 1)[::-1],
}


def test_a_lossless_picture_comes_back_as_rgb(tmp_path: Path) -> None:
    picture = made_up.picture(1)
    for suffix in (".png", ".bmp", ".tiff"):
        cv2.imwrite(str(tmp_path / f"a{suffix}"), picture)
        read = read_image(tmp_path / f"a{suffix}")
        assert read.dtype == np.uint8
        assert (read == picture[:, :, ::-1]).all(), suffix


@pytest.mark.parametrize("turn", UPRIGHT)
def test_exif_turns_the_picture_upright(tmp_path: Path, turn: int) -> None:
    picture = made_up.picture(2, 48, 32)
    plain, tagged = tmp_path / "plain.jpg", tmp_path / "tagged.jpg"
    plain.write_bytes(jpeg(picture))
    tagged.write_bytes(jpeg(picture, exif=orientation(turn)))
    assert (read_image(tagged) == UPRIGHT[turn](read_image(plain))).all()


def test_grey_transparent_and_deep_pictures_become_rgb(tmp_path: Path) -> None:
    picture = made_up.picture(3)
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([picture, grey]))
    cv2.imwrite(str(tmp_path / "deep.png"), picture.astype(np.uint16) * 257)
    assert (read_image(tmp_path / "grey.png") == grey[:, :, None]).all()
    assert (read_image(tmp_path / "alpha.png") == picture[:, :, ::-1]).all()
    assert (read_image(tmp_path / "deep.png") == picture[:, :, ::-1]).all()


def test_data_after_the_end_is_no_fault(tmp_path: Path) -> None:
    content = jpeg(made_up.picture(4))
    (tmp_path / "a.jpg").write_bytes(content)
    (tmp_path / "b.jpg").write_bytes(content + b"\0" * 100)
    assert (read_image(tmp_path / "a.jpg") == read_image(tmp_path / "b.jpg")).all()


thumbnail = b"Exif\0\0" + jpeg(made_up.picture(5, 16, 16))
WHOLE = {
    "a.jpg": jpeg(made_up.picture(4)),
    "b.jpg": jpeg(made_up.picture(4), exif=thumbnail),
    "c.png": cv2.imencode(".png", made_up.picture(4))[1].tobytes(),
    "d.bmp": cv2.imencode(".bmp", made_up.picture(4))[1].tobytes(),
    "e.webp": cv2.imencode(".webp", made_up.picture(4))[1].tobytes(),
}
UNREADABLE: dict[str, bytes] = {
    **{
        f"{part:.2f}-{name}": whole[: int(len(whole) * part)]
        for name, whole in WHOLE.items()
        for part in (0.1, 0.5, 0.9)
    },
    "empty.jpg": b"",
    "text.jpg": b"this is no picture\n" * 50,
    "start-only.jpg": b"\xff\xd8\xff\xd9",
    "fill.jpg": b"\xff\xd8" + b"\xff" * 40,
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_can_not_be_read_is_one_line(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_bytes(UNREADABLE[name])
    with pytest.raises(InputError) as caught:
        read_image(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert capfd.readouterr().err == ""  # nor do the decoders say more


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(WHOLE[name])
    assert read_image(tmp_path / name).shape == (80, 96, 3)


def test_a_thumbnails_end_is_not_taken_for_the_pictures(tmp_path: Path) -> None:
    """Where OpenCV (4.9, say) fills what is missing with grey, this is all that tells."""
    whole = WHOLE["b.jpg"]
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) * 9 // 10])
    with pytest.raises(InputError, match="cut short"):
        read_image(tmp_path / "a.jpg")


def test_missing_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jpg", tmp_path):
        with pytest.raises(InputError, match="can't be read"):
            read_image(path)


def test_many_come_in_order_and_stop_at_the_first_fault(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(150)]
    for i, path in enumerate(paths):
        cv2.imwrite(str(path), np.full((2, 3, 3), i, np.uint8))
    assert [int(picture[0, 0, 0]) for picture in read_images(paths)] == list(range(150))
    paths[100].write_bytes(b"")
    with pytest.raises(InputError, match=r"100\.png"):
        list(read_images(paths))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes) -> bytes:
    """A PNG that states this size; its pixels are those of a much smaller one."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(3000)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + pixels + chunk(b"IEND", b"")


def stated(width: int, height: int) -> bytes:
    """A JPEG whose header states this size."""
    content = jpeg(made_up.picture(4))
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]


def tiff(picture: np.ndarray) -> bytes:
    return cv2.imencode(".tiff", picture)[1].tobytes()


def archive(kind: str) -> bytes:
    content = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(content, "w") as made:
            made.writestr("cat.jpg", WHOLE["a.jpg"])
    else:
        with tarfile.open(fileobj=content, mode=kind) as made:
            made.addfile(tarfile.TarInfo("cat.jpg"))
    return content.getvalue()


#: What is no picture that is read, however it is called, and the remedy that its line names.
NO_PICTURES: dict[str, tuple[bytes, str]] = {
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "convert it to JPEG"),
    "heif of another brand": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heix" + bytes(40), "convert it to JPEG"),
    "jpeg xl": (b"\xff\x0a" + bytes(40), "convert it to JPEG"),
    "zip": (archive("zip"), "unpack it"),
    "tar": (archive("w"), "unpack it"),
    "tar.gz": (archive("w:gz"), "unpack it"),
    "tar.xz": (archive("w:xz"), "unpack it"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(40), "unpack it"),
    "mp4": (b"\0\0\0\x18ftypisom\0\0\0\0isomavc1" + bytes(40), "extract its frames"),
    "pdf": (b"%PDF-1.7" + bytes(40), "export"),
    "a page": (b"<!DOCTYPE html><html>", "Download it again"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "mac's companion": (b"\0\5\x16\7" + bytes(40), "delete it"),
    "a bomb of 4,294,836,225 px": (png(65535, 65535), "scale it down"),
    "a jpeg of as many": (stated(65535, 65535), "scale it down"),
    "a bomb in its text": (png(4, 4, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**7)))), "restore the file"),
    "no width": (png(0, 9), "restore the file"),
    "no height": (stated(9, 0), "restore the file"),
    "more stated than there is": (png(900, 900), "restore the file"),
    "floating numbers": (tiff(made_up.picture(1).astype(np.float32)[..., 0] / 255), "convert it"),
    "three of them": (tiff(made_up.picture(1).astype(np.float32) / 255), "convert it"),
}


@pytest.mark.parametrize("kind", NO_PICTURES)
def test_what_is_no_picture_says_what_to_do(tmp_path: Path, kind: str) -> None:
    content, remedy = NO_PICTURES[kind]
    path = tmp_path / "cat.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=remedy) as caught:
        read_image(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    assert len(line) < 420


@pytest.mark.parametrize("read", [read_image, picture_size])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "dangling.png").symlink_to("nowhere")
    for path in (*tmp_path.iterdir(), Path("/dev/zero"), tmp_path / ("x" * 300)):
        with pytest.raises(InputError, match=r"can't be read \(.*\)") as caught:
            read(path)
        assert str(path) in str(caught.value)


def saved(kind: str, picture: np.ndarray, mode: str = "RGB", **options: object) -> bytes:
    content = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(content, kind, **options)
    return content.getvalue()


FRAMES = {"save_all": True, "append_images": [Image.new("RGB", (96, 80), "red")] * 2}
UNUSUAL: dict[str, Callable[[np.ndarray], bytes]] = {
    "grey jpeg": lambda p: saved("JPEG", p, "L"),
    "cmyk jpeg": lambda p: saved("JPEG", p, "CMYK"),
    "progressive jpeg": lambda p: saved("JPEG", p, progressive=True),
    "palette png": lambda p: saved("PNG", p, "P"),
    "one bit png": lambda p: saved("PNG", p, "1"),
    "grey png with alpha": lambda p: saved("PNG", p, "LA"),
    "deep grey png": lambda p: cv2.imencode(".png", p[..., 0].astype(np.uint16) * 257)[1].tobytes(),
    "animated png": lambda p: saved("PNG", p, **FRAMES),
    "animated gif": lambda p: saved("GIF", p, **FRAMES),
    "animated webp": lambda p: saved("WEBP", p, lossless=True, **FRAMES),
    "tiff of several pages": lambda p: saved("TIFF", p, **FRAMES),
    "palette tiff": lambda p: saved("TIFF", p, "P"),
    "fax": lambda p: saved("TIFF", p, "1", compression="group4"),
    "cmyk tiff": lambda p: saved("TIFF", p, "CMYK"),
    "deep tiff": lambda p: tiff(p[..., ::-1].astype(np.uint16) * 257),
    "palette bmp": lambda p: saved("BMP", p, "P"),
    "jpeg 2000": lambda p: saved("JPEG2000", p),
    "its code stream": lambda p: saved("JPEG2000", p, no_jp2=True),
    "ppm": lambda p: saved("PPM", p),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_pictures_are_read_as_pillow_reads_their_first_frame(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "cat.of_any_name"
    path.write_bytes(UNUSUAL[kind](made_up.picture(1)[..., ::-1]))
    picture = read_image(path)
    assert picture_size(path) == picture.shape[1::-1] == (96, 80)
    with Image.open(path) as opened:
        deep = opened.mode.startswith("I")
        meant = np.asarray(opened) // 257 if deep else np.asarray(opened.convert("RGB"))
    difference = np.abs(picture.astype(int) - (meant[..., None] if deep else meant))
    assert difference.mean() < 4  # of decoders, and of rules from CMYK to RGB


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Pictures are not decoded faster than they are used."""
    paths = [tmp_path / f"{i}.png" for i in range(200)]
    for path in paths:
        path.write_bytes(cv2.imencode(".png", made_up.picture(0))[1].tobytes())
    pictures = read_images(paths)
    next(pictures)
    for path in paths[50:]:
        path.unlink()  # not decoded yet
    with pytest.raises(InputError, match=r"50\.png: can't be read"):
        list(pictures)


@given(data=st.data())
def test_a_damaged_file_is_a_picture_or_one_line(tmp_path: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([*WHOLE, "f.gif", "g.tiff", "h.jp2"]))
    plain = made_up.picture(4)[..., ::-1]
    others = {"f.gif": ("GIF", {}), "g.tiff": ("TIFF", {"compression": "tiff_lzw"}), "h.jp2": ("JPEG2000", {})}
    content = bytearray(WHOLE[name] if name in WHOLE else saved(others[name][0], plain, **others[name][1]))
    head = st.integers(0, min(len(content), 400) - 1)
    for place, value in data.draw(st.lists(st.tuples(head, st.sampled_from([0, 1, 127, 255])), max_size=4)):
        content[place] = value
    path = tmp_path / name
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    line = None
    try:
        size = picture_size(path)
        if size[0] * size[1] < 10**6:  # larger ones take their time
            assert read_image(path).shape == (size[1], size[0], 3)
    except InputError as error:
        line = str(error)
    assert line is None or (line.startswith(f"{path}: ") and "\n" not in line)


def test_a_phones_picture_is_read_upright_where_pillow_heif_is_installed(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24, :32] = (250, 20, 20)
    picture = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    picture.save(tmp_path / "plain.heic", quality=95)
    picture.info["exif"] = exif.tobytes()  # which pillow-heif writes as HEIC's own turn as well
    picture.save(tmp_path / "turned.heic", quality=95)
    assert picture_size(tmp_path / "plain.heic") == (64, 48)
    assert np.abs(read_image(tmp_path / "plain.heic").astype(int) - pixels).mean() < 5
    assert picture_size(tmp_path / "turned.heic") == (48, 64)
    assert np.abs(read_image(tmp_path / "turned.heic").astype(int) - np.rot90(pixels, -1)).mean() < 5
    (tmp_path / "cut.heic").write_bytes((tmp_path / "plain.heic").read_bytes()[:200])
    with pytest.raises(InputError, match=r"cut\.heic"):
        read_image(tmp_path / "cut.heic")
