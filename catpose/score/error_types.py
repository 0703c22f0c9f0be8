"""Which error types cost how much AP (ΔAP, as in TIDE; Bolya et al., ECCV 2020).

After Ronchi & Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation", ICCV 2017, with this
skeleton's sigmas. ks is a keypoint's own `similarity` to a place, by the area of the instance whose place it is. A
labelled keypoint is

    good        ks to its own truth at least 0.85, about what people agree on among themselves
    jitter      at least 0.5
    inversion   below that, and at least 0.5 to its left or right counterpart on the same animal
    swap        the same to this keypoint, or its counterpart, of another animal in the image
    miss        none of these

Of inversion and swap the nearer place (greater ks) decides, the own animal where both are as near. ΔAP
is what AP gains once these keypoints are put on their truth, as if there were no such errors. With all corrected,
what AP lacks of 1 is due to keypoints that are good and not exact. (The paper moves a keypoint only to the ks that
correcting such a mistake brings at least, which leaves much of AP unexplained: it is still wrong at strict thresholds.)

Unlike the authors' code, coco-analyze: the own truth comes before a wrong place that is nearer; a ks of exactly 0.85 is
good (there it is nothing); a detection made from an instance's box belongs to it, only others need OKS 0.1 (there all,
by COCO's matching); background errors are told at OKS 0.5 for all thresholds (there at each).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from catpose.instances import Instances
from catpose.score.ap import match, match_moved
from catpose.score.bootstrap import Bootstrap, bootstrap_ap
from catpose.score.detections import Detections
from catpose.score.oks import oks, oks_to_unlabelled, similarity
from catpose.score.pairs import detection_of, owner_of

ERROR_TYPES = ("good", "jitter", "inversion", "swap", "miss")
#: What can be corrected, in the paper's order.
ERRORS = ("miss", "swap", "inversion", "jitter", "score", "false positives", "false negatives")
GOOD_KS, NEAR_KS = 0.85, 0.5
LIKE_OKS = 0.1  # a detection of nobody's box that is less like any instance is of none, its keypoints are not diagnosed
FOUND_OKS = 0.5  # an instance without a match at this is missed, a detection without one is background

_GOOD, _JITTER, _INVERSION, _SWAP, _MISS = range(len(ERROR_TYPES))


@dataclass(frozen=True, eq=False)
class DeltaAP:
    """What AP gains where errors of one type are corrected, and no others; nan where nothing is left that counts.

    ΔAPs don't add up: an instance may need two of them, and "false positives" and "false negatives" also hold
    those whose keypoints lie so far off that their OKS is below 0.5.
    """

    values: dict[str, float]  # by ERRORS, or those of them that were asked for
    draws: dict[str, np.ndarray]  # (B,) each: the same for draws of the images


def error_types(truth: Instances, detections: Detections) -> np.ndarray:
    """(N, K) int8, index into ERROR_TYPES; -1 where a keypoint is not labelled, or its instance has no detection."""
    return _error_types(truth, detections, _detection_of(truth, detections))


def _error_types(truth: Instances, detections: Detections, detection: np.ndarray) -> np.ndarray:
    """`error_types` with the row (N,) of each instance's detection, -1 where it has none."""
    known = detection >= 0
    predicted = np.zeros((len(truth), len(truth.skeleton), 2))
    predicted[known] = detections.keypoints[detection[known]]
    own = similarity(predicted, truth.keypoints, truth.areas, truth.sigmas)
    wrong, other = _nearest_wrong_place(truth, predicted)
    types = np.select(  # the first that holds
        [own >= GOOD_KS, own >= NEAR_KS, wrong < NEAR_KS, other], [_GOOD, _JITTER, _MISS, _SWAP], _INVERSION
    )
    return np.where(truth.labelled & known[:, None], types, -1).astype(np.int8)


def _detection_of(truth: Instances, detections: Detections) -> np.ndarray:
    """`pairs.detection_of`, of detections that were made from the instance's box or have at least OKS 0.1 to it."""
    owner = owner_of(truth, detections)
    owned = np.flatnonzero(owner >= 0)
    of = owner[owned]
    named = detections.annotation_id[owned] == truth.ids[of]
    similar = oks(
        similarity(detections.keypoints[owned], truth.keypoints[of], truth.areas[of], truth.sigmas), truth.labelled[of]
    )
    rows = owned[named | (similar >= LIKE_OKS)]
    return np.append(rows, -1)[detection_of(truth, detections.subset(rows))]


def _nearest_wrong_place(truth: Instances, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the labelled places that a keypoint may be taken for, the one of greatest ks: the ks (N, K), and whether it is
    another instance's (N, K). Where none has a ks of 0.5 it may be the keypoint's own place."""
    best, another = np.zeros(predicted.shape[:2]), np.zeros(predicted.shape[:2], dtype=bool)
    first = np.searchsorted(truth.image_index, truth.image_index)
    count = np.searchsorted(truth.image_index, truth.image_index, side="right") - first
    for step in range(count.max(initial=0)):  # each instance's next neighbour in the image, itself first
        rows = np.flatnonzero(step < count)
        to = first[rows] + (rows - first[rows] + step) % count[rows]
        for columns in (list(truth.skeleton.flip), list(range(len(truth.skeleton)))):
            ks = similarity(predicted[rows], truth.keypoints[to][:, columns], truth.areas[to], truth.sigmas)
            ks = np.where(truth.labelled[to][:, columns], ks, 0.0)
            better = ks > best[rows]
            best[rows] = np.where(better, ks, best[rows])
            another[rows] = np.where(better, step > 0, another[rows])
    return best, another


def _corrected(truth: Instances, detections: Detections, detection: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """(M, K, 2), the detections' keypoints: those `wrong`, (N, K) bool, of instances with the detections (N,) are put
    on their truth."""
    row, k = np.nonzero(wrong)
    keypoints = detections.keypoints.copy()
    keypoints[detection[row], k] = truth.keypoints[row, k]
    return keypoints


def rescored(truth: Instances, detections: Detections) -> Detections:
    """Scored as well as can be: by the OKS to the instance that is theirs when the best pairs are made first; 0 for
    detections that find none.

    The paper has the highest OKS to any instance, by which the second detection of one cat comes before the only one of
    another; its code has the assignment of the greatest sum. This one is what COCO's matching itself does with it.
    """
    d, g, similar = _candidates(truth, detections)
    pair = _first_come(d, g, np.lexsort((-g, -similar)))
    score = np.zeros(len(detections))
    score[d[pair]] = similar[pair]
    return replace(detections, score=score)


def without_background(truth: Instances, detections: Detections) -> Detections:
    """Without the detections that match no instance at OKS 0.5, those matched to an ignored one stay."""
    matches = match(truth, detections, by_keypoint=False)
    stay = np.sort(matches.detection[matches.true[0, 0] | ~matches.counted[0, 0]])
    return detections.subset(stay)


def without_missed(truth: Instances, detections: Detections) -> Instances:
    """The truth with those instances ignored that no detection matches at OKS 0.5."""
    matches = match(truth, detections, by_keypoint=False)
    rank = np.full(len(detections), -1)
    rank[matches.detection] = np.arange(len(matches.detection))
    d, g, similar = _candidates(truth, detections)
    near = (similar >= FOUND_OKS) & (rank[d] >= 0)
    d, g, similar = d[near], g[near], similar[near]
    missed = ~truth.ignored
    missed[g[_first_come(d, g, np.lexsort((-g, -similar, rank[d])))]] = False
    return replace(truth, ignored=truth.ignored | missed)


def _candidates(truth: Instances, detections: Detections) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs (P,) of a detection and an instance that counts, of its image and category, with their OKS."""
    n = len(truth.category_ids)
    unit = truth.image_index * n + truth.category_index
    order = np.flatnonzero(~truth.ignored)
    order = order[np.argsort(unit[order], kind="stable")]
    image, category = detections.image_id, detections.category_id
    of = truth.image_ids.searchsorted(image) * n + truth.category_ids.searchsorted(category)
    first, last = (np.searchsorted(unit[order], of, side=side) for side in ("left", "right"))
    count = last - first
    d = np.repeat(np.arange(len(detections)), count)
    g = order[np.arange(len(d)) - np.repeat(np.cumsum(count) - last, count)]
    found, labelled = detections.keypoints[d], truth.labelled[g]
    similar = oks(similarity(found, truth.keypoints[g], truth.areas[g], truth.sigmas), labelled)
    similar = np.where(
        labelled.any(axis=-1), similar, oks_to_unlabelled(found, truth.boxes[g], truth.areas[g], truth.sigmas)
    )
    return d, g, similar


def _first_come(d: np.ndarray, g: np.ndarray, order: np.ndarray) -> list[int]:
    """The pairs that are made, in this order, where nobody is in two."""
    taken_d: set[int] = set()
    taken_g: set[int] = set()
    pairs = []
    for pair, a, b in zip(order.tolist(), d[order].tolist(), g[order].tolist(), strict=True):
        if a not in taken_d and b not in taken_g:
            pairs.append(pair)
            taken_d.add(a)
            taken_g.add(b)
    return pairs


def delta_ap(
    truth: Instances, detections: Detections, weights: np.ndarray | None = None, errors: Sequence[str] = ERRORS
) -> DeltaAP:
    """ΔAP of each error type.

    Args:
        weights: (B, I) whole numbers, how often each draw holds each image; see `bootstrap.image_weights`.
        errors: those of `ERRORS` that are asked for.
    """
    once = np.ones((1, len(truth.image_ids)), dtype=np.int64)
    rows = once if weights is None else np.concatenate([once, weights])
    detection = _detection_of(truth, detections)
    types = _error_types(truth, detections, detection)
    moved = {"AP": detections.keypoints}
    for error in ERRORS[:4]:
        moved[f"AP/{error}"] = _corrected(truth, detections, detection, types == ERROR_TYPES.index(error))
    drawn = Bootstrap(match_moved(truth, detections, moved), rows)

    def better(error: str) -> np.ndarray:
        if f"AP/{error}" in drawn:
            return drawn[f"AP/{error}"]
        left, found = truth, detections
        if error == "score":
            found = rescored(truth, detections)
        elif error == "false positives":
            found = without_background(truth, detections)
        else:
            left = without_missed(truth, detections)
        return bootstrap_ap(match(left, found, by_keypoint=False), rows)

    gains = {error: better(error) - drawn["AP"] for error in errors}
    return DeltaAP(
        values={error: float(values[0]) for error, values in gains.items()},
        draws={error: values[1:] for error, values in gains.items()},
    )


def delta_ap_by_keypoint(truth: Instances, detections: Detections) -> np.ndarray:
    """(K, 4), by ERROR_TYPES but the good: ΔAP where one keypoint's errors of one type alone are corrected."""
    detection = _detection_of(truth, detections)
    types, own = _error_types(truth, detections, detection), np.arange(len(truth.skeleton))
    cases = np.argwhere((types[..., None] == np.arange(1, len(ERROR_TYPES))).any(axis=0)).tolist()
    moved = {"AP": detections.keypoints}
    for k, column in cases:
        wrong = (types == column + 1) & (own == k)
        moved[f"AP/{k}/{column}"] = _corrected(truth, detections, detection, wrong)
    once = np.ones((1, len(truth.image_ids)), dtype=np.int64)
    ap, gains = Bootstrap(match_moved(truth, detections, moved), once), np.zeros((len(own), len(ERROR_TYPES) - 1))
    for k, column in cases:
        gains[k, column] = (ap[f"AP/{k}/{column}"] - ap["AP"])[0]
    return gains
