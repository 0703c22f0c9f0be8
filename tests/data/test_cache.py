"""The cache of decoded pictures: the same pictures each way, never half a file, never another's."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path

import cv2
import made_up
import numpy as np
import pytest

from catpose.data.cache import Cache, open_pictures
from catpose.data.coco import CocoSplit, read_split
from catpose.data.images import read_image
from catpose.errors import InputError

N = 5


@pytest.fixture
def split(tmp_path: Path) -> CocoSplit:
    return read_split(made_up.data_set(tmp_path / "cats", (N, 1, 1)), "train")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def assert_right(split: CocoSplit, folder: Path, cache: Cache = "disk") -> None:
    pictures = open_pictures(split, range(N), cache, folder)
    for i in range(N):
        assert (pictures[i][:, :, :3] == read_image(split.images[i].path)).all()


@pytest.mark.parametrize("cache", ["disk", "memory", "off"])
def test_each_way_gives_the_pictures(split: CocoSplit, folder: Path, cache: Cache) -> None:
    for _ in range(2):
        assert_right(split, folder, cache)
    picture = open_pictures(split, [2, 0], cache, folder)[2]
    assert picture.dtype == np.uint8
    with pytest.raises(ValueError, match="read-only"):
        picture[:] = 0
    assert len(files(folder)) == (cache == "disk")


def hide_changes(path: Path, content: bytes) -> None:
    """Give a file other content and leave its size and times as they were."""
    stat = path.stat()
    path.write_bytes(content[: stat.st_size].ljust(stat.st_size, b"\0"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_pictures_are_decoded_once(split: CocoSplit, folder: Path) -> None:
    before = [read_image(image.path) for image in split.images]
    open_pictures(split, range(N), "disk", folder)
    for image in split.images:
        hide_changes(image.path, b"no longer a picture")
    pictures = open_pictures(split, range(N), "disk", folder)
    assert all((pictures[i][:, :, :3] == before[i]).all() for i in range(N))


def test_a_changed_picture_is_decoded_anew_in_the_old_ones_place(split: CocoSplit, folder: Path) -> None:
    old = open_pictures(split, range(N), "disk", folder)
    was = old[3].copy()
    name = files(folder)
    path = split.images[3].path
    cv2.imwrite(str(path), 255 - read_image(path)[:, :, ::-1])
    assert_right(split, folder)
    assert files(folder) == name
    assert (old[3] == was).all()  # a run that had it open goes on with what it had


@pytest.mark.parametrize("damage", ["cut", "longer", "header", "empty"])
def test_a_damaged_file_is_made_anew(split: CocoSplit, folder: Path, damage: str) -> None:
    open_pictures(split, range(N), "disk", folder)
    (file,) = folder.iterdir()
    content = file.read_bytes()
    file.write_bytes(
        {"cut": content[:-1], "longer": content + b"\0", "header": b"x" + content[1:], "empty": b""}[damage]
    )
    assert_right(split, folder)
    assert file.read_bytes() == content


def test_other_places_of_a_split_are_not_mistaken(split: CocoSplit, folder: Path) -> None:
    open_pictures(split, [0, 1], "disk", folder)
    pictures = open_pictures(split, [3, 4], "disk", folder)
    assert (pictures[4][:, :, :3] == read_image(split.images[4].path)).all()


@pytest.mark.parametrize("cache", ["disk", "memory", "off"])
def test_a_size_that_is_not_the_stated_one(split: CocoSplit, folder: Path, cache: Cache) -> None:
    path = split.images[1].path
    cv2.imwrite(str(path), made_up.picture(1, 80, 96))
    with pytest.raises(InputError, match=r"is 80 × 96 px, but .*train\.json says 96 × 80") as caught:
        open_pictures(split, range(N), cache, folder)[1]
    assert str(path) in str(caught.value)
    assert "catpose.check" in str(caught.value)
    assert files(folder) == []


@pytest.mark.parametrize("cache", ["disk", "memory", "off"])
def test_a_missing_picture(split: CocoSplit, folder: Path, cache: Cache) -> None:
    split.images[1].path.unlink()
    with pytest.raises(InputError, match=r"2\.png: can't be read"):
        open_pictures(split, range(N), cache, folder)[1]
    assert files(folder) == []


def test_a_folder_that_can_not_be_written(split: CocoSplit, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"data\.cache_dir: .*data\.cache to memory or off"):
        open_pictures(split, range(N), "disk", tmp_path / "file" / "cache")


def test_a_write_that_fails_half_way_leaves_nothing(split: CocoSplit, folder: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"data\.cache_dir: .*File too large"):
            open_pictures(split, range(N), "disk", folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(folder) == []
    assert_right(split, folder)


def test_more_than_the_disk_or_the_memory_holds(tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats")
    file = root / "annotations" / "train.json"
    content = json.loads(file.read_text())
    for image in content["images"]:
        image |= {"width": 2**20, "height": 2**20}
    file.write_text(json.dumps(content))
    split = read_split(root, "train")
    for cache in ("disk", "memory"):
        with pytest.raises(InputError, match=r"take 16384\.0 GiB"):
            open_pictures(split, range(4), cache, tmp_path / "cache")


def test_default_folder(split: CocoSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    open_pictures(split, range(N), "disk", None)
    assert len(files(tmp_path / "xdg" / "catpose")) == 1


def test_killed_half_way(split: CocoSplit, folder: Path) -> None:
    """A process waits for a picture that never comes (a pipe), and is killed: the next one is not held up by it."""
    path = split.images[-1].path
    content = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    process = multiprocessing.get_context("fork").Process(
        target=open_pictures, args=(split, range(N), "disk", folder), daemon=True
    )
    process.start()
    deadline = time.monotonic() + 30
    while not files(folder) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    (left,) = folder.iterdir()
    assert left.suffix == ".part"
    path.unlink()
    path.write_bytes(content)
    assert_right(split, folder)
    assert len(files(folder)) == 2  # it might be another's, still at work …
    os.utime(left, (0, 0))
    path.touch()
    assert_right(split, folder)
    assert len(files(folder)) == 1  # … but not after an hour


def test_several_at_once(split: CocoSplit, folder: Path) -> None:
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=assert_right, args=(split, folder)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(files(folder)) == 1
