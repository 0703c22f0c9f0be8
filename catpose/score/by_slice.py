"""AP on slices of the instances: cats in the dark, cats cut off, cats alone.

A slice is evaluated as a data set of its own: its instances, and the detections that belong to them. Detections that
belong to nobody are in no slice. All images stay, so that a draw of the images is the same for every slice, every model
and the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from catpose.instances import Instances
from catpose.score.ap import match
from catpose.score.bootstrap import bootstrap_ap, image_weights
from catpose.score.detections import Detections
from catpose.score.pairs import owner_of


@dataclass(frozen=True, eq=False)
class SliceAP:
    """A model's AP on one slice."""

    n: int  # instances that count
    ap: float  # 0..1, nan where none counts
    draws: np.ndarray  # (B,) float64, AP of each draw of the images; nan where it holds none of the slice's instances


def ap_by_slice(truth: Instances, detections: Detections, labels: np.ndarray, draws: int) -> dict[str, SliceAP]:
    """Each slice's AP, slices ascending by name.

    Args:
        labels: (N,) str, the slice of each instance, in the order of `truth`.
        draws: as of `bootstrap.image_weights`.
    """
    if labels.shape != (len(truth),):
        raise ValueError(f"labels are ({len(truth)},), one for each instance; these are {labels.shape}")
    weights = np.concatenate([np.ones((1, len(truth.image_ids)), np.int64), image_weights(len(truth.image_ids), draws)])
    owner = owner_of(truth, detections)
    slices = {}
    for label in np.unique(labels).tolist():
        here = labels == label
        theirs = np.isin(owner, np.flatnonzero(here))
        some = truth.subset(here)
        ap = bootstrap_ap(match(some, detections.subset(theirs), by_keypoint=False), weights)
        slices[label] = SliceAP(n=int((~some.ignored).sum()), ap=float(ap[0]), draws=ap[1:])
    return slices
