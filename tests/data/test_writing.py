"""Writing the layout whole or not at all."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import made_up
import pytest

from catpose.data.coco import read_split
from catpose.data.coco_split import split_hash
from catpose.data.sources import Release, read_ap10k
from catpose.data.writing import (
    _copy_pictures,
    find_copies,
    hash_pictures,
    new_folder,
    same_as_there,
    write_layout,
)
from catpose.errors import InputError


def fail_halfway(folder: Path) -> None:
    (folder / "half").touch()
    raise RuntimeError


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    root = tmp_path / "data" / "cats"
    with pytest.raises(RuntimeError), new_folder(root) as folder:
        fail_halfway(folder)
    assert list(root.parent.iterdir()) == []
    with pytest.raises(InputError, match="can't be written"), new_folder(root) as folder:
        (folder / "half" / "written").touch()  # an OSError, as on a full disk
    assert list(root.parent.iterdir()) == []
    with new_folder(root) as folder:
        (folder / "whole").touch()
    assert [path.name for path in root.iterdir()] == ["whole"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(root.stat().st_mode) == 0o777 & ~umask
    with pytest.raises(InputError, match="cats: is there already with other data; remove it or give another"):
        new_folder(root).__enter__()
    assert [path.name for path in root.iterdir()] == ["whole"]
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file/cats: can't be made"):
        new_folder(tmp_path / "file" / "cats").__enter__()
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty"):  # nothing to lose there
        pass


def test_the_layout_and_its_record(tmp_path: Path) -> None:
    release = read_ap10k(made_up.ap10k_release(tmp_path / "release"), ["all"])
    contents = hash_pictures(release)
    split = {"train": [1, 2, 3, 4, 5, 6], "val": [], "test": [7, 8, 9, 10, 11]}
    request = {"seed": 3, "source": "ap10k"}
    root = tmp_path / "out"
    root.mkdir()
    record = write_layout(root, release, contents, split, find_copies(release), request)
    assert sorted(path.name for path in (root / "annotations").iterdir()) == ["test.json", "train.json"]
    assert json.loads((root / "split.json").read_text()) == record
    assert record["request"] == request
    for name, n_images, n_instances in (("train", 6, 7), ("test", 5, 5)):
        written = read_split(root, name)
        assert [image.id for image in written.images] == split[name]
        expected = {"images": n_images, "instances": n_instances, "annotations_sha256": split_hash(written)}
        assert record["splits"][name] == expected
    pipe = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum | sha256sum"
    shell = subprocess.run(["bash", "-c", pipe], cwd=root / "images", capture_output=True, text=True, check=True)
    assert shell.stdout.split()[0] == record["images_sha256"]
    assert same_as_there(root, request) == record
    assert same_as_there(root, request | {"seed": 4}) is None
    (root / "images" / "000000000001.jpg").unlink()
    assert same_as_there(root, request) is None


def test_pictures_are_linked_only_where_asked(tmp_path: Path) -> None:
    release = read_ap10k(made_up.ap10k_release(tmp_path / "release"), ["cat"])
    split = {"train": [image["id"] for image in release.images]}
    for link in (False, True):
        root = tmp_path / str(link)
        root.mkdir()
        write_layout(root, release, hash_pictures(release), split, find_copies(release), {"seed": 0}, link)
        first = release.images[0]["file_name"]
        assert (root / "images" / first).samefile(release.image_dir / first) == link
        assert (root / "images" / first).read_bytes() == (release.image_dir / first).read_bytes()
    assert not (root / "images" / first).is_symlink()


def test_unlabelled_instances_stay_only_where_a_test_split_has_nothing_else(tmp_path: Path) -> None:
    release = read_ap10k(made_up.ap10k_release(tmp_path / "release"), ["cat"])
    for entry in release.annotations:
        if entry["image_id"] >= 7 or entry["image_id"] == 2:
            entry["keypoints"], entry["num_keypoints"] = [0] * 51, 0
    contents, alone = hash_pictures(release), find_copies(release)
    rest = [image["id"] for image in release.images if image["id"] < 7]
    unlabelled = [image["id"] for image in release.images if image["id"] >= 7]
    for i, (split, files, n_instances) in enumerate(
        (
            ({"train": rest, "val": [], "test": unlabelled}, ["test_info", "train"], [len(unlabelled), len(rest) - 1]),
            ({"train": rest[:2], "val": [], "test": rest[2:] + unlabelled}, ["test", "train"], [len(rest) - 2, 1]),
        )
    ):
        root = tmp_path / str(i)
        root.mkdir()
        write_layout(root, release, contents, split, alone, {"seed": 0})
        assert sorted(path.stem for path in (root / "annotations").iterdir()) == files
        assert [len(read_split(root, file)) for file in files] == n_instances
        assert read_split(root, "test").has_keypoints == (files[0] == "test")
    root = tmp_path / "none"
    root.mkdir()
    with pytest.raises(InputError, match="the val split's 1 image: no labelled instance"):
        write_layout(root, release, contents, {"train": rest, "val": unlabelled[:1]}, alone, {"seed": 0})


@pytest.mark.parametrize("link", [False, True])
def test_two_names_of_one_file_are_not_copied_over_one_another(tmp_path: Path, link: bool) -> None:
    """As two names are that differ in capitals, on a file system that doesn't tell them apart."""
    (tmp_path / "a.jpg").write_bytes(b"a")
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "./a.jpg"}]
    with pytest.raises(InputError, match=r"a\.jpg: has the name of another picture.*rename"):
        _copy_pictures(Release("a release", tmp_path, images, [], []), tmp_path / "images", link)
