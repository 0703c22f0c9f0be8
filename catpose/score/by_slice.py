"""AP on parts of the instances: cats in the dark, cats cut off, cats alone.

A part is evaluated as a data set of its own: its instances, and the detections that belong to them. Detections that
belong to nobody are in no part. All images stay, so that a draw of the images is the same for every part, every model
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
class Part:
    """What a model does on some of the instances."""

    n: int  # instances that count
    ap: float  # 0..1, nan where none counts
    draws: np.ndarray  # (B,) float64, AP of each draw of the images; nan where it holds none of the part's instances


def by_condition(truth: Instances, detections: Detections, labels: np.ndarray, draws: int) -> dict[str, Part]:
    """Each label's part, labels ascending.

    Args:
        labels: (N,) str, in the order of `truth`.
        draws: as of `bootstrap.image_weights`.
    """
    if labels.shape != (len(truth),):
        raise ValueError(f"labels are ({len(truth)},), one for each instance; these are {labels.shape}")
    weights = np.concatenate([np.ones((1, len(truth.image_ids)), np.int64), image_weights(len(truth.image_ids), draws)])
    owner = owner_of(truth, detections)
    parts = {}
    for label in np.unique(labels).tolist():
        here = labels == label
        theirs = np.isin(owner, np.flatnonzero(here))
        part = truth.subset(here)
        ap = bootstrap_ap(match(part, detections.subset(theirs)), weights)
        parts[label] = Part(n=int((~part.ignored).sum()), ap=float(ap[0]), draws=ap[1:])
    return parts
