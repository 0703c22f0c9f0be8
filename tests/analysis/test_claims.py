"""What sentences claim holds in a part of `tests/benchmarks/claims.py`, whose run goes on where it was."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import claims


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["3 3 3", "3 3 1"])
def test_intervals_hold_and_differences_are_found_as_often_as_they_say(cell: str) -> None:
    studies = 120
    found = claims.measured(cell, studies)
    error = 3 * (0.05 * 0.95 / studies) ** 0.5
    for key in ("single", "difference", "corrected"):
        assert found[key] > 0.94 - error, key
    assert found["level"] < 0.05 + error
    assert abs(found["corrected_above"]) < found["winner_above"]
    assert abs(found["power"] - 0.8) < 0.05 + 3 * (0.8 * 0.2 / studies) ** 0.5


def test_cells_are_at_most_twenty_and_a_finished_one_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(claims.CELLS) <= 20
    made: list[str] = []

    def measured(name: str, studies: int) -> dict[str, float | None]:
        made.append(name)
        return dict.fromkeys(claims.COLUMNS, 0.5) | {"studies": studies}

    monkeypatch.setattr(claims, "measured", measured)
    (tmp_path / "3_3.json").write_text(json.dumps(measured("3 3", 10)))
    monkeypatch.setattr(sys, "argv", ["claims.py", str(tmp_path), "10"])
    claims.main()
    assert sorted(made) == sorted(claims.CELLS)  # "3 3" but once, by hand
    assert len(list(tmp_path.glob("*.json"))) == len(claims.CELLS)
    claims.main()
    assert len(made) == len(claims.CELLS)
    assert capsys.readouterr().out.count("| 3 3 |") == 2
