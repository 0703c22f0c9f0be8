"""A finished run is kept in small, and taken as done where it is the one that is asked for."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from catpose.errors import InputError
from catpose.run.directory import RunDirectory
from catpose.study.kept import FILES, costs_in, keep, taken
from catpose.study.outcome import result
from catpose.study.stored import Outcome


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Path:
    keep(trained, tmp_path / "results" / "run", {"GMACs": 0.25})
    return tmp_path / "results" / "run"


@pytest.fixture
def args(trained: Path) -> list[str]:
    return RunDirectory(trained).starts[0].command


def test_it_is_small_and_whole(trained: Path, place: Path, args: list[str], tmp_path: Path) -> None:
    assert [path.name for path in place.parent.iterdir()] == ["run"]  # nothing half way
    assert not list(place.glob("*.ckpt"))
    assert sum(path.stat().st_size for path in place.iterdir()) < 100_000
    folder = tmp_path / "elsewhere" / "run"
    folder.parent.mkdir()
    assert taken(place, args, folder, False, "")
    for name in ("config.yaml", "run.json", "metrics.csv", "val_score.json", "val_results.json"):
        assert (folder / name).read_bytes() == (trained / name).read_bytes()
    there, here = (result(RunDirectory(each), "val/AP", Outcome(), False) for each in (folder, trained))
    assert there == here
    assert there.how == "complete"
    assert costs_in(place, ["GMACs"]) == {"GMACs": 0.25}
    assert costs_in(place, ["GMACs", "params_M"]) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (["--model.lr=1e-3"], "it has other settings (model.lr 0.002 → 0.001)"),
        (["--seed_everything=1"], "it has other settings (seed_everything 0 → 1"),
        (["--trainer.max_epochs=5"], "3 of 5 epochs"),
    ],
)
def test_another_run_is_not_taken(
    change: list[str], why: str, place: Path, args: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not taken(place, [*args, *change], tmp_path / "run", False, "[3] ")
    line = capsys.readouterr().out
    assert line.startswith(f"[3] {place}: not taken, since ")
    assert why in line
    assert not (tmp_path / "run").exists()


def test_what_changes_no_number_may_differ(place: Path, args: list[str], drawn: Path, tmp_path: Path) -> None:
    """And the place of the data."""
    shutil.copytree(drawn, tmp_path / "data")
    options = ["--data.num_workers=2", "--wandb.mode=offline", f"--data.root={tmp_path / 'data'}"]
    assert taken(place, [*args, *options], tmp_path / "run", False, "")


def test_a_run_on_other_data_is_not_taken(
    place: Path, args: list[str], drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(shutil.copytree(drawn, tmp_path / "data")) / "annotations" / "val.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["keypoints"][0] += 1
    file.write_text(json.dumps(content))
    assert not taken(place, [*args, f"--data.root={tmp_path / 'data'}"], tmp_path / "run", False, "")
    assert f"not taken, since it was validated on other data than {file}" in capsys.readouterr().out


def test_other_versions_are_taken_where_that_is_said(
    place: Path, args: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((place / "run.json").read_text())
    for start in record["starts"]:
        start["packages"]["torch"] = "1.0"
    (place / "run.json").write_text(json.dumps(record))
    assert not taken(place, args, tmp_path / "run", False, "")
    assert "it is of other versions (torch 1.0, here " in capsys.readouterr().out
    assert taken(place, args, tmp_path / "run", True, "")
    assert not taken(place, args, tmp_path / "run", True, "")  # it is there already


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", [*FILES, "val_results.json.gz"])
def test_a_damaged_one_is_not_taken(
    name: str, place: Path, args: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / name).write_bytes(gzip.compress(b"[")[:-6])
    assert not taken(place, args, tmp_path / "run", False, "")
    assert "not taken, since it is damaged" in capsys.readouterr().out
    (place / name).unlink()
    assert not taken(place, args, tmp_path / "run", False, "")
    assert "not taken, since " in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_what_cannot_be_written_is_bad_input(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--results"):
        keep(trained, tmp_path / "file" / "run", {})
    keep(trained, tmp_path / "results" / "run", {})
    args = RunDirectory(trained).starts[0].command
    with pytest.raises(InputError, match="--out"):
        taken(tmp_path / "results" / "run", args, tmp_path / "file" / "run", True, "")
