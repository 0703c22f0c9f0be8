"""AP and AR: pycocotools is the reference, on hundreds of small data sets full of hard cases."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import assert_agrees, random_case
from skeletons import KEYPOINTS

from catpose.instances import Instances
from catpose.score import ap
from catpose.score.ap import average_precision, count, match, match_moved
from catpose.score.cocoeval import cocoeval
from catpose.score.detections import Detections


def evaluate(coco: dict[str, Any], results: list[dict[str, Any]]) -> dict[str, float]:
    truth = Instances.from_coco(coco)
    return average_precision(match(truth, Detections.from_results(results, truth)))


def compare(seeds: range, per_keypoint: bool) -> None:
    for seed in seeds:
        coco, results = random_case(seed)
        ours, reference = evaluate(coco, results), cocoeval(coco, results, per_keypoint=per_keypoint)
        assert_agrees(ours, reference, tolerance=0 if len(coco["categories"]) == 1 else 1e-15)


def test_random_data_sets():
    compare(range(40), per_keypoint=False)


def test_each_keypoint_alone():
    compare(range(1000, 1006), per_keypoint=True)


@pytest.mark.parametrize(
    ("overall", "per_keypoint"),
    [
        pytest.param(range(2000, 2400), range(12000, 12040), marks=pytest.mark.slow),
        pytest.param(range(2400, 12000), range(12040, 13000), marks=pytest.mark.long),
    ],
)
def test_many_data_sets(overall: range, per_keypoint: range):
    compare(overall, per_keypoint=False)
    compare(per_keypoint, per_keypoint=True)


def test_the_random_data_sets_are_what_they_claim():
    """Each kind of hard case comes up, and the values span the range, or agreement would mean little."""
    values, kinds = [], dict.fromkeys(("tie", "crowd", "unlabelled", "beyond 20", "empty", "at the limit"), 0)
    for seed in range(60):
        coco, results = random_case(seed)
        scores = [entry["score"] for entry in results]
        per_image = [sum(entry["image_id"] == image["id"] for entry in results) for image in coco["images"]]
        kinds["tie"] += len(set(scores)) < len(scores)
        kinds["crowd"] += any(a.get("iscrowd") for a in coco["annotations"])
        kinds["unlabelled"] += any(not any(a["keypoints"][2::3]) for a in coco["annotations"])
        kinds["beyond 20"] += max(per_image) > 20
        kinds["empty"] += min(per_image) == 0
        kinds["at the limit"] += any(a["bbox"][2] in (32, 96) for a in coco["annotations"])
        values.append(float(evaluate(coco, results)["AP"]))
    assert min(kinds.values()) >= 3, kinds
    known = [value for value in values if not math.isnan(value)]
    assert len(known) < len(values)
    assert min(known) == 0
    assert max(known) == pytest.approx(1)
    assert np.mean([0 < value < 0.99 for value in known]) > 0.5


# Single cases, by name


def instance(
    image_id: int = 1, number: int = 1, side: float = 100.0, labelled: int = 17, **more: Any
) -> dict[str, Any]:
    points = np.column_stack([np.arange(17) * side / 20, np.arange(17)[::-1] * side / 20, np.arange(17) < labelled])
    keypoints = points.ravel().tolist()
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "bbox": [0.0, 0.0, side, side],
        "keypoints": keypoints,
        **more,
    }


def found(annotation: dict[str, Any], score: float = 1.0, missed: int = 0, **more: Any) -> dict[str, Any]:
    """A detection on the truth, but for the first `missed` keypoints, which are far off."""
    points = np.reshape(annotation["keypoints"], (17, 3)).copy()
    points[:missed, :2] += 1e6
    return {
        "image_id": annotation["image_id"],
        "category_id": 1,
        "keypoints": points.ravel().tolist(),
        "score": score,
    } | more


def both(annotations: list[dict[str, Any]], results: list[dict[str, Any]], n_images: int = 1) -> dict[str, float]:
    """Our values, after COCOeval has agreed."""
    images = [{"id": i + 1} for i in range(n_images)]
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1}]}
    ours = evaluate(coco, results)
    assert_agrees(ours, cocoeval(coco, results, per_keypoint=True))
    return ours


def test_truth_as_detection_is_one():
    truth = [instance(1, 1), instance(2, 2, side=50.0), instance(3, 3, labelled=5)]
    values = both(truth, [found(a) for a in truth], 4)
    for key in ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR"):
        assert values[key] == pytest.approx(1)  # pycocotools adds a tiny number to every denominator
    assert (values["n"], values["n_M"], values["n_L"]) == (3, 1, 2)
    assert all(values[f"AP/{name}"] == pytest.approx(1) for name in KEYPOINTS)


def test_blank_where_no_instance_counts():
    values = both([instance(labelled=3)], [])
    assert (values["AP"], values["AR"], values["AP_L"]) == (0, 0, 0)
    assert math.isnan(values["AP_M"])
    assert values["n_M"] == 0
    assert [math.isnan(values[f"AP/{name}"]) for name in KEYPOINTS] == [False] * 3 + [True] * 14
    assert math.isnan(both([], [found(instance())])["AP"])
    assert math.isnan(both([instance(iscrowd=1)], [found(instance())])["AP"])


@pytest.mark.parametrize(("labelled", "missed", "reached"), [(2, 1, 0.5), (10, 4, 0.6), (4, 1, 0.75), (10, 1, 0.9)])
def test_oks_exactly_at_a_threshold_counts(labelled: int, missed: int, reached: float):
    truth = instance(labelled=labelled)
    n_thresholds = np.count_nonzero((labelled - missed) / labelled >= ap.THRESHOLDS)
    values = both([truth], [found(truth, missed=missed)])
    assert values["AP"] == pytest.approx(n_thresholds / 10)
    assert n_thresholds == round((reached - 0.45) / 0.05)


@pytest.mark.parametrize(
    ("side", "medium", "large"), [(31.99, 0, 0), (32, 1, 0), (95.9, 1, 0), (96, 1, 1), (96.1, 0, 1)]
)
def test_the_ends_of_a_size_range_belong_to_it(side: float, medium: int, large: int):
    values = both([instance(side=side)], [found(instance(side=side))])
    assert (values["n_M"], values["n_L"]) == (medium, large)


def test_ignored_truth_excuses_detections():
    cat, crowd, bare = instance(1, 1), instance(1, 2, iscrowd=1), instance(1, 3, labelled=0)
    assert both([cat, crowd], [found(cat, 0.5), *[found(crowd, 1.0)] * 3])["AP"] == pytest.approx(
        1
    )  # a crowd takes any number
    assert both([cat, bare], [found(cat, 0.5), *[found(bare, 1.0)] * 2])["AP"] == pytest.approx(1)
    assert both([cat, bare], [found(cat, 0.5), *[found(bare, 1.0)] * 3])["AP"] == pytest.approx(
        1
    )  # the third comes last
    assert both([cat], [found(cat, 0.5), found(cat, 1.0, missed=17)])["AP"] == pytest.approx(0.5)


def test_a_twentyfirst_detection_is_not_looked_at():
    cat, junk = instance(), [found(instance(), 0.9, missed=17)] * 20
    assert both([cat], [*junk[:19], found(cat, 0.1)])["AR"] == 1
    assert both([cat], [*junk, found(cat, 0.1)])["AR"] == 0


def test_duplicates_count_against_the_second():
    cats = [instance(1, 1), instance(2, 2)]
    assert both(cats, [found(cats[0], 0.9), found(cats[0], 0.8), found(cats[1], 0.7)], 2)["AP"] < 1
    assert both(cats, [found(cats[0], 0.9), found(cats[1], 0.8), found(cats[0], 0.7)], 2)["AP"] == pytest.approx(1)


def test_with_equal_scores_the_order_of_images_decides_not_of_the_file():
    good, bad = found(instance(1, 1), 0.5), found(instance(2, 2), 0.5, missed=17)
    first = both([instance(1, 1), instance(2, 2)], [good, bad], 2)
    assert first["AP"] == both([instance(1, 1), instance(2, 2)], [bad, good], 2)["AP"]
    swapped = both([instance(1, 1), instance(2, 2)], [good | {"image_id": 2}, bad | {"image_id": 1}], 2)
    assert swapped["AP"] < first["AP"]


# What else is asked of it


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch):
    for seed in range(8):
        coco, results = random_case(seed)
        truth = Instances.from_coco(coco)
        detections = Detections.from_results(results, truth)
        monkeypatch.setattr(ap, "_BLOCK", 80_000)
        whole = match(truth, detections)
        monkeypatch.setattr(ap, "_BLOCK", 1)
        pieces = match(truth, detections)
        assert (whole.true == pieces.true).all()
        assert (whole.counted == pieces.counted).all()


def test_moved_detections_are_matched_as_if_each_were_a_file_of_its_own():
    far = 0
    for seed in range(20):
        coco, results = random_case(seed)
        truth = Instances.from_coco(coco)
        detections = Detections.from_results(results, truth)
        rng = np.random.default_rng(seed)
        shifts = rng.normal(0, 20, (3, *detections.keypoints.shape)) * (rng.random(3) < 0.7)[:, None, None, None]
        moved = {"AP": detections.keypoints} | {f"AP/{i}": detections.keypoints + each for i, each in enumerate(shifts)}
        moved["AP/far"] = detections.keypoints * 1e5  # areas beyond all sizes, unless there are boxes
        together = match_moved(truth, detections, moved)
        assert together.questions == tuple(moved)
        for q, keypoints in enumerate(moved.values()):
            alone = match(truth, replace(detections, keypoints=keypoints), by_keypoint=False)
            for name in ("true", "counted", "instances"):
                np.testing.assert_array_equal(getattr(together, name)[q], getattr(alone, name)[0])
            np.testing.assert_array_equal(together.detection, alone.detection)
        far += int((~together.counted[-1] & together.counted[0]).sum())
    assert far > 20


def test_shapes():
    coco, results = random_case(11)
    truth = Instances.from_coco(coco)
    matches = match(truth, Detections.from_results(results, truth))
    n = len(matches.detection)
    assert matches.true.shape == matches.counted.shape == (20, 10, n)
    assert matches.instances.shape == (20, len(truth.category_ids), len(truth.image_ids))
    assert not (matches.true & ~matches.counted).any()
    assert len(set(matches.detection.tolist())) == n


@pytest.mark.realdata
def test_real_cats(cats17: Path):
    coco = json.loads((cats17 / "annotations" / "val.json").read_text())
    rng = np.random.default_rng(0)
    results = []
    for annotation in coco["annotations"]:
        points = np.reshape(annotation["keypoints"], (17, 3)).astype(float)
        points[:, :2] += rng.normal(size=(17, 2)) * math.sqrt(annotation["area"]) * rng.gamma(2, 0.02)
        points[:, 2] = rng.random(17)
        keys = {key: annotation[key] for key in ("image_id", "category_id")}
        results.append(keys | {"keypoints": points.ravel().tolist(), "score": float(points[:, 2].mean())})
    ours = evaluate(coco, results)
    assert_agrees(ours, cocoeval(coco, results, per_keypoint=True))
    assert ours["n"] == 132
    assert 0.2 < ours["AP"] < 0.9


def test_what_is_left_out_is_counted():
    cats = [instance(1, 1), instance(2, 2), instance(3, 3, labelled=0)]
    truth = Instances.from_coco(
        {"images": [{"id": i} for i in (1, 2, 3)], "categories": [{"id": 1}], "annotations": cats}
    )
    one = [found(cats[0], 0.9)]

    def said(results: list[dict[str, Any]]) -> str:
        return count(truth, Detections.from_results(results, truth))

    assert said([]) == "0 detections in 0 of 2 labelled images; 2 labelled images have none"
    assert said([*one, found(cats[1])]) == "2 detections in 2 of 2 labelled images"
    assert said(one * 2) == "2 detections in 1 of 2 labelled images; 1 labelled images have none; 1 are there twice"
    many = [found(cats[0], i / 30) for i in range(23)]
    assert "3 beyond the best 20 of an image don't count" in said(many)
