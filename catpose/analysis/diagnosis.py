"""What goes wrong with a model: error types, their ΔAP, and the AP on slices of the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from catpose.analysis.configurations import Configuration
from catpose.analysis.evaluations import trusted
from catpose.analysis.slices import SliceDifference, compare_slices, recalled
from catpose.analysis.statistics import Estimate, Sample, estimate
from catpose.data.slices import SLICES
from catpose.instances import Instances
from catpose.score.bootstrap import image_weights
from catpose.score.by_slice import SliceAP, ap_by_slice
from catpose.score.calibration import reliability, threshold_curves
from catpose.score.error_types import ERROR_TYPES, ERRORS, DeltaAP, delta_ap, delta_ap_by_keypoint, error_types

#: The metrics that are told of each keypoint.
PER_KEYPOINT = ("AP", "AR", "PCK@0.1", "EPE")


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What goes wrong with one model, over all of its runs.

    Only what is asked for is reckoned of the single keypoints and of a slice beside the rest: a page tells it of its
    first model.
    """

    evaluated: Configuration
    truth: Instances  # N of K keypoints
    labels: Mapping[str, np.ndarray]  # attribute -> (N,), the slice of each instance
    draws: int
    error_types: np.ndarray  # (S * N, K) int8, index into ERROR_TYPES: the runs one below the other
    delta_aps: tuple[DeltaAP, ...]  # one a run
    slices: dict[str, dict[str, tuple[SliceAP, ...]]]  # attribute -> slice -> one a run

    @property
    def shares(self) -> np.ndarray:
        """(5,), by ERROR_TYPES: the fraction of labelled keypoints of detected instances; nan where there are none."""
        count = np.bincount(self.error_types[self.error_types >= 0], minlength=len(ERROR_TYPES))
        return count / count.sum() if count.any() else np.full(len(ERROR_TYPES), np.nan)

    @property
    def errors(self) -> tuple[str, ...]:
        """The ERRORS to speak of."""
        return tuple(self.delta_aps[0].values)

    def delta_ap(self, error: str) -> Estimate:
        """ΔAP where errors of this type alone are corrected; without an interval where it is negative, as where a
        duplicate is dropped at OKS 0.5 that was the better match at 0.75."""
        values = np.array([run.values[error] for run in self.delta_aps])
        draws = np.stack([run.draws[error] for run in self.delta_aps], axis=1)
        gain = estimate(Sample(values, draws, self.evaluated.n_images))
        return gain if gain.value >= 0 else replace(gain, low=math.nan, high=math.nan)

    @cached_property
    def delta_ap_by_keypoint(self) -> np.ndarray:
        """(K, 4), by ERROR_TYPES but the good: ΔAP where one keypoint's errors of one type are corrected."""
        return np.mean([delta_ap_by_keypoint(self.truth, run) for run in self.evaluated.detections], axis=0)

    @cached_property
    def slice_differences(self) -> dict[str, dict[str, SliceDifference]]:
        """By attribute and slice: AR minus that of the rest."""
        counted = ~self.truth.ignored
        return compare_slices(
            np.stack([recalled(self.truth, run) for run in self.evaluated.detections])[:, counted],
            {attribute: labels[counted] for attribute, labels in self.labels.items()},
            self.truth.image_index[counted],
            image_weights(len(self.truth.image_ids), self.draws),
        )

    def slice_ap(self, attribute: str, name: str) -> Estimate:
        """AP on a slice of the data."""
        runs = self.slices[attribute][name]
        draws = np.stack([run.draws for run in runs], axis=1)
        n = self.size(attribute, name)  # which may be in fewer images than there are
        values = np.array([run.ap for run in runs])
        return trusted(estimate(Sample(values, draws, max(min(self.evaluated.n_images, n), 1))), n)

    def size(self, attribute: str, name: str) -> int:
        """How many instances of it count."""
        return self.slices[attribute][name][0].n

    def content(self) -> dict[str, Any]:
        """Everything as numbers for JSON, None where there is none; confidence is the first run's."""
        truth, of = self.truth, self.evaluated.detections[0]
        content = {
            "keypoints_by_error_type": dict(zip(ERROR_TYPES, self.shares.tolist(), strict=True)),
            "delta_AP": {error: _numbers(self.delta_ap(error)) for error in self.errors},
            "delta_AP_by_keypoint": {
                name: dict(zip(ERROR_TYPES[1:], row, strict=True))
                for name, row in zip(truth.skeleton.names, self.delta_ap_by_keypoint.tolist(), strict=True)
            },
            "AP_by_slice": {
                attribute: {
                    name: {"n": self.size(attribute, name)}
                    | _numbers(self.slice_ap(attribute, name))
                    | _compared(self.slice_differences[attribute][name])
                    for name in names
                }
                for attribute, names in self.slices.items()
            },
            "reliability": {key: value.tolist() for key, value in vars(reliability(truth, of)).items()},
            "thresholds": {key: value.tolist() for key, value in vars(threshold_curves(truth, of)).items()},
        }
        return _known(content)


def varied(slices: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The attributes with several slices, and the slice (N,) that each instance is in.

    Args:
        slices: those of the split, as `catpose.data.slices` gives them.
    """
    return {name: values for name, values in slices.items() if len(set(values.tolist()) - {""}) > 1}


def diagnose(evaluated: Configuration, truth: Instances, slices: dict[str, np.ndarray], draws: int) -> Diagnosis:
    """Look for what goes wrong, on `draws` resamples of the images; `slices`, (N,) each, as of `varied`."""
    runs = evaluated.detections
    weights = image_weights(len(truth.image_ids), draws)
    sliced = {}
    for attribute, values in slices.items():
        by_run = [ap_by_slice(truth, run, values, draws) for run in runs]
        order = SLICES.get(attribute, ())
        names = [*(name for name in order if name in by_run[0]), *sorted(by_run[0].keys() - {"", *order})]
        sliced[attribute] = {name: tuple(each[name] for each in by_run) for name in names}
    # Where every box was the truth's own, none is false and none was missed.
    errors = ERRORS[:-2] if all((run.annotation_id >= 0).all() for run in runs) else ERRORS
    return Diagnosis(
        evaluated,
        truth,
        slices,
        draws,
        np.concatenate([error_types(truth, run) for run in runs]),
        tuple(delta_ap(truth, run, weights, errors) for run in runs),
        sliced,
    )


def _numbers(of: Estimate) -> dict[str, float]:
    return {"value": of.value, "low": of.low, "high": of.high}


def _compared(of: SliceDifference) -> dict[str, Any]:
    """The difference from the rest; None where there are not enough animals to say."""
    each = of.difference
    return {"AR_minus_rest": {"value": each.value, "low": each.low, "high": each.high, "p": of.p} if each else None}


def _known(content: Any) -> Any:
    """The same with None for every nan."""
    if isinstance(content, dict):
        return {key: _known(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_known(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content
