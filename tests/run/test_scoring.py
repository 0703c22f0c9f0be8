"""Results that are of other pictures, or in other units, are never scored: by no way in."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import data_set, shaken
from refused import exit_code

import catpose
from catpose import InputError, check, test
from catpose.compare import compare_files

Entries = list[dict[str, Any]]
#: The ways by which somebody's results come to be scored: called with their file and the data's folder.
WAYS: dict[str, Callable[[Path, Path], Any]] = {
    "evaluate": lambda file, root: catpose.evaluate(file, root / "annotations" / "val.json", draws=20),
    "entries": lambda file, root: catpose.evaluate(json.loads(file.read_text()), catpose.read_split(root, "val"), 20),
    "compare": lambda file, root: compare_files({"a": [file]}, root / "annotations" / "val.json", draws=20),
    "test": lambda file, root: _run(test.main, "--predictions", file, "--data", root, "--draws", 20),
    "check": lambda file, root: _run(check.main, "--data", root, "--report", root / "r", "--predictions", file),
}


def _run(main: Callable[[list[str]], None], *words: object) -> None:
    if exit_code(main, *words):
        raise InputError("it ended with its line")


@functools.cache
def entries(root: Path) -> str:
    """Good results of the validation pictures, with the names that `predict` gives bare ones."""
    split = catpose.read_split(root, "val")
    names = {image.id: image.path for image in split.images}
    results = shaken(split, 0.02, 0).to_results()
    for entry in results:
        del entry["annotation_id"]
    return json.dumps([entry | {"file_name": str(names[entry["image_id"]])} for entry in results])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("data") / "cats", (2, 12, 2))


def numbered_otherwise(results: Entries) -> Entries:
    """The same ids, given to the pictures in another order: `predict` numbers bare pictures by their names."""
    ids = sorted({entry["image_id"] for entry in results})
    by_name = dict(zip(ids, sorted(ids, key=str), strict=True))
    assert by_name != {id_: id_ for id_ in ids}
    return [entry | {"image_id": by_name[entry["image_id"]]} for entry in results]


def in_parts_of_the_picture(results: Entries) -> Entries:
    scale = np.tile([1 / 96, 1 / 80, 1], 17)
    return [entry | {"keypoints": (np.array(entry["keypoints"]) * scale).tolist()} for entry in results]


@pytest.mark.parametrize("change", [numbered_otherwise, in_parts_of_the_picture])
@pytest.mark.parametrize("way", WAYS)
def test_results_of_other_pictures_and_units_are_refused(
    way: str, change: Callable[[Entries], Entries], root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.json").write_text(entries(root))
    WAYS[way](tmp_path / "r.json", root)
    (tmp_path / "r.json").write_text(json.dumps(change(json.loads(entries(root)))))
    capsys.readouterr()
    with pytest.raises(InputError) as error:
        WAYS[way](tmp_path / "r.json", root)
    line = capsys.readouterr().err or str(error.value)
    assert {numbered_otherwise: "but image", in_parts_of_the_picture: "parts of the picture"}[change] in line


def test_a_model_that_found_nothing_is_scored(root: Path) -> None:
    """All keypoints at (0, 0) is what a diverged model's are: no parts of a picture."""
    nothing = [entry | {"keypoints": [0.0] * 51} for entry in json.loads(entries(root))]
    assert catpose.evaluate(nothing, root / "annotations" / "val.json", draws=20).values["AP"] == 0
