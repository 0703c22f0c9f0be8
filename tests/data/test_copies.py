"""Copies of pictures are found, and grouped over any number of steps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import made_up
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catpose.data import copies
from catpose.data.copies import (
    NEAR_BITS,
    Fingerprint,
    copies_of,
    fingerprint,
    group_copies,
    known_copies,
    near_pairs,
    shared_copies,
)
from catpose.errors import InputError


def plain(digest: int, gradients: np.ndarray) -> Fingerprint:
    return Fingerprint(bytes([digest]), (9, 9), gradients, 50.0)


def test_a_picture_encoded_anew_or_scaled_is_nearly_the_same_and_another_is_not() -> None:
    pictures = [made_up.picture(seed, 192, 160) for seed in range(4)]
    encoded = cv2.imdecode(cv2.imencode(".jpg", pictures[1], [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_COLOR)
    scaled = cv2.resize(pictures[2], (96, 80), interpolation=cv2.INTER_AREA)
    seen = [fingerprint(picture) for picture in (*pictures, encoded, scaled, pictures[3].copy())]
    assert sorted(near_pairs(seen)) == [(1, 4), (2, 5), (3, 6)]
    assert group_copies(dict(enumerate(seen))) == {0: 0, 1: 1, 2: 2, 3: 3, 4: 1, 5: 2, 6: 3}


@given(st.integers(0, 2**32 - 1), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 24)), max_size=30))
def test_near_pairs_join_what_comparing_all_with_all_does(seed: int, pictures: list[tuple[int, int]]) -> None:
    """Pictures of up to four scenes, 0 to 24 bits from their scene's: within, at and beyond what counts as near."""
    rng = np.random.default_rng(seed)
    scenes = rng.random((4, 256)) < 0.5
    seen = [plain(0, scenes[scene].copy()) for scene, _ in pictures]
    for look, (_, n) in zip(seen, pictures, strict=True):
        look.gradients[rng.permutation(256)[:n]] ^= True
    differing = {(i, j): (seen[i].gradients ^ seen[j].gradients).sum() for j in range(len(seen)) for i in range(j)}
    near, found = {pair for pair, n in differing.items() if n <= NEAR_BITS}, near_pairs(seen)
    assert found == sorted(found)
    assert near.issuperset(found)
    assert joined(len(seen), found) == joined(len(seen), near)
    assert len(found) == len(seen) - len(set(joined(len(seen), near)))  # none too many


def joined(n: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """For each of n the first that pairs lead to."""
    first = [*range(n)]
    for i, j in pairs:
        a, b = sorted((first[i], first[j]))
        first = [a if each == b else each for each in first]
    return first


@pytest.mark.parametrize(("kind", "expected", "most"), [("strangers", 0, 200), ("equal", 1999, 0), ("frames", 1999, 0)])
def test_few_pairs_of_many_pictures_are_compared(
    kind: str, expected: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: of 2000 pictures a pair in ten thousand, were they all one picture or a video's frames."""
    compared: list[int] = []
    pairs = copies._band_pairs

    def counted(*args: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for i, j in pairs(*args):
            compared.append(len(i))
            yield i, j

    monkeypatch.setattr(copies, "_band_pairs", counted)
    rng = np.random.default_rng(0)
    gradients = rng.random((2000, 256)) < 0.5
    if kind != "strangers":
        gradients[:] = gradients[0]
    if kind == "frames":
        gradients ^= rng.random((2000, 256)) < 0.01
    assert len(near_pairs([plain(0, each) for each in gradients])) == expected
    assert sum(compared) <= most


def test_memory_is_bounded_where_bands_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_AT_ONCE", 1000)
    pairs = [*copies._band_pairs(np.zeros(100, np.int64), 3, np.arange(100))]
    assert sum(len(i) for i, _ in pairs) == 100 * 99 / 2
    assert max(len(i) for i, _ in pairs) < 1000 + 100


def test_a_picture_that_cant_be_read_is_told_before_all_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def refuse(path: Path) -> np.ndarray:
        read.append(path)
        raise InputError(f"{path}: is damaged")

    monkeypatch.setattr(copies, "read_image", refuse)
    with pytest.raises(InputError, match=r"^0: is damaged"):
        copies_of([Path(str(i)) for i in range(200)], [])
    assert len(read) < 100


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_groups_are_the_connected_pictures(pictures: list[tuple[int, int]]) -> None:
    """Equal digests join, and so do equal gradients; others are 30 bits apart."""
    seen = {i: plain(digest, np.arange(256) < 100 + 30 * step) for i, (digest, step) in enumerate(pictures)}
    groups = group_copies(seen)
    reach = {i: {j for j in seen if pictures[i][0] == pictures[j][0] or pictures[i][1] == pictures[j][1]} for i in seen}
    for _ in seen:
        reach = {i: set().union(*(reach[j] for j in places)) for i, places in reach.items()}
    assert groups == {i: min(places) for i, places in reach.items()}


def test_copies_that_several_splits_share() -> None:
    group = {"a": "a", "b": "a", "c": "c", "d": "c", "e": "e"}
    shared = shared_copies({"train": ["a", "c", "d"], "val": ["b", "e"]}, group)
    assert shared == [{"train": ["a"], "val": ["b"]}]


def test_copies_of_known_pictures_over_any_number_of_steps(tmp_path: Path) -> None:
    pictures = [made_up.picture(seed, 192, 160) for seed in range(3)]
    for name, picture in {"a": pictures[0], "b": pictures[1], "c": pictures[2]}.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
    cv2.imwrite(str(tmp_path / "a.jpg"), pictures[0], [cv2.IMWRITE_JPEG_QUALITY, 60])
    cv2.imwrite(str(tmp_path / "a_small.png"), cv2.resize(pictures[0], (96, 80), interpolation=cv2.INTER_AREA))
    a, again, small, b, c = (tmp_path / name for name in ("a.png", "a.jpg", "a_small.png", "b.png", "c.png"))
    assert copies_of([again, b, small, c], [a, c]) == [again, small, c]
    assert copies_of([again, b], []) == []
    (tmp_path / "d.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"d\.png"):
        copies_of([a], [tmp_path / "d.png"])


def test_known_copies_are_read_back_and_a_damaged_record_is_one_line(tmp_path: Path) -> None:
    assert known_copies(tmp_path) == []
    record = tmp_path / "split.json"
    record.write_text("{}")
    assert known_copies(tmp_path) == []
    record.write_text(json.dumps({"copies": [{"train": ["a"], "val": ["b"]}]}))
    assert known_copies(tmp_path) == [{"train": ["a"], "val": ["b"]}]
    for listed in (3, {}, [3], [{"train": 3}], [{"train": [3]}]):
        record.write_text(json.dumps({"copies": listed}))
        with pytest.raises(InputError, match=r"split\.json: 'copies' is no list"):
            known_copies(tmp_path)
    record.write_text("[]")
    with pytest.raises(InputError, match=r"split\.json"):
        known_copies(tmp_path)
