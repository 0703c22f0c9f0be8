"""Studies on a real SLURM of two nodes: nodes are lost, jobs preempted, and every trial is complete, once."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import optuna
import pytest
from postgres_server import PASSWORD
from slurm_cluster import NOTICE, Slurm

from catpose.errors import InputError
from catpose.fence import newest_claims
from catpose.study.file import Study, read_study
from catpose.study.ledger import Ledger
from catpose.study.slurm import STORAGE, launch
from catpose.study.storage import normal_url, open_engine

REPOSITORY = Path(__file__).parents[2]
GRACE, EPOCHS = 8.0, 12
#: Seconds before the end of its time at which a job is told.
NOTICE_S = 40


@pytest.fixture
def file(tmp_path: Path, tiny: Path) -> Path:
    """A study of four trials, each long enough to be interrupted."""
    made = tmp_path / "small.yaml"
    made.write_text(
        f"# Question: does anything get lost?\nexperiment: {tiny}\n"
        f"settings: {{trainer.max_epochs: {EPOCHS}, wandb.mode: offline}}\n"
        f"space:\n  model.lr: [1e-3, 2e-3]\nseeds: 2\ngrace: {GRACE}\n"
        f"slurm: {{timeout_min: 60, cpus_per_task: 4, gpus_per_node: 1, signal_delay_s: {NOTICE_S}}}\n"
    )
    return made


@pytest.fixture
def study(file: Path) -> Study:
    return read_study(file)


class Submitted:
    """A study on the cluster, with two jobs, one on each node."""

    def __init__(self, slurm: Slurm, how: str, file: Path, url: str) -> None:
        self.slurm, self.file, self.url = slurm, file, url
        self.out, self.logs = file.parent / "out", file.parent / "logs"
        sweep = ["--config", str(file), "--out", str(self.out)]
        options = "--launch slurm --workers 2 --slurm.partition normal"
        sbatch = f"sbatch --parsable --partition normal --array=0-1 --cpus-per-task=4 --output={self.logs}/%a.log"
        commands = {
            "submitit": [sys.executable, "-m", "catpose.sweep", *sweep, *options.split()],
            "sbatch": [*sbatch.split(), str(REPOSITORY / "sweeps" / "cluster" / "slurm.sbatch"), *sweep],
        }
        path = f"{Path(sys.executable).parent}:{slurm.environment['PATH']}"  # where the batch script finds `python`
        self.logs.mkdir()
        done = subprocess.run(
            commands[how],
            cwd=REPOSITORY,
            env={**slurm.environment, STORAGE: url, "PATH": path},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        array = max(int(job["ArrayJobId"]) for job in slurm.jobs() if "ArrayJobId" in job)
        assert str(array) in done.stdout
        self.jobs = [f"{array}_0", f"{array}_1"]

    @property
    def runs(self) -> list[Path]:
        return newest_claims((self.out / "trials").glob("*"))

    def on(self, node: str) -> str:
        """The job that runs there."""
        self.slurm.wait(f"job on {node}", lambda: self._on(node))
        return self._on(node)

    def _on(self, node: str) -> str:
        running = {self.slurm.job(job).get("NodeList"): job for job in self.jobs}
        return running.get(node, "")

    @contextmanager
    def held(self, n: int) -> Iterator[list[int]]:
        """Two trainings, stopped once each has finished `n` epochs, and before its last: their processes.

        Their workers, who are not held, stay alive. Each is stopped as soon as it is so far, since on a quick machine
        the first may end before the second has started.
        """
        held: dict[Path, list[int]] = {}
        try:
            self.slurm.wait("epochs", lambda: self._hold(n, held) == 2)
            yield [process for training in held.values() for process in training]
        finally:
            for training in held.values():
                send(signal.SIGCONT, training)

    def _hold(self, n: int, held: dict[Path, list[int]]) -> int:
        """Stop the trainings that have come so far, and say how many are held."""
        for run in self.runs:
            if run not in held and epochs(run) >= n:
                training = [process for process, command, _ in processes() if is_training(command, run)]
                send(signal.SIGSTOP, training)
                if training and epochs(run) < EPOCHS:
                    held[run] = training
                else:  # at its end already
                    send(signal.SIGCONT, training)
        return len(held)

    def wait_for_the_end(self) -> None:
        def ended() -> bool:
            states = [self.slurm.job(job)["JobState"] for job in self.jobs]
            assert not {"FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"} & {*states}, self.said()
            return states == ["COMPLETED"] * 2

        try:
            self.slurm.wait("end of the jobs", ended, 900)
        except TimeoutError:
            pytest.fail(self.said())

    def said(self) -> str:
        logs = [*self.logs.glob("*.log"), *(self.out / "slurm").glob("*.out")]
        return "\n".join(f"== {log.name}\n{log.read_text()[-3000:]}" for log in logs)

    def check(self) -> None:
        """Every trial is complete, once, none of its epochs was trained twice, and no password was left behind."""
        trials = Ledger(open_engine(self.url), "small", GRACE).trials()
        assert [trial.state for trial in trials] == ["complete"] * 4, self.said()
        record = optuna.load_study(study_name="small", storage=normal_url(self.url))
        complete = record.get_trials(states=[optuna.trial.TrialState.COMPLETE])
        assert sorted(row.number for row in complete) == sorted(trial.number or 0 for trial in trials)
        assert len({(row.user_attrs["point"], row.user_attrs["seed"]) for row in complete}) == len(complete) == 4
        for run in self.runs:
            with (run / "metrics.csv").open(newline="") as rows:
                assert [int(row["epoch"]) for row in csv.DictReader(rows)] == [*range(EPOCHS)]
        for path in self.file.parent.rglob("*"):
            assert not path.is_file() or PASSWORD.encode() not in path.read_bytes(), path

    def resumed(self) -> list[Path]:
        """The trials that were started more than once, and went on from a checkpoint."""
        return [run for run in self.runs if len(starts(run)) > 1 and "resumed in" in (run / "log.txt").read_text()]


def epochs(run: Path) -> int:
    metrics = run / "metrics.csv"
    return max(0, metrics.read_text().count("\n") - 1) if metrics.exists() else 0


def starts(run: Path) -> list[object]:
    return json.loads((run / "run.json").read_text())["starts"] if (run / "run.json").exists() else []


def make_room(slurm: Slurm, node: str) -> None:
    """Have a more urgent job take a node for a moment."""
    urgent = ["sbatch", "--partition=urgent", f"--nodelist={node}", "--exclusive", "--time=5", "--output=/dev/null"]
    assert slurm.ask(*urgent, "--wrap", "sleep 2")


@pytest.mark.parametrize(
    ("how", "why"),
    [
        pytest.param("sbatch", "terminated", marks=pytest.mark.servers),
        pytest.param("submitit", "out of time", marks=pytest.mark.servers),
        pytest.param("submitit", "notified", marks=pytest.mark.long),
        pytest.param("sbatch", "notified", marks=pytest.mark.long),
        pytest.param("submitit", "terminated", marks=pytest.mark.long),
        pytest.param("sbatch", "out of time", marks=pytest.mark.long),
    ],
)
def test_a_preempted_job_gives_its_trials_back_and_queues_again(
    slurm: Slurm, how: str, why: str, file: Path, postgres_url: str
) -> None:
    slurm.reconfigure("" if why == "terminated" else NOTICE)
    submitted = Submitted(slurm, how, file, postgres_url)
    with submitted.held(2) as held:  # SLURM takes up to a minute to act: a quick machine would be done before
        job = submitted.on("n1")
        if why == "out of time":
            # A whole minute that leaves more than the notice: at the limit itself SLURM kills what still ends.
            minutes = 1 + (seconds_of(slurm.job(job)["RunTime"]) + NOTICE_S + 10) // 60
            slurm.ask("scontrol", "update", f"jobid={job}", f"timelimit={minutes}")
        else:
            make_room(slurm, "n1")
        slurm.wait("trial told to stop", lambda: any(is_told_to_end(process) for process in held))
    slurm.wait("requeued job", lambda: slurm.job(job)["Restarts"] == "1")
    slurm.ask("scontrol", "update", f"jobid={job}", "timelimit=60")
    submitted.wait_for_the_end()
    submitted.check()
    assert submitted.resumed(), submitted.said()
    # Given back, not silently lost: nobody had to wait until its holder seemed dead.
    assert {trial.lost_attempts for trial in Ledger(open_engine(postgres_url), "small", GRACE).trials()} == {0}, (
        submitted.said()
    )
    other = next(each for each in submitted.jobs if each != job)
    assert slurm.job(other)["Restarts"] == "0"


def seconds_of(clock: str) -> int:
    hours, minutes, seconds = map(int, clock.split(":"))
    return 3600 * hours + 60 * minutes + seconds


@pytest.mark.servers
def test_the_trials_of_a_lost_node_are_taken_over(slurm: Slurm, file: Path, postgres_url: str) -> None:
    slurm.reconfigure(NOTICE)
    submitted = Submitted(slurm, "submitit", file, postgres_url)
    with submitted.held(2):
        job = submitted.on("n2")
        look_at_processes(submitted.out)
        slurm.lose("n2")
    slurm.wait("requeued job", lambda: slurm.job(job)["Restarts"] == "1")
    slurm.boot("n2")
    submitted.wait_for_the_end()
    submitted.check()
    assert submitted.resumed(), submitted.said()
    assert sum(trial.lost_attempts for trial in Ledger(open_engine(postgres_url), "small", GRACE).trials()) == 1


def processes() -> Iterator[tuple[int, bytes, bytes]]:
    """Each process's number, command line and environment."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield int(process.name), (process / "cmdline").read_bytes(), (process / "environ").read_bytes()


def send(number: signal.Signals, processes: Iterable[int]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def is_told_to_end(process: int) -> bool:
    """Whether a process that is stopped has a SIGTERM waiting for it, or is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return True
    waiting = next(line.split()[1] for line in status.splitlines() if line.startswith("ShdPnd:"))
    return bool(int(waiting, 16) & 1 << (signal.SIGTERM - 1))


def is_training(command: bytes, out: Path) -> bool:
    return b"catpose.fit" in command and str(out).encode() in command


def look_at_processes(out: Path) -> None:
    """While it runs: no process's command line has the password, and trainings know neither storage nor SLURM."""
    trainings = 0
    for _, command, environment in processes():
        assert PASSWORD.encode() not in command, command
        if is_training(command, out):
            trainings += 1
            names = environment.split(b"\0")
            assert not [word for word in names if word.startswith((b"SLURM_", b"SUBMITIT_", STORAGE.encode()))]
    assert trainings >= 2


@pytest.mark.servers
def test_a_cancelled_job_ends_soon_and_is_not_queued_again(slurm: Slurm, file: Path, postgres_url: str) -> None:
    slurm.reconfigure(NOTICE)
    submitted = Submitted(slurm, "submitit", file, postgres_url)
    with submitted.held(1):
        slurm.ask("scancel", *submitted.jobs)
    for job in submitted.jobs:
        slurm.wait("end of the job", lambda job=job: slurm.job(job)["JobState"] == "CANCELLED")
        assert slurm.job(job)["Restarts"] == "0"


@pytest.mark.servers
def test_sbatch_that_refuses_is_told_in_one_line(
    slurm: Slurm, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    with pytest.raises(InputError, match=r"sbatch refused: .*partition"):
        launch(study, [], tmp_path / "logs", 1, {"partition": "nowhere"})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"partion": "gpu"}, "slurm.partion: .* Did you mean partition?"),
        ({"nodes": "2"}, "slurm.nodes: .*--workers"),
        ({"timeout_min": "1:30:00"}, "slurm.timeout_min: 1:30:00 is no whole number"),
        ({"gpus_per_node": True}, "slurm.gpus_per_node: True is no whole number"),
        ({"additional_parameters": "a"}, "slurm.additional_parameters: is a dict"),
        ({"setup": "{a: b}"}, "slurm.setup: is a list"),
    ],
)
def test_options_that_cannot_be(
    options: dict[str, object], said: str, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STORAGE, "postgresql://db/x")
    pytest.importorskip("submitit")
    with pytest.raises(InputError, match=said):
        launch(study, [], tmp_path, 1, options)
    assert not [*tmp_path.glob("*_submission.sh")]


def test_several_machines_need_a_server(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STORAGE, raising=False)
    with pytest.raises(InputError, match="2 workers on several machines need a database server"):
        launch(study, [], tmp_path, 2, {})


def test_no_slurm_here(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="there is no SLURM here"):
        launch(study, [], tmp_path, 1, {})


def test_a_job_without_the_storage_says_so(tmp_path: Path) -> None:
    """A cluster whose sbatch exports nothing: the sweep must not begin a study of its own in a file."""
    pytest.importorskip("submitit")
    run = "from catpose.study.slurm import Worker; Worker(('--config', 'x.yaml'), True, 1.0)()"
    environment = {key: value for key, value in os.environ.items() if key != STORAGE}
    done = subprocess.run(
        [sys.executable, "-c", run], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    assert f"{STORAGE} is not in this job's environment" in done.stderr
