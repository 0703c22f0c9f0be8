"""Experiments, studies and models that come with catpose, found by their names from any folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from catpose.errors import InputError

PACKAGE = Path(__file__).parent
#: In a wheel they lie inside the package, in a clone beside it.
PLACES = (PACKAGE, PACKAGE.parent)
#: Folder of the models, weights files (`catpose.model.weights_file`).
WEIGHTS = PACKAGE / "weights"
#: The model that predicts where none is named.
DEFAULT_MODEL = "cats"


def find_config(name: str | Path, folder: str) -> Path:
    """The file that a configuration's name means; the name itself where it means none.

    Args:
        name: a path from here; else that of one that comes with catpose: `hrnet`, `sweeps/quick`,
            `experiments/hrnet.yaml`.
        folder: "experiments" or "sweeps", which a name needs not say.
    """
    path = Path(name)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", str(name)) or path.is_file():  # a path elsewhere, or settings as text
        return path
    file = path if path.suffix == ".yaml" else Path(f"{path}.yaml")
    file = file if file.parts[0] in ("experiments", "sweeps") else folder / file
    return next((place / file for place in PLACES if (place / file).is_file()), path)


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


def shipped_models() -> dict[str, Path]:
    """The models that come with catpose, by name."""
    return {file.stem: file for file in sorted(WEIGHTS.glob("*.safetensors"))}


def find_model(name: str | Path) -> Path:
    """The file that a model's name means, or the path that the name is.

    Raises:
        InputError: a single word that is neither.
    """
    ours, path = shipped_models(), Path(name)
    if str(name) in ours:
        return ours[str(name)]
    if not path.suffix and len(path.parts) == 1 and not path.exists():
        raise InputError(
            f"{name}: no such file, nor a model that comes with catpose ({', '.join(ours) or 'none'}); name a best.ckpt"
            " or last.ckpt of fit, a weights file of pack or an .onnx of export"
        )
    return path
