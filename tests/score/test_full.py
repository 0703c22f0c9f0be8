"""The whole evaluation: a draw is the data set with images repeated; identities; input with nothing to score."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import random_case
from skeletons import KEYPOINTS

from catpose.instances import Instances
from catpose.score.ap import average_precision, match
from catpose.score.bootstrap import image_weights
from catpose.score.cocoeval import cocoeval, require_agreement
from catpose.score.detections import Detections
from catpose.score.full import Evaluation, evaluate

AP_FAMILY = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L")
PCK = ("PCK@0.05", "PCK@0.1", "PCK@0.2")
PCK_EYES = ("PCK_eyes@0.05", "PCK_eyes@0.1", "PCK_eyes@0.2", "PCK_eyes@0.5")
COUNTS = {"n", "n_M", "n_L", "missing"}
Case = tuple[dict[str, Any], list[dict[str, Any]]]


def run(coco: dict[str, Any], results: list[dict[str, Any]], **more: int) -> Evaluation:
    truth = Instances.from_coco(coco)
    return evaluate(truth, Detections.from_results(results, truth), **more)


def case(seed: int, n_images: int = 6) -> Case:
    """Images with 0, 1 or 2 cats, found more or less well, some not at all, some twice; no two scores alike."""
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id in range(1, n_images + 1):
        for _ in range(rng.choice([0, 1, 1, 2])):
            side = float(rng.choice([50, 80, 200]))
            box = [*rng.uniform(0, 100, 2).tolist(), side, side / 2]
            points = np.column_stack([rng.random((17, 2)) * side + box[:2], 2 * (rng.random(17) < 0.6)])
            common = {"image_id": image_id, "category_id": 1}
            number = {"id": len(annotations) + 1, "iscrowd": int(rng.random() < 0.1)}
            annotations.append(common | number | {"bbox": box, "keypoints": points.ravel().tolist()})
            for _ in range(rng.choice([0, 1, 1, 1, 2])):
                spread = rng.choice([0.01, 0.03, 0.1]) * side
                found = np.column_stack([points[:, :2] + rng.normal(size=(17, 2)) * spread, rng.random(17)])
                name = {"annotation_id": number["id"]} if rng.random() < 0.7 else {}
                results.append(common | name | {"keypoints": found.ravel().tolist(), "score": float(rng.random())})
    images = [{"id": i} for i in range(1, n_images + 1)]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1}]}, results


def repeated(coco: dict[str, Any], results: list[dict[str, Any]], times: np.ndarray) -> Case:
    """The data set with its i-th image there `times[i]` times, as images of their own with all that is in them."""
    images, annotations, more = [], [], []
    for image, n in zip(coco["images"], times.tolist(), strict=True):
        for copy in range(n):
            images.append({"id": 1000 * image["id"] + copy})
            here = {"image_id": images[-1]["id"]}
            number = {a["id"]: 1000 * a["id"] + copy for a in coco["annotations"]}
            annotations += [
                a | here | {"id": number[a["id"]]} for a in coco["annotations"] if a["image_id"] == image["id"]
            ]
            for r in results:
                if r["image_id"] == image["id"]:
                    name = {"annotation_id": number[r["annotation_id"]]} if "annotation_id" in r else {}
                    more.append(r | here | name)
    return {"images": images, "annotations": annotations, "categories": coco["categories"]}, more


@pytest.mark.slow
def test_a_draw_is_the_data_set_with_images_repeated():
    """All figures, evaluated anew; those of the AP family by pycocotools too."""
    seen: dict[str, set[float]] = {}
    n_repeated = 0
    for seed in range(12):
        coco, results = case(seed)
        whole, weights = run(coco, results, draws=4), image_weights(6, 4)
        for i, times in enumerate(weights):
            larger, more = repeated(coco, results, times)
            again = run(larger, more, draws=1)
            drawn = {key: float(value[i]) for key, value in whole.draws.items()}
            assert set(drawn) == set(again.values) - COUNTS
            for key, value in drawn.items():
                assert value == pytest.approx(again.values[key], abs=1e-9, nan_ok=True), (seed, key)
                seen.setdefault(key, set()).add(round(value, 6))
            require_agreement(drawn, cocoeval(larger, more, per_keypoint=seed < 2 and i == 0))
            n_repeated += (times > 1).any()
    assert n_repeated > 40
    assert min(len([v for v in values if not math.isnan(v)]) for values in seen.values()) > 5


def test_values_are_those_of_one_evaluation():
    for seed in range(5):
        coco, results = random_case(seed)
        truth = Instances.from_coco(coco)
        detections = Detections.from_results(results, truth)
        values = evaluate(truth, detections, draws=2).values
        for key, value in average_precision(match(truth, detections)).items():
            assert str(values[key]) == str(float(value))
        assert all(type(value) is float for value in values.values())


def test_keys_and_shapes():
    whole = run(*case(0), draws=7)
    by_keypoint = {f"{name}/{keypoint}" for name in ("AP", "AR", *PCK, "EPE") for keypoint in KEYPOINTS}
    overall = {*AP_FAMILY, *PCK, *(f"m{name}" for name in PCK), *PCK_EYES, "AUC", "NME", "NME_eyes", "EPE", "ECE"}
    assert set(whole.draws) == by_keypoint | overall
    assert set(whole.values) == by_keypoint | overall | COUNTS
    assert {(value.shape, value.dtype.name) for value in whole.draws.values()} == {((7,), "float64")}
    assert whole.n_images == 6
    assert set(whole.rests_on) == set(whole.draws)


def test_what_a_figure_rests_on():
    """Twelve cats of three sizes, all detected but one: eyes labelled on seven, left hips on two."""
    annotations, results = [], []
    for i in range(12):
        labelled = np.zeros(17)
        labelled[[2, *([0] if i < 9 else []), *([1] if i < 7 else []), *([11] if i < 2 else [])]] = 2
        side = (20.0, 50.0, 200.0)[i % 3]
        points = np.column_stack([np.arange(17), np.arange(17), labelled])
        common = {"image_id": i + 1, "category_id": 1}
        annotations.append(common | {"id": i + 1, "bbox": [0, 0, side, side], "keypoints": points.ravel().tolist()})
        if i:
            results.append(common | {"keypoints": points.ravel().tolist(), "score": 0.5})
    images = [{"id": i + 1} for i in range(12)]
    whole = run({"images": images, "annotations": annotations, "categories": [{"id": 1}]}, results, draws=1)
    expected = {"AP": 12, "AP75": 12, "AR": 12, "AP_M": 4, "AR_L": 4, "AP/left_hip": 2, "AR/nose": 12, "PCK@0.1": 12}
    expected |= {
        "PCK@0.1/left_eye": 9,
        "PCK_eyes@0.5": 7,
        "EPE": 11,
        "EPE/left_hip": 1,
        "EPE/neck": 0,
        "NME_eyes": 6,
        "ECE": 11,
    }
    assert {key: whole.rests_on[key] for key in expected} == expected


def test_draws_are_paired_and_repeatable():
    coco, results = case(1)
    one, again = run(coco, results, draws=50), run(coco, results, draws=50)
    assert all(np.array_equal(value, again.draws[key], equal_nan=True) for key, value in one.draws.items())
    # A model that differs on one image alone: the draws without this image don't differ.
    changed = [
        r | {"keypoints": [0.0, 0.0, 0.5] * 17} if r["image_id"] == results[0]["image_id"] else r for r in results
    ]
    other, weights = run(coco, changed, draws=50), image_weights(6, 50)
    without = weights[:, results[0]["image_id"] - 1] == 0
    assert 5 < without.sum() < 45
    for key in ("AP", "AR", "PCK@0.1", "EPE", "ECE"):
        difference = one.draws[key] - other.draws[key]
        difference[np.isnan(difference)] = 0  # draws without a cat
        assert (difference[without] == 0).all()
        assert (difference[~without] != 0).any()


def as_found(coco: dict[str, Any], confidence: float = 1.0) -> list[dict[str, Any]]:
    """The truth as results."""
    results = []
    for a in coco["annotations"]:
        points = np.reshape(a["keypoints"], (17, 3)).copy()
        points[:, 2] = confidence
        named = {"image_id": a["image_id"], "category_id": a["category_id"], "annotation_id": a["id"]}
        results.append(named | {"keypoints": points.ravel().tolist(), "score": 0.1 + 0.001 * a["id"]})
    return results


def labelled(seed: int) -> dict[str, Any]:
    """Instances with all keypoints labelled, of medium and large cats."""
    coco, _ = case(seed, n_images=9)
    annotations = []
    for a in coco["annotations"]:
        points = np.reshape(a["keypoints"], (17, 3)).copy()
        points[:, 2] = 2
        annotations.append(a | {"keypoints": points.ravel().tolist(), "iscrowd": 0})
    assert len({a["bbox"][2] for a in annotations}) > 1
    return coco | {"annotations": annotations}


def test_truth_as_prediction():
    coco = labelled(2)
    whole = run(coco, as_found(coco), draws=20)
    for key, value in whole.values.items():
        if key not in COUNTS:
            exact = 0 if key.startswith(("EPE", "NME", "ECE")) else 1
            assert value == pytest.approx(exact, abs=1e-12), key
            known = whole.draws[key][~np.isnan(whole.draws[key])]
            np.testing.assert_allclose(known, exact, atol=1e-12, err_msg=key)
            assert len(known) > 5
    assert whole.values["missing"] == 0
    assert run(coco, as_found(coco, 0.25), draws=1).values["ECE"] == 0.75


def test_permuted_detections_change_nothing():
    coco, results = case(3)
    one = run(coco, results, draws=20)
    other = run(coco, [results[i] for i in np.random.default_rng(0).permutation(len(results))], draws=20)
    assert {k: str(v) for k, v in one.values.items()} == {k: str(v) for k, v in other.values.items()}
    for key, value in one.draws.items():
        np.testing.assert_allclose(other.draws[key], value, rtol=1e-12)


def scaled(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    wide = []
    for entry in entries:
        points = np.reshape(entry["keypoints"], (17, 3)) * [2, 2, 1]
        wide.append(entry | {"keypoints": points.ravel().tolist()})
        if "bbox" in entry:
            wide[-1]["bbox"] = [2 * value for value in entry["bbox"]]
    return wide


def test_scaling_pictures_and_truth_by_two_doubles_pixels_and_leaves_the_rest():
    coco, results = case(4)
    one = run(coco, results, draws=20)
    other = run(coco | {"annotations": scaled(coco["annotations"])}, scaled(results), draws=20)
    for key in one.values:
        if key not in COUNTS and not key.endswith(("_M", "_L")):  # cats may change their size range
            factor = 2 if key.startswith("EPE") else 1
            assert other.values[key] == pytest.approx(factor * one.values[key], rel=1e-9, nan_ok=True), key
            np.testing.assert_allclose(other.draws[key], factor * one.draws[key], rtol=1e-9, err_msg=key)
    assert 0 < one.values["PCK@0.05"] < one.values["PCK@0.2"]
    assert one.values["EPE"] > 0


def test_a_results_file_without_annotation_ids():
    """Where a detection lies on its own cat, it needs no name to be told apart."""
    coco, rng = labelled(5), np.random.default_rng(0)
    results = as_found(coco)
    for entry in results:
        entry["keypoints"] = (np.array(entry["keypoints"]) + np.tile([1, 1, 0], 17) * rng.normal(size=51)).tolist()
    bare = [{key: value for key, value in r.items() if key != "annotation_id"} for r in results]
    one, other = run(coco, results, draws=5), run(coco, bare, draws=5)
    assert len({a["image_id"] for a in coco["annotations"]}) < len(results)  # there are images of two cats
    assert {k: str(v) for k, v in one.values.items()} == {k: str(v) for k, v in other.values.items()}
    assert 1 < one.values["EPE"] < 2


def test_missed_keypoints_are_counted():
    coco = labelled(2)
    whole = run(coco, as_found(coco)[2:], draws=5)
    n = len(coco["annotations"])
    assert whole.values["missing"] == 34
    assert whole.values["PCK@0.1"] == pytest.approx(1 - 2 / n)
    assert whole.values["AUC"] == pytest.approx(1 - 2 / n)
    assert whole.values["EPE"] == 0


def test_nothing_to_score_is_blank():
    coco, results = case(0)
    nothing = run(coco, [], draws=3)
    for key in ("AP", "AR", *PCK, "AUC"):
        assert nothing.values[key] == 0
    for key in ("NME", "NME_eyes", "EPE", "ECE"):
        assert math.isnan(nothing.values[key])
        assert np.isnan(nothing.draws[key]).all()
    truth = Instances.from_coco(coco)
    assert nothing.values["missing"] == (truth.labelled & ~truth.ignored[:, None]).sum() > 0

    bare = [a | {"keypoints": [0.0] * 51} for a in coco["annotations"]]
    for empty in ([], bare):
        for found in (results, []):
            whole = run(coco | {"annotations": empty}, found, draws=3)
            for key, value in whole.values.items():
                assert value == 0 if key in COUNTS else math.isnan(value), key
            assert all(np.isnan(value).all() for value in whole.draws.values())


def test_one_image_has_no_spread():
    coco = labelled(2)
    image = coco["annotations"][0]["image_id"]
    coco = coco | {"images": [{"id": image}]}
    coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] == image]
    found = as_found(coco)
    found[0]["keypoints"][0] += 3
    whole = run(coco, found, draws=4)
    for key, value in whole.draws.items():
        np.testing.assert_allclose(value, whole.values[key], rtol=1e-12)
    assert whole.values["EPE"] > 0


@pytest.mark.realdata
def test_real_cats(cats17: Path):
    """The real validation split: cats off by known amounts."""
    coco = json.loads((cats17 / "annotations" / "val.json").read_text())
    found = []
    for entry in as_found(coco):
        points = np.reshape(entry["keypoints"], (17, 3)) + np.array([3.0, 4.0, -0.5])
        found.append(entry | {"keypoints": points.ravel().tolist()})
    whole = run(coco, found, draws=100)
    truth = Instances.from_coco(coco)
    count, side = truth.labelled.sum(axis=1), truth.boxes[:, 2:].max(axis=1)
    assert whole.values["EPE"] == pytest.approx(5)
    np.testing.assert_allclose(whole.draws["EPE"], 5)
    assert whole.values["NME"] == pytest.approx((count * 5 / side).sum() / count.sum())
    assert whole.values["PCK@0.05"] == pytest.approx(count[5 / side <= 0.05].sum() / count.sum())
    assert 0 < whole.values["PCK@0.05"] < 1
    require_agreement(whole.values, cocoeval(coco, found, per_keypoint=True))
