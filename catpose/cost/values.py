"""The kinds of values that a profile.json holds, which is read back: see `catpose.files.as_record`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has characters that can't be printed")
    return text


#: No cost comes near 10¹⁸.
Count = Annotated[int, Field(ge=0, lt=10**18)]
Amount = Annotated[float, Field(ge=0, lt=1e18)]
Text = Annotated[str, AfterValidator(_printable)]
