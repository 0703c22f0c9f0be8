"""The cache of decoded pictures: the same pictures each way, never half a picture, never another's."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

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
    """Each when it is first asked for, whoever asks; 3 bytes a pixel are all that they take on the disk."""
    before = [read_image(image.path) for image in split.images]
    decoded: list[Path] = []
    monkeypatch.setattr(cache, "read_image", lambda path: decoded.append(path) or read_image(path))
    first, second = (open_pictures(split, range(N), "disk", folder) for _ in range(2))
    assert decoded == []
    for pictures in (first, second, open_pictures(split, range(N), "disk", folder)):
        assert all((pictures[i][:, :, :3] == before[i]).all() for i in reversed(range(N)))
    assert decoded == [image.path for image in reversed(split.images)]
    (file,) = folder.iterdir()
    assert file.stat().st_size == cache._header_bytes(N) + sum(picture.nbytes for picture in before)


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
    assert_right(split, folder)
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
    assert_right(split, folder)
    (file,) = folder.iterdir()
    damaged(file, how, tmp_path / "new")
    right = [read_image(image.path) for image in split.images]
    for _ in range(2):
        assert all((pictures[i][:, :, :3] == right[i]).all() for i in range(N))
    monkeypatch.delattr(cache, "read_image")  # it was mended: nothing is decoded again
    assert all((pictures[i][:, :, :3] == right[i]).all() for i in range(N))
    monkeypatch.undo()
    assert_right(split, folder)


@pytest.mark.parametrize("was_there", [False, True])
def test_a_picture_that_changed_before_it_was_read_or_mended(split: CocoSplit, folder: Path, was_there: bool) -> None:
    pictures = open_pictures(split, range(N), "disk", folder)
    if was_there:
        assert_right(split, folder)
        (file,) = folder.iterdir()
        os.truncate(file, 10)
    path = split.images[2].path
    cv2.imwrite(str(path), 255 - read_image(path)[:, :, ::-1])
    with pytest.raises(InputError, match=r"3\.png: has changed since"):
        pictures[2]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_damaged_file_that_may_not_be_written(split: CocoSplit, folder: Path) -> None:
    assert_right(split, folder)
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
    assert_right(split, folder)
    (file,) = folder.iterdir()
    content = file.read_bytes()
    file.write_bytes(
        {"cut": content[:-1], "longer": content + b"\0", "header": b"x" + content[1:], "empty": b""}[damage]
    )
    assert_right(split, folder)
    assert file.read_bytes() == content


def test_other_places_of_a_split_are_not_mistaken(split: CocoSplit, folder: Path) -> None:
    assert open_pictures(split, [0, 1], "disk", folder)[1].size
    pictures = open_pictures(split, [1, 4], "disk", folder)
    for i in (1, 4):
        assert (pictures[i][:, :, :3] == read_image(split.images[i].path)).all()
    for i in (0, 3, 5):
        with pytest.raises(KeyError):
            pictures[i]


@pytest.mark.parametrize("cache", ["disk", "memory", "off"])
def test_a_size_that_is_not_the_stated_one(split: CocoSplit, folder: Path, cache: Cache) -> None:
    path = split.images[1].path
    cv2.imwrite(str(path), made_up.picture(1, 80, 96))
    with pytest.raises(InputError, match=r"is 80 × 96 px, but .*train\.json says 96 × 80") as caught:
        open_pictures(split, range(N), cache, folder)[1]
    assert str(path) in str(caught.value)
    assert "catpose.check" in str(caught.value)


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
    assert "take 12288.0 GiB" in capsys.readouterr().err


def test_default_folder(split: CocoSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    open_pictures(split, range(N), "disk", None)
    assert len(files(tmp_path / "xdg" / "catpose")) == 1


def test_killed_half_way(split: CocoSplit, folder: Path) -> None:
    """A process is killed while it writes a picture: the next one is not held up by what it leaves, nor misled."""

    def killed() -> None:
        pictures: Any = open_pictures(split, range(N), "disk", folder)
        assert pictures[0].size
        write = pictures._write

        def half(data: memoryview, at: int) -> bool:
            write(data[: len(data) // 2], at)
            os.kill(os.getpid(), signal.SIGKILL)
            return False

        pictures._write = half
        pictures[1]

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert_right(split, folder)
    assert len(files(folder)) == 1


def test_what_a_killed_process_left_is_removed_after_an_hour(split: CocoSplit, folder: Path) -> None:
    folder.mkdir()
    left, fresh = folder / "train-0.rgb.0.part", folder / "train-0.rgb.1.part"  # this might be another's, still at work
    left.touch()
    fresh.touch()
    os.utime(left, (0, 0))
    assert_right(split, folder)
    assert (left.exists(), fresh.exists()) == (False, True)


def test_files_used_longest_ago_make_room(
    split: CocoSplit, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of the disk's room is for all cache files: older ones go first, those of the last day and strangers stay."""
    folder.mkdir()
    size = cache._Source.of(split, [*range(N)]).end
    others = [folder / f"val-{i:016x}.rgb" for i in range(3)]
    for i, other in enumerate(others):
        other.touch()
        os.truncate(other, size)
        os.utime(other, (i * 1000, i * 1000) if i < 2 else None)
    (folder / "mine.rgb").touch()
    disk = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk._replace(free=2 * 3 * size))
    assert_right(split, folder)
    assert len(files(folder)) == 4
    assert not others[0].exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk._replace(free=0))
    open_pictures(split, range(N - 1), "disk", folder)
    assert "are for them (50% of what is free); pictures are decoded each time" in capsys.readouterr().err
    assert [other.exists() for other in others] == [False, False, True]


def test_several_at_once(split: CocoSplit, folder: Path) -> None:
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=assert_right, args=(split, folder)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(files(folder)) == 1


def test_of_several_that_create_it_at_once_the_first_ones_is_everybodys(split: CocoSplit, folder: Path) -> None:
    """Each has found none; what one of them decodes, none of the others does."""
    folder.mkdir()
    file, source = folder / "train-0123456789abcdef.rgb", cache._Source.of(split, [*range(N)])
    first, second = (cache._created(file, source) for _ in range(2))
    before = first[3].copy()
    split.images[3].path.unlink()
    assert (second[3] == before).all()
    assert files(folder) == [file.name]


@pytest.mark.parametrize("was_there", [False, True])
def test_a_file_system_without_links(
    split: CocoSplit, folder: Path, was_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    if was_there:  # of other pictures
        open_pictures(split, range(N - 1), "disk", folder)
    assert_right(split, folder)
    assert len(files(folder)) == 1


def test_files_of_another_user_that_cant_be_removed_stay(
    split: CocoSplit, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder that users share: of those that might go the next goes; where that isn't enough, it is "off"."""
    folder.mkdir()
    size, unlink = cache._Source.of(split, [*range(N)]).end, Path.unlink
    theirs, ours, part = (folder / f"val-{name}" for name in ("0" * 16 + ".rgb", "1" * 16 + ".rgb", "0.rgb.0.part"))
    for i, file in enumerate((theirs, ours, part)):
        file.touch()
        os.truncate(file, size)
        os.utime(file, (i, i))

    def only_ours(path: Path, missing_ok: bool = False) -> None:
        if path in (theirs, part):
            raise PermissionError(1, "Operation not permitted")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", only_ours)
    disk = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk._replace(free=2 * 2 * size))
    assert_right(split, folder)
    assert (theirs.exists(), ours.exists(), part.exists()) == (True, False, True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk._replace(free=0))
    open_pictures(split, range(N - 1), "disk", folder)
    assert "pictures are decoded each time" in capsys.readouterr().err
