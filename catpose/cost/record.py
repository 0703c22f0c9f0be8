"""What a configuration costs, as it is written and read again: profile.json, and a run's complexity.json.

Without torch, which takes longer to import than most that is done with these records.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catpose.cost.runtime import RunTime
from catpose.cost.values import Amount, Count, Text
from catpose.errors import InputError, one_line
from catpose.files import LARGEST_RECORD, as_record, read_json, write_json
from catpose.run.provenance import Provenance

#: A profile.json of another shape has another number.
FORMAT = 1


@dataclass(frozen=True)
class Part:
    """Modules of a model that follow each other."""

    name: Text  # the module's own, `backbone.layer1`; of several in a row `backbone.stem`, `head.deconvolution 1`
    params: Count
    macs: Count  # fvcore's
    published_macs: Count  # in the published convention


@dataclass(frozen=True)
class Complexity:
    """One crop's way to its heatmaps, without the flip test's second pass."""

    width_px: Count
    height_px: Count
    parts: tuple[Part, ...]  # in the order of the data; they add up to the totals
    params: Count
    macs: Count
    published_macs: Count
    published_kinds: dict[Text, Count]  # published_macs by kind of module
    left_out: dict[Text, Count]  # operations that fvcore doesn't count: how often they run
    unseen: dict[Text, Count]  # operations outside of the modules that the convention knows: their fvcore multiply–adds

    @classmethod
    def read(cls, file: Path) -> Complexity:
        """What `fit` wrote beside a run's other files.

        Raises:
            InputError: it is damaged.
        """
        try:
            return as_record(cls, read_json(file, LARGEST_RECORD))
        except ValueError as error:
            why = one_line(error)[:120]
            raise InputError(f"{file}: is damaged ({why}); delete it, and the model is counted again") from None


@dataclass(frozen=True)
class Timing:
    """Predictions of one kind."""

    kind: Text  # one of KINDS
    batch_size: Count
    precision: Text  # "float32", or with autocast "bfloat16" or "float16"
    compiled: bool
    p50_ms: Amount
    p95_ms: Amount
    n: Count  # batches timed
    images_per_s: Amount
    peak_mb: Amount | None  # of the GPU's memory, the model's included; None elsewhere

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"no batch has {self.batch_size} crops")


@dataclass(frozen=True)
class Phase:
    """Part of a training step."""

    name: Text  # one of PHASES
    median_ms: Amount
    share: Amount  # of the time of all steps


@dataclass(frozen=True)
class TrainingStep:
    """Training steps of `fit`'s own loop, without its loggers and validations."""

    batch_size: Count
    data: Text | None  # the folder; None where the crops were made up, and none waited for
    workers: Count | None  # loading processes; None as `data`
    precision: Text  # Lightning's name of it; until 0.1.0 "float32", "bfloat16" or "float16"
    phases: tuple[Phase, ...]
    p50_ms: Amount
    p95_ms: Amount
    n: Count  # steps timed
    images_per_s: Amount
    peak_mb: Amount | None  # None where nobody tells
    peak_is: Text  # what `peak_mb` is of

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"no batch has {self.batch_size} crops")


@dataclass(frozen=True)
class Cost:
    """What a model costs on a device."""

    model: Text  # its class
    settings: dict[str, Any]  # every setting of `fit`, defaults included
    device: Text
    threads: Count  # of torch, on the CPU
    complexity: Complexity
    predictions: tuple[Timing, ...]
    training: TrainingStep | None
    largest_training_batch: Count | None  # that fits; None where it wasn't looked for
    largest_prediction_batch: Count | None
    notes: tuple[Text, ...]  # what could not be measured, and why


@dataclass(frozen=True)
class Profile:
    """The content of a profile.json."""

    provenance: Provenance
    cost: Cost | None
    runs: tuple[RunTime, ...]
    format: Count = FORMAT

    def write(self, folder: Path) -> Path:
        """Write profile.json, whole or not at all.

        Raises:
            InputError: the folder can't be written to.
        """
        write_json(folder / "profile.json", dataclasses.asdict(self))
        return folder / "profile.json"


def read_profile(path: Path) -> Profile:
    """What `Profile.write` wrote, each value checked; nothing in the file is executed.

    Raises:
        InputError: as `read_json`, or no profile.
    """
    try:
        content = read_json(path, LARGEST_RECORD)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        return as_record(Profile, content)
    except ValueError as error:
        why = one_line(error)[:120]
        raise InputError(f"{path}: is no profile ({why}); make it again with catpose.profile") from None
