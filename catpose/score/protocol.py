"""The protocol of a score: everything that two numbers must share before one may be subtracted from the other."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from catpose.errors import InputError, one_line
from catpose.files import LARGEST_RECORD, atomic_write, read_json
from catpose.instances import AREA_RULES, Instances
from catpose.score.detections import Detections
from catpose.score.oks import MIN_CONFIDENCE, NMS_OKS
from catpose.skeleton import AP10K

#: Score rules: of detections that we score, and of those that come with a score in a file of unknown making.
MEAN_CONFIDENCE = f"mean of keypoint confidences above {MIN_CONFIDENCE}, OKS-NMS at {NMS_OKS}"
TIMES_BOX = f"{MEAN_CONFIDENCE}, then times the box's score"
AS_GIVEN = "as given in the results file"
#: Areas in OKS-NMS: those of the crops, of MMPose and HRNet's code; of the boxes, until 0.1.0; of others' results.
NMS_CROP = "padded: the crop's, 1.25 times the box in the shape of the input"
NMS_BOX = "box width x height"
NMS_UNKNOWN = "unknown"


@dataclass(frozen=True)
class EvaluationProtocol:
    """What an AP means."""

    split: str  # "val"
    split_hash: str  # of the annotations that are scored
    area_rule: str
    box_source: str  # "ground truth", "whole image", a detector's name, "unknown"
    flip_test: bool | None  # None where it is not known
    score_rule: str
    sigmas: tuple[float, ...] = AP10K.sigmas
    nms_area: str = NMS_BOX
    instances: int | None = None  # labelled ones of the split; None where it is not known
    seen: int | None = None  # those of them that the model was shown: an AP of fewer is none of the split
    pool: str = ""  # hash of the training and validation splits of which this is a random division; else empty
    copies_left_out: int = 0  # images of the split that are copies of ones the study has seen, and aren't scored

    @property
    def is_partial(self) -> bool:
        """Whether instances of the split were left out."""
        return self.seen != self.instances

    @property
    def flip(self) -> str:
        """Whether the flip test was made, in a word."""
        return {None: "unknown", True: "yes", False: "no"}[self.flip_test]

    def differences(self, other: EvaluationProtocol) -> str:
        """What the two differ in, "key ours against theirs" for each; nothing where they are alike."""
        ours, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        return ", ".join(
            f"{key} {one_line(ours[key])[:60]} against {one_line(theirs[key])[:60]}"
            for key in ours
            if ours[key] != theirs[key]
        )

    @classmethod
    def of(
        cls,
        truth: Instances,
        detections: Detections,
        *,
        split: str,
        split_hash: str,
        box_source: str,
        flip_test: bool | None,
        score_rule: str = MEAN_CONFIDENCE,
        nms_area: str = NMS_CROP,
        seen: int | None = None,
        pool: str = "",
    ) -> EvaluationProtocol:
        """The protocol of an evaluation; the area rule comes from what is compared.

        Args:
            pool: as of `data.resplit.pool_of`.
            seen: labelled instances that the model was shown; None: all of the truth's.
        """
        instances = int((~truth.ignored).sum())
        seen = instances if seen is None else seen
        area_rule = f"truth: {AREA_RULES[truth.area_rule]}; detections: {detections.area_rule}"
        return cls(
            split,
            split_hash,
            area_rule,
            box_source,
            flip_test,
            score_rule,
            truth.skeleton.sigmas,
            nms_area,
            instances,
            seen,
            pool,
        )


@dataclass(frozen=True)
class Score:
    """Metrics with the protocol that they were made under. A value that rests on no instance is nan, None in JSON."""

    values: Mapping[str, float]
    protocol: EvaluationProtocol
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # 95 %, where they were asked for
    checkpoint: Mapping[str, int] = field(
        default_factory=dict
    )  # epoch and step of the weights, where it is `fit`'s own

    def write(self, path: Path) -> None:
        """Write both as JSON, whole or not at all."""
        values = {key: None if math.isnan(value) else float(value) for key, value in self.values.items()}
        content: dict[str, object] = {"score": values, "protocol": dataclasses.asdict(self.protocol)}
        if self.intervals:
            known = {key: ends for key, ends in self.intervals.items() if not any(map(math.isnan, ends))}
            content["intervals_95"] = {key: [float(low), float(high)] for key, (low, high) in known.items()}
        if self.checkpoint:
            content["checkpoint"] = dict(self.checkpoint)
        text = json.dumps(content, indent=2, allow_nan=False)
        with atomic_write(path) as temporary:
            temporary.write_text(text + "\n")

    @classmethod
    def read(cls, path: Path) -> Score:
        """What `write` wrote.

        Raises:
            InputError: where the file is unreadable, or holds something else.
        """
        try:
            content = read_json(path, LARGEST_RECORD)
            values = {str(key): math.nan if value is None else float(value) for key, value in content["score"].items()}
            protocol = content["protocol"] if "protocol" in content else content["contract"]  # so until 0.1.0
            protocol = protocol | {"sigmas": tuple(float(s) for s in protocol["sigmas"])}
            if "n" in values:  # until 0.1.0 this was all that was known
                protocol = {"instances": int(values["n"]), "seen": int(values["n"])} | protocol
            intervals = {str(key): (float(a), float(b)) for key, (a, b) in content.get("intervals_95", {}).items()}
            checkpoint = {str(key): int(value) for key, value in content.get("checkpoint", {}).items()}
            return cls(values, EvaluationProtocol(**protocol), intervals, checkpoint)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}: no score with its protocol ({one_line(error)[:120]}); write it again with test"
            ) from None
