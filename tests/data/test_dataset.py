"""Crops and their keypoints: what is drawn on a picture stands in the crop where the sample says."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import cv2
import made_up
import numpy as np
import pytest
import torch
from skeletons import FLIP, KEYPOINTS

from catpose.data.augment import Augmentation
from catpose.data.cache import open_pictures
from catpose.data.coco import read_coco, read_split
from catpose.data.coco_split import CocoSplit, Image, labelled
from catpose.data.dataset import CropDataset, collate
from catpose.data.images import read_image
from catpose.geometry import apply, box_to_center_size, image_to_crop
from catpose.instances import Instances

SIZE = (300, 260)
SIZES = [(256, 256), (192, 256), (128, 96)]
ALL = Augmentation(flip_probability=0.5, translation_factor=0.1, half_body_probability=0.5)
NOTHING = Augmentation(flip_probability=0, rotation_factor=0, scale_factor=0, half_body_probability=0)
EACH = {
    "none": None,
    "nothing": NOTHING,
    "flip": dataclasses.replace(NOTHING, flip_probability=1),
    "rotation": dataclasses.replace(NOTHING, rotation_factor=40, rotation_probability=1),
    "scale": dataclasses.replace(NOTHING, scale_factor=0.5),
    "half body": dataclasses.replace(NOTHING, half_body_probability=1),
    "translation": dataclasses.replace(NOTHING, translation_factor=0.15),
    "all": ALL,
}


def blobs(points: np.ndarray, values: np.ndarray, sigma: float = 2.5) -> np.ndarray:
    """A black picture with a soft dot of its own colour at each point, which may lie between pixels."""
    x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    picture = np.zeros((SIZE[1], SIZE[0], 3))
    for (px, py), value in zip(points, values, strict=True):
        picture = np.maximum(picture, value * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2))[..., None])
    return picture.round().astype(np.uint8)


@functools.cache
def picture_of_dots(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(17, 2) px on a grid (shaken, so between pixels), and the picture of a few of them as dots.

    The left ones are red, the right ones green, those in the middle blue.
    """
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.linspace(60, 240, 5), np.linspace(50, 200, 4)), axis=-1).reshape(-1, 2)
    points = rng.permutation(grid)[: len(KEYPOINTS)] + rng.uniform(-6, 6, (len(KEYPOINTS), 2))
    colours = {"left": (255, 0, 0), "right": (0, 255, 0)}
    values = np.array([colours.get(name.split("_")[0], (0, 0, 255)) for name in KEYPOINTS], dtype=float)
    return points, cv2.cvtColor(blobs(points, values), cv2.COLOR_RGB2RGBA)


def dotted(seed: int) -> tuple[CocoSplit, dict[int, np.ndarray]]:
    """One instance whose 17 keypoints are dots in its picture."""
    points, picture = picture_of_dots(seed)
    box = [*points.min(axis=0) - 10, *np.ptp(points, axis=0) + 20]
    annotation = {"id": 77, "image_id": 1, "category_id": 5, "bbox": box}
    annotation["keypoints"] = np.column_stack([points, np.full(len(points), 2)]).ravel().tolist()
    coco = {"images": [{"id": 1}], "annotations": [annotation], "categories": [{"id": 5}]}
    split = CocoSplit(
        **vars(Instances.from_coco(coco)),
        file=Path("dots.json"),
        coco=coco,
        images=(Image(id=1, file_name="dots.png", path=Path("dots.png"), width=SIZE[0], height=SIZE[1]),),
        stated_areas=np.array([np.nan]),
        has_keypoints=True,
    )
    return split, {0: picture}


def centroid(channel: np.ndarray, at: np.ndarray, reach: int) -> np.ndarray:
    """Centre of mass within `reach` px of a place, px."""
    x0, y0 = np.round(at).astype(int) - reach
    window = channel[y0 : y0 + 2 * reach + 1, x0 : x0 + 2 * reach + 1].astype(float)
    y, x = np.mgrid[: window.shape[0], : window.shape[1]]
    return np.array([(window * x).sum(), (window * y).sum()]) / window.sum() + (x0, y0)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("input_size", SIZES)
@pytest.mark.parametrize("name", EACH)
def test_the_picture_agrees_with_the_keypoints(name: str, input_size: tuple[int, int]) -> None:
    """Every dot inside the crop has its centre within half a px of its keypoint, and its side's colour."""
    channels = {"left": 0, "right": 1}
    checked = set()
    for seed in range(4):
        split, pictures = dotted(seed)
        crops = CropDataset(split, np.array([0]), pictures, input_size, EACH[name])
        for epoch in range(3):
            sample = crops[epoch, 0]
            scale = np.linalg.norm(sample["crop_to_image"][:, 0])  # image px for each crop px
            reach = int(8 / scale)
            for i, point in enumerate(sample["keypoints_crop"]):
                if (point < reach + 1).any() or (point > np.array(input_size) - reach - 2).any():
                    continue
                channel = channels.get(KEYPOINTS[i].split("_")[0], 2)
                if name in ("flip", "all"):  # the picture's red dots were the left ones before it was mirrored
                    mirrored = np.linalg.det(sample["crop_to_image"][:, :2]) < 0
                    channel = {0: 1, 1: 0, 2: 2}[channel] if mirrored else channel
                found = centroid(sample["crop"][:, :, channel], point, reach)
                np.testing.assert_allclose(found, point, atol=0.5)
                checked.add(KEYPOINTS[i])
    assert checked == set(KEYPOINTS)


@pytest.mark.parametrize("name", KEYPOINTS)
def test_flip_moves_each_keypoint_to_its_partner(name: str) -> None:
    """With one keypoint labelled, the mirrored sample labels its partner, at the mirrored place."""
    i = KEYPOINTS.index(name)
    split, pictures = dotted(1)
    split.visibility[:] = 0
    split.visibility[0, i] = 1
    straight, flipped = (
        CropDataset(split, np.array([0]), pictures, (192, 256), EACH[which])[0, 0] for which in ("nothing", "flip")
    )
    partner = name.replace("left", "RIGHT").replace("right", "left").replace("RIGHT", "right")
    assert [KEYPOINTS[k] for k in np.flatnonzero(flipped["visibility"])] == [partner]
    assert flipped["visibility"][KEYPOINTS.index(partner)] == 1
    x, y = straight["keypoints_crop"][i]
    np.testing.assert_allclose(flipped["keypoints_crop"][FLIP[i]], [191 - x, y], atol=1e-4)
    assert np.abs(flipped["crop"].astype(int) - straight["crop"][:, ::-1]).max() <= 4  # rounding of places by OpenCV


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> CocoSplit:
    return read_split(made_up.data_set(tmp_path_factory.mktemp("data") / "cats", (6, 2, 2)), "train")


def crops_of(split: CocoSplit, augmentation: Augmentation | None = None, **settings: int) -> CropDataset:
    pictures = open_pictures(split, range(len(split.images)), "memory", None)
    return CropDataset(split, labelled(split), pictures, (64, 96), augmentation, **settings)


def test_the_batch_is_as_agreed(split: CocoSplit) -> None:
    crops = crops_of(split, ALL)
    batch = collate([crops[0, i] for i in range(4)])
    n = len(KEYPOINTS)
    assert {key: (value.dtype, tuple(value.shape)) for key, value in batch.items()} == {
        "crop": (torch.uint8, (4, 96, 64, 3)),
        "keypoints_crop": (torch.float32, (4, n, 2)),
        "visibility": (torch.int64, (4, n)),
        "crop_to_image": (torch.float32, (4, 2, 3)),
        "annotation_id": (torch.int64, (4,)),
        "image_id": (torch.int64, (4,)),
        "category_id": (torch.int64, (4,)),
        "box": (torch.float32, (4, 4)),
        "epoch": (torch.int64, (4,)),
        "area": (torch.float32, (4,)),
    }
    assert batch["annotation_id"].tolist() == split.ids[split.by_id[:4]].tolist()
    assert batch["image_id"].tolist() == [split.images[i].id for i in split.image_index[:4]]


def test_crop_to_image_undoes_the_crop(split: CocoSplit) -> None:
    crops = crops_of(split, ALL)
    flips = 0
    for i in range(len(crops)):
        sample = crops[3, i]
        flipped = np.linalg.det(sample["crop_to_image"][:, :2]) < 0
        flips += flipped
        back = apply(sample["crop_to_image"].astype(float), sample["keypoints_crop"].astype(float))
        truth = split.keypoints[crops.instances[i]]
        np.testing.assert_allclose(back, truth[list(FLIP)] if flipped else truth, atol=1e-3)
    assert 0 < flips < len(crops)


def test_without_augmentation_it_is_the_box(split: CocoSplit) -> None:
    crops = crops_of(split)
    for i, instance in enumerate(crops.instances):
        affine = image_to_crop(*box_to_center_size(split.boxes[instance], (64, 96)), (64, 96))
        picture = read_image(split.images[split.image_index[instance]].path)
        expected = cv2.warpAffine(picture, affine, (64, 96), flags=cv2.INTER_LINEAR)
        assert np.abs(crops[i]["crop"].astype(int) - expected).max() <= 4
        assert np.abs(crops[5, i]["crop"].astype(int) - crops[i]["crop"]).max() == 0
        corner = apply(affine, split.boxes[instance][:2])
        assert (corner > 0).all()


def test_unlabelled_keypoints_are_zero_and_area_is_the_boxes(tmp_path: Path) -> None:
    content = made_up.coco(range(1, 2))
    entry = content["annotations"][0]
    entry["keypoints"][3:6] = [0, 0, 0]
    entry["keypoints"][8] = 1
    del entry["area"]
    (tmp_path / "a.json").write_text(json.dumps(content))
    cv2.imwrite(str(tmp_path / "1.png"), made_up.picture(1))
    sample = crops_of(read_coco(tmp_path / "a.json", tmp_path), EACH["translation"])[0, 0]
    assert sample["visibility"].tolist() == [2, 0, 1] + [2] * 14
    assert sample["keypoints_crop"][1].tolist() == [0, 0]
    assert sample["area"] == entry["bbox"][2] * entry["bbox"][3]
    assert np.isfinite(sample["keypoints_crop"]).all()


def test_keypoints_that_leave_the_crop_keep_place_and_visibility(split: CocoSplit) -> None:
    crops = crops_of(split, dataclasses.replace(NOTHING, translation_factor=1.0))
    samples = [crops[epoch, 0] for epoch in range(10)]
    outside = [(sample["keypoints_crop"] < 0) | (sample["keypoints_crop"] > [63, 95]) for sample in samples]
    assert any(part.any() for part in outside)
    assert all((sample["visibility"] == 2).all() for sample in samples)


def same(one: dict, other: dict) -> bool:  # type: ignore[type-arg]
    return all(np.array_equal(one[key], other[key]) for key in one)


def test_a_sample_depends_on_seed_epoch_and_place_alone(split: CocoSplit) -> None:
    every = dataclasses.replace(ALL, photometric_probability=0.5, noise_probability=0.5, dropout_probability=0.5)
    crops, again = crops_of(split, every, seed=3), crops_of(split, every, seed=3)
    order = np.random.default_rng(0).permutation(len(crops))
    backwards = {int(i): again[1, int(i)] for i in order[::-1]}
    for i in order:
        assert same(crops[1, int(i)], backwards[int(i)])
    assert not same(crops[1, 0], crops[2, 0])
    assert not same(crops[1, 0], crops_of(split, every, seed=4)[1, 0])
    assert not same(crops[1, 2], crops[2, 1])
    assert not same(crops_of(split, every, seed=2)[2, 0], crops[1, 0])  # keys are not summed up


@pytest.mark.realdata
def test_real_cats(cats17: Path) -> None:
    """Every labelled instance makes a crop without augmentation that holds all its keypoints that lie in its box."""
    split = read_split(cats17, "val")
    instances = labelled(split)
    assert len(instances) == 132
    crops = CropDataset(split, instances, open_pictures(split, [], "off", None), (192, 256))
    for i, instance in enumerate(instances):
        sample = crops[i]
        box, points = split.boxes[instance], split.keypoints[instance]
        inside = ((points >= box[:2]) & (points <= box[:2] + box[2:])).all(axis=1)
        assert (sample["keypoints_crop"][inside] >= 0).all()
        assert (sample["keypoints_crop"][inside] <= [191, 255]).all()
        assert sample["crop"].std() > 5
