"""Which kind of error costs how much AP.

After Ronchi & Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation", ICCV 2017, with this
skeleton's sigmas. ks is a keypoint's own `similarity` to a place, by the area of the instance whose place it is. A
labelled keypoint is

    good        ks to its own truth at least 0.85, about what people agree on among themselves
    jitter      at least 0.5
    inversion   below that, and at least 0.5 to its left or right counterpart on the same animal
    swap        the same to this keypoint, or its counterpart, of another animal in the image
    miss        none of these

Of inversion and swap the nearer place (greater ks) decides, the own animal where both are as near. What an error costs
is the AP regained once it is corrected, by one of two rules:

    truth       the keypoint is put on its truth, as if there were no such errors; with all corrected, what AP lacks of
                1 is due to keypoints that are good and not exact
    paper       it is put at the ks that correcting such a mistake brings at least: 0.85 for jitter, 0.5 for a miss; for
                inversion and swap the ks that the prediction had to the place it was mistaken for. Much of AP is then
                accounted for by no kind, since a keypoint at 0.5 is still wrong at the stricter thresholds

Unlike the authors' code, coco-analyze: the own truth comes before a wrong place that is nearer; a ks of exactly 0.85 is
good (there it is nothing); a detection made from an instance's box belongs to it, only others need OKS 0.1 (there all,
by COCO's matching); by the paper's rule keypoints lie at the ks named, on the side where they were (there at half the
distance, the 2 of 2 sigma being forgotten, and all to the right); background errors are judged at OKS 0.5 for all
thresholds (there at each, so that the last step always ends at 1, whatever is left).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from catpose.instances import Instances
from catpose.score.ap import match
from catpose.score.bootstrap import bootstrap_ap
from catpose.score.detections import Detections
from catpose.score.oks import oks, oks_to_unlabelled, similarity
from catpose.score.pairs import detection_of, owner_of

KINDS = ("good", "jitter", "inversion", "swap", "miss")
#: What can be corrected, in the paper's order, each after those before it.
ERRORS = ("miss", "swap", "inversion", "jitter", "score", "false positives", "false negatives")
Rule = Literal["truth", "paper"]
GOOD_KS, NEAR_KS = 0.85, 0.5
LIKE_OKS = 0.1  # a detection of nobody's box that is less like any instance is of none, its keypoints are not diagnosed
FOUND_OKS = 0.5  # an instance without a match at this is missed, a detection without one is background

_GOOD, _JITTER, _INVERSION, _SWAP, _MISS = range(len(KINDS))
_WITHIN = 1 - 1e-9  # corrected keypoints lie a hair inside their circle, whatever way rounding goes


@dataclass(frozen=True, eq=False)
class _Diagnosis:
    """What is wrong with each keypoint, and where it lies once that is corrected."""

    kinds: np.ndarray  # (N, K) int8, index into KINDS; -1 where not labelled, or the instance has no detection
    detection: np.ndarray  # (N,) int64, the instance's row in the Detections, -1 where it has none
    corrected: np.ndarray  # (N, K, 2) float64, image px; as predicted where good, anything where kinds is -1


@dataclass(frozen=True, eq=False)
class Regained:
    """AP as it is, and with errors corrected; nan where nothing is left that counts.

    The kinds don't add up when corrected alone: an instance may need two of them, and by itself "false positives" and
    "false negatives" also hold those whose keypoints lie so far off that their OKS is below 0.5. Corrected one after
    the other they do: from `ap` the steps of `cumulative` lead to its last.
    """

    ap: float
    alone: dict[str, float]  # by ERRORS: AP with this kind corrected
    cumulative: dict[str, float]  # by ERRORS: AP with this kind and those before it corrected
    by_keypoint: np.ndarray  # (K, 4): AP gained where one keypoint's jitter, inversion, swap, miss are corrected
    ap_draws: np.ndarray  # (B,), and the same for draws of the images
    alone_draws: dict[str, np.ndarray]
    cumulative_draws: dict[str, np.ndarray]

    @property
    def gained(self) -> dict[str, float]:
        """By ERRORS: AP gained where this kind alone is corrected."""
        return {error: value - self.ap for error, value in self.alone.items()}

    @property
    def gained_draws(self) -> dict[str, np.ndarray]:
        return {error: draws - self.ap_draws for error, draws in self.alone_draws.items()}


def kinds(truth: Instances, detections: Detections) -> np.ndarray:
    """(N, K) int8, index into KINDS; -1 where a keypoint is not labelled, or its instance has no detection."""
    return _diagnosed(truth, detections, "truth").kinds


def corrected(truth: Instances, detections: Detections, which: Collection[str], rule: Rule = "truth") -> Detections:
    """The detections with errors of these KINDS put right, confidences and scores as they were.

    By the rule "paper", jitter and misses move straight towards their own truth, to the distance of ks 0.85 and 0.5;
    inversions and swaps move with the place they were mistaken for to their own truth, on the same side of it, and at
    the same distance in units of the animal's size, so that their ks is now what it was there.
    """
    diagnosis = _diagnosed(truth, detections, rule)
    return _moved(detections, diagnosis, np.isin(diagnosis.kinds, [KINDS.index(kind) for kind in which]))


def _diagnosed(truth: Instances, detections: Detections, rule: Rule) -> _Diagnosis:
    detection = _detection_of(truth, detections)
    known = detection >= 0
    predicted = np.zeros((len(truth), len(truth.skeleton), 2))
    predicted[known] = detections.keypoints[detection[known]]
    own = similarity(predicted, truth.keypoints, truth.areas, truth.sigmas)
    wrong, place, area, other = _nearest_wrong_place(truth, predicted)

    kind = np.select(  # the first that holds
        [own >= GOOD_KS, own >= NEAR_KS, wrong < NEAR_KS, other], [_GOOD, _JITTER, _MISS, _SWAP], _INVERSION
    )
    right = truth.keypoints
    if rule == "paper":
        from_truth, from_place = predicted - truth.keypoints, predicted - place
        to_ks = np.select([kind == _JITTER, kind == _MISS], [GOOD_KS, NEAR_KS], 1.0)
        distance = 2 * truth.sigmas * np.sqrt(-2 * truth.areas[:, None] * np.log(to_ks))
        far = np.hypot(from_truth[..., 0], from_truth[..., 1])
        mistaken = (kind == _INVERSION) | (kind == _SWAP)
        scale = np.where(mistaken, np.sqrt(truth.areas[:, None] / area), distance / np.where(far > 0, far, 1.0))
        right = right + np.where(mistaken[..., None], from_place, from_truth) * (scale * _WITHIN)[..., None]
    return _Diagnosis(
        kinds=np.where(truth.labelled & known[:, None], kind, -1).astype(np.int8),
        detection=detection,
        corrected=np.where((kind == _GOOD)[..., None], predicted, right),
    )


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


def _nearest_wrong_place(
    truth: Instances, predicted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of the labelled places that a keypoint may be taken for, the one of greatest ks: the ks (N, K), the place
    (N, K, 2), the area of the instance it belongs to (N, K), and whether that is another one (N, K). Where none has
    a ks of 0.5 it may be the keypoint's own place."""
    best, place = np.zeros(predicted.shape[:2]), np.zeros_like(predicted)
    area, another = np.ones_like(best), np.zeros_like(best, dtype=bool)
    first = np.searchsorted(truth.image_index, truth.image_index)
    count = np.searchsorted(truth.image_index, truth.image_index, side="right") - first
    for step in range(count.max(initial=0)):  # each instance's next neighbour in the image, itself first
        rows = np.flatnonzero(step < count)
        to = first[rows] + (rows - first[rows] + step) % count[rows]
        for columns in (list(truth.skeleton.flip), list(range(len(truth.skeleton)))):
            places = truth.keypoints[to][:, columns]
            ks = similarity(predicted[rows], places, truth.areas[to], truth.sigmas)
            ks = np.where(truth.labelled[to][:, columns], ks, 0.0)
            better = ks > best[rows]
            best[rows] = np.where(better, ks, best[rows])
            place[rows] = np.where(better[..., None], places, place[rows])
            area[rows] = np.where(better, truth.areas[to][:, None] + np.spacing(1), area[rows])
            another[rows] = np.where(better, step > 0, another[rows])
    return best, place, area, another


def _moved(detections: Detections, diagnosis: _Diagnosis, these: np.ndarray) -> Detections:
    """With these keypoints, (N, K) bool, where they should be."""
    row, k = np.nonzero(these)
    keypoints = detections.keypoints.copy()
    keypoints[diagnosis.detection[row], k] = diagnosis.corrected[row, k]
    return replace(detections, keypoints=keypoints)


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
    matches = match(truth, detections)
    stay = np.sort(matches.detection[matches.true[0, 0] | ~matches.counted[0, 0]])
    return detections.subset(stay)


def without_missed(truth: Instances, detections: Detections) -> Instances:
    """The truth with those instances ignored that no detection matches at OKS 0.5."""
    matches = match(truth, detections)
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
    made = []
    for pair, a, b in zip(order.tolist(), d[order].tolist(), g[order].tolist(), strict=True):
        if a not in taken_d and b not in taken_g:
            made.append(pair)
            taken_d.add(a)
            taken_g.add(b)
    return made


def regained(
    truth: Instances, detections: Detections, weights: np.ndarray | None = None, rule: Rule = "truth"
) -> Regained:
    """The AP that each kind of error costs.

    Args:
        weights: (B, I) whole numbers, how often each draw holds each image; see `bootstrap.image_weights`.
    """
    once = np.ones((1, len(truth.image_ids)), dtype=np.int64)
    rows = once if weights is None else np.concatenate([once, weights])

    def ap(truth: Instances, detections: Detections, rows: np.ndarray = rows) -> np.ndarray:
        return bootstrap_ap(match(truth, detections), rows)

    diagnosis = _diagnosed(truth, detections, rule)
    now = ap(truth, detections)
    alone, cumulative = {}, {}
    so_far = np.zeros_like(diagnosis.kinds, dtype=bool)
    for error in ERRORS[:4]:
        of_kind = diagnosis.kinds == KINDS.index(error)
        so_far |= of_kind
        alone[error] = ap(truth, _moved(detections, diagnosis, of_kind))
        cumulative[error] = ap(truth, _moved(detections, diagnosis, so_far))
    alone["score"] = ap(truth, rescored(truth, detections))
    alone["false positives"] = ap(truth, without_background(truth, detections))
    alone["false negatives"] = ap(without_missed(truth, detections), detections)
    best = rescored(truth, _moved(detections, diagnosis, so_far))
    cumulative["score"] = ap(truth, best)
    best = without_background(truth, best)
    cumulative["false positives"] = ap(truth, best)
    cumulative["false negatives"] = ap(without_missed(truth, best), best)

    by_keypoint = np.zeros((len(truth.skeleton), len(KINDS) - 1))
    for k in range(len(truth.skeleton)):
        for kind in range(1, len(KINDS)):
            these = (diagnosis.kinds == kind) & (np.arange(len(truth.skeleton)) == k)
            if these.any():
                by_keypoint[k, kind - 1] = ap(truth, _moved(detections, diagnosis, these), once)[0] - now[0]
    return Regained(
        ap=float(now[0]),
        alone={error: float(values[0]) for error, values in alone.items()},
        cumulative={error: float(values[0]) for error, values in cumulative.items()},
        by_keypoint=by_keypoint,
        ap_draws=now[1:],
        alone_draws={error: values[1:] for error, values in alone.items()},
        cumulative_draws={error: values[1:] for error, values in cumulative.items()},
    )
