"""What `--final` leaves in final.json, and says of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import AliasChoices, BaseModel, Field, ValidationError

from catpose.analysis.configurations import Configuration
from catpose.errors import InputError, one_line
from catpose.files import LARGEST_RECORD, read_json
from catpose.study.results import ROUNDING
from catpose.text import counted, ends, fraction, listed

NO_LABELS = "{file} has no labels, so there is no score: send in the predictions."


class MeanAP(BaseModel):
    """The mean over seeds with its 95 % interval, and each seed's."""

    mean: float
    low: float | None  # None on few instances
    high: float | None
    seeds: list[float]


class Models(BaseModel):
    """The models of a configuration on the test split, in the order of their seeds."""

    configuration: str = Field(validation_alias=AliasChoices("configuration", "arm"))
    params: dict[str, Any]
    seeds: list[int]
    runs: list[str | None]
    AP: MeanAP | None  # None without labels
    values: list[dict[str, float | None]]
    validation_AP: list[float]

    @property
    def name(self) -> str:
        """What messages call it."""
        return _named(self.configuration, self.seeds)

    def are_those_of(self, configuration: Configuration) -> bool:
        """Whether these are the models that a study's report speaks of now."""
        then = (self.configuration, self.params, self.seeds)
        now = (configuration.label, json.loads(json.dumps(dict(configuration.params))), list(configuration.seeds))
        ours, theirs = np.array(self.validation_AP), configuration.ap
        return then == now and ours.shape == theirs.shape and np.allclose(ours, theirs, rtol=0, atol=ROUNDING)


class Difference(BaseModel):
    """AP of the winner minus the reference's, with p for "there is none"."""

    value: float
    low: float | None
    high: float | None
    p: float | None


class Copies(BaseModel):
    """Test pictures that are copies of training or validation pictures."""

    file_names: list[str]
    left_out: bool  # of the scores

    def text(self, n_images: int) -> str:
        """In a sentence; `n_images` are the test split's."""
        n = len(self.file_names)
        if not n:
            return "No test picture is a copy of a training or validation picture."
        what = f"{n} of {counted(n_images, 'test picture')} {'is a copy' if n == 1 else 'are copies'} of training or"
        if self.left_out:
            return f"{what} validation pictures, left out of the scores."
        return f"{what} validation pictures and scored like the others; test_copies: drop would have left them out."


class Record(Models):
    """What `final.json` holds, also as it was written until 0.1.0: the winner's models, and those of the reference."""

    study: str
    time: str
    file: str
    split_hash: str
    protocol: dict[str, Any] | None = Field(validation_alias=AliasChoices("protocol", "contract"))
    reference: Models | None = None  # None where there is none but the winner, no labels, and until 0.1.0
    difference: Difference | None = None
    copies: Copies | None = None  # None until 0.1.0
    sentences: list[str] = []


@dataclass(frozen=True)
class Final:
    """The record of the winner on the test split, where it is, and whether it had been there before."""

    file: Path
    record: Record
    before: bool

    def text(self) -> str:
        """In sentences, for the terminal."""
        record = self.record
        once = ", once; it isn't done again." if self.before else "."
        when = record.time[:16].replace("T", " ")
        models = [f"The winner {record.configuration} ({counted(len(record.seeds), 'seed')})"]
        if record.reference:
            models.append(f"the reference {record.reference.configuration}"
                          f" ({counted(len(record.reference.seeds), 'seed')})")  # fmt: skip
        first = f"{listed(models)} predicted the test split on {when}{once}"
        return "\n".join([" ".join([first, *(record.sentences or [_former(record)])]), f"files: {self.file.parent}/"])


def _former(record: Record) -> str:
    """What a record without sentences says."""
    if not record.AP:
        return NO_LABELS.format(file=record.file)
    of = "these trained models" if len(record.seeds) == 1 else "the configuration"
    interval = "" if record.AP.low is None or record.AP.high is None else f" {ends(record.AP.low, record.AP.high)}"
    return f"Test AP of {of}: {fraction(record.AP.mean)}{interval}."


def earlier(file: Path, best: Configuration, base: Configuration | None, test_copies: str) -> Record | None:
    """What an earlier call wrote; None where there was none.

    Args:
        best, base: the winner and the reference that it is compared with, as they are now.
        test_copies: as the study's file has it now.

    Raises:
        InputError: the file is damaged, or the test split was seen by other models, or scored in another way.
    """
    if not file.exists():
        return None
    try:
        record = Record.model_validate(read_json(file, LARGEST_RECORD))
    except ValidationError as error:
        problem = error.errors()[0]
        what = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        raise InputError(f"{file}: is damaged ({one_line(what)[:80]}); restore it") from None
    except (InputError, ValueError) as error:
        raise InputError(f"{file}: is damaged ({one_line(error)[:80]}); restore it") from None
    remedy = (
        f"a test split looked at twice is a validation split. If it must be, move {file.parent} away, and report both"
    )
    now = [("winner", record, best), ("reference", record.reference, base)]
    for role, then, configuration in now:
        if then is not None and (configuration is None or not then.are_those_of(configuration)):
            is_now = "none" if configuration is None else _named(configuration.label, configuration.seeds)
            raise InputError(
                f"{file}: the test split was predicted with {then.name}, and the {role} is now {is_now} or was trained"
                f" anew; {remedy}"
            )
    if record.copies and record.copies.file_names and record.copies.left_out != (test_copies == "drop"):
        how = "without" if record.copies.left_out else "with"
        raise InputError(
            f"{file}: the test split was scored {how} its copies of training pictures, and test_copies is now"
            f" {test_copies}; {remedy}"
        )
    return record


def _named(configuration: str, seeds: Sequence[int]) -> str:
    return f"{configuration} (seeds {', '.join(map(str, seeds))})"
