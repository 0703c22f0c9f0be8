"""What a data set is like: against numpy on the whole stack, whatever the order of the pictures, mirrored or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import made_up
import numpy as np
import pytest
from skeletons import FLIP, KEYPOINTS

from catpose.data.cache import open_pictures
from catpose.data.coco import read_coco, read_split
from catpose.data.coco_split import CocoSplit, labelled
from catpose.data.dataset import CropDataset
from catpose.data.images import read_image
from catpose.data.statistics import IMAGENET, PUBLISHED, Channels, Statistics, measure


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return made_up.data_set(tmp_path / "cats", (7, 4, 2))


def one(split: CocoSplit, input_size: tuple[int, int] = (64, 48)) -> Statistics:
    return measure([split], input_size).together


def figures(channels: Channels) -> np.ndarray:
    """(4, 3): means and deviations, per picture and pooled."""
    return np.array([*channels.per_picture, *channels.pooled])


def reference(pictures: list[np.ndarray]) -> np.ndarray:
    """The same with numpy, on all pictures at once."""
    scaled = [picture.reshape(-1, 3) / 255 for picture in pictures]
    every = np.concatenate(scaled)
    each = [np.mean([p.mean(axis=0) for p in scaled], axis=0), np.mean([p.std(axis=0) for p in scaled], axis=0)]
    return np.array([*each, every.mean(axis=0), every.std(axis=0)])


def written(folder: Path, pictures: list[np.ndarray], coco: dict[str, Any]) -> CocoSplit:
    """Pictures (RGB) as PNG files beside a file that describes them."""
    (folder / "images").mkdir(parents=True)
    for entry, picture in zip(coco["images"], pictures, strict=True):
        entry |= {"width": picture.shape[1], "height": picture.shape[0], "file_name": f"{entry['id']}.png"}
        cv2.imwrite(str(folder / "images" / entry["file_name"]), picture[..., ::-1])
    (folder / "x.json").write_text(json.dumps(coco))
    return read_coco(folder / "x.json", folder / "images")


def test_images_against_numpy_on_the_whole_stack(root: Path) -> None:
    splits = [read_split(root, name) for name in ("train", "val")]
    for chosen in ([splits[0]], [splits[1]], splits):
        pictures = [read_image(image.path) for split in chosen for image in split.images]
        images = measure(chosen, (32, 32)).together.images
        assert figures(images) == pytest.approx(reference(pictures), abs=1e-12)
        assert (images.n, images.n_pixels) == (len(pictures), len(pictures) * 96 * 80)


def test_pictures_of_different_sizes_count_by_pixels_only_when_pooled(tmp_path: Path) -> None:
    pictures = [made_up.picture(i, 20 + 30 * i, 90 - 20 * i) for i in range(4)]
    coco = made_up.coco(range(1, 5))
    coco["annotations"] = [made_up.annotation(i, i, [1, 1, 9, 9]) for i in range(1, 5)]
    images = one(written(tmp_path, pictures, coco)).images
    assert figures(images) == pytest.approx(reference(pictures), abs=1e-12)
    assert np.abs(images.per_picture[0] - images.pooled[0]).max() > 1e-3


@pytest.mark.parametrize("input_size", [(64, 64), (48, 64), (64, 48)])
def test_crops_are_those_that_a_model_sees(drawn: Path, input_size: tuple[int, int]) -> None:
    split = read_split(drawn, "train")
    dataset = CropDataset(split, labelled(split), open_pictures(split, split.image_index, "off", None), input_size)
    crops = [dataset[i]["crop"] for i in range(len(dataset))]
    statistics = one(split, input_size)
    assert figures(statistics.crops) == pytest.approx(reference(crops), abs=1e-12)
    black = np.mean([(crop == 0).all(axis=2).mean() for crop in crops])
    assert statistics.beyond == pytest.approx(black, abs=0.02)
    assert statistics.beyond > 0.02


@pytest.mark.parametrize("grey", [0, 1, 100, 255])
def test_a_constant_picture_has_no_deviation(tmp_path: Path, grey: int) -> None:
    coco = made_up.coco(range(1, 4))
    statistics = one(written(tmp_path, [np.full((80, 96, 3), grey, np.uint8)] * 3, coco), (41, 67))
    for channels in (statistics.images, statistics.crops_inside):
        mean, deviation = figures(channels)[[0, 2]], figures(channels)[[1, 3]]
        assert mean == pytest.approx(np.full((2, 3), grey / 255), abs=1e-15)
        assert (deviation == 0).all()
    beyond = statistics.crops.histogram - statistics.crops_inside.histogram
    assert grey == 0 or beyond[:, 0].sum() > 0.5 * beyond[:, :grey].sum() > 0


def test_more_pixels_than_float32_counts(tmp_path: Path) -> None:
    coco = made_up.coco(range(1, 2))
    statistics = one(written(tmp_path, [np.full((4100, 4100, 3), 7, np.uint8)], coco))
    assert statistics.images.histogram[:, 7].tolist() == [4100**2] * 3


def test_the_order_of_the_pictures_changes_nothing(root: Path) -> None:
    content = json.loads((root / "annotations" / "train.json").read_text())
    before = measure([read_split(root, "train"), read_split(root, "val")], (32, 32)).summary()["together"]
    for entry in content["images"]:
        entry["id"] = 100 - entry["id"]
    for entry in content["annotations"]:
        entry["image_id"] = 100 - entry["image_id"]
    content["images"] = content["images"][::-1]
    (root / "annotations" / "train.json").write_text(json.dumps(content))
    after = measure([read_split(root, "val"), read_split(root, "train")], (32, 32)).summary()["together"]
    assert before["channels"] == after["channels"]  # to the last bit
    for key in ("image_width_px", "box_long_side_px", "box_share_of_image", "instances_per_image"):
        assert before[key] == pytest.approx(after[key]), key


def test_splits_together_are_as_one(root: Path, tmp_path: Path) -> None:
    coco = made_up.coco(range(1, 12))
    both = one(written(tmp_path / "one", [read_image(root / "images" / f"{i}.png") for i in range(1, 12)], coco))
    parts = measure([read_split(root, "train"), read_split(root, "val")], (64, 48))
    assert parts.together.summary() == both.summary()
    assert parts.splits["val"].summary() == one(read_split(root, "val")).summary()
    assert parts.name == "train + val"


def test_mirrored_pictures_give_the_same(drawn: Path, tmp_path: Path) -> None:
    split = read_split(drawn, "train")
    pictures = [read_image(image.path) for image in split.images]
    coco = json.loads((drawn / "annotations" / "train.json").read_text())
    coco["images"].sort(key=lambda entry: entry["id"])
    widths = {entry["id"]: entry["width"] for entry in coco["images"]}
    for entry in coco["annotations"]:
        triples = np.array(entry["keypoints"], dtype=float).reshape(17, 3)[list(FLIP)]
        last = widths[entry["image_id"]] - 1
        triples[:, 0] = np.where(triples[:, 2] > 0, last - triples[:, 0], 0)
        x, y, width, height = entry["bbox"]
        entry |= {"keypoints": triples.ravel().tolist(), "bbox": [last - x - width, y, width, height]}
    there, here = one(split), one(written(tmp_path, [picture[:, ::-1] for picture in pictures], coco))
    assert (figures(there.images) == figures(here.images)).all()
    assert figures(there.crops) == pytest.approx(figures(here.crops), abs=1e-3)  # warpAffine rounds to 1/32 px
    for a, b in zip(there.mean_pose(), here.mean_pose(), strict=True):
        assert a == pytest.approx(b, abs=1e-9)
    assert (there.mirrored != here.mirrored).all()


def test_poses_face_left_and_the_mean_is_numpys(drawn: Path) -> None:
    split = read_split(drawn, "train")
    statistics = one(split)
    mean, covariance, n = statistics.mean_pose()
    face, rest = list(range(3)), list(range(3, 17))
    assert (np.nanmean(statistics.poses[:, face, 0], axis=1) <= np.nanmean(statistics.poses[:, rest, 0], axis=1)).all()
    assert 0 < statistics.mirrored.sum() < len(split)
    for i, box in enumerate(statistics.boxes):
        points = statistics.poses[i] * (-1, 1) if statistics.mirrored[i] else statistics.poses[i]
        points = points[list(FLIP)] if statistics.mirrored[i] else points
        assert points * box[2:].max() + box[:2] + box[2:] / 2 == pytest.approx(split.keypoints[i], nan_ok=True)
    for k in range(17):
        points = statistics.poses[:, k][~np.isnan(statistics.poses[:, k, 0])]
        assert n[k] == len(points)
        assert mean[k] == pytest.approx(points.mean(axis=0))
        assert covariance[k] == pytest.approx(np.cov(points.T))


def test_sizes_and_labels_are_counted(root: Path) -> None:
    split = read_split(root, "train")
    summary = one(split).summary()
    assert summary["images"] == 7
    assert summary["instances"] == 9  # a second cat on images 3 and 6
    assert summary["instances_per_image"] == {"1": 5, "2": 2}
    assert summary["box_long_side_px"]["largest"] == 70
    assert summary["box_share_of_image"]["smallest"] == pytest.approx(44 * 58 / (96 * 80))
    assert summary["instances_by_keypoints_labelled"] == [0] * 17 + [9]
    assert summary["instances_with_keypoint_labelled"] == dict.fromkeys(KEYPOINTS, 9)


def test_crowds_and_the_unlabelled_are_not_counted(root: Path) -> None:
    file = root / "annotations" / "train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][1] |= {"keypoints": [0] * 51, "num_keypoints": 0}
    file.write_text(json.dumps(content))
    statistics = one(read_split(root, "train"))
    assert len(statistics.boxes) == statistics.crops.n == 7
    assert statistics.images.n == 7


def test_a_file_of_boxes_has_no_poses(root: Path) -> None:
    file = root / "annotations" / "train.json"
    content = json.loads(file.read_text())
    for entry in content["annotations"]:
        del entry["keypoints"], entry["num_keypoints"]
    file.write_text(json.dumps(content))
    statistics = one(read_split(root, "train"))
    assert statistics.crops.n == 9
    summary = statistics.summary()
    assert summary["mean_pose"]["nose"] == {"n": 0, "mean": [None, None], "covariance": [[None, None], [None, None]]}
    json.dumps(summary, allow_nan=False)


@pytest.mark.realdata
def test_the_published_figures(cats17: Path) -> None:
    data = measure([read_split(cats17, name) for name in ("train", "val")])
    images = data.together.images
    assert np.array(images.per_picture) == pytest.approx(np.array(PUBLISHED), abs=1e-3)
    pooled = [[0.476, 0.432, 0.390], [0.275, 0.273, 0.277]]
    assert np.array(images.pooled) == pytest.approx(np.array(pooled), abs=1e-3)
    assert (data.together.crops.n, images.n) == (1236, 1124)
    assert data.together.beyond == pytest.approx(0.246, abs=1e-3)


def test_imagenets_colours_are_timms() -> None:
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    assert IMAGENET == (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
