"""The slices of each instance: every border, every rule, and colours that are alike or apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import made_up
import numpy as np
import pytest
from skeletons import KEYPOINTS, LIMBS

from catpose.data.coco import read_coco, read_split
from catpose.data.coco_split import CocoSplit
from catpose.data.slices import COLOUR_BORDERS, COPIED, SLICES, colour_distance, colour_distances, slices

IMAGE = (400, 300)
BOX = [50, 40, 120, 90]


def split(folder: Path, annotations: list[dict[str, Any]], images: list[dict[str, Any]] | None = None) -> CocoSplit:
    """A file of instances; pictures of 400 × 300 px that need not be there."""
    ids = {entry["image_id"] for entry in annotations}
    images = images or [{"id": i, "file_name": f"{i}.png"} for i in ids]
    entries = [{"width": IMAGE[0], "height": IMAGE[1], **entry} for entry in images]
    content = {"images": entries, "annotations": annotations, "categories": [made_up.category()]}
    (folder / "x.json").write_text(json.dumps(content))
    return read_coco(folder / "x.json", folder)


def cat(id_: int, box: list[float] = BOX, names: tuple[str, ...] = KEYPOINTS, **more: Any) -> dict[str, Any]:
    """An instance on an image of its own, of whose keypoints those named are labelled."""
    entry = made_up.annotation(id_, id_, box)
    triples = np.array(entry["keypoints"]).reshape(17, 3)
    triples[[name not in names for name in KEYPOINTS]] = 0
    return entry | {"keypoints": triples.ravel().tolist(), "num_keypoints": len(names)} | more


def words(attribute: str, data: CocoSplit) -> list[str]:
    return slices(data)[attribute].tolist()


def test_box_sizes(tmp_path: Path) -> None:
    sides = [1, 127.9, 128, 128.1, 256, 256.5, 300]
    tall = [cat(i, [5, 5, 1, side]) for i, side in enumerate(sides, 1)]
    wide = [cat(i, [5, 5, side, 1]) for i, side in enumerate(sides, 1)]
    low, middle, high = SLICES["box size"]
    for entries in (tall, wide):
        assert words("box size", split(tmp_path, entries)) == [low] * 3 + [middle] * 2 + [high] * 2


def test_labelled_keypoints(tmp_path: Path) -> None:
    data = split(tmp_path, [cat(n, names=KEYPOINTS[:n]) for n in range(1, 18)])
    assert words("labelled keypoints", data) == ["1 to 5"] * 5 + ["6 to 10"] * 5 + ["11 to 17"] * 7


def test_copies_in_other_splits_are_those_of_the_record(tmp_path: Path) -> None:
    (tmp_path / "cats" / "annotations").mkdir(parents=True)
    data = split(tmp_path / "cats" / "annotations", [cat(i) for i in range(1, 5)])
    assert words(COPIED, data) == ["no"] * 4
    copies = [{"x": ["1.png"], "train": ["9.png"]}, {"train": ["2.png"], "val": ["7.png"]}, {"x": ["3.png", "4.png"]}]
    (tmp_path / "cats" / "split.json").write_text(json.dumps({"copies": copies}))
    assert words(COPIED, data) == ["yes", "no", "no", "no"]  # 3 and 4 are copies within the split


@pytest.mark.parametrize("gap", [-3, 0, 1.9, 2, 2.1, 30])
@pytest.mark.parametrize("side", range(4))
def test_cut_off(tmp_path: Path, gap: float, side: int) -> None:
    box = [100.0, 100.0, 80.0, 60.0]
    if side < 2:
        box[side] = gap
    else:
        box[side - 2] = IMAGE[side - 2] - box[side] - gap
    assert words("cut off at the border", split(tmp_path, [cat(1, box)])) == ["yes" if gap <= 2 else "no"]


def test_several_cats(tmp_path: Path) -> None:
    beside = [cat(1), cat(2), cat(3, image_id=2), cat(4, iscrowd=1), cat(5, image_id=4)]
    assert words("several cats", split(tmp_path, beside)) == ["no", "yes", "yes", "", "yes"]


@pytest.mark.parametrize(
    ("names", "part"),
    [
        (("nose",), "face only"),
        (("left_eye", "right_eye", "nose", "neck"), "face only"),
        (("neck",), "face only"),
        (("nose", "left_front_paw"), "no hind legs"),
        (("left_eye", "root_of_tail"), "no hind legs"),
        (("neck", "left_shoulder"), "no face"),
        (("root_of_tail",), "no face"),
        (("right_back_paw", "neck"), "no face"),
        (("nose", "right_hip"), "face and hind legs"),
        (KEYPOINTS, "face and hind legs"),
    ],
)
def test_parts_of_the_cat(tmp_path: Path, names: tuple[str, ...], part: str) -> None:
    assert words("part of the cat", split(tmp_path, [cat(1, names=names)])) == [part]


def test_sources(tmp_path: Path) -> None:
    def of(name: str, image: str | None = None, annotation: object = None) -> list[str]:
        entry = {"id": 1, "file_name": name} | ({"source": image} if image is not None else {})
        return words("source", split(tmp_path, [cat(1, source=annotation)], [entry]))

    assert of("2008_003499.jpg") == ["VOC"]
    assert of("2008_0034.jpg") == of("0012.png") == ["numbered"]
    assert of("ca12.jpeg") == ["ca"]
    assert of("drawn_000018.jpg") == ["drawn"]
    assert of("web/2008_003499.jpg") == ["web"]
    assert of("ca12.jpeg", annotation="a zoo") == ["a zoo"]
    assert of("ca12.jpeg", image="my phone", annotation="a zoo") == ["my phone"]
    assert of("ca12.jpeg", image=" ", annotation=7) == ["ca"]


def test_rare_names_are_one_source(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"voc_{i}.jpg" if i <= 40 else f"{chr(60 + i)}.jpg"} for i in range(1, 43)]
    found = words("source", split(tmp_path, [cat(i, [50 + i, 40, 120, 90]) for i in range(1, 43)], images))
    assert found == ["voc"] * 40 + ["other"] * 2


def test_who_does_not_count_is_in_no_slice(tmp_path: Path) -> None:
    data = split(tmp_path, [cat(1, iscrowd=1), cat(2, names=()), cat(3)])
    found = slices(data)
    assert list(found) == [name for name in SLICES if name != "colour"]
    for attribute, names in found.items():
        assert names[:2].tolist() == ["", ""]
        assert names[2] in (SLICES[attribute] or ("numbered",))


def test_instances_keep_the_order_of_the_split(drawn: Path) -> None:
    data = read_split(drawn, "train")
    distances = colour_distances(data)
    found = slices(data, distances)
    assert list(found) == list(SLICES)
    for i in range(len(data)):
        long = data.boxes[i, 2:].max()
        assert found["box size"][i] == SLICES["box size"][int(long > 128) + int(long > 256)]
        assert (found["several cats"][i] == "yes") == (np.sum(data.image_index == data.image_index[i]) > 1)
    assert set(found["colour"]) <= {*SLICES["colour"], ""}
    assert ((found["colour"] == "alike") == (distances <= COLOUR_BORDERS[0])).all()
    assert ((found["colour"] == "apart") == (distances > COLOUR_BORDERS[1])).all()


def scene(animal: tuple[int, int, int], ground: tuple[int, int, int], noise: float = 6, seed: int = 0) -> np.ndarray:
    """A round cat of one colour, on ground of one colour, with some noise."""
    picture = np.full((IMAGE[1], IMAGE[0], 3), ground, float)
    x, y, width, height = BOX
    cv2.ellipse(picture, (x + width // 2, y + height // 2), (width // 2, height // 2), 0, 0, 360, animal, -1)
    return (picture + np.random.default_rng(seed).normal(0, noise, picture.shape)).clip(0, 255).round().astype(np.uint8)


def distance(picture: np.ndarray, others: list[list[float]] | None = None) -> float:
    keypoints = np.array(made_up.keypoints(BOX)).reshape(17, 3)[:, :2].astype(float)
    keypoints[5:] = np.nan  # legs that leave the ellipse
    boxes = np.array(others or [], dtype=float).reshape(-1, 4)
    return colour_distance(picture, np.array(BOX, dtype=float), keypoints, boxes, LIMBS)


def test_colours_apart_and_alike() -> None:
    assert distance(scene((230, 120, 30), (60, 140, 60))) > 0.9
    assert distance(scene((120, 110, 100), (120, 110, 100))) < 0.15
    steps = [distance(scene((120 + d, 110, 100 - d), (120, 110, 100))) for d in (0, 8, 16, 32, 64)]
    assert steps == sorted(steps)
    assert distance(scene((120, 110, 100), (60, 55, 50))) > COLOUR_BORDERS[1]  # as dark against bright


def test_the_distance_is_the_same_for_mirrored_and_enlarged_pictures() -> None:
    picture = scene((150, 120, 90), (110, 115, 120), noise=25)
    x, y, width, height = BOX
    points = np.array(made_up.keypoints(BOX)).reshape(17, 3)[:, :2].astype(float)
    points[5:] = np.nan
    plain = distance(picture)
    flipped = np.array([IMAGE[0] - 1 - x - width, y, width, height], dtype=float)
    none = np.zeros((0, 4))
    mirrored = colour_distance(
        picture[:, ::-1], flipped, np.stack([IMAGE[0] - 1 - points[:, 0], points[:, 1]], 1), none, LIMBS
    )
    large = cv2.resize(picture, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    enlarged = colour_distance(large, 2.0 * np.array(BOX), 2 * points, none, LIMBS)
    assert mirrored == pytest.approx(plain, abs=0.02)
    assert enlarged == pytest.approx(plain, abs=0.02)


def test_only_what_is_around_the_animal_counts() -> None:
    alike = scene((120, 110, 100), (120, 110, 100))
    far = alike.copy()
    far[200:] = (255, 0, 0)  # beyond the padded box
    assert distance(far) == distance(alike)
    beside = alike.copy()
    beside[:, 171:] = (255, 0, 0)
    assert distance(beside) > 0.25
    assert distance(beside, [[171, 0, 200, 299]]) < 0.15  # that is another cat
    assert np.isnan(distance(alike, [[0, 0, 399, 299]]))


def test_a_picture_is_opened_for_the_colour_only(tmp_path: Path) -> None:
    data = split(tmp_path, [cat(1), cat(2)])
    assert "colour" not in slices(data)
    for i in (1, 2):
        cv2.imwrite(str(tmp_path / f"{i}.png"), scene((230, 120, 30), (60, 140, 60)))
    assert slices(data, colour_distances(data))["colour"].tolist() == ["apart"] * 2


def test_extreme_boxes_and_keypoints_do_no_harm() -> None:
    picture = scene((1, 2, 3), (200, 200, 200))
    points = np.full((17, 2), np.nan)
    points[0], points[3] = (1e6, -1e6), (2, 3)
    for box in ([-50, -50, 500, 400], [399, 299, 0.5, 0.5], [0, 0, 1e6, 1], [900, 900, 10, 10]):
        found = colour_distance(picture, np.array(box, dtype=float), points, np.zeros((0, 4)), LIMBS)
        assert np.isnan(found) or 0 <= found <= 1


@pytest.mark.realdata
def test_real_cats_are_in_every_slice(cats17: Path) -> None:
    data = read_split(cats17, "val")
    found = slices(data, colour_distances(data))
    assert set(found[COPIED].tolist()) == {"no"}  # there is no split.json that lists its copies
    for attribute, names in SLICES.items():
        for part in (names or ("VOC", "ca")) if attribute != COPIED else ():
            least = 1 if part == "no face" else 5
            assert (found[attribute] == part).sum() >= least, (attribute, part)
    assert min((found["colour"] == part).sum() for part in SLICES["colour"]) > 25
