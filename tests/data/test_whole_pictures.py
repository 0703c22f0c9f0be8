"""Pictures without annotations: what of a folder is taken, what is left out and why, and the split they make."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import made_up
import pytest

from catpose.data.whole_pictures import find_pictures, left_out_lines, split_of_pictures
from catpose.errors import InputError


def test_they_make_a_split_of_whole_image_boxes(tmp_path: Path) -> None:
    for name, (width, height) in {"b.png": (30, 20), "a.png": (10, 40)}.items():
        cv2.imwrite(str(tmp_path / name), made_up.picture(1, width, height))
    sizes, left_out = find_pictures([tmp_path / "b.png", tmp_path / "a.png"])
    split = split_of_pictures(sizes)
    assert left_out == []
    assert split.boxes.tolist() == [[0, 0, 30, 20], [0, 0, 10, 40]]
    assert split.areas.tolist() == [600, 400]
    assert [(i.id, i.path, i.width, i.height) for i in split.images] == [
        (1, tmp_path / "b.png", 30, 20),
        (2, tmp_path / "a.png", 10, 40),
    ]
    assert split.ids.tolist() == [1, 2]
    assert split.image_index.tolist() == [0, 1]
    assert not split.has_keypoints
    assert not split.visibility.any()
    with pytest.raises(InputError, match="no pictures"):
        find_pictures([])


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)


def test_every_entry_of_a_folder_is_taken_or_left_out_with_its_reason(tmp_path: Path) -> None:
    picture = cv2.imencode(".png", made_up.picture(1))[1].tobytes()
    for name in ("a.png", "b.JPG", "c.of_any_name", "d"):  # what a file is, is told by its content
        (tmp_path / name).write_bytes(picture)
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    others = {
        "._a.png": (b"\0\x05\x16\x07" + bytes(40), "hidden"),
        ".DS_Store": (b"", "hidden"),
        "cat.HEIC": (HEIC, "convert it to JPEG"),
        "cat.jpg": (HEIC, "convert it to JPEG"),
        "cats.zip": (b"PK\x03\x04" + bytes(40), "unpack it"),
        "empty.jpg": (b"", "cut short"),
        "notes.txt": (b"a cat", "no picture"),
        "page.jpg": (b"<html>", "web page"),
        "video.mp4": (b"\0\0\0\x18ftypisom" + bytes(40), "video"),
    }
    for name, (content, _) in others.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "sub.png").mkdir()
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    sizes, left_out = find_pictures([tmp_path])
    assert [path.name for path in sizes] == ["a.png", "b.JPG", "c.of_any_name", "d", "link.png"]
    reasons = {path.name: reason for path, reason in left_out}
    assert reasons.keys() == {*others, "sub.png", "dangling.png", "loop.png", "pipe.png"}
    for name, (_, word) in others.items():
        assert word in reasons[name]
    assert "folder" in reasons["sub.png"]
    assert "nowhere" in reasons["dangling.png"]
    assert "link" in reasons["loop.png"]
    assert "pipe" in reasons["pipe.png"]
    assert f"{tmp_path}: left out 2 (.DS_Store, ._a.png): hidden" in " ".join(left_out_lines(left_out))


def test_what_is_named_must_be_a_picture(tmp_path: Path) -> None:
    (tmp_path / "cat.HEIC").write_bytes(HEIC)
    with pytest.raises(InputError, match=r"cat\.HEIC: is a HEIC picture.*convert"):
        find_pictures([tmp_path / "cat.HEIC"])
    (tmp_path / "sub").mkdir()
    with pytest.raises(InputError, match=r"holds no picture that can be read \(cat\.HEIC: is a HEIC.*sub: is a folder"):
        find_pictures([tmp_path])
