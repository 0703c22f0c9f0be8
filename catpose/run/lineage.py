"""What may differ between the starts of one run, and what makes it a run of another lineage.

A lineage is a run's starts under settings that give the same numbers. A run that goes on under other settings
(`fit --new-lineage`) has one more; it is never put together with runs of the first.
"""

from __future__ import annotations

import inspect
from typing import Any

from catpose.errors import one_line
from catpose.model.schedule import depends_on_the_end

#: Settings that change no number of metrics.csv but times: each is tried on an interrupted run in
#: tests/run/test_lineage.py, under each schedule. Beside them everything of `wandb`, and `trainer.max_epochs` as below.
FREE = (
    "checkpoint_seconds",
    "data.num_workers",
    "data.cache",
    "data.cache_dir",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.log_every_n_steps",
    "trainer.logger",
)

#: What runs did before there was such a setting, where that is not its default.
BEFORE = {"data.area": "file"}


def is_free(key: str, value: Any) -> bool:
    """Whether a setting of this value has no say in the numbers. A class or a list of them, a logger's say, has."""
    return key.startswith("wandb.") or (key in FREE and not isinstance(value, list | dict))


def changes(before: dict[str, Any], now: dict[str, Any], epochs: int) -> list[str]:
    """The differences between two starts' settings that change numbers, as "key before → now".

    Args:
        before, now: by dotted name.
        epochs: those that the run has finished.
    """
    found = []
    for key in dict.fromkeys([*now, *before]):
        old, new = before.get(key, _before(key)), now.get(key)
        if old == new or (is_free(key, old) and is_free(key, new)):
            continue
        if key == "trainer.max_epochs" and _only_longer(before, now, epochs):
            continue
        found.append(f"{key} {_shown(old, key in before)} → {_shown(new, key in now)}")
    return found


def _shown(value: Any, is_there: bool) -> str:
    return one_line(value) if is_there or value is not None else "absent"


def _before(key: str) -> Any:
    """What a run did that knew no setting of this name: its default, which changes nothing where it is new."""
    # Here, since whoever reads a run's folder imports this module, and few need torch for it.
    from catpose.data.datamodule import CatDataModule
    from catpose.model.pose import PoseModel

    group, *path = key.split(".")
    owner = {"model": PoseModel, "data": CatDataModule}.get(group)  # whose arguments the group's settings are
    if key in BEFORE or owner is None:
        return BEFORE.get(key)
    defaults = inspect.signature(owner).parameters
    value = defaults[path[0]].default if path[0] in defaults else None
    for name in path[1:]:
        value = getattr(value, name, None)
    return list(value) if isinstance(value, tuple) else value


def _only_longer(before: dict[str, Any], now: dict[str, Any], epochs: int) -> bool:
    """Whether another `max_epochs` changes nothing but how many epochs there are.

    The multi-step schedule doesn't look at the run's length, the cosine and shares of the run do; of classes that
    aren't catpose's, such as the callback of stochastic weight averaging, nobody knows.
    """
    length = now.get("trainer.max_epochs")
    schedule, warmup, milestones = (now.get(f"model.{key}") for key in ("schedule", "warmup_iterations", "milestones"))
    if schedule != "multistep" or depends_on_the_end(schedule, warmup or 0, milestones or ()):
        return False
    if any(_is_foreign(*item) for item in (*before.items(), *now.items())):
        return False
    return isinstance(length, int) and (length == -1 or length >= epochs)


def _is_foreign(key: str, value: Any) -> bool:
    if key.rsplit(".", 1)[-1] == "class_path":
        return not str(value).startswith("catpose.")
    if isinstance(value, dict):
        return any(_is_foreign(*part) for part in value.items())
    return isinstance(value, list) and any(_is_foreign("", part) for part in value)
