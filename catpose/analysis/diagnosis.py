"""What goes wrong with a model: kinds of error, what they cost, and on which part of the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from catpose.analysis.compare import Judged, trusted
from catpose.analysis.statistics import Estimate, Sample, estimate
from catpose.data.slices import PARTS
from catpose.instances import Instances
from catpose.score.bootstrap import image_weights
from catpose.score.by_slice import Part, by_condition
from catpose.score.calibration import reliability, threshold_curves
from catpose.score.error_types import ERRORS, KINDS, Regained, kinds, regained
from catpose.skeleton import Skeleton

#: The figures that are told of each keypoint.
PER_KEYPOINT = ("AP", "AR", "PCK@0.1", "EPE")


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What goes wrong with one model, over all of its runs."""

    judged: Judged
    skeleton: Skeleton  # of the K keypoints
    kinds: np.ndarray  # (S * N, K) int8, index into KINDS: the runs one below the other
    regained: tuple[Regained, ...]  # one a run
    parts: dict[str, dict[str, tuple[Part, ...]]]  # condition -> part of the data -> one a run

    @property
    def shares(self) -> np.ndarray:
        """(5,), by KINDS: the fraction of labelled keypoints of detected instances; nan where there are none."""
        count = np.bincount(self.kinds[self.kinds >= 0], minlength=len(KINDS))
        return count / count.sum() if count.any() else np.full(len(KINDS), np.nan)

    @property
    def errors(self) -> tuple[str, ...]:
        """The ERRORS to speak of. Where every box was the truth's own, none is false and none was missed."""
        own = all((each.annotation_id >= 0).all() for each in self.judged.detections)
        return ERRORS[:-2] if own else ERRORS

    def gain(self, error: str) -> Estimate:
        """AP regained where this kind alone were corrected; without an interval where it is negative, as where a
        duplicate is dropped at OKS 0.5 that was the better match at 0.75."""
        values = np.array([run.gained[error] for run in self.regained])
        draws = np.stack([run.gained_draws[error] for run in self.regained], axis=1)
        made = estimate(Sample(values, draws, self.judged.n_images))
        return made if made.value >= 0 else replace(made, low=math.nan, high=math.nan)

    @property
    def gained_by_keypoint(self) -> np.ndarray:
        """(K, 4), by KINDS but the good: AP regained where one keypoint's errors of one kind were corrected."""
        return np.mean([run.by_keypoint for run in self.regained], axis=0)

    def part(self, condition: str, name: str) -> Estimate:
        """AP on a part of the data."""
        parts = self.parts[condition][name]
        draws = np.stack([part.draws for part in parts], axis=1)
        n = self.size(condition, name)  # which may be in fewer images than there are
        made = estimate(Sample(np.array([part.ap for part in parts]), draws, max(min(self.judged.n_images, n), 1)))
        return trusted(made, n)

    def size(self, condition: str, name: str) -> int:
        """How many instances of it count."""
        return self.parts[condition][name][0].n

    def content(self, truth: Instances) -> dict[str, Any]:
        """Everything as numbers for JSON, None where there is none; confidence is the first run's."""
        of = self.judged.detections[0]
        content = {
            "keypoints_by_kind": dict(zip(KINDS, self.shares.tolist(), strict=True)),
            "AP_regained": {error: _numbers(self.gain(error)) for error in self.errors},
            "AP_regained_by_keypoint": {
                name: dict(zip(KINDS[1:], row, strict=True))
                for name, row in zip(self.skeleton.names, self.gained_by_keypoint.tolist(), strict=True)
            },
            "AP_by_condition": {
                condition: {
                    name: {"n": self.size(condition, name)} | _numbers(self.part(condition, name)) for name in names
                }
                for condition, names in self.parts.items()
            },
            "reliability": {key: value.tolist() for key, value in vars(reliability(truth, of)).items()},
            "thresholds": {key: value.tolist() for key, value in vars(threshold_curves(truth, of)).items()},
        }
        return _known(content)


def parts_of(conditions: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each condition's part of every instance, (N,); conditions that part nothing are left out.

    Args:
        conditions: those of the split, as `catpose.data.slices` gives them.
    """
    return {name: values for name, values in conditions.items() if len(set(values.tolist()) - {""}) > 1}


def diagnose(judged: Judged, truth: Instances, parts: dict[str, np.ndarray], draws: int) -> Diagnosis:
    """Look for what goes wrong, on `draws` resamples of the images; `parts`, (N,) each, as of `parts_of`."""
    runs = judged.detections
    weights = image_weights(len(truth.image_ids), draws)
    split_up = {}
    for condition, values in parts.items():
        made = [by_condition(truth, run, values, draws) for run in runs]
        order = PARTS.get(condition, ())
        names = [*(name for name in order if name in made[0]), *sorted(made[0].keys() - {"", *order})]
        split_up[condition] = {name: tuple(each[name] for each in made) for name in names}
    return Diagnosis(
        judged,
        truth.skeleton,
        np.concatenate([kinds(truth, run) for run in runs]),
        tuple(regained(truth, run, weights) for run in runs),
        split_up,
    )


def _numbers(of: Estimate) -> dict[str, float]:
    return {"value": of.value, "low": of.low, "high": of.high}


def _known(content: Any) -> Any:
    """The same with None for every nan."""
    if isinstance(content, dict):
        return {key: _known(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_known(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content
