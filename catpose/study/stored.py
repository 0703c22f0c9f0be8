"""What a study's storage holds, checked before it is used: whoever can write the database may have written it."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from catpose.errors import InputError, one_line
from catpose.files import parse_json
from catpose.plain_yaml import current_arguments, current_names
from catpose.score.protocol import NMS_BOX

LARGEST_TEXT = 2**20  # characters of one JSON text; ours have some thousand
LARGEST_NUMBER = 10**18
REMEDY = "restore the storage, or give the study another name with --name"


def _bounded(value: float) -> float:
    if abs(value) > LARGEST_NUMBER:
        raise ValueError("too large to be computed with")
    return value


Number = Annotated[float, AfterValidator(_bounded)]  # or nan
Natural = Annotated[int, Field(ge=0, le=LARGEST_NUMBER)]
Scalar = str | bool | Annotated[int, AfterValidator(_bounded)] | Number | None


def _current(protocol: dict[str, Any]) -> dict[str, Any]:
    """With what earlier versions didn't say of a protocol, there being one way only."""
    return {"nms_area": NMS_BOX, "copies_left_out": 0, "pool": ""} | protocol if protocol else protocol


class Stored(BaseModel):
    """A JSON text of the storage; keys that it doesn't name are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, populate_by_name=True)

    def dump(self) -> str:
        """As JSON, keys sorted."""
        return json.dumps(dict(self), sort_keys=True)


class StoredConfiguration(Stored):
    """A configuration; its settings are the study file's, so that `args` are only compared with those."""

    label: str
    params: dict[str, Scalar]
    args: Annotated[list[str], AfterValidator(current_arguments)] | None = Field(
        default=None, validation_alias=AliasChoices("args", "words")
    )


class Owner(Stored):
    """The process that has, or had, a trial."""

    machine: str  # shared by processes that can see each other by pid
    host: str = ""
    pid: int = Field(gt=0, lt=2**31)
    started_s: Number | None = None  # after the system's boot
    job: str | None = None  # of SLURM


class Outcome(Stored):
    """What a trial's training came to."""

    reason: str | None = None  # why it isn't complete
    run: str | None = None  # its folder
    command: str | None = None
    wandb_id: str | None = None
    seconds: Number | None = None
    best_ap: Number | None = None
    best_epoch: Natural | None = None
    epochs: Natural | None = None
    same_as: Natural | None = None  # the number of the trial with the same settings and seed, for which it wasn't run
    values: dict[str, Number | None] = {}  # the last epoch's metrics
    versions: dict[str, str] = {}
    protocol: Annotated[dict[str, Scalar | list[Scalar]], AfterValidator(_current)] = Field(
        default={}, validation_alias=AliasChoices("protocol", "contract")
    )


class Facts(Stored):
    """What makes a study this one, beside its configurations."""

    id: str  # made up when it was created
    settings: Annotated[dict[str, Any], AfterValidator(current_names)]  # shared by all configurations, by dotted name
    data: dict[str, str]  # the hash of each split
    metrics: dict[str, str]  # with their directions
    space: dict[str, str] = {}  # of a sampled study: Optuna's distributions
    splits: Natural = 0  # random ones that seeds are trained on; 0: the data's own
    corrections: Natural = 0  # how often the settings were corrected
    versions: dict[str, str] | None = None  # None in studies of catpose 0.1.0


S = TypeVar("S", bound=Stored)


def read(kind: type[S], text: Any, where: str) -> S:
    """A JSON text of the storage.

    Args:
        where: the study, the row and the column, for messages.

    Raises:
        InputError: it is no JSON, or a key is missing or holds another kind of value.
    """
    if not isinstance(text, str) or len(text) > LARGEST_TEXT:
        raise damaged(where, "is no text, or too long")
    try:
        content = parse_json(text, where)
    except InputError as error:
        raise InputError(f"{one_line(error)[:300]}; {REMEDY}") from None
    if not isinstance(content, dict):
        raise damaged(where, f"is {one_line(repr(content))[:40]}, no object")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = one_line(first["loc"][0])[:40]
        if first["type"] == "missing":
            raise damaged(where, f"{key} is missing") from None
        raise damaged(f"{where}: {key}", f"is {ascii(content[key])[:60]}, which catpose doesn't write") from None


def damaged(where: str, what: str) -> InputError:
    """The error for a storage whose content can't be read, with its remedy."""
    return InputError(f"{where}: {what}; {REMEDY}")
