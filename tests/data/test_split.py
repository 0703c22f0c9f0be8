"""Drawing the split, and writing the layout whole or not at all."""

from __future__ import annotations

import json
import os
import random
import stat
import subprocess
from pathlib import Path

import made_up
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catpose.data.coco import read_split, split_hash
from catpose.data.sources import read_ap10k
from catpose.data.split import (
    draw_split,
    hash_pictures,
    new_folder,
    read_test_ids,
    resolve_sizes,
    same_as_there,
    write_layout,
)
from catpose.errors import InputError

NAMES = {id_: f"{id_:03}.jpg" for id_ in range(1, 101)}
UNIQUE = {id_: str(id_) for id_ in NAMES}


def test_sizes_must_add_up() -> None:
    assert resolve_sizes([1000, 124, 200], 1324) == (1000, 124, 200)
    assert resolve_sizes([None, 124, 200], 1324) == (1000, 124, 200)
    assert resolve_sizes([None, 0, 0], 5) == (5, 0, 0)
    with pytest.raises(InputError, match="adds up to 1328, but there are 1324 images; --sizes 1000 124 200 would fit"):
        resolve_sizes([1000, 128, 200], 1324)
    with pytest.raises(InputError, match=r"there are 200 images; --sizes (\d+) (\d+) (\d+) would fit") as caught:
        resolve_sizes([1000, 128, 200], 200)
    fitting = [int(word) for word in str(caught.value).split("--sizes ")[-1].split()[:3]]
    assert resolve_sizes(fitting, 200) == tuple(fitting)
    assert fitting[0] > fitting[2] > fitting[1] > 0
    with pytest.raises(InputError, match="only one can be the rest"):
        resolve_sizes([None, None, 1], 10)
    with pytest.raises(InputError, match="--sizes rest 9 9: adds up to 18, but there are 10 images"):
        resolve_sizes([None, 9, 9], 10)


@given(seed=st.integers(0, 5), sizes=st.tuples(st.integers(0, 100), st.integers(0, 100)), copies=st.integers(1, 40))
def test_every_image_goes_to_one_split_of_the_size_asked_for(seed: int, sizes: tuple[int, int], copies: int) -> None:
    train, val = min(sizes), abs(sizes[0] - sizes[1])
    wanted = {"train": train, "val": min(val, 100 - train), "test": 100 - train - min(val, 100 - train)}
    contents = {id_: str(id_ % copies) for id_ in NAMES}  # few contents: groups that must be torn
    split = draw_split(NAMES, contents, tuple(wanted.values()), seed, frozenset({3, 5, 7}))  # type: ignore[arg-type]
    assert {name: len(ids) for name, ids in split.items()} == wanted
    assert sorted(split["train"] + split["val"] + split["test"]) == list(NAMES)
    assert all(ids == sorted(ids) for ids in split.values())
    assert len({3, 5, 7} & set(split["test"])) == min(3, wanted["test"])


def test_the_draw_hangs_on_seed_and_names_alone() -> None:
    first = draw_split(NAMES, UNIQUE, (70, 10, 20), 0, frozenset())
    shuffled = list(NAMES.items())
    random.Random(1).shuffle(shuffled)
    assert draw_split(dict(shuffled), UNIQUE, (70, 10, 20), 0, frozenset()) == first
    assert draw_split(NAMES, UNIQUE, (70, 10, 20), 1, frozenset()) != first
    # Written down once: whoever draws it anywhere gets these.
    assert first["val"] == [3, 23, 29, 39, 42, 46, 82, 84, 87, 90]


def test_copies_stay_together_and_a_test_image_has_none_in_train() -> None:
    contents = {id_: str(id_ // 2) for id_ in NAMES}  # 2 and 3, 4 and 5, … are one picture
    for seed in range(10):
        split = draw_split(NAMES, contents, (70, 11, 19), seed, frozenset())
        torn = [a for a in range(2, 100, 2) if sum({a, a + 1} <= set(ids) for ids in split.values()) == 0]
        assert torn == []  # 1 and 100 are single, so that odd sizes can be filled
        given_test = frozenset(range(2, 12, 2))
        split = draw_split(NAMES, contents, (80, 15, 5), seed, given_test)
        assert set(split["test"]) == given_test
        assert {id_ + 1 for id_ in given_test} <= set(split["val"])


def test_lists_of_test_images(tmp_path: Path) -> None:
    names = {10: "a.jpg", 11: "b c.jpg", 12: "10.jpg"}
    text, ids, coco = tmp_path / "list.txt", tmp_path / "ids.json", tmp_path / "test_info.json"
    text.write_text("# the test images\n10.jpg\n\n b c.jpg \n")
    ids.write_text('[10, "10.jpg"]')
    coco.write_text('{"images": [{"id": 999, "file_name": "a.jpg"}]}')
    assert read_test_ids(text, names) == {11, 12}
    assert read_test_ids(ids, names) == {10, 12}
    assert read_test_ids(coco, names) == {10}
    text.write_text("10\nd.jpg\ne.jpg\n")
    with pytest.raises(InputError, match=r"list.txt: 'd.jpg' is none of the 3 images \(and 1 more\)"):
        read_test_ids(text, names)
    text.write_text("\n")
    with pytest.raises(InputError, match="names no image"):
        read_test_ids(text, names)
    for content in ('{"a": 1}', "3", '{"images": [3]}', "[[1]]"):
        ids.write_text(content)
        with pytest.raises(InputError, match=r"ids\.json: "):
            read_test_ids(ids, names)
    with pytest.raises(InputError, match=r"absent\.txt: can't be read"):
        read_test_ids(tmp_path / "absent.txt", names)
    with pytest.raises(InputError, match="can't be read"):
        read_test_ids(tmp_path, names)


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
    record = write_layout(root, release, contents, split, request)
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
        write_layout(root, release, hash_pictures(release), split, {"seed": 0}, link)
        first = release.images[0]["file_name"]
        assert (root / "images" / first).samefile(release.image_dir / first) == link
        assert (root / "images" / first).read_bytes() == (release.image_dir / first).read_bytes()
    assert not (root / "images" / first).is_symlink()


def test_unlabelled_instances_stay_only_where_a_test_split_has_nothing_else(tmp_path: Path) -> None:
    release = read_ap10k(made_up.ap10k_release(tmp_path / "release"), ["cat"])
    for entry in release.annotations:
        if entry["image_id"] >= 7 or entry["image_id"] == 2:
            entry["keypoints"], entry["num_keypoints"] = [0] * 51, 0
    contents = hash_pictures(release)
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
        write_layout(root, release, contents, split, {"seed": 0})
        assert sorted(path.stem for path in (root / "annotations").iterdir()) == files
        assert [len(read_split(root, file)) for file in files] == n_instances
        assert read_split(root, "test").has_keypoints == (files[0] == "test")
    root = tmp_path / "none"
    root.mkdir()
    with pytest.raises(InputError, match="the val split's 1 images hold no labelled instance"):
        write_layout(root, release, contents, {"train": rest, "val": unlabelled[:1]}, {"seed": 0})
