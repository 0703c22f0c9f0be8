"""Error types: what is known by construction, and the definition spelled out keypoint by keypoint."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cases import random_case
from skeletons import FLIP, N_KEYPOINTS, SIGMAS, similarity

from catpose.instances import Instances
from catpose.score.ap import average_precision, match
from catpose.score.bootstrap import bootstrap_ap, image_weights
from catpose.score.detections import Detections
from catpose.score.error_types import (
    ERROR_TYPES,
    ERRORS,
    GOOD_KS,
    LIKE_OKS,
    NEAR_KS,
    delta_ap,
    delta_ap_by_keypoint,
    error_types,
    rescored,
    without_background,
    without_missed,
)
from catpose.score.oks import oks

GOOD, JITTER, INVERSION, SWAP, MISS = range(len(ERROR_TYPES))
LOCALIZATION = ERROR_TYPES[1:]
MIDDLE = np.array(FLIP) == np.arange(N_KEYPOINTS)
#: Keypoints so far apart that none is near another, in units of the square root of the area.
POSE = np.stack(np.meshgrid(np.arange(5), np.arange(4)), axis=-1).reshape(-1, 2)[:N_KEYPOINTS] * 0.6


def scene(seed: int, animals: int = 1, images: int = 8, labelled: float = 1.0) -> Instances:
    """Images of animals of different sizes, far apart."""
    rng = np.random.default_rng(seed)
    n = animals * images
    side = rng.uniform(30, 200, n)
    corner = rng.uniform(0, 100, (n, 2)) + np.stack([np.arange(n) % animals * 2000, np.zeros(n)], axis=1)
    known = rng.random((n, N_KEYPOINTS)) < labelled
    known[:, 0] = True
    return Instances(
        image_ids=np.arange(images),
        category_ids=np.array([1]),
        ids=rng.permutation(n) + 10,
        image_index=np.repeat(np.arange(images), animals),
        category_index=np.zeros(n, dtype=np.int64),
        boxes=np.concatenate([corner, np.stack([side, side], axis=1)], axis=1),
        areas=side**2,
        keypoints=corner[:, None] + POSE * side[:, None, None],
        visibility=known * 2,
        crowd=np.zeros(n, dtype=bool),
        ignored=np.zeros(n, dtype=bool),
    )


def detected(truth: Instances, keypoints: np.ndarray, seed: int = 0) -> Detections:
    """A detection for each instance, from its box, scored anyhow."""
    score = np.random.default_rng(seed).random(len(truth))
    return Detections(
        image_id=truth.image_id,
        category_id=truth.category_id,
        keypoints=keypoints,
        confidence=np.repeat(score[:, None], N_KEYPOINTS, axis=1),
        score=score,
        annotation_id=truth.ids,
    )


def messy(seed: int) -> tuple[Instances, Detections]:
    """All error types at once, most of them several times."""
    truth = scene(seed, animals=3, images=6, labelled=0.8)
    rng = np.random.default_rng(seed)
    one = truth.keypoints
    steps = rng.integers(1, 3, len(truth))
    other = one[(np.arange(len(truth)) + steps) % 3 + np.arange(len(truth)) // 3 * 3]
    places = np.stack([one, one[:, FLIP], other, other[:, FLIP], one + 700.0])
    which = rng.choice(5, size=(len(truth), N_KEYPOINTS), p=[0.6, 0.12, 0.1, 0.1, 0.08])
    place = np.take_along_axis(places, which[None, ..., None], axis=0)[0]
    noise = rng.normal(size=one.shape) * (2 * np.array(SIGMAS) * np.sqrt(truth.areas[:, None]))[..., None] * 0.5
    return truth, detected(truth, place + noise, seed)


def random_pair(seed: int) -> tuple[Instances, Detections]:
    coco, results = random_case(seed)
    truth = Instances.from_coco(coco)
    return truth, Detections.from_results(results, truth)


def ap(truth: Instances, detections: Detections, key: str = "AP") -> float:
    return float(average_precision(match(truth, detections))[key])


def corrected(truth: Instances, detections: Detections, which: Collection[str]) -> Detections:
    """The detections with errors of these ERROR_TYPES put on their truth, one keypoint after the other."""
    kind, keypoints = error_types(truth, detections), detections.keypoints.copy()
    wrong = np.isin(kind, [ERROR_TYPES.index(name) for name in which])
    for n in np.flatnonzero(wrong.any(axis=1)):
        detection = detection_for(truth, detections, n)
        for k in np.flatnonzero(wrong[n]):
            keypoints[detection, k] = truth.keypoints[n, k]
    return replace(detections, keypoints=keypoints)


# what is known by construction


def test_truth_itself_is_good_and_nothing_is_to_be_gained():
    truth = scene(0, animals=2, labelled=0.7)
    detections = detected(truth, truth.keypoints)
    assert (error_types(truth, detections)[truth.labelled] == GOOD).all()
    result = delta_ap(truth, detections)
    assert ap(truth, detections) == pytest.approx(1, abs=1e-12)
    assert list(result.values) == list(ERRORS)
    assert list(result.values.values()) == pytest.approx([0] * 7, abs=1e-12)
    assert (delta_ap_by_keypoint(truth, detections) == 0).all()


def test_left_taken_for_right_is_inversion_and_nothing_else():
    truth = scene(1)
    detections = detected(truth, truth.keypoints[:, FLIP])
    kind = error_types(truth, detections)
    assert (kind[:, MIDDLE] == GOOD).all()
    assert (kind[:, ~MIDDLE] == INVERSION).all()
    now, delta = ap(truth, detections), delta_ap(truth, detections).values
    assert now < 0.1
    assert now + delta["inversion"] == pytest.approx(1, abs=1e-12)
    assert all(delta[error] == 0 for error in ("miss", "swap", "jitter"))


@pytest.mark.parametrize("flip", [False, True])
def test_another_animals_pose_is_a_swap_and_nothing_else(flip: bool):
    truth = scene(2, animals=2)
    keypoints = truth.keypoints.copy()
    keypoints[1::2] = keypoints[::2][:, FLIP if flip else slice(None)]
    detections = detected(truth, keypoints)
    kind = error_types(truth, detections)
    assert (kind[::2] == GOOD).all()
    assert (kind[1::2] == SWAP).all()
    now, delta = ap(truth, detections), delta_ap(truth, detections).values
    assert now < 0.6
    assert now + delta["swap"] == pytest.approx(1, abs=1e-12)
    assert all(delta[error] == 0 for error in ("miss", "inversion", "jitter"))


def test_far_away_is_a_miss():
    truth = scene(3)
    detections = detected(truth, truth.keypoints + 1e5)
    assert (error_types(truth, detections) == MISS).all()
    assert ap(truth, detections) == 0
    delta = delta_ap(truth, detections).values
    assert delta["miss"] == pytest.approx(1, abs=1e-9)
    assert math.isnan(delta["false negatives"])  # none is found: no instance is left to count


def test_slightly_off_is_jitter():
    truth = scene(4)
    step = 2 * np.array(SIGMAS) * np.sqrt(-2 * truth.areas[:, None] * math.log(0.7))
    detections = detected(truth, truth.keypoints + np.stack([step * 0.6, step * 0.8], axis=-1))
    assert (error_types(truth, detections) == JITTER).all()
    assert ap(truth, detections) + delta_ap(truth, detections).values["jitter"] == pytest.approx(1, abs=1e-9)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("seed", range(2))
def test_size_and_mirror_change_nothing(seed: int):
    truth, detections = messy(seed)
    before, plain = error_types(truth, detections), delta_ap(truth, detections)
    larger = replace(truth, keypoints=truth.keypoints * 3, boxes=truth.boxes * 3, areas=truth.areas * 9)
    bigger = replace(detections, keypoints=detections.keypoints * 3)
    np.testing.assert_array_equal(error_types(larger, bigger), before)
    mirror = np.array([-1.0, 1.0])
    turned = replace(truth, keypoints=truth.keypoints[:, FLIP] * mirror, visibility=truth.visibility[:, FLIP])
    back = replace(detections, keypoints=detections.keypoints[:, FLIP] * mirror)
    np.testing.assert_array_equal(error_types(turned, back), before[:, FLIP])
    for result in (delta_ap(larger, bigger), delta_ap(turned, back)):
        assert result.values == pytest.approx(plain.values, abs=1e-9)
    by_keypoint = delta_ap_by_keypoint(truth, detections)
    np.testing.assert_allclose(delta_ap_by_keypoint(turned, back), by_keypoint[list(FLIP)], atol=1e-9)


def test_of_places_as_near_the_own_animals_counts():
    twins = scene(6, animals=2, images=1)
    twins = replace(twins, keypoints=twins.keypoints[[0, 0]], areas=twins.areas[[0, 0]])
    assert (error_types(twins, detected(twins, twins.keypoints[:, FLIP]))[:, ~MIDDLE] == INVERSION).all()


# the definition, one keypoint after the other


def type_of(truth: Instances, n: int, k: int, point: np.ndarray) -> int:
    def ks(row: int, place: int) -> float:
        if not truth.labelled[row, place]:
            return 0.0
        squared = float(((point - truth.keypoints[row, place]) ** 2).sum())
        return math.exp(-squared / (2 * max(truth.areas[row], 1e-12) * (2 * SIGMAS[k]) ** 2))

    if ks(n, k) >= GOOD_KS:
        return GOOD
    if ks(n, k) >= NEAR_KS:
        return JITTER
    inversion = ks(n, FLIP[k]) if FLIP[k] != k else 0.0
    others = [m for m in range(len(truth)) if m != n and truth.image_id[m] == truth.image_id[n]]
    swap = max((max(ks(m, k), ks(m, FLIP[k])) for m in others), default=0.0)
    return MISS if max(inversion, swap) < NEAR_KS else SWAP if swap > inversion else INVERSION


def detection_for(truth: Instances, detections: Detections, n: int) -> int:
    """The best scored of those from the instance's box, and of those that are more like it than like any other."""

    def similar(d: int, m: int) -> float:
        there = truth.labelled[m]
        each = similarity(detections.keypoints[[d]], truth.keypoints[[m]], truth.areas[[m]])[0]
        return float(each[there].mean()) if there.any() else -1.0

    best, score = -1, -math.inf
    for d in range(len(detections)):
        here = (truth.image_id == detections.image_id[d]) & (truth.category_id == detections.category_id[d])
        rivals = [(similar(d, m), -m) for m in np.flatnonzero(here)]
        named = truth.ids[n] == detections.annotation_id[d]
        like = detections.annotation_id[d] < 0 and rivals and max(rivals)[1] == -n and max(rivals)[0] >= LIKE_OKS
        if (named or like) and detections.score[d] > score:
            best, score = d, float(detections.score[d])
    return best


def test_equals_the_definition_spelled_out():
    seen = np.zeros(len(ERROR_TYPES), dtype=int)
    for truth, detections in [messy(seed) for seed in range(3)] + [random_pair(seed) for seed in range(15)]:
        ours = error_types(truth, detections)
        assert ours.shape == (len(truth), N_KEYPOINTS)
        assert ours.dtype == np.int8
        for n in range(len(truth)):
            detection = detection_for(truth, detections, n)
            for k in range(N_KEYPOINTS):
                if detection < 0 or not truth.labelled[n, k]:
                    assert ours[n, k] == -1
                    continue
                assert ours[n, k] == type_of(truth, n, k, detections.keypoints[detection, k])
                seen[ours[n, k]] += 1
    assert seen.min() > 50  # every type was met


# corrections


def test_with_all_corrected_every_animal_is_found():
    compared = 0
    for truth, detections in [messy(0), *(random_pair(seed) for seed in range(25))]:
        best = without_background(truth, rescored(truth, corrected(truth, detections, LOCALIZATION)))
        left = without_missed(truth, best)
        if not math.isnan(ap(left, best)):
            assert ap(left, best, "AP50") == pytest.approx(1, abs=1e-9)
            compared += 1
    assert compared > 10


def test_by_keypoint_one_keypoint_of_one_type_is_corrected():
    truth, detections = messy(8)
    kind, result = error_types(truth, detections), delta_ap_by_keypoint(truth, detections)
    for k in (0, 2, 9):
        for i, name in enumerate(LOCALIZATION):
            keypoints = detections.keypoints.copy()
            of_kind = kind[:, k] == ERROR_TYPES.index(name)
            keypoints[of_kind, k] = truth.keypoints[of_kind, k]
            delta = ap(truth, replace(detections, keypoints=keypoints)) - ap(truth, detections)
            assert result[k, i] == pytest.approx(delta, abs=1e-12)
    assert (result[MIDDLE, LOCALIZATION.index("inversion")] == 0).all()
    assert (result > 0).sum() > 20


@pytest.mark.one_in(2)
@pytest.mark.parametrize("seed", range(7, 9))
def test_delta_ap_is_that_of_the_corrected_detections_on_the_same_draws(seed: int):
    truth, detections = messy(seed)
    weights = image_weights(len(truth.image_ids), 20, seed=1)
    result = delta_ap(truth, detections, weights)
    now, now_draws = ap(truth, detections), bootstrap_ap(match(truth, detections), weights)
    better = {error: (truth, corrected(truth, detections, [error])) for error in LOCALIZATION}
    better["score"] = truth, rescored(truth, detections)
    better["false positives"] = truth, without_background(truth, detections)
    better["false negatives"] = without_missed(truth, detections), detections
    for error, (true, found) in better.items():
        assert result.values[error] == pytest.approx(ap(true, found) - now, abs=1e-12)
        expected = bootstrap_ap(match(true, found), weights) - now_draws
        np.testing.assert_allclose(result.draws[error], expected, atol=1e-12)
    assert all(result.values[error] > 0 for error in LOCALIZATION)
    some = delta_ap(truth, detections, weights, ("score", "swap"))
    assert some.values == {error: result.values[error] for error in ("score", "swap")}
    assert {error: each.tolist() for error, each in some.draws.items()} == {
        error: result.draws[error].tolist() for error in ("score", "swap")
    }


# scores, false positives, false negatives


def test_rescored_no_false_detection_comes_before_a_true_one():
    for seed in range(30):
        truth, detections = random_pair(seed)
        matches = match(truth, rescored(truth, detections))
        for true, counted in zip(matches.true[0], matches.counted[0], strict=True):
            for category in np.unique(matches.category):
                these = counted & (matches.category == category)
                assert (np.diff(true[these].astype(int)) <= 0).all()


def test_without_background_every_detection_matches_and_the_others_stay_as_they_were():
    dropped = 0
    for seed in range(30):
        truth, detections = random_pair(seed)
        less = without_background(truth, detections)
        before, after = match(truth, detections), match(truth, less)
        assert (after.true[0, 0] | ~after.counted[0, 0]).all()
        assert len(less) == (before.true[0, 0] | ~before.counted[0, 0]).sum()
        assert after.true[0, 0].sum() == before.true[0, 0].sum()
        dropped += len(detections) - len(less)
    assert dropped > 15


def found_by_coco(truth: Instances, detections: Detections) -> set[int]:
    """The instances matched at OKS 0.5: each image's best 20 in turn, each taking the most similar one still free."""
    found: set[int] = set()
    for image, category in {*zip(detections.image_id.tolist(), detections.category_id.tolist(), strict=True)}:
        here = np.flatnonzero((detections.image_id == image) & (detections.category_id == category))
        for d in here[np.argsort(-detections.score[here], kind="stable")][:20]:
            best, value = -1, 0.5
            for g in np.flatnonzero((truth.image_id == image) & (truth.category_id == category) & ~truth.ignored):
                each = similarity(detections.keypoints[[d]], truth.keypoints[[g]], truth.areas[[g]])
                similar = oks(each, truth.labelled[[g]])[0]
                if g not in found and similar >= value:
                    best, value = int(g), similar
            found |= {best} - {-1}
    return found


def test_missed_are_those_that_cocos_matching_leaves():
    missed = 0
    for seed in range(50):
        truth, detections = random_pair(seed)
        left = without_missed(truth, detections)
        assert set(np.flatnonzero(~left.ignored).tolist()) == found_by_coco(truth, detections)
        assert (~left.ignored).sum() == match(truth, detections).true[0, 0].sum()
        missed += (left.ignored & ~truth.ignored).sum()
    assert missed > 15


def test_missed_is_what_a_better_scored_detection_took_or_what_came_after_the_best_20():
    truth = scene(15, animals=2, images=1)
    k = SIGMAS.index(max(SIGMAS))
    side = 2 * SIGMAS[k] * 100.0  # ks is exp(-x² / 2), x sides away
    two = replace(
        truth,
        keypoints=np.repeat(np.array([[[0.0, 0.0]], [[1.85 * side, 0.0]]]), N_KEYPOINTS, axis=1),
        visibility=np.tile(2 * (np.arange(N_KEYPOINTS) == k), (2, 1)),
        areas=np.array([1e4, 1e4]),
    )
    exact, between = np.zeros((N_KEYPOINTS, 2)), np.full((N_KEYPOINTS, 2), [0.84 * side, 0.0])
    for score, missed in (([0.4, 0.6], [False, True]), ([0.6, 0.4], [False, False])):
        both = replace(detected(two, np.stack([exact, between])), score=np.array(score))
        assert without_missed(two, both).ignored.tolist() == missed
    crowd = [*[exact + 1e4] * 20, exact]
    many = Detections(
        image_id=np.zeros(21, dtype=np.int64),
        category_id=np.ones(21, dtype=np.int64),
        keypoints=np.stack(crowd),
        confidence=np.ones((21, N_KEYPOINTS)),
        score=np.arange(21.0)[::-1],
        annotation_id=np.full(21, -1),
    )
    assert without_missed(two, many).ignored.all()
    assert not without_missed(two, replace(many, score=np.arange(21.0))).ignored[0]


def test_detections_of_nothing_and_an_animal_not_found():
    truth = scene(10, images=6)
    found = detected(truth, truth.keypoints).subset(np.arange(1, 6))
    ghosts = replace(
        detected(truth, truth.keypoints + 1e4), annotation_id=np.full(6, -1), score=np.full(6, 2.0)
    )  # better scored than any animal
    names = ("image_id", "category_id", "keypoints", "confidence", "score", "annotation_id")
    both = Detections(**{name: np.concatenate([getattr(ghosts, name), getattr(found, name)]) for name in names})
    kind, result = error_types(truth, both), delta_ap(truth, both)
    assert (kind[0] == -1).all()
    assert (kind[1:] == GOOD).all()
    now = ap(truth, both)
    assert now < 0.6
    assert now + result.values["false positives"] == pytest.approx(ap(truth, found), abs=1e-12)
    assert result.values["score"] == result.values["false positives"]  # ghosts that come last cost nothing
    assert all(result.values[error] == 0 for error in LOCALIZATION)  # and are not corrected to be animals


def test_detections_of_no_known_box_belong_to_what_they_are_like():
    truth = scene(14, animals=2)
    named = detected(truth, truth.keypoints + np.array([2.0, 0.0]))
    anonymous = replace(named, annotation_id=np.full(len(truth), -1))
    np.testing.assert_array_equal(error_types(truth, anonymous), error_types(truth, named))


# little input


def test_no_detections():
    truth = scene(11)
    nothing = Detections.from_results([], truth)
    assert (error_types(truth, nothing) == -1).all()
    result = delta_ap(truth, nothing, image_weights(len(truth.image_ids), 5))
    assert ap(truth, nothing) == 0
    assert all(result.values[error] == 0 for error in ERRORS[:-1])
    assert math.isnan(result.values["false negatives"])
    assert (delta_ap_by_keypoint(truth, nothing) == 0).all()
    assert all(draws.shape == (5,) for draws in result.draws.values())


def test_no_instances_and_none_labelled():
    truth = scene(12, images=2)
    detections = detected(truth, truth.keypoints)
    blank = replace(truth, visibility=np.zeros_like(truth.visibility), ignored=np.ones(2, dtype=bool))
    empty = Instances.from_coco({"images": [{"id": 0}, {"id": 1}], "categories": [{"id": 1}], "annotations": []})
    for none in (blank, empty):
        assert (error_types(none, detections) == -1).all()
        assert all(math.isnan(value) for value in delta_ap(none, detections).values.values())


def test_a_file_that_counts_keypoints_it_does_not_label():
    truth = scene(12, images=2)
    odd = replace(truth, visibility=truth.visibility * (np.arange(2) == 0)[:, None])
    keypoints = np.stack([truth.keypoints[0], np.broadcast_to(truth.boxes[1, :2], (N_KEYPOINTS, 2))])
    assert not without_missed(odd, detected(truth, keypoints)).ignored.any()
    assert np.isfinite(rescored(odd, detected(truth, keypoints)).score).all()
    assert ap(odd, detected(truth, keypoints)) == pytest.approx(1)  # as pycocotools: one in the box is a match
    assert list(delta_ap(odd, detected(truth, keypoints)).values.values()) == pytest.approx([0] * 7)


def test_one_instance():
    truth = scene(13, images=1)
    assert delta_ap(truth, detected(truth, truth.keypoints[:, FLIP])).values["inversion"] == pytest.approx(1)


@pytest.mark.realdata
def test_real_cats_flipped(cats17: Path):
    truth = Instances.from_coco(json.loads((cats17 / "annotations" / "val.json").read_text()))
    flipped = np.where(truth.labelled[:, FLIP, None], truth.keypoints[:, FLIP], truth.keypoints)
    detections = detected(truth, flipped)
    kind, result = error_types(truth, detections), delta_ap(truth, detections)
    assert not np.isin(kind, [MISS, SWAP]).any()
    assert ap(truth, detections) + result.values["inversion"] + result.values["jitter"] > 0.8
    assert ap(truth, corrected(truth, detections, ["inversion", "jitter"])) > 0.95
