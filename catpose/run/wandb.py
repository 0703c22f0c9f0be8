"""The Weights & Biases logger of a run: online with a key, offline without, never a prompt."""

from __future__ import annotations

import contextlib
import netrc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlparse

from catpose.errors import InputError, one_line

if TYPE_CHECKING:
    from lightning.pytorch.loggers import WandbLogger

Mode = Literal["auto", "online", "offline", "disabled"]


def has_key() -> bool:
    """Whether W&B would find a key: in WANDB_API_KEY, or in the netrc file for the server in use."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    named = os.environ.get("NETRC")
    for file in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if netrc.netrc(file).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def wandb_mode(mode: Mode = "auto") -> Literal["online", "offline", "disabled"]:
    """What `mode` stands for: `auto` is W&B's own WANDB_MODE where set, else online with a key and offline without."""
    if mode != "auto":
        return mode
    match os.environ.get("WANDB_MODE"):
        case "online":
            return "online"
        case "offline" | "dryrun":
            return "offline"
        case "disabled":
            return "disabled"
    return "online" if has_key() else "offline"


def wandb_logger(
    directory: Path,
    id: str | None = None,
    project: str = "catpose",
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
        directory: the run's directory, below which W&B keeps its files.
        id: the run's W&B id, the same for life; a new one is made and kept in `run.json` where null.
        project: the W&B project.
        entity: the user or team that owns the project; W&B's default where null.
        name: the run's name; the directory's where null.
        group: runs of one group are drawn as one line with its spread.
        job_type: what the run is within its group.
        tags: words to filter by.
        notes: a line or more about the run.
        config: what the run's config says beside its settings, such as the trial of a study that it is.
        mode: `auto` is W&B's own WANDB_MODE where it is set, else online with a key and offline without.
    """
    mode = wandb_mode(mode)
    if mode == "disabled":
        return None
    if mode == "online" and not has_key():  # W&B would ask for one on a terminal
        raise InputError("wandb.mode: online needs a key; set WANDB_API_KEY, run `wandb login`, or choose offline")
    import wandb  # half a second, which runs without it don't pay
    from lightning.pytorch.loggers import WandbLogger

    return WandbLogger(
        project=project,
        entity=entity,
        name=name or directory.name,
        group=group,
        job_type=job_type,
        tags=tags,
        notes=notes,
        id=id,
        config=config,
        save_dir=directory,
        offline=mode == "offline",
        mode=mode,
        settings=wandb.Settings(console="off", silent=True, x_disable_meta=False),
    )


@contextlib.contextmanager
def closed_wandb() -> Iterator[None]:
    """End this process's W&B run, if any, with the block; what W&B refuses is an InputError."""
    exit_code = 1
    try:
        yield
        exit_code = 0
    except Exception as error:
        if type(error).__module__.startswith(("wandb.", "pydantic")):
            raise InputError(f"wandb: {one_line(error)[:200]}; correct it, or set wandb.mode to offline") from error
        raise
    finally:
        wandb = sys.modules.get("wandb")
        if wandb is not None and wandb.run is not None:
            wandb.finish(exit_code=exit_code)
            wandb.teardown()  # waits until W&B's own process has written all it holds
