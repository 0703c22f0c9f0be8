"""The contract of a score: everything that two numbers must share before one may be subtracted from the other."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from catpose.errors import InputError, one_line
from catpose.files import atomic_write
from catpose.score.instances import Detections, Truth
from catpose.score.oks import MIN_CONFIDENCE, NMS_OKS
from catpose.skeleton import SIGMAS

#: Score rules: of detections that we score, and of those that come with a score in a file of unknown making.
MEAN_CONFIDENCE = f"mean of keypoint confidences above {MIN_CONFIDENCE}, OKS-NMS at {NMS_OKS}"
AS_GIVEN = "as given in the results file"


@dataclass(frozen=True)
class Contract:
    """What an AP means."""

    split: str  # "val"
    split_hash: str  # of the split's annotations
    area_rule: str
    box_source: str  # "ground truth", "whole image", a detector's name, "unknown"
    flip_test: bool | None  # None where it is not known
    score_rule: str
    sigmas: tuple[float, ...] = SIGMAS

    @property
    def flip(self) -> str:
        """Whether the flip test was made, in a word."""
        return {None: "unknown", True: "yes", False: "no"}[self.flip_test]

    @classmethod
    def of(
        cls,
        truth: Truth,
        detections: Detections,
        *,
        split: str,
        split_hash: str,
        box_source: str,
        flip_test: bool | None,
        score_rule: str = MEAN_CONFIDENCE,
    ) -> Contract:
        """The contract of an evaluation; the area rule comes from what is compared."""
        area_rule = f"truth: {truth.area_rule}; detections: {detections.area_rule}"
        return cls(split, split_hash, area_rule, box_source, flip_test, score_rule)


@dataclass(frozen=True)
class Score:
    """Figures with the contract that they were made under. A figure that rests on no instance is nan, None in JSON."""

    values: Mapping[str, float]
    contract: Contract
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # 95 %, where they were asked for

    def __sub__(self, other: Score) -> dict[str, float]:
        """The differences of the figures that both have.

        Raises:
            InputError: where the contracts differ: such numbers may stand side by side, not be subtracted.
        """
        ours, theirs = dataclasses.asdict(self.contract), dataclasses.asdict(other.contract)
        broken = [
            f"{key} ({one_line(ours[key])} against {one_line(theirs[key])})" for key in ours if ours[key] != theirs[key]
        ]
        if broken:
            raise InputError(
                "two scores of different contracts can't be subtracted; they differ in "
                f"{', '.join(broken)}; evaluate both in the same way"
            )
        return {key: value - other.values[key] for key, value in self.values.items() if key in other.values}

    def write(self, path: Path) -> None:
        """Write both as JSON, whole or not at all."""
        values = {key: None if math.isnan(value) else float(value) for key, value in self.values.items()}
        content: dict[str, object] = {"score": values, "contract": dataclasses.asdict(self.contract)}
        if self.intervals:
            known = {key: ends for key, ends in self.intervals.items() if not any(map(math.isnan, ends))}
            content["intervals_95"] = {key: [float(low), float(high)] for key, (low, high) in known.items()}
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
            content = json.loads(path.read_text())
            values = {str(key): math.nan if value is None else float(value) for key, value in content["score"].items()}
            contract = content["contract"]
            intervals = {str(key): (float(a), float(b)) for key, (a, b) in content.get("intervals_95", {}).items()}
            return cls(
                values, Contract(**contract | {"sigmas": tuple(float(s) for s in contract["sigmas"])}), intervals
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{path}: no score with its contract ({one_line(error)}); write it again with test"
            ) from None
