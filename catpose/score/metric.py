"""The one metric of `fit`, `test` and any later evaluation: a thin stateful shell around `ap.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from catpose.instances import Instances
from catpose.score.ap import average_precision, match
from catpose.score.detections import Detections, scored
from catpose.score.distances import distances, means, measures
from catpose.skeleton import Skeleton


def keys(skeleton: Skeleton) -> tuple[str, ...]:
    """The names of what a validation computes, those of each keypoint included."""
    return (
        *("AP", "AP50", "AP75", "AP_M", "AP_L", "AR"),
        *("n", "n_M", "n_L"),
        *(f"AP/{name}" for name in skeleton.names),
        *("PCK@0.05", "PCK@0.1", "PCK@0.2", "AUC", "NME", "EPE"),
    )


class KeypointAP(Metric):
    """OKS AP of detections made from the boxes of annotated instances, over a whole data set.

    Every instance of the truth has one fixed row in the state, whoever fills it. So a sample that comes twice (a
    distributed sampler repeats some to make shares equal) counts once, the order is that of image and annotation id
    however the samples were dealt out, and any number of processes gives the AP of one, bit for bit. Instances that
    never come are missed ones, as in any other evaluation.

    Detections are scored with `instance_score` and thinned with `oks_nms`, image by image, on the areas of their
    crops or boxes. Coordinates and confidences are kept in float32 (`set_dtype` changes that) and reckoned with in
    float64; a keypoint that is not finite, as from a model that diverged, becomes (0, 0) with confidence 0, which has
    no distance.

    Args:
        truth: all instances of the split.
        input_size: width and height of the crops, px, whose areas `oks_nms` is to take; None: the boxes'.
        kwargs: torchmetrics' own.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    rows: Tensor  # (N, 1 + K * 3): whether the row is filled, then x, y, confidence of each keypoint

    def __init__(self, truth: Instances, input_size: tuple[int, int] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.truth, self.input_size = truth, input_size
        self.detections: Detections | None = None  # of the last compute(), of all processes, NMS done
        self.seen: np.ndarray | None = None  # (N,) bool, by then: the instances that came, in the truth's order
        self.add_state("rows", torch.zeros(len(truth), 1 + 3 * len(truth.skeleton)), dist_reduce_fx=_first_filled)

    def update(self, keypoints: Tensor, confidence: Tensor, annotation_id: Tensor) -> None:
        """Add a batch.

        Args:
            keypoints: (B, K, 2), image px.
            confidence: (B, K).
            annotation_id: (B,), from whose box each was made.

        Raises:
            KeyError: for an annotation that the truth doesn't have.
        """
        ids = annotation_id.cpu().numpy()
        places, first = np.unique(self.truth.rows_of(ids), return_index=True)  # the first of equals stays
        if (places < 0).any():
            raise KeyError(f"no annotation {ids[first[0]]} in the truth")
        rows = torch.from_numpy(places).to(self.rows.device)
        batch = torch.from_numpy(first).to(keypoints.device)
        detected = torch.cat([keypoints, confidence.unsqueeze(-1)], dim=-1)[batch].detach().to(self.rows)
        detected = torch.where(detected.isfinite().all(dim=-1, keepdim=True), detected, 0).flatten(1)
        filled = torch.cat([torch.ones_like(detected[:, :1]), detected], dim=1)
        known = self.rows[rows]
        if self.rows.is_inference() and not torch.is_inference_mode_enabled():
            self.rows = self.rows.clone()  # else it couldn't be filled in place, which costs a batch what it holds
        self.rows.index_copy_(0, rows, torch.where(known[:, :1] > 0, known, filled))

    def compute(self) -> dict[str, float]:
        """The values named in `keys`, of `average_precision` and `distances`; nan where nothing counts."""
        state = self.rows.cpu().numpy().astype(np.float64)
        present = state[:, 0] > 0
        order = self.truth.by_id
        order = order[present[order]]
        detected = state[order, 1:].reshape(-1, len(self.truth.skeleton), 3)
        self.detections = scored(self.truth, order, detected, self.input_size)
        self.seen = present
        return metric_values(self.truth, self.detections)

    def reset(self) -> None:
        super().reset()
        self.detections = self.seen = None


def metric_values(truth: Instances, detections: Detections) -> dict[str, float]:
    """Those named in `keys`; nan where nothing counts."""
    by_key = average_precision(match(truth, detections)) | means(truth, measures(truth, distances(truth, detections)))
    return {key: float(by_key[key]) for key in keys(truth.skeleton)}


def _first_filled(rows: Tensor) -> Tensor:
    """(processes, N, 1 + K * 3) -> (N, 1 + K * 3): each row from the first process that has it."""
    first = rows[..., 0].argmax(dim=0)
    return rows[first, torch.arange(rows.shape[1], device=rows.device)]
