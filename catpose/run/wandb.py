"""What Weights & Biases is up to: whether there is a key, whether its server answers, and how it ends in time."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import netrc
import os
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlparse

import psutil

from catpose.errors import InputError, one_line

log = logging.getLogger("catpose")
log.addHandler(logging.NullHandler())  # where no run keeps a log, `warn` prints its line, and logging not a second one

Mode = Literal["auto", "online", "offline", "disabled"]
PROJECT = "catpose"
ANSWER_S = 6.0  # for W&B's server to answer whether the key is good
BEGIN_S = 20.0  # for it to take a run
END_S = 20.0  # for W&B to send the last of a run


def server() -> str:
    """The address of W&B's server, as W&B itself has it: of the environment, its settings files, or its own default."""
    named = os.environ.get("WANDB_BASE_URL")
    if named:
        return named
    import wandb

    try:
        return wandb.setup().settings.base_url
    except Exception:  # a damaged settings file, which W&B will say itself
        return wandb.Settings().base_url


def key() -> str | None:
    """The key that W&B would find in WANDB_API_KEY, or in the netrc file for the server in use."""
    if os.environ.get("WANDB_API_KEY"):
        return os.environ["WANDB_API_KEY"]
    named = os.environ.get("NETRC")
    for file in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if found := netrc.netrc(file).authenticators(urlparse(server()).hostname or ""):
                return found[2]
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
            continue
    return None


def has_key() -> bool:
    """Whether W&B would find a key, or a token in its place."""
    return bool(os.environ.get("WANDB_IDENTITY_TOKEN_FILE") or key())


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


def wandb_project(project: str | None) -> str:
    """The project asked for, else WANDB_PROJECT, else catpose's."""
    return project or os.environ.get("WANDB_PROJECT") or PROJECT


def job_type(label: str) -> str:
    """The job type of the runs of a study's configuration, by its label: its first 64 characters."""
    return label[:64]


def unreachable() -> str | None:
    """Why W&B can't be used online: no key, no answer in some seconds, or a refusal; None where nothing speaks against.

    W&B itself would wait for a minute and a half, or ask for a key.
    """
    if not has_key():
        return f"no key for {server()} (set WANDB_API_KEY or run `wandb login`)"
    address, answers = server(), [f"{server()} doesn't answer"]
    thread = threading.Thread(target=lambda: answers.append(_refusal(address, key()) or ""), daemon=True)
    thread.start()
    thread.join(ANSWER_S)
    return answers[-1] or None


def _refusal(address: str, with_key: str | None) -> str | None:
    headers = {"Content-Type": "application/json"}
    if with_key:
        headers["Authorization"] = "Basic " + base64.b64encode(f"api:{with_key}".encode()).decode()
    body = json.dumps({"query": "query Viewer { viewer { id } }"}).encode()
    try:
        request = urllib.request.Request(f"{address.rstrip('/')}/graphql", body, headers)
        with urllib.request.urlopen(request, timeout=ANSWER_S) as response:
            answer = json.loads(response.read(100_000))
    except urllib.error.HTTPError as error:
        refused = error.code in (401, 403)
        return f"{address} {'refuses the key' if refused else 'is out of order'} (HTTP {error.code})"
    except Exception as error:
        if isinstance(getattr(error, "reason", error), ssl.SSLError):
            return None  # W&B has certificates of its own
        return f"{address} can't be reached ({one_line(getattr(error, 'reason', error))[:120]})"
    known = isinstance(answer, dict) and isinstance(answer.get("data"), dict) and answer["data"].get("viewer")
    return None if known or not with_key else f"{address} doesn't know the key"


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
        if "wandb" in sys.modules and sys.modules["wandb"].run is not None:
            end_wandb(exit_code, END_S)


def end_wandb(exit_code: int, patience: float) -> None:
    """Finish W&B's run and its own process, which has `patience` seconds to send what it holds; it keeps it all."""
    wandb = sys.modules["wandb"]
    folder = Path(wandb.run.dir).parent if wandb.run is not None else None

    def end() -> None:
        with contextlib.suppress(Exception):  # said before, or of no use any more
            wandb.finish(exit_code=exit_code)
        with contextlib.suppress(Exception):
            wandb.teardown()  # waits until W&B's own process has written all it holds

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    thread.join(patience)
    if thread.is_alive():
        if folder is not None:
            warn(f"it has not sent everything within {patience:.0f} s; wandb sync {folder} sends the rest")
        _kill_service()
        thread.join(2)
    if wandb.run is not None:  # its process was gone
        wandb.sdk.lib.module.unset_globals()
    os.environ.pop("WANDB_SERVICE", None)


def _kill_service() -> None:
    """End W&B's own process, for which this one would wait at its end."""
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error, IndexError):
            if "wandb-core" in process.cmdline()[0]:
                process.kill()


def warn(what: str) -> None:
    """One line on standard error, and in the run's log."""
    log.warning("W&B: %s", what)
    print(f"W&B: {what}", file=sys.stderr)
