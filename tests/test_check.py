"""The command that looks for faults: table and exit code."""

from __future__ import annotations

import json
from pathlib import Path

import made_up
import pytest

from catpose.check import main


def checked(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    try:
        main([str(word) for word in argv])
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    output = capsys.readouterr()
    return code, output.out, output.err


def change(root: Path, split: str, **values: object) -> None:
    file = root / "annotations" / f"{split}.json"
    content = json.loads(file.read_text())
    for entry in content["annotations"]:
        entry.update(values)
    file.write_text(json.dumps(content))


def test_sound_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = made_up.data_set(tmp_path / "cats")
    assert checked(capsys, "--data", root) == (0, f"{root}: 0 errors, 0 warnings\n", "")


def test_warnings_alone_pass_and_errors_do_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = made_up.data_set(tmp_path / "cats", (9, 3, 3))
    change(root, "train", area=None)
    code, out, _ = checked(capsys, "--data", root)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "warning: train: annotation 998: has no 'area'; its box's width × height is taken"
    assert sum(line.startswith("warning: train: annotation") for line in lines) == 5
    assert "warning: train: 7 more of 'absent area' (--all lists them)" in lines
    assert lines[-3].split() == ["kind", "split", "count", "for", "example"]
    assert lines[-2] == "warning  absent area  train     12  annotation 998, annotation 996, annotation 994"
    assert lines[-1] == f"{root}: 0 errors, 12 warnings"
    (root / "images" / "14.png").write_bytes(b"")
    code, out, _ = checked(capsys, "--data", root, "--all")
    assert code == 2
    lines = out.splitlines()
    assert lines[0].startswith("error: test: image 14: ")
    assert sum(line.startswith("warning: train: annotation") for line in lines) == 12
    assert lines[-1] == f"{root}: 1 errors, 12 warnings"
    assert [line.split()[0] for line in lines[-3:-1]] == ["error", "warning"]


def test_without_data(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, error = checked(capsys)
    assert code == 2
    assert out == ""
    assert error.count("\n") == 1
    assert "data/cats/annotations: no such folder" in error
    assert "python -m catpose.prepare" in error
    assert "Did you mean --data?" in checked(capsys, "--dat", "x")[2]


@pytest.mark.realdata
def test_the_real_cats(cats17: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = checked(capsys, "--data", cats17)
    assert code == 2
    assert out.splitlines()[-1] == f"{cats17}: 9 errors, 36 warnings"
