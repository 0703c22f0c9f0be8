from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from catpose.cost.profiling import measure
from catpose.cost.record import Profile, read_profile
from catpose.cost.runtime import run_time
from catpose.errors import InputError
from catpose.run.provenance import provenance

CPU = torch.device("cpu")
LONGEST_LINE = 420


@pytest.fixture(scope="module")
def profile(tiny: Path, trained: Path) -> Profile:
    cost = measure(["--config", str(tiny)], CPU, [1, 2], seconds=0, half=True)
    return Profile(provenance(["--config", str(tiny)]), cost, (run_time(trained),))


@pytest.fixture(scope="module")
def content(profile: Profile) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(profile)))


def test_everything_is_measured(profile: Profile) -> None:
    cost = profile.cost
    assert cost is not None
    assert (cost.model, cost.device, cost.threads) == ("TimmBackbone", "cpu", torch.get_num_threads())
    assert (cost.complexity.width_px, cost.complexity.height_px) == (64, 64)
    assert {t.precision for t in cost.predictions} == {"float32", "bfloat16"}
    assert {t.batch_size for t in cost.predictions} == {1, 2}
    assert cost.training is not None
    assert cost.training.batch_size == 8
    assert cost.training.data is not None
    assert cost.largest_training_batch is None
    assert any("CUDA" in note for note in cost.notes)
    assert cost.settings["model"]["init_args"]["head_channels"] == 16


@pytest.mark.slow
@pytest.mark.parametrize("skip", [["training"], ["training", "predictions"]])  # and predictions alone below
def test_parts_are_left_out(skip: list[str], tiny: Path) -> None:
    cost = measure(["--config", str(tiny)], CPU, [1], seconds=0, skip=skip)
    assert (cost.training is None) == ("training" in skip)
    assert (not cost.predictions) == ("predictions" in skip)


@pytest.mark.slow
def test_no_weights_are_fetched_and_the_settings_are_as_asked(tiny: Path) -> None:
    asked = ["--config", str(tiny), "--model.weights", "imagenet", "--trainer.precision", "64-true"]
    cost = measure(asked, CPU, [1], seconds=0, skip=["predictions"])
    assert cost.settings["model"]["init_args"]["weights"] == "imagenet"
    assert cost.training is not None
    assert cost.predictions == ()
    assert cost.training.precision == "64-true"


@pytest.mark.slow
def test_the_step_is_in_the_precision_of_the_settings(tiny: Path) -> None:
    cost = measure(["--config", str(tiny), "--trainer.precision", "bf16-mixed"], CPU, [1], 0, skip=["predictions"])
    assert cost.training is not None
    assert cost.training.precision == "bf16-mixed"


def test_what_is_written_is_read(profile: Profile, tmp_path: Path) -> None:
    file = profile.write(tmp_path / "new")
    assert read_profile(file) == profile
    only_runs = Profile(profile.provenance, None, profile.runs)
    assert read_profile(only_runs.write(tmp_path)) == only_runs


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """The way to every value that is checked: settings are free, and a provenance may lack what 0.1.0 didn't write."""
    if path == ("provenance",):
        return []
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    free = path and path[-1] == "settings"
    return [path] + ([] if free else [place for key, each in below for place in places(each, (*path, key))])


def reading(file: Path) -> Profile | str:
    """The profile, or why there is none."""
    try:
        return read_profile(file)
    except InputError as error:
        return str(error)


WRONG = [
    *([], {}, "text", "\ud800", "\x00", -1, 0, True, float("nan"), float("inf"), 10**400),
    *({"class_path": "os.system"}, [[]]),
]


@pytest.mark.one_in(4)
@pytest.mark.parametrize("i", range(len(WRONG)), ids=lambda i: repr(WRONG[i])[:20])
def test_no_other_value_passes(i: int, content: dict[str, Any], tmp_path: Path) -> None:
    """Each value in turn is replaced, of every 23 another by each wrong one; what is read then is that, of the right
    kind, or refused in one line."""
    file = tmp_path / "profile.json"
    refused, wrong = 0, WRONG[i]
    for way in places(content)[1 + i :: 23]:
        broken = copy.deepcopy(content)
        holder = broken
        for key in way[:-1]:
            holder = holder[key]
        holder[way[-1]] = wrong
        file.write_text(json.dumps(broken))
        read = reading(file)
        if isinstance(read, Profile):
            assert json.loads(json.dumps(dataclasses.asdict(read))) == broken
        else:
            refused += 1
            assert read.startswith((f"{file}: is no profile (", f"{file}: can't be read as JSON ("))
            assert "\n" not in read
            assert len(read) <= LONGEST_LINE
    assert refused


def test_a_missing_value_is_named(content: dict[str, Any], tmp_path: Path) -> None:
    broken = copy.deepcopy(content)
    del broken["cost"]["threads"]
    (tmp_path / "profile.json").write_text(json.dumps(broken))
    with pytest.raises(InputError, match=r"cost\.threads: Field required"):
        read_profile(tmp_path / "profile.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 2}', "[" * 100_000, "\x00"])
def test_another_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text(text)
    with pytest.raises(InputError, match=r"is no profile|is empty|is not|nested"):
        read_profile(tmp_path / "profile.json")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_profile(tmp_path / "profile.json")
    with pytest.raises(InputError, match="is a folder"):
        read_profile(tmp_path)
