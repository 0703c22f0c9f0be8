"""A study on SLURM: an array of jobs, each of which is one `python -m catpose.sweep` on the study's storage.

Who requeues: submitit, and nobody else. Before a job is preempted or its time is up, SLURM sends USR2 to its processes.
submitit, which started the job's `Worker`, asks it for a checkpoint; the worker tells its sweep to stop, and the sweep
its trials, which are given back; then submitit requeues the job. The trials go on from their checkpoints
in whichever job takes them next. A trial's own process doesn't know that it is on SLURM. Many clusters preempt with
SIGTERM alone: that ends the sweep in the same way, and the worker, once it sees why, gives itself the missing USR2.
Where a node is lost, SLURM requeues the job, and the trials are taken over once their owner was silent for too long.

The storage's URL may hold a password. It is in the jobs' environment, which sbatch takes over from the command that
submits, and in no file and no command line.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from catpose.errors import TERMINATED, InputError, nearest, one_line
from catpose.plain_yaml import parse_yaml
from catpose.study.environment import STORAGE
from catpose.study.file import Study

#: What is asked for where neither study nor command line say. A job that runs into its time limit is requeued, so the
#: limit is short enough to slip into a schedule's gaps.
DEFAULTS: dict[str, Any] = {"timeout_min": 240, "signal_delay_s": 90, "stderr_to_stdout": True}

NUMBERS = (
    *("timeout_min", "time", "signal_delay_s", "array_parallelism", "mem_gb"),
    *("cpus_per_task", "cpus_per_gpu", "gpus_per_node", "gpus_per_task"),
)
GROUPS: dict[str, type] = {"setup": list, "teardown": list, "srun_args": list, "additional_parameters": dict}
#: What submitit calls the same on all kinds of cluster; others are prefixed with "slurm_".
SHARED = ("name", "timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node", "stderr_to_stdout")
#: A job is one sweep on one node; its trials may use all the GPUs of it.
FIXED = {"nodes", "ntasks_per_node", "tasks_per_node", "num_gpus", "use_srun"}


def launch(study: Study, argv: Sequence[str], folder: Path, workers: int, options: Mapping[str, Any]) -> list[str]:
    """Submit a job array.

    Args:
        study: gives the jobs their name, and `slurm`, what they ask for.
        argv: the arguments after `python -m catpose.sweep` in each job; no password in them.
        folder: for submitit's files and the jobs' logs, on a file system that the nodes share.
        workers: how many jobs.
        options: submitit's parameters for SLURM from the command line (partition, gpus_per_node, timeout_min, mem_gb,
            account, …), which win over the study's.

    Returns:
        The jobs' ids, `123_0`, `123_1`, …; `123` where it is one job.

    Raises:
        InputError: no SLURM here, a parameter that isn't known or can't be, or sbatch refused.
    """
    try:
        import submitit
    except ImportError:
        raise InputError("--launch slurm: submitit is not installed; run: pip install -e '.[slurm]'") from None
    own = {key: _checked(key, value) for key, value in {**study.slurm, **options}.items()}
    parameters = {"name": study.name, **DEFAULTS, **own}
    has_url = STORAGE in os.environ
    if not has_url and workers > 1 and not any(arg.split("=")[0] == "--storage" for arg in argv):
        raise InputError(
            f"--launch slurm: {workers} workers on several machines need a database server: name it by --storage"
            f" postgresql://… (or in {STORAGE}); SQLite's locks don't hold on network file systems"
        )
    try:
        executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=1000)
    except RuntimeError:
        raise InputError(
            "--launch slurm: there is no SLURM here (srun isn't found); submit from its login node"
        ) from None
    if "cpus_per_task" in parameters:  # srun doesn't take it over from sbatch since SLURM 22.05
        parameters["srun_args"] = [f"--cpus-per-task={parameters['cpus_per_task']}", *parameters.get("srun_args", [])]
    parameters["additional_parameters"] = {"requeue": True, **parameters.get("additional_parameters", {})}
    executor.update_parameters(**{key if key in SHARED else f"slurm_{key}": value for key, value in parameters.items()})
    patience = max(parameters["signal_delay_s"] - 15.0, parameters["signal_delay_s"] / 2)
    try:
        with _outside_of_a_job():
            jobs = executor.submit_array([Worker(tuple(argv), has_url, patience) for _ in range(workers)])
    except submitit.core.utils.FailedJobError as error:
        raise InputError(f"--launch slurm: sbatch refused: {one_line(error)[-200:]}") from None
    return [job.job_id for job in jobs]


class Worker:
    """One job of the array, as submitit runs it: a sweep in a process of its own.

    Args:
        argv: the arguments after `python -m catpose.sweep`.
        has_url: the storage's URL is to be in the environment.
        patience: seconds to wait for the sweep to end before the job is requeued.
    """

    def __init__(self, argv: tuple[str, ...], has_url: bool, patience: float) -> None:
        self.argv, self.has_url, self.patience = argv, has_url, patience
        self.sweep: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        import submitit

        if self.has_url and STORAGE not in os.environ:
            sys.exit(f"{STORAGE} is not in this job's environment: let sbatch export it (SBATCH_EXPORT, --export)")
        with _deaf_to_user_signals():
            self.sweep = subprocess.Popen([sys.executable, "-m", "catpose.sweep", *self.argv])
        # Not Popen.wait, which the checkpoint, called by a signal in the midst of it, couldn't call again.
        os.waitid(os.P_PID, self.sweep.pid, os.WEXITED | os.WNOWAIT)
        code = self.sweep.wait()
        if code in (TERMINATED, -signal.SIGTERM) and _preempted(submitit.JobEnvironment().job_id):
            signal.raise_signal(signal.Signals[f"SIG{submitit.JobEnvironment.USR_SIG}"])  # the notice that wasn't given
        sys.exit(code)

    def checkpoint(self) -> Any:
        """Let the sweep release its trials; called by submitit on USR2, before it requeues the job."""
        import submitit

        if self.sweep is not None:
            self.sweep.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.sweep.wait(self.patience)
        return submitit.helpers.DelayedSubmission(Worker(self.argv, self.has_url, self.patience))


def _preempted(job: str) -> bool:
    """Whether a job, while it runs on, has been chosen to make room: neither cancelled nor its node lost."""
    args = ["scontrol", "-o", "show", "job", job]
    output = subprocess.run(args, capture_output=True, text=True, timeout=60, check=False).stdout
    return "JobState=RUNNING" in output and re.search(r" PreemptTime=\d", output) is not None


def _checked(key: str, value: Any) -> Any:
    """The value of one of submitit's parameters, in its type; those of a command line are read as YAML where needed."""
    from submitit.slurm.slurm import SlurmExecutor

    known = (SlurmExecutor._valid_parameters() | set(SHARED)) - FIXED
    where = f"slurm.{key}"
    if key in FIXED:
        raise InputError(f"{where}: is one: a job is one sweep on one node; for more of them raise --workers")
    if key not in known:
        raise InputError(
            f"{where}: submitit has no such parameter.{nearest(key, known)} There are {', '.join(sorted(known))}"
        )
    if key in NUMBERS:
        if isinstance(value, bool) or not str(value).isdecimal():
            raise InputError(f"{where}: {one_line(value)[:40]} is no whole number")
        return int(value)
    if key in GROUPS:
        with contextlib.suppress(yaml.YAMLError):
            value = parse_yaml(value) if isinstance(value, str) else value
        if not isinstance(value, GROUPS[key]):
            raise InputError(
                f"{where}: is a {GROUPS[key].__name__}; write " + ("[a, b]" if GROUPS[key] is list else "{a: b}")
            )
        return value
    if key in ("exclusive", "stderr_to_stdout") and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true" or None
    return str(value)


@contextlib.contextmanager
def _outside_of_a_job() -> Iterator[None]:
    """Hide the job that this process may itself be in: its limits would become those of the jobs that it submits."""
    of_job = ("SLURM_", "SRUN_", "SUBMITIT_") if "SLURM_JOB_ID" in os.environ else ()
    hidden = {key: os.environ.pop(key) for key in [*os.environ] if key.startswith(of_job) and key != "SLURM_CONF"}
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextlib.contextmanager
def _deaf_to_user_signals() -> Iterator[None]:
    """Processes started in the block ignore USR1 and USR2, which SLURM sends to all of a job's and would end them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1, signal.SIGUSR2))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
