"""AP on slices of the instances: each as a data set of its own."""

from __future__ import annotations

import numpy as np
import pytest
from cases import random_case

from catpose.instances import Instances
from catpose.score.ap import average_precision, match
from catpose.score.bootstrap import bootstrap_ap, image_weights
from catpose.score.by_slice import ap_by_slice
from catpose.score.detections import Detections
from catpose.score.pairs import owner_of


def pair(seed: int) -> tuple[Instances, Detections]:
    """A random case, a third of the detections from known boxes."""
    coco, results = random_case(seed)
    rng = np.random.default_rng(seed)
    for entry in results:
        here = [a["id"] for a in coco["annotations"] if a["image_id"] == entry["image_id"]]
        if here and rng.random() < 0.3:
            entry["annotation_id"] = int(rng.choice(here))
    truth = Instances.from_coco(coco)
    return truth, Detections.from_results(results, truth)


def labels_of(truth: Instances, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(["dark", "light", "night"], len(truth))


@pytest.mark.one_in(3)
@pytest.mark.parametrize("seed", range(30))
def test_a_slice_is_what_its_own_file_would_give(seed: int):
    coco, results = random_case(seed)
    by_id = sorted(coco["annotations"], key=lambda a: a["image_id"])
    truth = Instances.from_coco(coco)
    detections = Detections.from_results(results, truth)
    labels, owner = labels_of(truth, seed), owner_of(truth, detections)
    slices = ap_by_slice(truth, detections, labels, draws=8)
    assert list(slices) == sorted(set(labels.tolist()))
    weights = image_weights(len(truth.image_ids), 8)
    for label, each in slices.items():
        own = Instances.from_coco(coco | {"annotations": [a for a, b in zip(by_id, labels, strict=True) if b == label]})
        theirs = [entry for entry, row in zip(results, owner, strict=True) if row >= 0 and labels[row] == label]
        expected = match(own, Detections.from_results(theirs, own))
        assert each.n == average_precision(expected)["n"]
        np.testing.assert_allclose(each.ap, average_precision(expected)["AP"], atol=1e-12)
        np.testing.assert_array_equal(each.draws, bootstrap_ap(expected, weights))


def test_one_label_for_all_is_the_whole_without_what_belongs_to_nobody():
    for seed in range(20):
        truth, detections = pair(seed)
        if len(truth) == 0:
            continue
        (each,) = ap_by_slice(truth, detections, np.full(len(truth), "any"), draws=5).values()
        if (owner_of(truth, detections) >= 0).all():
            matches = match(truth, detections)
            np.testing.assert_allclose(each.ap, average_precision(matches)["AP"], atol=1e-12)
            whole = bootstrap_ap(matches, image_weights(len(truth.image_ids), 5))
            np.testing.assert_allclose(each.draws, whole, atol=1e-12)
        assert each.n == (~truth.ignored).sum()


def test_the_slices_are_all_of_the_instances():
    for seed in range(20):
        truth, detections = pair(seed)
        slices = ap_by_slice(truth, detections, labels_of(truth, seed), draws=0)
        assert sum(each.n for each in slices.values()) == (~truth.ignored).sum()
        assert all(each.draws.shape == (0,) for each in slices.values())


def test_draws_without_the_slice_are_nan_and_those_without_a_detection_0():
    truth = next(truth for truth, _ in map(pair, range(9)) if len(truth.image_ids) > 2 and (~truth.ignored).sum() > 2)
    nothing = Detections.from_results([], truth)
    labels = np.where(np.arange(len(truth)) == np.flatnonzero(~truth.ignored)[0], "one", "rest")
    each = ap_by_slice(truth, nothing, labels, draws=200)["one"]
    assert each.n == 1
    assert each.ap == 0
    image = np.searchsorted(truth.image_ids, truth.image_id[labels == "one"])
    absent = image_weights(len(truth.image_ids), 200)[:, image[0]] == 0
    assert 0 < absent.sum() < 200
    np.testing.assert_array_equal(np.isnan(each.draws), absent)


def test_labels_of_another_number_are_refused():
    truth, detections = pair(3)
    with pytest.raises(ValueError, match="one for each instance"):
        ap_by_slice(truth, detections, np.array(["a"] * (len(truth) + 1)), 9)


def test_no_instances():
    truth = Instances.from_coco({"images": [{"id": 0}], "categories": [{"id": 1}], "annotations": []})
    assert ap_by_slice(truth, Detections.from_results([], truth), np.array([], dtype=str), 9) == {}
