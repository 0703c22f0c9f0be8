from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page.made_up_page import HOSTILE, LABELS, detections, made_up_gallery, nasty_split, thumbnails

from catpose.data.coco import read_coco, read_split
from catpose.data.coco_split import CocoSplit
from catpose.figures.gallery import LONG_SIDE, Gallery, _natural, gallery, worst_pictures
from catpose.instances import Instances
from catpose.score.ap import own_oks
from catpose.score.detections import Detections
from catpose.score.error_types import ERROR_TYPES, error_types


@pytest.fixture(scope="module")
def shown(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    return made_up_gallery(drawn, tmp_path_factory.mktemp("made up"))


@pytest.fixture(scope="module")
def split(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> CocoSplit:
    return nasty_split(drawn, tmp_path_factory.mktemp("nasty"))


def truth_as_prediction(truth: Instances) -> Detections:
    n = len(truth)
    ones = np.ones((n, 17))
    return Detections(truth.image_id, truth.category_id, np.nan_to_num(truth.keypoints), ones, ones[:, 0], truth.ids)


def test_the_truth_as_prediction_lies_on_the_truth(split: CocoSplit) -> None:
    found = truth_as_prediction(split)
    for item in gallery(split, thumbnails(split), [("truth", found, error_types(split, found))]).items:
        (pose,) = item.poses
        labelled = ~np.isnan(item.truth[:, 0])
        assert pose is not None
        np.testing.assert_array_equal(pose.keypoints[labelled], item.truth[labelled])
        np.testing.assert_array_equal(pose.similarity, np.where(labelled, 1.0, np.nan))
        np.testing.assert_array_equal(pose.error_types, np.where(labelled, ERROR_TYPES.index("good"), -1))
        assert pose.oks == (1.0 if labelled.any() else None)


def test_instances_are_the_splits_in_its_order(shown: Gallery, split: CocoSplit) -> None:
    assert len(shown.items) == len(split) > 24
    files = [split.images[i].file_name for i in split.image_index]
    for i, (item, file) in enumerate(zip(shown.items, files, strict=True)):
        mates = np.flatnonzero(split.image_index == split.image_index[i]).tolist()
        assert item.title == (file if len(mates) == 1 else f"{file}, cat {mates.index(i) + 1} of {len(mates)}")
    assert any(HOSTILE in item.title for item in shown.items)


def test_of_many_instances_the_pictures_of_the_worst_are_shown(split: CocoSplit) -> None:
    rows = np.flatnonzero(~split.ignored)
    off, lost = rows[5], rows[-1]
    found = truth_as_prediction(split)
    found.keypoints[off] += 1e4
    found = found.subset(np.arange(len(split)) != lost)
    order = [int(split.image_index[lost]), int(split.image_index[off])]
    assert worst_pictures(split, found, 1) == {order[0]}
    assert worst_pictures(split, found, 2) == {*order}
    assert worst_pictures(split, found, len(split)) == set(split.image_index[~split.crowd].tolist())

    small = {i: each for i, each in thumbnails(split).items() if i in order}
    some, whole = (
        gallery(split, shown, [("a", found, error_types(split, found))]) for shown in (small, thumbnails(split))
    )
    ids = {str(split.images[i].id) for i in order}
    assert some.pictures.keys() == ids
    assert [each.title for each in some.items] == [each.title for each in whole.items if each.picture in ids]


@pytest.mark.parametrize("long_side", [64, LONG_SIDE])
def test_coordinates_are_those_of_the_thumbnail(
    split: CocoSplit, long_side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catpose.figures.gallery.LONG_SIDE", long_side)
    small = gallery(split, thumbnails(split), [])
    for i, item in enumerate(small.items):
        image = split.images[split.image_index[i]]
        height, width = cv2.imdecode(np.frombuffer(small.pictures[item.picture], np.uint8), cv2.IMREAD_COLOR).shape[:2]
        assert (item.width, item.height) == (width, height)
        assert max(width, height) == min(long_side, max(image.width, image.height))
        # A pixel's index is the place of its centre; in the thumbnail (0, 0) is the picture's corner.
        share = (split.keypoints[i] + 0.5) / (image.width, image.height)
        np.testing.assert_allclose(item.truth / (width, height), share, equal_nan=True)
        corner, size = np.array(item.box[:2]), np.array(item.box[2:])
        np.testing.assert_allclose(corner / (width, height), (split.boxes[i, :2] + 0.5) / (image.width, image.height))
        np.testing.assert_allclose(size / (width, height), split.boxes[i, 2:] / (image.width, image.height))


def test_oks_is_the_scores(split: CocoSplit, shown: Gallery) -> None:
    found = detections(split, careful=True)
    expected = dict(zip(found.annotation_id.tolist(), own_oks(split, found).tolist(), strict=True))
    for annotation, item in zip(split.ids.tolist(), shown.items, strict=True):
        pose = item.poses[0]
        assert pose is not None
        assert pose.oks == expected[annotation] or (pose.oks is None and np.isnan(expected[annotation]))
        if pose.oks is not None:
            assert np.nanmean(pose.similarity) == pytest.approx(pose.oks)


def test_what_is_absent(shown: Gallery) -> None:
    assert [item.poses[1] is None for item in shown.items].count(True) == 1
    assert shown.undetected
    assert [item.poses[0].oks is None for item in shown.items if item.poses[0]].count(True) == 1
    (unlabelled,) = [item for item in shown.items if np.isnan(item.truth).all()]
    assert unlabelled.slices == {}
    assert {"box size", "labelled keypoints", "cut off at the border", "several cats"} <= set(shown.slices)


def test_crowds_are_left_out(drawn: Path, tmp_path: Path) -> None:
    coco = json.loads((drawn / "annotations" / "val.json").read_text())
    coco["annotations"][0]["iscrowd"] = 1
    (tmp_path / "val.json").write_text(json.dumps(coco))
    split = read_coco(tmp_path / "val.json", drawn / "images")
    assert len(gallery(split, thumbnails(split), []).items) == len(split) - 1


def test_the_data_are_json(shown: Gallery) -> None:
    data = json.loads(json.dumps(shown.data(), allow_nan=False))
    assert data["models"] == list(LABELS)
    assert len(data["keypoints"]) == len(data["sides"]) == 17
    assert data["sides"].count("left") == data["sides"].count("right") == 7
    assert {item["picture"] for item in data["items"]} == set(data["pictures"])
    for item, stored in zip(shown.items, data["items"], strict=True):
        assert [point is None for point in stored["truth"]] == np.isnan(item.truth[:, 0]).tolist()
        for pose, its in zip(item.poses, stored["poses"], strict=True):
            assert (pose is None) == (its is None)
            if pose is not None:
                np.testing.assert_allclose(its["keypoints"], pose.keypoints, atol=0.051)
                assert its["oks"] == (None if pose.oks is None else pytest.approx(pose.oks, abs=5.1e-5))


def test_the_same_input_gives_the_same_bytes(drawn: Path, tmp_path: Path, shown: Gallery) -> None:
    assert made_up_gallery(drawn, tmp_path / "again").data() == shown.data()


@given(st.lists(st.integers(0, 999), min_size=1, unique=True))
def test_numbers_within_words_count(borders: list[int]) -> None:
    words = [f"up to {border} px" for border in borders]
    assert sorted(words, key=_natural) == [f"up to {border} px" for border in sorted(borders)]
    assert sorted(["over 256 px", "129 to 256 px", "up to 128 px"], key=_natural)[0] == "up to 128 px"
    assert sorted(["yes", "no"], key=_natural) == ["no", "yes"]


def megabytes_of(n: int, pictures: dict[str, bytes]) -> float:
    """In a page, where three bytes take four characters."""
    return np.mean([len(data) for data in pictures.values()]) * 4 / 3 * n / 1e6


def test_128_drawn_pictures_take_less_than_2_megabytes(shown: Gallery) -> None:
    assert megabytes_of(128, shown.pictures) < 2


@pytest.mark.realdata
def test_200_photographs_take_less_than_8_megabytes(cats17: Path) -> None:
    split = read_split(cats17, "val")
    photographs = gallery(split, thumbnails(split), []).pictures
    assert megabytes_of(200, photographs) < 8
