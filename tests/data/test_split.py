"""Which image goes to which split."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catpose.data.split import (
    default_sizes,
    draw_split,
    keep_together,
    published_split,
    read_test_ids,
    resolve_sizes,
    torn_groups,
)
from catpose.errors import InputError

NAMES = {id_: f"{id_:03}.jpg" for id_ in range(1, 101)}
UNIQUE = {id_: id_ for id_ in NAMES}


def test_sizes_must_add_up() -> None:
    assert resolve_sizes([1000, 124, 200], 1324) == (1000, 124, 200)
    assert resolve_sizes([None, 124, 200], 1324) == (1000, 124, 200)
    assert resolve_sizes([None, 0, 0], 5) == (5, 0, 0)
    with pytest.raises(InputError, match="adds up to 1328, but there are 1324 images; --split 1000 124 200 would fit"):
        resolve_sizes([1000, 128, 200], 1324)
    with pytest.raises(InputError, match=r"there are 200 images; --split (\d+) (\d+) (\d+) would fit") as caught:
        resolve_sizes([1000, 128, 200], 200)
    fitting = [int(word) for word in str(caught.value).split("--split ")[-1].split()[:3]]
    assert resolve_sizes(fitting, 200) == tuple(fitting)
    assert fitting[0] > fitting[2] >= fitting[1] > 0
    with pytest.raises(InputError, match="only one can be the rest"):
        resolve_sizes([None, None, 1], 10)
    with pytest.raises(InputError, match="--split rest 9 9: adds up to 18, but there are 10 images"):
        resolve_sizes([None, 9, 9], 10)


@given(seed=st.integers(0, 5), sizes=st.tuples(st.integers(0, 100), st.integers(0, 100)), copies=st.integers(1, 40))
def test_every_image_goes_to_one_split_of_the_size_asked_for(seed: int, sizes: tuple[int, int], copies: int) -> None:
    train, val = min(sizes), abs(sizes[0] - sizes[1])
    wanted = {"train": train, "val": min(val, 100 - train), "test": 100 - train - min(val, 100 - train)}
    copy_of = {id_: id_ % copies for id_ in NAMES}  # few pictures: groups that must be torn
    split = draw_split(NAMES, copy_of, tuple(wanted.values()), seed, frozenset({3, 5, 7}))  # type: ignore[arg-type]
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
    copy_of = {id_: id_ // 2 for id_ in NAMES}  # 2 and 3, 4 and 5, … are one picture
    for seed in range(10):
        split = draw_split(NAMES, copy_of, (70, 11, 19), seed, frozenset())
        torn = [a for a in range(2, 100, 2) if sum({a, a + 1} <= set(ids) for ids in split.values()) == 0]
        assert torn == []  # 1 and 100 are single, so that odd sizes can be filled
        given_test = frozenset(range(2, 12, 2))
        split = draw_split(NAMES, copy_of, (80, 15, 5), seed, given_test)
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


@given(
    n=st.integers(3, 3000),
    shares=st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20)).filter(lambda s: sum(s) > 0),
    rest=st.integers(0, 3),
)
def test_shares_become_sizes_that_add_up_and_are_never_nothing(n: int, shares: tuple[int, int, int], rest: int) -> None:
    split: list[float | None] = [share / sum(shares) for share in shares]
    if rest < 3:
        split[rest] = None
    sizes = resolve_sizes(split, n)
    assert sum(sizes) == n
    assert min(sizes) >= 0
    for size, share in zip(sizes, shares, strict=True):
        assert abs(size - n * share / sum(shares)) <= 2
        assert size > 0 or share == 0 or n < 10


def test_the_default_fits_what_there_is() -> None:
    assert default_sizes(1324, 200) == (1000, 124, 200)  # the published split of the cats of Animal-Pose
    for n in range(1, 200):
        sizes = default_sizes(n, 0)
        assert sum(sizes) == n
        assert min(sizes) > 0 or n < 3


@given(
    videos=st.lists(st.integers(1, 30), min_size=2, max_size=20),
    shares=st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.9, 0.1, 0.0)]),
    seed=st.integers(0, 3),
)
def test_no_video_is_in_two_splits_by_shares(videos: list[int], shares: tuple[float, float, float], seed: int) -> None:
    video_of = [f"video {i}" for i, n in enumerate(videos) for _ in range(n)]
    origin = dict(enumerate(video_of))
    names = {id_: f"{id_}.png" for id_ in origin}
    together = keep_together({id_: id_ for id_ in origin}, origin)
    if len(names) < 3:
        return
    split = draw_split(names, together, resolve_sizes(shares, len(names)), seed, frozenset(), whole=True)
    assert sorted(id_ for ids in split.values() for id_ in ids) == list(origin)
    assert torn_groups(split, origin) == []
    assert split["train"]
    assert split["val"]


def test_copies_tie_videos_together() -> None:
    origin = {1: "a", 2: "a", 3: "b", 4: "b", 5: "c", 7: "c"}
    together = keep_together({1: 1, 2: 2, 3: 2, 4: 4, 5: 5, 6: 6, 7: 6}, origin)
    assert len({together[id_] for id_ in (1, 2, 3, 4)}) == 1
    assert len({together[id_] for id_ in (5, 6, 7)}) == 1
    assert together[1] != together[5]
    assert torn_groups({"train": [1, 5], "val": [2, 6]}, origin) == ["a"]


def test_the_published_split() -> None:
    from catpose.data.split import PUBLISHED

    lines = [line.split(" ") for line in PUBLISHED.read_text().splitlines()[1:]]
    names = {id_: name for id_, (_, name) in enumerate(lines)}
    split = published_split(names)
    assert {name: len(ids) for name, ids in split.items()} == {"train": 1000, "val": 124, "test": 200}
    assert all(lines[id_][0] == name for name, ids in split.items() for id_ in ids)
    with pytest.raises(InputError, match="or the other way round: 1 picture, "):
        published_split(names | {1324: "other.jpg"})
