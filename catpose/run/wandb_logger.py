"""The Weights & Biases logger of a run: online with a key, offline without, never a prompt, never a failed training."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import DummyExperiment
from lightning.pytorch.utilities import rank_zero_only

from catpose.errors import InputError, one_line
from catpose.run.wandb import BEGIN_S, Mode, end_wandb, unreachable, wandb_mode, wandb_project, warn


def wandb_logger(
    directory: Path,
    id: str | None = None,
    project: str | None = None,
    entity: str | None = None,
    name: str | None = None,
    group: str | None = None,
    job_type: str | None = None,
    tags: list[str] | None = None,
    notes: str | None = None,
    config: dict[str, str | int | float | bool | None] | None = None,
    mode: Mode = "auto",
) -> WandbLogger | None:
    """Lightning's W&B logger for a run, or None where it is disabled.

    Args:
        directory: the run's directory, below which W&B keeps its files where WANDB_DIR names no other.
        id: the run's W&B id, the same for life; a new one is made and kept in `run.json` where null.
        project: the W&B project; where null WANDB_PROJECT, else catpose.
        entity: the user or team that owns the project; where null WANDB_ENTITY, else W&B's default.
        name: the run's name; where null WANDB_NAME, else the directory's.
        group: runs of one group are drawn as one line with its spread.
        job_type: what the run is within its group.
        tags: words to filter by.
        notes: a line or more about the run.
        config: what the run's config says beside its settings, such as the trial of a study that it is.
        mode: `auto` is W&B's own WANDB_MODE where it is set, else online with a key and offline without.

    Raises:
        InputError: W&B takes no such project, tag or other name.
    """
    mode = wandb_mode(mode)
    if mode == "disabled":
        return None
    import wandb  # half a second, which runs without it don't pay

    try:  # before anything is written; what the environment says wrong is W&B's trouble
        wandb.Settings(project=project, entity=entity, run_name=name, run_group=group, run_job_type=job_type)
        wandb.Settings(run_tags=None if tags is None else tuple(tags), run_notes=notes, run_id=id or None)
    except Exception as error:
        raise InputError(f"wandb: {one_line(error)[:200]}; correct it, or set wandb.mode to disabled") from None
    return GuardedWandbLogger(
        project=wandb_project(project),
        entity=entity,
        name=name or os.environ.get("WANDB_NAME") or directory.name,
        group=group,
        job_type=job_type,
        tags=tags,
        notes=notes,
        id=id,
        config=config,
        save_dir=os.environ.get("WANDB_DIR") or directory,
        offline=mode == "offline",
        mode=mode,
        settings=wandb.Settings(console="off", silent=True, x_disable_meta=False, init_timeout=BEGIN_S),
    )


class GuardedWandbLogger(WandbLogger):
    """Lightning's, whose trouble is one line and no end of the training.

    It goes offline where the server can't be reached, and is silent for good where W&B's own process is gone.
    """

    def __init__(self, **kwargs: Any) -> None:
        self.is_lost = False
        super().__init__(**kwargs)
        self._wandb_init.pop("anonymous", None)  # Lightning's; W&B has it no longer, and warns of it

    @property
    def experiment(self) -> Any:
        """W&B's run, which Lightning asks for too; once it is lost, one that takes everything and keeps nothing."""
        return DummyExperiment() if self.is_lost else super().experiment

    @rank_zero_only
    def begin(self) -> None:
        """Start W&B's run, offline where the server doesn't take it."""
        why = None
        if not self._offline:
            why = unreachable() or self._started()
            if why is None:
                return
            end_wandb(1, patience=2.0)
            self._offline, self._wandb_init["mode"] = True, "offline"
        failed = self._started()
        if failed is not None:
            self._lose(failed)
        elif why is not None:
            warn(f"{why}; offline: wandb sync {Path(self._experiment.dir).parent} sends it later")  # type: ignore[union-attr]

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """As Lightning's; what stands in `metrics` may be pictures too."""
        self._guarded(lambda: super(GuardedWandbLogger, self).log_metrics(metrics, step))

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        self._guarded(lambda: super(GuardedWandbLogger, self).log_hyperparams(params))

    def _started(self) -> str | None:
        """What keeps W&B's run from starting as it is set; None where it has started."""
        try:
            return None if self.experiment is not None else "no run"
        except Exception as error:
            return one_line(error)[:200]

    def _guarded(self, call: Callable[[], None]) -> None:
        if self.is_lost:
            return
        try:
            call()
        except Exception as error:
            self._lose(f"{type(error).__name__}: {one_line(error)[:200]}")

    def _lose(self, why: str) -> None:
        self.is_lost = True
        hint = f"; wandb sync {Path(self._experiment.dir).parent} sends what it kept" if self._experiment else ""
        warn(f"{why}; the training goes on without it{hint}")
