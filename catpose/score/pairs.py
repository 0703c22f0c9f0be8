"""Which detection belongs to which instance, whatever their likeness: for measures that need one for each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from catpose.instances import Instances
from catpose.score.detections import Detections
from catpose.score.oks import oks, similarity


def owner_of(truth: Instances, detections: Detections) -> np.ndarray:
    """(M,) int64: the row of the instance that each detection belongs to, -1 where there is none.

    That is the instance from whose box it was made, where the detection names one of its own image; else the one of
    its image and category that it has the highest OKS to (of equals the first), among those with labelled keypoints.
    Several detections may belong to one instance.
    """
    owner = truth.rows_of(detections.annotation_id)
    named = np.flatnonzero(owner >= 0)
    owner[named[truth.image_id[owner[named]] != detections.image_id[named]]] = -1

    d, g = _neighbours(truth, detections, np.flatnonzero(owner < 0))
    each = similarity(detections.keypoints[d], truth.keypoints[g], truth.areas[g], truth.sigmas)
    similar = oks(each, truth.labelled[g])
    best_first = np.lexsort((g, -similar, d))
    found, first = np.unique(d[best_first], return_index=True)
    owner[found] = g[best_first][first]
    return owner


def paired_alike(one: Detections, other: Detections) -> tuple[Detections, Detections]:
    """Both without the instances from whose boxes they were made, unless all of both name them: else the same keypoints
    would have other distances with the names than without."""
    if all((each.annotation_id >= 0).all() for each in (one, other)):
        return one, other
    first, second = (replace(each, annotation_id=np.full(len(each), -1)) for each in (one, other))
    return first, second


def detection_of(truth: Instances, detections: Detections) -> np.ndarray:
    """(N,) int64: the row of each instance's detection, the one of highest score (of equals the first) among those
    that belong to it (`owner_of`); -1 where there is none."""
    owner = owner_of(truth, detections)
    best_first = np.argsort(-detections.score, kind="stable")
    best_first = best_first[owner[best_first] >= 0]
    owned, first = np.unique(owner[best_first], return_index=True)
    result = np.full(len(truth), -1, dtype=np.int64)
    result[owned] = best_first[first]
    return result


def _neighbours(truth: Instances, detections: Detections, some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of one of `some` detections with an instance of its image and category that has labels: two (P,)."""
    labelled = np.flatnonzero(truth.labelled.any(axis=1))
    keys = np.stack(
        [
            np.concatenate([truth.image_id[labelled], detections.image_id[some]]),
            np.concatenate([truth.category_id[labelled], detections.category_id[some]]),
        ]
    )
    unit = np.unique(keys, axis=1, return_inverse=True)[1].reshape(-1)  # one category in one image
    of_truth, of_some = unit[: len(labelled)], unit[len(labelled) :]
    order = np.argsort(of_truth, kind="stable")
    start, end = (np.searchsorted(of_truth[order], of_some, side=side) for side in ("left", "right"))
    count = end - start
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(some, count), labelled[order[np.repeat(start, count) + within]]
