"""AP as programs other than COCO's compute it: their own similarity, matching and curve, for `catpose.score.rules`.

Each function is written after the source that it names, and compared with what that program's own code gives. All take

    truth: the instances; their `areas` aren't used.
    detections: with scores, in image px.
    sigmas: (K,) float64, as the program has them.
    sizes: (I, 2) width and height of each image, px.

and return AP over thresholds 0.50:0.05:0.95, 0..1; nan where nothing counts.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from catpose.instances import Instances
from catpose.score.ap import RECALLS, THRESHOLDS, precision_at_recalls
from catpose.score.detections import Detections

#: Ultralytics takes this share of its box for an animal's area, as xtcocotools does where a file has no area.
BOX_SHARE = 0.53
#: SLEAP-NN: of an animal whose keypoints span no area, the distance in px at which its similarity reaches 0.
DEGENERATE_PX = 50.0
_NOTHING = np.spacing(1)


def ultralytics_ap(
    truth: Instances, detections: Detections, sigmas: Float[np.ndarray, " k"], sizes: Float[np.ndarray, "i 2"]
) -> float:
    """Ultralytics 8.4.190: `PoseValidator._process_batch`, `kpt_iou`, `match_predictions`, `ap_per_class`.

    The area is 0.53 of the box's. Animals without a labelled keypoint count as missed, crowds don't count. AP is the
    area under a curve with a straight line between recalls, 101 points of it by the trapezoidal rule.
    """
    counts = ~truth.crowd
    area = BOX_SHARE * truth.boxes[:, 2] * truth.boxes[:, 3]
    values = []
    for category in np.unique(truth.category_id[counts]).tolist():
        scores, true = [np.empty(0)], [np.empty((0, len(THRESHOLDS)), dtype=bool)]
        here = counts & (truth.category_id == category)
        for g, d in _images(truth, detections, here, detections.category_id == category):
            d = d[np.argsort(-detections.score[d], kind="stable")]
            each = np.exp(-_squared(truth, detections, g, d) / ((2 * sigmas) ** 2 * (area[g][:, None] + 1e-7) * 2))
            labelled = truth.labelled[g]
            similar = np.where(labelled, each, 0.0).sum(axis=-1) / (labelled.sum(axis=-1) + 1e-7)
            scores.append(detections.score[d])
            true.append(np.stack([_taken(similar, threshold) for threshold in THRESHOLDS], axis=1))
        order = np.argsort(-np.concatenate(scores), kind="stable")
        found = np.concatenate(true)[order]
        values.append(np.mean([_trapezoid(found[:, t], int(here.sum())) for t in range(len(THRESHOLDS))]))
    return float(np.mean(values)) if values else float("nan")


def deeplabcut_ap(
    truth: Instances, detections: Detections, sigmas: Float[np.ndarray, " k"], sizes: Float[np.ndarray, "i 2"]
) -> float:
    """DeepLabCut 3.0.2: `compute_metrics` and what it calls in deeplabcut/core/metrics.

    The area is what the labelled keypoints span, and animals with fewer than two aren't counted. A detection's score is
    the mean of its confidences; it takes the most similar animal even if that is taken, and then counts as false.
    """
    counts = ~truth.crowd & (truth.labelled.sum(axis=1) >= 2)
    area = _extent(truth.keypoints, margin=_NOTHING)
    known = detections.confidence >= 0
    score = np.where(known, detections.confidence, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    scores, true = [], [np.empty((0, len(THRESHOLDS)), dtype=bool)]
    for g, d in _images(truth, detections, counts, known.sum(axis=1) >= 2):
        d = d[np.argsort(-score[d], kind="stable")]
        squared = np.where(known[d][:, None], _squared(truth, detections, g, d), np.inf)
        each = np.exp(-squared / (2 * area[g][:, None] * (2 * sigmas) ** 2))
        labelled = truth.labelled[g]
        similar = np.where(labelled, each, 0.0).sum(axis=-1) / labelled.sum(axis=-1)
        similar = np.where(np.isclose(area[g], 0), -1.0, similar)  # (D, G); it has no similarity, and takes no one
        scores.append(score[d])
        true.append(np.stack([_first_comers(similar, threshold) for threshold in THRESHOLDS], axis=1))
    order = np.argsort(-np.concatenate([np.empty(0), *scores]), kind="stable")
    return _mean_ap(np.concatenate(true)[order], int(counts.sum()))


def sleap_nn_ap(
    truth: Instances, detections: Detections, sigmas: Float[np.ndarray, " k"], sizes: Float[np.ndarray, "i 2"]
) -> float:
    """SLEAP-NN 0.3.5: `Evaluator.voc_metrics` and what it calls in sleap_nn/evaluation.py.

    The area is what the labelled keypoints span. Pairs are made once, at any similarity above 0, and a pair below a
    threshold is a false detection; detections without a partner don't count, nor do images without any detection.
    """
    area = _extent(truth.keypoints)
    scores, similarities, n = [], [], 0
    for g, d in _images(truth, detections, ~truth.ignored, np.ones(len(detections), dtype=bool)):
        if not len(g) or not len(d):
            continue
        n += len(g)
        d = d[np.argsort(-detections.score[d], kind="stable")]
        squared, labelled = _squared(truth, detections, g, d), truth.labelled[g]
        each = np.exp(-squared / ((2 * sigmas) ** 2 * 2 * (area[g][:, None] + _NOTHING)))
        similar = np.where(labelled, each, 0.0).sum(axis=-1) / labelled.sum(axis=-1)
        distance = np.where(labelled, np.sqrt(squared), 0.0).sum(axis=-1) / labelled.sum(axis=-1)
        similar = np.where(area[g] < 1e-9, np.maximum(0.0, 1 - distance / DEGENERATE_PX), similar)
        free = np.ones(len(g), dtype=bool)
        for row, detection in zip(similar, d.tolist(), strict=True):
            best = int(np.where(free, row, -1.0).argmax())
            if free[best] and row[best] > 0:
                free[best] = False
                scores.append(detections.score[detection])
                similarities.append(row[best])
    order = np.argsort(-np.array(scores), kind="stable")
    return _mean_ap(np.array(similarities).reshape(-1, 1)[order] >= THRESHOLDS, n)


def fiftyone_ap(
    truth: Instances, detections: Detections, sigmas: Float[np.ndarray, " k"], sizes: Float[np.ndarray, "i 2"]
) -> float:
    """FiftyOne 1.22.1: `_compute_object_keypoint_similarity` in utils/iou.py; utils/eval/coco.py.

    Distances are fractions of the image's width and height, the area is what the labelled keypoints span of it; sigmas
    stand in the formula without the 2 of COCO's. Animals without a labelled keypoint count as missed. A detection's
    score is the mean of its confidences; the best 100 of an image count.
    """
    score, area = detections.confidence.mean(axis=1), _extent(truth.keypoints / sizes[truth.image_index][:, None])
    area = np.clip(area, 0.0, 1.0)
    values = []
    for category in np.unique(truth.category_id[~truth.crowd]).tolist():
        scores, true, counted = [], [], []
        here = truth.category_id == category
        for g, d in _images(truth, detections, here, detections.category_id == category):
            g, d = g[np.argsort(truth.crowd[g], kind="stable")], d[np.argsort(-score[d], kind="stable")][:100]
            size = sizes[truth.image_index[g[0]] if len(g) else truth.image_ids.searchsorted(detections.image_id[d[0]])]
            squared, labelled = _squared(truth, detections, g, d, size), truth.labelled[g]
            with np.errstate(divide="ignore", invalid="ignore"):
                each = np.exp(-squared / (2 * area[g][:, None] * sigmas**2))
            similar = np.where(labelled, each, 0.0).sum(axis=-1) / np.maximum(labelled.sum(axis=-1), 1)
            hits = [_best_free(similar, truth.crowd[g], threshold) for threshold in THRESHOLDS]
            scores.append(score[d])
            true.append(np.stack([hit for hit, _ in hits], axis=1))
            counted.append(~np.stack([crowd for _, crowd in hits], axis=1))
        n, aps = int((here & ~truth.crowd).sum()), []
        for t in range(len(THRESHOLDS)):
            hit, counts = (
                np.concatenate([np.empty(0, bool), *(each[:, t] for each in some)]) for some in (true, counted)
            )
            order = np.lexsort((~hit, -np.concatenate([np.empty(0), *scores])))  # of equal scores the true ones first
            aps.append(precision_at_recalls(hit[order], counts[order], n)[0].mean())
        values.append(np.mean(aps))
    return float(np.mean(values)) if values else float("nan")


def _images(
    truth: Instances, detections: Detections, some: np.ndarray, found: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each image, ascending by id: rows of the instances and of the detections among those asked for, (G,) and (D,);
    images with neither are left out."""
    g, d = np.flatnonzero(some), np.flatnonzero(found)
    for image_id in np.union1d(truth.image_id[g], detections.image_id[d]).tolist():
        yield g[truth.image_id[g] == image_id], d[detections.image_id[d] == image_id]


def _squared(
    truth: Instances, detections: Detections, g: np.ndarray, d: np.ndarray, unit: np.ndarray | float = 1.0
) -> np.ndarray:
    """(D, G, K): squared distances of keypoints, px² or in squares of a unit (2,); 0 where nothing is labelled."""
    offset = (detections.keypoints[d][:, None] - np.nan_to_num(truth.keypoints[g])[None]) / unit
    return np.where(truth.labelled[g], (offset**2).sum(axis=-1), 0.0)


def _extent(keypoints: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """(N, K, 2), nan where not labelled, to (N,): the area of the box around what is labelled; 0 where nothing is."""
    some = ~np.isnan(keypoints).all(axis=(1, 2))
    area = np.zeros(len(keypoints))
    side = np.nanmax(keypoints[some], axis=1) - np.nanmin(keypoints[some], axis=1)
    area[some] = (side + margin).prod(axis=1)
    return area


def _taken(similar: np.ndarray, threshold: float) -> np.ndarray:
    """(D, G) best first to (D,) bool: which takes a free instance, the most similar one, of equals the first."""
    free, hit = np.ones(similar.shape[1], dtype=bool), np.zeros(len(similar), dtype=bool)
    for d, row in enumerate(similar if similar.shape[1] else ()):
        best = int(np.where(free, row, 0.0).argmax())
        hit[d] = free[best] and row[best] >= threshold
        free[best] &= ~hit[d]
    return hit


def _first_comers(similar: np.ndarray, threshold: float) -> np.ndarray:
    """(D, G) best first to (D,) bool: which is the first to take its most similar instance; negative: never taken."""
    hit, best = np.zeros(len(similar), dtype=bool), similar.argmax(axis=1) if similar.shape[1] else np.empty(0, int)
    taken: set[int] = set()
    for d, g in enumerate(best.tolist()):
        if similar[d, g] >= threshold and g not in taken:
            hit[d] = True
            taken.add(g)
    return hit


def _best_free(similar: np.ndarray, crowd: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """(D, G) best first: which takes a free instance, the most similar, of equals the last; and which a crowd, else."""
    hit, excused = np.zeros((2, len(similar)), dtype=bool)
    free = ~crowd
    for d, row in enumerate(similar if similar.shape[1] else ()):
        able = free & (row >= threshold)
        if able.any():
            hit[d] = True
            free[len(row) - 1 - np.where(able, row, -1.0)[::-1].argmax()] = False
        else:
            excused[d] = (crowd & (row >= threshold)).any()
    return hit, excused


def _mean_ap(true: np.ndarray, n: int) -> float:
    """(M, T), best first, to the mean over thresholds of the mean precision at 101 recalls; nan without instances."""
    if not n:
        return float("nan")
    everything = np.ones(len(true), dtype=bool)
    return float(np.mean([precision_at_recalls(true[:, t], everything, n)[0].mean() for t in range(len(THRESHOLDS))]))


def _trapezoid(true: np.ndarray, n: int) -> float:
    """Ultralytics' `compute_ap` of one threshold: (M,) best first."""
    if not len(true):
        return 0.0
    found = true.cumsum()
    recall, precision = found / n, found / np.arange(1, len(true) + 1)
    recall = np.concatenate([[0.0], recall, [recall[-1], 1.0]])
    precision = np.maximum.accumulate(np.concatenate([[1.0], precision, [0.0, 0.0]])[::-1])[::-1]
    at = np.interp(RECALLS, recall, precision)
    return float(((at[1:] + at[:-1]) / 2 * np.diff(RECALLS)).sum())
