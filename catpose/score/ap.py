"""Average precision and recall, COCO's protocol, in two steps.

`match` compares detections with truth, image by image, once. `average_precision` then counts over all images, and
`catpose.score.bootstrap` over any number of resamples of them (no image is ever matched again).

The protocol (pycocotools' `COCOeval` is the reference, to the last digit): thresholds 0.50:0.05:0.95 of similarity,
precision at 101 recalls, at most so many detections an image and category, the mean over categories. For keypoints the
similarity is OKS, and 3 + K questions are asked in one go: all instances, those of medium and of large size, and K
times one keypoint alone, where truth has only that keypoint labelled, instances without it are ignored, and detections
keep their score. `catpose.score.box_ap` asks the same of boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np

from catpose.instances import Instances
from catpose.score.detections import Detections
from catpose.score.oks import oks, oks_to_unlabelled, similarity

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 20

#: Areas in px², both ends included, by what AP on them is called.
SIZES = {"AP": (0.0, 1e10), "AP_M": (32.0**2, 96.0**2), "AP_L": (96.0**2, 1e10)}

_BLOCK = 80_000  # instances times questions compared at once: some tens of megabytes


class Found(Protocol):
    """M detections, whatever they are of."""

    def __len__(self) -> int: ...
    @property
    def image_id(self) -> np.ndarray: ...
    @property
    def category_id(self) -> np.ndarray: ...
    @property
    def score(self) -> np.ndarray: ...


class Questions(NamedTuple):
    """Q subsets of the instances whose AP is asked for, and how alike a detection and an instance are."""

    names: tuple[str, ...]  # of their AP: "AP", "AP_M", "AP/nose"
    sizes: np.ndarray  # (Q, 2) float64, px²: the least and the largest area
    ignored: np.ndarray  # (Q, N) bool: instances that don't count, those of another size aside
    similar: Callable[[np.ndarray, np.ndarray], np.ndarray]  # of (B, D, 1) and (B, 1, G): (B, Q or 1, D, G), 0..1
    areas: np.ndarray  # (M,) or (Q, M) float64, px²: of the detections
    most: int  # detections of an image and category that are looked at


@dataclass(frozen=True, eq=False)
class Matches:
    """Who matched whom: Q questions, T thresholds, M detections of highest score first, C categories, I images."""

    questions: tuple[str, ...]  # the names of their AP

    true: np.ndarray  # (Q, T, M) bool: matched to an instance that counts
    counted: np.ndarray  # (Q, T, M) bool: true, or false; the rest is ignored
    image: np.ndarray  # (M,) int64, index of its image in `Instances.image_ids`
    category: np.ndarray  # (M,) int64, index of its category in `Instances.category_ids`
    detection: np.ndarray  # (M,) int64, index into the detections; those beyond an image's best are absent
    instances: np.ndarray  # (Q, C, I) int64: how many instances count


def match(truth: Instances, detections: Detections, by_keypoint: bool = True) -> Matches:
    """Match keypoints by OKS.

    Args:
        truth, detections: of one data set: the detections' images and categories are among the truth's.
        by_keypoint: ask for each keypoint's own AP, too.
    """
    alone = truth.skeleton.names if by_keypoint else ()
    sizes = np.array([*SIZES.values(), *[SIZES["AP"]] * len(alone)])
    ignored = np.repeat(truth.ignored[None], len(sizes), axis=0)
    if by_keypoint:
        ignored[len(SIZES) :] |= ~truth.labelled.T
    names = (*SIZES, *(f"AP/{name}" for name in alone))
    similar = partial(_oks, truth, detections.keypoints, by_keypoint)
    return match_by(truth, detections, Questions(names, sizes, ignored, similar, detections.area, MAX_DETECTIONS))


def match_moved(truth: Instances, detections: Detections, moved: Mapping[str, np.ndarray]) -> Matches:
    """Match the same detections, of the same scores, with their keypoints in other places: V questions of all sizes.

    Args:
        moved: by the name of its AP, the keypoints (M, K, 2), image px.
    """
    rows = np.concatenate([*moved.values()])  # those of one question below another's
    first = len(detections) * np.arange(len(moved))[:, None, None]

    def similar(d: np.ndarray, g: np.ndarray) -> np.ndarray:
        return _oks(truth, rows, False, d[:, None] + first, g[:, None])[:, 0]

    areas = np.array([replace(detections, keypoints=each).area for each in moved.values()])
    sizes = np.array([SIZES["AP"]] * len(moved))
    ignored = np.repeat(truth.ignored[None], len(moved), axis=0)
    return match_by(truth, detections, Questions((*moved,), sizes, ignored, similar, areas, MAX_DETECTIONS))


def match_by(truth: Instances, detections: Found, questions: Questions) -> Matches:
    """Match every image's detections, best first, each with the most similar instance that is still free."""
    n_images, n_units = len(truth.image_ids), len(truth.image_ids) * len(truth.category_ids)
    truth_unit = truth.category_index * n_images + truth.image_index  # matched by itself: one category in one image
    unit = _unit(truth, detections)
    truth_order = np.argsort(truth_unit, kind="stable")
    order = np.lexsort((-detections.score, unit))  # stable: equal scores keep their order
    rank = np.arange(len(order)) - np.searchsorted(unit[order], unit[order])
    order = order[rank < questions.most]
    unit = unit[order]

    low, high = questions.sizes.T[..., None]
    ignored = questions.ignored | (truth.areas < low) | (truth.areas > high)
    matched = np.zeros((len(low), len(THRESHOLDS), len(order)), dtype=bool)
    excused = np.zeros_like(matched)
    at_once = _BLOCK // len(low)
    for i, j in _blocks(unit, truth_unit[truth_order], n_units, at_once):  # (B, D) of `order`, (B, G) of `truth_order`
        d, g = order[i], truth_order[j]
        similar = questions.similar(d[:, :, None], g[:, None, :])
        hit, ignored_hit = _greedy(similar, ignored[:, g].swapaxes(0, 1), truth.crowd[g])
        matched[:, :, i] = hit.transpose(1, 2, 0, 3)
        excused[:, :, i] = ignored_hit.transpose(1, 2, 0, 3)

    area = questions.areas[..., order]
    elsewhere = (area < low) | (area > high)  # an unmatched detection of another size is ignored
    counted = ~(excused | (~matched & elsewhere[:, None, :]))
    units = truth_unit[truth_order]
    instances = [np.bincount(units[~ignored[q, truth_order]], minlength=n_units) for q in range(len(low))]
    best_first = np.lexsort((-detections.score[order], unit // n_images))
    return Matches(
        questions=questions.names,
        true=(matched & counted)[:, :, best_first],
        counted=counted[:, :, best_first],
        image=(unit % n_images)[best_first],
        category=(unit // n_images)[best_first],
        detection=order[best_first],
        instances=np.array(instances).reshape(len(low), len(truth.category_ids), n_images),
    )


def count(truth: Instances, detections: Detections) -> str:
    """How many detections there are and in how many of the pictures with labels, and which don't help: in words."""
    labelled = set(truth.image_id[~truth.ignored].tolist())
    detected = set(detections.image_id.tolist())
    _, per_unit = np.unique(_unit(truth, detections), return_counts=True)
    places = detections.keypoints.reshape(len(detections), 2 * detections.keypoints.shape[1])
    rows = np.column_stack([detections.image_id, detections.score, places])
    counts = [
        (len(labelled - detected), "labelled images have none"),
        (
            int(np.maximum(per_unit - MAX_DETECTIONS, 0).sum()),
            f"beyond the best {MAX_DETECTIONS} of an image don't count",
        ),
        (len(rows) - len(np.unique(rows, axis=0)), "are there twice"),
    ]
    remarks = [f"{n} {what}" for n, what in counts if n]
    line = f"{len(detections)} detections in {len(labelled & detected)} of {len(labelled)} labelled images"
    return "; ".join([line, *remarks])


def _unit(truth: Instances, detections: Found) -> np.ndarray:
    category = truth.category_ids.searchsorted(detections.category_id)
    return category * len(truth.image_ids) + truth.image_ids.searchsorted(detections.image_id)


def _blocks(
    detection_unit: np.ndarray, truth_unit: np.ndarray, n_units: int, most: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Units with equal numbers of detections D and of instances G, B at a time (of `most` pairs): indices (B, D) and
    (B, G)."""
    n_detections = np.bincount(detection_unit, minlength=n_units)
    n_truth = np.bincount(truth_unit, minlength=n_units)
    first_detection, first_truth = np.cumsum(n_detections) - n_detections, np.cumsum(n_truth) - n_truth
    both = np.flatnonzero((n_detections > 0) & (n_truth > 0))
    shapes = np.stack([n_detections[both], n_truth[both]], axis=1)
    for d, g in np.unique(shapes, axis=0):
        alike = both[(shapes == (d, g)).all(axis=1)]
        step = max(1, most // (d * g))
        for some in (alike[start : start + step, None] for start in range(0, len(alike), step)):
            yield first_detection[some] + np.arange(d), first_truth[some] + np.arange(g)


def _oks(truth: Instances, keypoints: np.ndarray, by_keypoint: bool, d: np.ndarray, g: np.ndarray) -> np.ndarray:
    """(B, Q, …, D, G): the similarity of detections `d` (B, …, D, 1), rows of `keypoints` (M, K, 2), to instances `g`
    (B, …, 1, G); one for all sizes where no keypoint's own is asked for."""
    d, g = (np.ascontiguousarray(index) for index in np.broadcast_arrays(d, g))
    found, labelled = keypoints[d], truth.labelled[g]
    each = similarity(found, truth.keypoints[g], truth.areas[g], truth.sigmas)
    stand_in = oks_to_unlabelled(found, truth.boxes[g], truth.areas[g], truth.sigmas)
    whole = np.where(labelled.any(axis=-1), oks(each, labelled), stand_in)[:, None]
    if not by_keypoint:
        return whole
    alone = np.moveaxis(np.where(labelled, each, stand_in[..., None]), -1, 1)
    return np.concatenate([np.repeat(whole, len(SIZES), axis=1), alone], axis=1)


def _greedy(similar: np.ndarray, ignored: np.ndarray, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """COCO's matching. A detection takes the most similar free instance that counts, at or above the threshold; only
    where there is none, one that is ignored. Of equally similar instances the last is taken. Crowds stay free.

    Args:
        similar: (B, Q or 1, D, G), detections best first. ignored: (B, Q, G) bool. crowd: (B, G) bool.

    Returns:
        two bool arrays (B, Q, T, D): matched, and matched to an ignored instance.
    """
    (blocks, questions, n_truth), n_detections = ignored.shape, similar.shape[2]
    free = np.ones((blocks, questions, len(THRESHOLDS), n_truth), dtype=bool)
    matched = np.zeros((blocks, questions, len(THRESHOLDS), n_detections), dtype=bool)
    excused = np.zeros_like(matched)
    counts, crowd, last = ~ignored[:, :, None, :], crowd[:, None, None, :], n_truth - 1
    for d in range(n_detections):
        value = similar[:, :, None, d, :]
        able = (free | crowd) & (value >= THRESHOLDS[:, None])
        proper = able & counts
        able = np.where(proper.any(axis=-1, keepdims=True), proper, able)
        chosen = last - np.where(able, value, -1.0)[..., ::-1].argmax(axis=-1, keepdims=True)
        hit = np.take_along_axis(able, chosen, axis=-1)
        matched[..., d] = hit[..., 0]
        excused[..., d] = (hit & ~np.take_along_axis(np.broadcast_to(counts, able.shape), chosen, axis=-1))[..., 0]
        free &= ~(hit & (chosen == np.arange(n_truth)))
    return matched, excused


def own_oks(truth: Instances, detections: Detections) -> np.ndarray:
    """OKS in 0..1 of each detection, (M,), to the instance from whose box it was made; nan where that has no keypoint
    labelled, or isn't known."""
    rows = truth.rows_of(detections.annotation_id)
    known = rows >= 0
    of, result = rows[known], np.full(len(detections), np.nan)
    similar = similarity(detections.keypoints[known], truth.keypoints[of], truth.areas[of], truth.sigmas)
    result[known] = oks(similar, truth.labelled[of])
    return result


def average_precision(matches: Matches) -> dict[str, float]:
    """AP and its relatives, each a fraction in 0..1, nan where no instance counts.

    Returns:
        "AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L"; "AP/KEYPOINT" and "AR/KEYPOINT"
        for each keypoint that was asked for; and "n", "n_M", "n_L", the instances that AP, AP_M and AP_L rest on.
    """
    at50, at75 = 0, 5  # 0.5 and 0.75 among the thresholds
    by_category: dict[str, list[float]] = {}
    for k in range(matches.instances.shape[1]):
        of_category = matches.category == k
        for q, key in enumerate(matches.questions):
            n_instances = int(matches.instances[q, k].sum())
            precision, recall = np.empty((len(THRESHOLDS), len(RECALLS))), np.empty(len(THRESHOLDS))
            for t in range(len(THRESHOLDS)):
                true, counted = matches.true[q, t, of_category], matches.counted[q, t, of_category]
                precision[t], recall[t] = precision_at_recalls(true, counted, n_instances)
            values = {key: precision.mean(), f"AR{key[2:]}": recall.mean()}
            if key == "AP":
                values |= {"AP50": precision[at50].mean(), "AP75": precision[at75].mean()}
                values |= {"AR50": recall[at50], "AR75": recall[at75]}
            for name, value in values.items():
                by_category.setdefault(name, []).append(float(value) if n_instances else np.nan)
    result = {name: _mean_of_present(np.array(values)) for name, values in by_category.items()}
    sums = matches.instances.sum(axis=(1, 2)).tolist()
    counts = zip(matches.questions, sums, strict=True)
    return result | {f"n{key[2:]}": float(n) for key, n in counts if "/" not in key}


def precision_at_recalls(true: np.ndarray, counted: np.ndarray, n_instances: int) -> tuple[np.ndarray, float]:
    """Interpolated precision at the 101 recalls, (101,), and the recall reached.

    Precision at a recall is the best at this or any higher recall, 0 beyond the highest. It rises only with a true
    detection, so that the curve is needed at those alone.

    Args:
        true, counted: (D,) bool, the detections of one category, best first.
        n_instances: the instances to be found.
    """
    index = np.flatnonzero(true)
    if not len(index):
        return np.zeros(len(RECALLS)), 0.0
    found = np.arange(1, len(index) + 1)
    recall = found / max(n_instances, 1)
    precision = found / (counted.cumsum()[index] + np.spacing(1))
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)  # the 0: for recalls that aren't reached
    return best[recall.searchsorted(RECALLS)], float(recall[-1])


def _mean_of_present(values: np.ndarray) -> float:
    """The mean over the categories, (C,), of what is not nan; nan where all are."""
    present = ~np.isnan(values)
    return float(values[present].sum() / present.sum()) if present.any() else float("nan")
