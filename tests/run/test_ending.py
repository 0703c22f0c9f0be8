"""Which runs have trained all that their settings ask."""

from __future__ import annotations

from typing import Any

import pytest

from catpose.run.ending import lacking

STEPS = 3  # of an epoch


def rows(*epochs: int) -> list[dict[str, str]]:
    return [{"epoch": str(epoch), "step": str(STEPS * (epoch + 1))} for epoch in epochs]


@pytest.mark.parametrize(
    ("settings", "epochs", "what"),
    [
        ({"max_epochs": 3}, (0, 1, 2), None),
        ({"max_epochs": 3}, (0, 1), "2 of 3 epochs"),
        ({"max_epochs": 3}, (), "0 of 3 epochs"),
        ({"max_epochs": 3}, (0, 2), "2 of 3 epochs"),  # an epoch's row is lost
        ({"max_epochs": 3}, (0, 1, 1), "2 of 3 epochs"),
        ({"max_epochs": 3}, (1, 2, 3), "2 of 3 epochs"),
        ({"max_epochs": 3}, (0, 1, 2, 3, 4), None),  # of a run that was longer
        ({"max_epochs": 3, "max_steps": 7}, (0, 1, 2), None),
        ({"max_epochs": 3, "max_steps": 6}, (0, 1), None),
        ({"max_epochs": 3, "max_steps": 6}, (0, 2), "2 of 3 epochs"),
        ({"max_epochs": 3, "max_steps": 6}, (0,), "1 of 3 epochs"),
        ({"max_epochs": -1, "max_steps": 6}, (0, 1), None),
        ({"max_epochs": -1, "max_steps": 6}, (0,), "3 of 6 steps"),
        ({"max_epochs": 3, "max_steps": -1}, (0, 1, 2), None),
        ({"max_epochs": -1, "max_steps": -1}, (0, 1), "2 epochs, and its settings name no number of them"),
        ({"max_epochs": None, "max_time": "00:01:00:00"}, (0,), "1 epochs, and its settings name no number of them"),
        ({"max_epochs": 3, "max_time": "00:01:00:00"}, (0,), "1 of 3 epochs"),
    ],
)
def test_a_run_is_whole_with_all_that_its_settings_ask(
    settings: dict[str, Any], epochs: tuple[int, ...], what: str | None
) -> None:
    assert lacking({f"trainer.{key}": value for key, value in settings.items()}, rows(*epochs)) == what
