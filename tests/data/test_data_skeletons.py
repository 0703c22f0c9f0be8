"""The skeleton of a data set: from its categories, from skeleton.yaml, and what both decide in the data."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from skeletons import HEAD, LEGS, OTHERS, relabelled

from catpose.data.augment import Augmentation, half_body
from catpose.data.cache import open_pictures
from catpose.data.checks import examine_folder
from catpose.data.coco import read_skeleton, read_split
from catpose.data.coco_split import CocoSplit, labelled
from catpose.data.dataset import CropDataset
from catpose.data.skeletons import in_ap10k_order, skeleton_of_category, stated_in
from catpose.data.slices import slices
from catpose.data.statistics import measure
from catpose.errors import InputError
from catpose.skeleton import AP10K, DEFAULT_SIGMA, Skeleton

EACH = pytest.mark.parametrize("skeleton", OTHERS.values(), ids=lambda skeleton: skeleton.name)
CATEGORY = {"keypoints": list(HEAD.names), "skeleton": [[a + 1, b + 1] for a, b in HEAD.limbs]}


def other(drawn: Path, tmp_path: Path, skeleton: Skeleton) -> CocoSplit:
    return read_split(relabelled(drawn, tmp_path / "data", skeleton), "train")


@EACH
def test_it_comes_with_the_file(skeleton: Skeleton, drawn: Path, tmp_path: Path) -> None:
    split = other(drawn, tmp_path, skeleton)
    assert split.skeleton.names == skeleton.names == read_skeleton(tmp_path / "data").names
    assert split.skeleton.limbs == skeleton.limbs
    assert split.skeleton.difference(skeleton) == ""
    assert split.keypoints.shape == (len(split), len(skeleton), 2)
    assert all(finding.severity == "warning" for finding in examine_folder(tmp_path / "data").findings)


def test_ap10ks_names_have_ap10ks_limbs_and_no_data_has_ap10k(drawn: Path, tmp_path: Path) -> None:
    assert read_skeleton(drawn) == AP10K == read_skeleton(tmp_path)
    assert skeleton_of_category({"keypoints": list(AP10K.names), "skeleton": [[1, 17]]}, {}) == AP10K


def test_skeleton_yaml_comes_before_all_else(drawn: Path, tmp_path: Path) -> None:
    relabelled(drawn, tmp_path / "data", HEAD)
    (tmp_path / "data" / "skeleton.yaml").write_text(
        "name: my cats\nsigmas: {chin: 0.05}\nflip_pairs: [[left_ear, right_ear]]\nlimbs: [[nose, chin]]\n"
        "upper: [left_ear, right_ear]\nlower: [chin]\n"
    )
    found = read_split(tmp_path / "data", "val").skeleton
    assert found.name == "my cats"
    assert found.sigmas == (DEFAULT_SIGMA, DEFAULT_SIGMA, 0.025, 0.025, 0.026, 0.05)
    assert (found.flip_pairs, found.limbs, found.upper, found.lower) == (((0, 1),), ((4, 5),), (0, 1), (5,))


@pytest.mark.parametrize(
    ("text", "wording"),
    [
        ("sigma: {nose: 1}", "sigma is not known. Did you mean sigmas?"),
        ("[nose]", "holds no settings"),
        ("sigmas: {noze: 0.1}", "names noze, which is no keypoint of the data. Did you mean nose?"),
        ("sigmas: {nose: big}", "sigmas is no list of numbers by name"),
        ("sigmas: 0.1", "sigmas is no list of numbers by name"),
        ("sigmas: {nose: -1}", "above 0"),
        ("flip_pairs: [[left_ear]]", "flip_pairs is not a list of pairs of names"),
        ("flip_pairs: [[left_ear, right_ear], [left_ear, nose]]", "twice in flip_pairs"),
        ("limbs: nose", "limbs is not a list of pairs of names"),
        ("upper: nose", "upper is not a list of names"),
        ("lower: [tail]", "names tail, which is no keypoint of the data"),
    ],
)
def test_a_wrong_skeleton_yaml_is_one_line(text: str, wording: str, tmp_path: Path) -> None:
    (tmp_path / "skeleton.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        skeleton_of_category(CATEGORY, stated_in(tmp_path))
    assert wording in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("limbs", [[[0, 1]], [[1, 7]], [[1]], "12", [[1, 2.0]], 5])
def test_limbs_that_are_none_are_one_line(limbs: object) -> None:
    with pytest.raises(InputError, match="'skeleton' is not a list of pairs of keypoints, which count from 1"):
        skeleton_of_category(CATEGORY | {"skeleton": limbs}, {})


def test_splits_of_two_skeletons_are_one_line(drawn: Path, tmp_path: Path) -> None:
    relabelled(drawn, tmp_path / "data", HEAD)
    legs = relabelled(drawn, tmp_path / "legs", LEGS)
    (tmp_path / "data" / "annotations" / "val.json").write_text((legs / "annotations" / "val.json").read_text())
    errors = [each for each in examine_folder(tmp_path / "data").findings if each.severity == "error"]
    assert [(each.split, each.kind) for each in errors] == [("val", "keypoint names")]
    assert "12 keypoints, not 6, without left_ear, right_ear" in errors[0].message
    splits = [read_split(tmp_path / "data", name) for name in ("train", "val")]
    with pytest.raises(InputError, match="its keypoints are others than"):
        measure(splits)


@EACH
def test_a_flipped_sample_exchanges_left_and_right(skeleton: Skeleton, drawn: Path, tmp_path: Path) -> None:
    split = other(drawn, tmp_path, skeleton)
    rows = labelled(split)
    pictures = open_pictures(split, split.image_index[rows], "off", None)
    still = {"rotation_factor": 0.0, "scale_factor": 0.0, "half_body_probability": 0.0}
    plain, mirrored = (
        CropDataset(split, rows, pictures, (64, 64), Augmentation(flip_probability=p, **still)) for p in (0.0, 1.0)
    )
    for i in range(5):
        seen = plain[i]["visibility"] > 0
        assert (mirrored[i]["visibility"][list(skeleton.flip)] > 0).tolist() == seen.tolist()
        expected = np.where(seen[:, None], plain[i]["keypoints_crop"] * (-1, 1) + (63, 0), 0)
        np.testing.assert_allclose(mirrored[i]["keypoints_crop"][list(skeleton.flip)], expected, atol=1e-3)
    assert mirrored[0]["crop"].shape == (64, 64, 3)


@EACH
def test_a_half_of_the_body_is_one_of_the_skeletons(skeleton: Skeleton) -> None:
    points = np.stack([np.arange(len(skeleton)) * 10.0, np.zeros(len(skeleton))], axis=1)
    seen = np.full(len(skeleton), 2)
    for upper, own, rest in ((True, skeleton.upper, skeleton.lower), (False, skeleton.lower, skeleton.upper)):
        found = half_body(points, seen, skeleton, upper, (64, 64))
        if len(skeleton) > 8 or found is not None:
            assert found is not None
            half = own if len(own) >= 3 else rest
            assert found[0].tolist() == points[list(half)].mean(axis=0).tolist()
    Augmentation().region(random.Random(0), np.array([0, 0, 10, 10.0]), points, seen, skeleton, (64, 64))


@EACH
def test_statistics_and_slices_are_of_the_skeleton(skeleton: Skeleton, drawn: Path, tmp_path: Path) -> None:
    split = other(drawn, tmp_path, skeleton)
    summary = measure([split]).summary()["together"]
    assert list(summary["mean_pose"]) == list(skeleton.names)
    assert len(summary["instances_by_keypoints_labelled"]) == len(skeleton) + 1
    found = slices(split)
    assert "11 to 17" not in found["labelled keypoints"]
    assert set(found["part of the cat"]) <= {"", *({"no face"} if skeleton is LEGS else {"face only", "no face", "no hind legs", "face and hind legs"})}  # fmt: skip  # noqa: E501


def test_as_ap10k_orders_them() -> None:
    points, seen = np.arange(12.0).reshape(1, 6, 2), np.array([[2, 2, 1, 2, 2, 2]])
    body, visibility = in_ap10k_order(points, seen, HEAD)
    assert body[0, :3].tolist() == points[0, [2, 3, 4]].tolist()
    assert visibility[0].tolist() == [1, 2, 2] + [0] * 14
    assert np.isnan(body[0, 3:]).all()
