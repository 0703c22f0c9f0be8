"""The cache of decoded pictures: the same pictures each way, never half a file, never another's."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import pickle
import resource
import signal
import time
from pathlib import Path

import cv2
import made_up
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catpose.data import cache
from catpose.data.cache import Cache, open_pictures
from catpose.data.coco import read_split
from catpose.data.coco_split import CocoSplit
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


def test_pictures_are_decoded_once(split: CocoSplit, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [read_image(image.path) for image in split.images]
    open_pictures(split, range(N), "disk", folder)
    monkeypatch.delattr(cache, "read_image")
    monkeypatch.delattr(cache, "read_images")
    for _ in range(2):
        pictures = open_pictures(split, range(N), "disk", folder)
        assert all((pictures[i][:, :, :3] == before[i]).all() for i in range(N))


@pytest.mark.parametrize("way", ["in place", "another file"])
def test_other_content_of_the_same_size_and_time(split: CocoSplit, folder: Path, way: str) -> None:
    """As `cp --preserve`, rsync and unpacking leave it."""
    path = split.images[0].path
    picture = read_image(path)
    first, second = (
        cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 0])[1].tobytes()
        for pixels in (picture, 255 - picture)
    )
    assert len(first) == len(second)
    path.write_bytes(first)
    stat = path.stat()
    open_pictures(split, range(N), "disk", folder)
    if way == "another file":
        path.rename(path.with_name("old"))
    path.write_bytes(second)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert_right(split, folder)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1), st.data())
def test_a_checksum_sees_what_disks_do(height: int, width: int, seed: int, data: st.DataObject) -> None:
    """A flipped bit, a stretch of zeros, a stretch of another picture."""
    picture, other = np.random.default_rng(seed).integers(1, 256, (2, height, width, 4), dtype=np.uint8)
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, picture.size - 1)] * 2)))
    flipped, zeroed, replaced = (picture.copy().reshape(-1) for _ in range(3))
    flipped[start] ^= 1 << data.draw(st.integers(0, 7))
    zeroed[start : stop + 1] = 0
    replaced[start : stop + 1] = 255 - other.reshape(-1)[start : stop + 1]
    for damaged in (flipped, zeroed, replaced):
        same = bool((damaged == picture.reshape(-1)).all())
        assert (cache._checksum(damaged.reshape(picture.shape)) == cache._checksum(picture)) == same


def damaged(file: Path, how: str, path_of_new: Path) -> None:
    """Damage a cache file while others have it open."""
    content = bytearray(file.read_bytes())
    if how == "cut":
        os.truncate(file, len(content) // 2)
    elif how == "emptied":
        os.truncate(file, 0)
    elif how == "a bit":
        with open(file, "r+b") as opened:
            for i in range(N):  # one of each picture
                at = len(content) - 1 - i * (len(content) // N)
                opened.seek(at)
                opened.write(bytes([content[at] ^ 1]))
    elif how == "zeros":
        with open(file, "r+b") as opened:
            opened.write(bytes(len(content)))
    else:
        path_of_new.write_bytes(b"another")
        os.replace(path_of_new, file)


@pytest.mark.parametrize("how", ["cut", "emptied", "a bit", "zeros", "replaced"])
def test_damage_while_in_use_gives_no_wrong_pixel(
    split: CocoSplit, folder: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = open_pictures(split, range(N), "disk", folder)
    (file,) = folder.iterdir()
    damaged(file, how, tmp_path / "new")
    right = [read_image(image.path) for image in split.images]
    for _ in range(2):
        assert all((pictures[i][:, :, :3] == right[i]).all() for i in range(N))
    monkeypatch.delattr(cache, "read_image")  # it was mended: nothing is decoded again
    assert all((pictures[i][:, :, :3] == right[i]).all() for i in range(N))
    monkeypatch.undo()
    assert_right(split, folder)


def test_damage_that_can_not_be_mended_since_the_picture_changed_too(split: CocoSplit, folder: Path) -> None:
    pictures = open_pictures(split, range(N), "disk", folder)
    (file,) = folder.iterdir()
    os.truncate(file, 10)
    path = split.images[2].path
    cv2.imwrite(str(path), 255 - read_image(path)[:, :, ::-1])
    with pytest.raises(InputError, match=r"3\.png: has changed since"):
        pictures[2]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_damaged_file_that_may_not_be_written(split: CocoSplit, folder: Path) -> None:
    open_pictures(split, range(N), "disk", folder)
    (file,) = folder.iterdir()
    file.chmod(0o400)
    pictures = open_pictures(split, range(N), "disk", folder)
    file.chmod(0o600)
    os.truncate(file, 100)
    assert (pictures[1][:, :, :3] == read_image(split.images[1].path)).all()


def test_a_process_that_is_not_forked_opens_the_file_itself(split: CocoSplit, folder: Path) -> None:
    pictures = open_pictures(split, range(N), "disk", folder)
    again = pickle.loads(pickle.dumps(pictures))
    (file,) = folder.iterdir()
    file.unlink()
    without = pickle.loads(pickle.dumps(pictures))
    for i in range(N):
        assert (again[i] == pictures[i]).all()
        assert (without[i] == pictures[i]).all()


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


def test_a_write_that_fails_half_way_leaves_nothing_and_is_done_without(
    split: CocoSplit, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        assert_right(split, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(folder) == []
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "File too large; pictures are decoded each time" in line
    assert_right(split, folder)
    assert len(files(folder)) == 1


def test_more_than_the_disk_or_the_memory_holds(
    split: CocoSplit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = [dataclasses.replace(image, width=2**20, height=2**20) for image in split.images[:4]]
    split = dataclasses.replace(split, images=tuple(huge))
    with pytest.raises(InputError, match=r"take 16384\.0 GiB"):
        open_pictures(split, range(4), "memory", tmp_path / "cache")
    open_pictures(split, range(4), "disk", tmp_path / "cache")
    assert "take 16384.0 GiB" in capsys.readouterr().err


def test_default_folder(split: CocoSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    open_pictures(split, range(N), "disk", None)
    assert len(files(tmp_path / "xdg" / "catpose")) == 1


def test_killed_half_way(split: CocoSplit, folder: Path) -> None:
    """A process is killed while it decodes: the next one is not held up by what it leaves."""

    def never_ends() -> None:
        cache._decoded = lambda *_: iter(lambda: time.sleep(0.1) or np.zeros(10, np.uint8), None)
        open_pictures(split, range(N), "disk", folder)

    path = split.images[-1].path
    process = multiprocessing.get_context("fork").Process(target=never_ends, daemon=True)
    process.start()
    deadline = time.monotonic() + 300
    while not files(folder) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    (left,) = folder.iterdir()
    assert left.suffix == ".part"
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
