"""Values of an annotation file: type checks, their text in messages, and remedies for wrong types."""

from __future__ import annotations

import os
import re
from typing import Any

from catpose.data.finding import Fault

#: Longest side and largest coordinate accepted, px: OpenCV's own limit for the side of a picture it decodes.
LARGEST_PX = 2**20
#: Beyond it, programs that read JSON's numbers as floats take neighbouring ids for one.
LARGEST_ID = 2**53


def is_number(value: object) -> bool:
    """Whether a JSON value is a finite number below 2^53; true and false are none."""
    return type(value) in (int, float) and abs(value) < 2**53  # type: ignore[arg-type]  # false for nan and inf


def is_coordinate(value: object) -> bool:
    """Whether a JSON value is a number within ±`LARGEST_PX`."""
    return type(value) in (int, float) and -LARGEST_PX <= value <= LARGEST_PX  # type: ignore[operator]


def are_coordinates(values: list[Any]) -> bool:
    """`is_coordinate` of each, five times as fast: a nan slips through the bounds, but not through the sum."""
    if not set(map(type, values)) <= {int, float}:
        return False
    return min(values) >= -LARGEST_PX and max(values) <= LARGEST_PX and abs(sum(values)) >= 0


def id_fault(entry: dict[str, Any], key: str, known: set[int] | None = None, what: str = "") -> Fault | None:
    """The fault of an id that isn't a whole number or not among the `known` ids of `what`; None for a valid one."""
    value = entry.get(key)
    if type(value) is int and abs(value) >= LARGEST_ID:
        return Fault(
            "large id",
            f"'{key}' is {shown(value)}, and beyond 2^53 some programs take neighbours for one; number them from 1",
        )
    if type(value) is not int:
        return absent_or_wrong(entry, key, "a whole number")
    if known is not None and value not in known:
        return Fault(f"unknown {what}", f"'{key}' is {value}, which the file has no {what} for; drop it or add that")
    return None


def absent_or_wrong(entry: dict[str, Any], key: str, wanted: str) -> Fault:
    """The fault of an entry without a key, or with a value there that isn't what is `wanted`."""
    if key not in entry:
        return Fault(f"missing {key}", f"has no '{key}', {wanted}")
    return Fault(f"wrong {key}", f"'{key}' is {shown(entry[key])}, not {wanted}{remedy(entry[key])}")


def remedy(value: object) -> str:
    """How to mend a value that should be a number or a list of numbers, as the end of a message; empty if unknown."""
    inner = value if isinstance(value, list) else [value]
    if any(isinstance(each, str) and re.fullmatch(r"\s*[-+]?\d+(\.\d*)?\s*", each) for each in inner):
        return "; write numbers without quotes"
    if isinstance(value, float) and value.is_integer():
        return f"; write {int(value)}" if abs(value) < LARGEST_ID else ""
    if value is None or value == []:
        return "; add it, or drop the entry"
    if isinstance(value, dict):
        return "; write a plain list in that order"
    return ""


def encodable(name: str) -> bool:
    """Whether the file system can hold a file of that name."""
    try:
        return b"\0" not in os.fsencode(name) and len(os.fsencode(name)) <= 4096
    except UnicodeEncodeError:
        return False


def type_name(value: object) -> str:
    """A JSON value's type in words: "an object", "a list", "a text", "a number", …"""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def shown(value: object) -> str:
    """A value for an error message: printable, at most 60 characters."""
    if isinstance(value, int) and abs(value) > 10**30:
        return "a number of more than 30 digits"
    text = ascii(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
