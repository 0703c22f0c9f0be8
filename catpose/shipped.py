"""Experiments and studies that come with catpose, found by their names from any folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

PACKAGE = Path(__file__).parent
#: In a wheel they lie inside the package, in a clone beside it.
PLACES = (PACKAGE, PACKAGE.parent)


def find_config(name: str | Path, folder: str) -> Path:
    """The file that a configuration's name means; the name itself where it means none.

    Args:
        name: a path from here; else that of one that comes with catpose: `hrnet`, `sweeps/quick`,
            `experiments/hrnet.yaml`.
        folder: "experiments" or "sweeps", which a name needs not say.
    """
    given = Path(name)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", str(name)) or given.is_file():  # a path elsewhere, or settings as text
        return given
    file = given if given.suffix == ".yaml" else Path(f"{given}.yaml")
    file = file if file.parts[0] in ("experiments", "sweeps") else folder / file
    return next((place / file for place in PLACES if (place / file).is_file()), given)


def with_found_configs(args: Sequence[str]) -> list[str]:
    """`fit`'s arguments with the files of the experiments that --config names."""
    found, is_name = [], False
    for arg in args:
        if is_name:
            found.append(str(find_config(arg, "experiments")))
        elif arg.startswith("--config="):
            found.append(f"--config={find_config(arg.removeprefix('--config='), 'experiments')}")
        else:
            found.append(arg)
        is_name = arg == "--config"
    return found
