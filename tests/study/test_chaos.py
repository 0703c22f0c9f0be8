"""Workers killed with -9, a database server that goes away, all of it real: nothing is lost, or done twice."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from postgres_server import PASSWORD, Postgres, missing

from catpose.study.ledger import Ledger
from catpose.study.storage import normal_url, open_engine

REPOSITORY = Path(__file__).parents[2]
GRACE = 6.0
EPOCHS = 6


@pytest.fixture
def server() -> Iterator[Postgres]:
    why_not = missing()
    if why_not:
        pytest.skip(why_not)
    folder = Path(tempfile.mkdtemp(prefix="catpose-pg-"))
    made = Postgres(folder)
    made.start()
    yield made
    with contextlib.suppress(subprocess.SubprocessError):
        made.stop("immediate")
    shutil.rmtree(folder, ignore_errors=True)


def study_file(folder: Path, tiny: Path, configurations: int) -> Path:
    """Trials of a few seconds, with 2 seeds."""
    rates = ", ".join(f"{0.001 * (i + 1):.3f}" for i in range(configurations))
    file = folder / "chaos.yaml"
    file.write_text(
        f"# Question: does anything get lost?\nexperiment: {tiny}\n"
        f"settings: {{trainer.max_epochs: {EPOCHS}, wandb.mode: offline}}\n"
        f"space:\n  model.lr: [{rates}]\nseeds: 2\ngrace: {GRACE}\n"
    )
    return file


def worker(file: Path, out: Path, url: str, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "catpose.sweep", "--config", str(file), "--out", str(out)]
    with log.open("ab") as said:
        environment = {**os.environ, "CATPOSE_STORAGE": url}
        return subprocess.Popen(command, cwd=REPOSITORY, stdout=said, stderr=said, env=environment)


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "configurations", [pytest.param(4, marks=pytest.mark.servers), pytest.param(8, marks=pytest.mark.long)]
)
def test_workers_and_server_die_and_every_trial_is_complete_once(
    configurations: int, server: Postgres, tiny: Path, tmp_path: Path
) -> None:
    out, log = tmp_path / "out", tmp_path / "workers.log"
    file = study_file(tmp_path, tiny, configurations)
    kills, outages_at = configurations, (configurations // 4, configurations // 2, configurations)
    crew = [worker(file, out, server.url, log) for _ in range(3)]
    dice = random.Random(0)
    killed, outages, started = 0, 0, time.monotonic()
    try:
        while any(process.poll() is None for process in crew):
            assert time.monotonic() - started < 3000, log.read_text()[-3000:]
            done = finished(server.url)
            # A kill for every two trials that are finished; the server goes away when an eighth, a quarter, half are.
            victims = busy(crew, in_training=killed % 2 == 0)
            if killed < kills and done >= 2 * killed and victims:
                victim = dice.choice(victims)
                victim.send_signal(signal.SIGKILL)
                victim.wait()
                killed += 1
                crew[crew.index(victim)] = worker(file, out, server.url, log)
            if outages < 3 and done >= outages_at[outages]:
                server.stop("immediate" if outages == 1 else "fast")
                time.sleep(0 if outages < 2 else 2 * GRACE)  # restarted twice, away for longer than all patience once
                server.start()
                outages += 1
            time.sleep(dice.uniform(0.1, 0.4))
    finally:
        for process in crew:
            process.kill()
    said = log.read_text()
    assert [process.returncode for process in crew] == [0, 0, 0], said[-3000:]
    assert (killed, outages) == (kills, 3)
    assert "the storage is away" in said
    assert PASSWORD not in said

    trials = Ledger(open_engine(server.url), "chaos", GRACE).trials()
    assert len(trials) == 2 * configurations
    assert {trial.state for trial in trials} == {"complete"}
    study = optuna.load_study(study_name="chaos", storage=normal_url(server.url))
    complete = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    assert len(complete) == 2 * configurations
    assert {(row.user_attrs["point"], row.user_attrs["seed"]) for row in complete} == {
        (point, seed) for point in range(configurations) for seed in range(2)
    }
    assert not study.get_trials(states=[optuna.trial.TrialState.RUNNING, optuna.trial.TrialState.WAITING])

    resumed = 0
    for trial in trials:
        assert trial.outcome is not None
        assert trial.outcome.run is not None
        run = Path(trial.outcome.run)
        assert [row["epoch"] for row in rows_of(run)] == [str(epoch) for epoch in range(EPOCHS)]
        assert float(rows_of(run)[-1]["val/AP"]) == trial.outcome.values["val/AP"]
        record = json.loads((run / "run.json").read_text())
        assert record["wandb_id"] == trial.outcome.wandb_id
        resumed += "resumed in" in (run / "log.txt").read_text()
    assert sum(trial.lost_attempts for trial in trials) >= kills - 2  # a worker may have died between two trials
    assert resumed >= kills // 3, "too few of those killed had finished an epoch to see them go on from it"
    for path in out.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes(), path


def finished(url: str) -> int:
    try:
        return sum(trial.state == "complete" for trial in Ledger(open_engine(url), "chaos", GRACE).trials())
    except Exception:  # the server isn't there, or nobody has made the tables yet
        return 0


def busy(crew: list[subprocess.Popen[bytes]], in_training: bool) -> list[subprocess.Popen[bytes]]:
    """The workers that have a trial's process; those whose trial has finished an epoch, but not yet all, if asked."""
    able = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            words = (process / "cmdline").read_text().split("\0")
            folder = next((Path(word.removeprefix("--out=")) for word in words if word.startswith("--out=")), None)
            if folder and (not in_training or ((folder / "last.ckpt").exists() and len(rows_of(folder)) < EPOCHS - 1)):
                able.append(parent)
    return [process for process in crew if process.poll() is None and process.pid in able]
