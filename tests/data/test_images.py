"""Reading pictures: what comes out, and the one line for each file that is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import made_up
import numpy as np
import pytest

from catpose.data.images import read_image, read_images, split_of_images
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


def test_pictures_alone_make_a_split_of_whole_image_boxes(tmp_path: Path) -> None:
    for name, (width, height) in {"b.png": (30, 20), "a.png": (10, 40)}.items():
        cv2.imwrite(str(tmp_path / name), made_up.picture(1, width, height))
    split = split_of_images([tmp_path / "b.png", str(tmp_path / "a.png")])
    assert split.boxes.tolist() == [[0, 0, 30, 20], [0, 0, 10, 40]]
    assert split.areas.tolist() == [600, 400]
    assert [(i.id, i.path, i.width, i.height) for i in split.images] == [
        (1, tmp_path / "b.png", 30, 20),
        (2, tmp_path / "a.png", 10, 40),
    ]
    assert split.annotation_ids.tolist() == [1, 2]
    assert split.image_index.tolist() == [0, 1]
    assert not split.has_keypoints
    assert not split.visibility.any()
    with pytest.raises(InputError, match="no pictures"):
        split_of_images([])
