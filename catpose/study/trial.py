"""One trial: a `fit` with overrides in a process of its own, followed through its directory.

The child knows nothing of studies: it trains, and writes an epoch a row into metrics.csv. So a trial can be run by hand
with the line that the sweep prints, a crash takes nobody with it, several GPUs work as they do with `fit`, and the
storage's password never comes near a training.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from catpose.errors import BAD_INPUT, InputError, one_line
from catpose.run.directory import RunDirectory
from catpose.score.contract import Score
from catpose.study.file import Study
from catpose.study.ledger import Trial
from catpose.study.url import STORAGE
from catpose.study.wandb_summary import job_type

#: Seconds between two looks at a child.
POLL = 0.25
#: Seconds that a child has to stop by itself before it is killed.
PATIENCE = 30.0
#: Seconds that what it started has after it.
FAMILY_PATIENCE = 10.0
#: What a child doesn't inherit: the way into the storage, and what would make Lightning think SLURM had started it
#: (it would then requeue the job by itself, which is the launcher's to do).
PRIVATE = (STORAGE, "PGPASSWORD", "PGPASSFILE", "MYSQL_PWD")
PRIVATE_PREFIXES = ("SLURM_", "SLURMD_", "SUBMITIT_", "PMI_", "PMIX_")

End = Literal["complete", "pruned", "failed", "vanished", "stopped", "fenced"]


@dataclass(frozen=True)
class Ended:
    """How a trial's process ended, and what came of it."""

    how: End
    outcome: dict[str, Any]
    results: bytes | None = None


def name_of(trial: Trial) -> str:
    """A trial's name for its folder and in W&B."""
    assert trial.arm is not None
    slug = re.sub(r"[^\w.×+-]+", "-", trial.arm["label"]).strip("-")[:60]
    return f"{trial.point:03d}-{slug}-seed{trial.seed}"


def wandb_id(study_id: str, trial: Trial) -> str:
    """A trial's W&B id, the same for life; `study_id` is the study's own in its storage."""
    return hashlib.sha256(f"{study_id} {trial.point} {trial.seed}".encode()).hexdigest()[:16]


def fit_words(study: Study, study_id: str, trial: Trial, out: Path) -> list[str]:
    """The words after `python -m catpose.fit` that are this trial."""
    assert trial.arm is not None
    about = {"study": study.name, "arm": trial.arm["label"], "trial": trial.number, "point": trial.point}
    tagged = any(word.startswith("--wandb.tags") for word in study.settings)
    return [
        *study.words(trial.arm, trial.seed),
        f"--out={out / 'trials' / name_of(trial)}",
        f"--wandb.id={wandb_id(study_id, trial)}",
        f"--wandb.name={study.name}/{name_of(trial)}",
        f"--wandb.group={study.name}",
        f"--wandb.job_type={job_type(trial.arm['label'])}",
        f"--wandb.config={json.dumps(about)}",
        *([] if tagged else [f"--wandb.tags={json.dumps([study.name[:64]])}"]),
    ]


def line(words: Sequence[str]) -> str:
    """The command line that reproduces a trial."""
    return f"python -m catpose.fit {shlex.join(words)}"


def environment(workers: int, index: int) -> dict[str, str]:
    """A child's environment: the `index`th worker's share of this machine's GPUs or cores, and nothing private."""
    kept = {
        key: value for key, value in os.environ.items() if key not in PRIVATE and not key.startswith(PRIVATE_PREFIXES)
    }
    gpus = visible_gpus()
    if gpus and workers > 1:
        kept["CUDA_VISIBLE_DEVICES"] = ",".join(share(gpus, workers, index))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    kept.setdefault("OMP_NUM_THREADS", str(max(1, cores // workers)))
    return kept


def share(gpus: Sequence[str], workers: int, index: int) -> list[str]:
    """The `index`th worker's GPUs: an equal part of them, or one of its own or shared where there are fewer."""
    if workers >= len(gpus):
        return [gpus[index % len(gpus)]]
    return [gpu for i, gpu in enumerate(gpus) if i * workers // len(gpus) == index]


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu.strip() for gpu in named.split(",") if gpu.strip() and gpu.strip() != "-1"]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


def run(
    words: Sequence[str],
    folder: Path,
    log: Path,
    metric: str,
    token: int,
    env: Mapping[str, str],
    on_epoch: Callable[[int, float], bool],
    told: Callable[[], Literal["stopped", "fenced"] | None],
) -> Ended:
    """Run a `fit`, or take one up again, until it ends or is to end.

    Args:
        words: those of its command line.
        folder: its run's directory. log: what it prints goes there.
        metric: the figure that judges it (`val/AP`).
        token: this holder's, of the ledger; a greater one beside the log says that another has taken over.
        on_epoch: called with epoch and metric, once for each finished epoch; True ends the trial as pruned, with the
            epoch that has begun meanwhile: all of its processes can end together then.
        told: whether it is to end, and why.
    """
    start = time.monotonic()
    if told() == "fenced":
        return Ended("fenced", {})
    mark = log.with_suffix(".holder")
    log.parent.mkdir(parents=True, exist_ok=True)
    kill_leftovers(folder)
    mark.write_text(str(token), encoding="utf-8")
    with log.open("ab") as file:
        written = file.tell()
        child = subprocess.Popen(
            [sys.executable, "-m", "catpose.fit", *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=dict(env),
            start_new_session=True,  # Ctrl-C in a terminal is ours to pass on
            preexec_fn=_die_with_parent,
        )
    seen, pruned = -1, False
    why: str | None = None
    try:
        while child.poll() is None:
            why = told() or ("fenced" if _other_holder(mark, token) else None)
            if why is not None:
                break
            for epoch, value in epochs(folder, metric, seen):
                seen = epoch
                if on_epoch(epoch, value) and not pruned:
                    pruned = True
                    RunDirectory(folder).stop.touch()
            time.sleep(POLL)
    finally:
        if child.poll() is None:
            _end(child, gently=why == "stopped")
        _end_family(child)
    if why is None and child.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM):
        time.sleep(1)  # SLURM tells all of a job's processes to end: perhaps the child heard it first
        why = told()
    if why == "fenced":
        return Ended("fenced", {})
    for epoch, value in epochs(folder, metric, seen):  # those since the last look
        on_epoch(epoch, value)
    if pruned and child.returncode == 0 and not _is_whole(RunDirectory(folder)):
        why = "pruned"
    said = log.read_bytes()[written:].decode("utf-8", "replace")
    return _ended(child.returncode, why, RunDirectory(folder), metric, said, time.monotonic() - start, words)


def epochs(folder: Path, metric: str, after: int) -> list[tuple[int, float]]:
    """Epoch and metric of the finished epochs after one, as far as they were validated."""
    try:
        rows = RunDirectory(folder).history()
    except InputError:
        return []
    found = [(int(row["epoch"]), float(row[metric])) for row in rows if row.get(metric)]
    return [(epoch, value) for epoch, value in found if epoch > after]


def kill_leftovers(folder: Path) -> None:
    """Kill what still trains in this trial's folder on this machine: what a holder that died left behind."""
    told = f"--out={folder}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_ours = told in (process / "cmdline").read_bytes().split(b"\0")
            if is_ours and int(process.name) != os.getpid() and (process / "cwd").samefile(Path.cwd()):
                os.kill(int(process.name), signal.SIGKILL)
        except (OSError, ValueError):
            continue


def _ended(
    code: int, why: str | None, run: RunDirectory, metric: str, said: str, seconds: float, words: Sequence[str]
) -> Ended:
    outcome = {"run": str(run.path), "command": line(words), "seconds": round(seconds, 1), "reason": None}
    if why == "stopped":
        return Ended("stopped", outcome)
    if why is None and code == BAD_INPUT:
        return Ended("failed", outcome | {"reason": last_line(said)})
    if why is None and (code < 0 or code > 128):
        number = -code if code < 0 else code - 128
        how = signal.Signals(number).name if number in {*map(int, signal.Signals)} else f"signal {number}"
        return Ended("vanished", outcome | {"reason": f"its process was ended by {how}"})
    if why is None and code != 0:
        return Ended("failed", outcome | {"reason": f"exit code {code}: {last_line(said)}"})
    try:
        rows = [row for row in run.history() if row.get(metric)]
        last, best = rows[-1], max(rows, key=lambda row: float(row.get("val/AP") or "nan"))
        values = {key: float(value) for key, value in last.items() if key.startswith(("val/", "train/")) and value}
        results = zlib.compress(run.val_results.read_bytes())
        contract = json.loads(run.val_score.read_text(encoding="utf-8"))["contract"]
        Score.read(run.val_score)
    except (InputError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
        return Ended(
            "failed", outcome | {"reason": f"{run.path}: no {metric} was left behind ({one_line(error)[:120]})"}
        )
    outcome |= {
        "values": values,
        "best_ap": float(best.get("val/AP") or "nan"),
        "best_epoch": int(best["epoch"]),
        "epochs": int(last["epoch"]) + 1,
        "seconds": round(sum(float(row["epoch_seconds"]) for row in rows), 1),
        "contract": contract,
        "wandb_id": run.wandb_id,
    }
    if why == "pruned":
        return Ended("pruned", outcome | {"reason": f"pruned after epoch {last['epoch']}"}, results)
    return Ended("complete", outcome, results)


def _is_whole(run: RunDirectory) -> bool:
    """Whether a run has all of its epochs: one that was to be pruned with its last is complete."""
    try:
        settings = yaml.safe_load((run.path / "config.yaml").read_text(encoding="utf-8"))
        return int(run.history()[-1]["epoch"]) + 1 >= int(settings["trainer"]["max_epochs"])
    except (InputError, OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return False


def last_line(said: str) -> str:
    """The last line that a process printed, without the name of who said it."""
    lines = [text for text in said.splitlines() if text.strip()]
    return one_line(lines[-1].removeprefix("catpose.fit: error: "))[:500] if lines else "it said nothing"


def _other_holder(mark: Path, token: int) -> bool:
    try:
        return int(mark.read_text(encoding="utf-8")) > token
    except (OSError, ValueError):
        return False


def _end(child: subprocess.Popen[bytes], gently: bool) -> None:
    """End a child that is still there."""
    if gently:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE)
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _end_family(child: subprocess.Popen[bytes]) -> None:
    """Wait for the processes that a child has started, those of other GPUs for example, and kill the last of them."""
    until = time.monotonic() + FAMILY_PATIENCE
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < until:
            os.killpg(child.pid, 0)
            time.sleep(0.05)
        os.killpg(child.pid, signal.SIGKILL)


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """In the child, before it begins: be killed when the worker that started it dies, were it by kill -9 (Linux)."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
