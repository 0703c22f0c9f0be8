"""Opening a study in its storage, and running it with the workers of this process."""

from __future__ import annotations

import contextlib
import secrets
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import optuna
import sqlalchemy
from jsonargparse import Namespace
from optuna.distributions import distribution_to_json
from optuna.exceptions import ExperimentalWarning

from catpose.data.coco import read_split, split_hash
from catpose.errors import INTERRUPTED, InputError, one_line
from catpose.files import atomic_write, require_writable
from catpose.run.cli import FitCLI
from catpose.run.directory import FREE, flatten
from catpose.study.file import Study
from catpose.study.ledger import Ledger
from catpose.study.rows import mirror
from catpose.study.storage import AWAY, AwayError, masked, normal_url, open_engine, open_study
from catpose.study.worker import Crew, fit_runner

T = TypeVar("T")
#: Seconds that a study's server has to come back.
PATIENCE_S = 600
#: Settings that may differ between the workers of a study: a trial's numbers don't come from them. The data's hashes
#: stand for its place.
LOCAL = ({*FREE} - {"trainer.max_epochs"}) | {"data.root", "seed_everything", "data.seed"}


@dataclass(frozen=True)
class Opened:
    """A study in its storage."""

    ledger: Ledger
    id: str  # the study's own, made when it was created
    root: Path  # the data folder
    wandb: dict[str, Any]  # W&B's settings, as of a run


def facts_of(study: Study) -> tuple[dict[str, Any], Namespace]:
    """What makes a study this one beside its space, and its data folder.

    Returns:
        {"settings": those shared by all arms, "data": hashes of the splits, "metrics", "space": of a sampled study};
        and all the base's settings.

    Raises:
        InputError: the experiment, a setting, every arm or the data can't be used.
    """
    base = FitCLI(study.words({"words": []}, 0))
    settings = flatten(base.resolved())
    varied = study.space.keys
    shared = {
        key: value
        for key, value in settings.items()
        if not any(key == free or key.startswith(free + ".") for free in LOCAL | varied)
    }
    _require_an_arm(study)
    root = Path(base.config.data.root)
    data = {split: split_hash(read_split(root, split)) for split in ("train", "val")}
    sampled = study.space.distributions() if study.trials is not None else {}
    ranges = {name: distribution_to_json(distribution) for name, distribution in sampled.items()}
    return {"settings": shared, "data": data, "metrics": study.metrics, "space": ranges}, base.config


def _require_an_arm(study: Study) -> None:
    """InputError, the first, where no arm's settings can be read: a misspelt name is in all of them."""
    first: InputError | None = None
    for arm in study.space.arms() if study.space.is_grid else [study.space.probe()]:
        try:
            FitCLI(study.words(arm, 0))
            return
        except InputError as error:
            first = first or InputError(f"{study.file}: arm {arm['label']}: {error}")
    assert first is not None
    raise first


def open_ledger(study: Study, url: str, create: bool) -> Opened:
    """The study in its storage, checked to be this one.

    Args:
        create: plan the study where it isn't there yet.

    Raises:
        InputError: the storage can't be used, holds another study of this name, or none where none is to be created.
    """
    facts, config = facts_of(study)
    is_file = url.startswith("sqlite") and sqlalchemy.make_url(normal_url(url)).database
    file = Path(is_file) if is_file else None
    if file is not None and not file.exists():
        if not create:
            raise InputError(f"{file}: no such study; run it first: python -m catpose.sweep --config {study.file}")
        require_writable(file.parent, "--out", folder=True)
        file.parent.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(open_engine(url), study.name, study.grace)
    if not create and not ledger.trials():
        raise InputError(f"{masked(url)}: holds no study {study.name}; run it first, or name another with --name")
    kept = ledger.facts({"id": secrets.token_hex(8), **facts})
    differing = [
        f"{key} {one_line(kept['settings'].get(key, 'absent'))} → {one_line(facts['settings'].get(key, 'absent'))}"
        for key in sorted({*facts["settings"], *kept["settings"]})
        if facts["settings"].get(key, "absent") != kept["settings"].get(key, "absent")
    ]
    differing += [f"data of {split}" for split in facts["data"] if facts["data"][split] != kept["data"][split]]
    differing += ["metric"] if kept["metrics"] != study.metrics else []
    differing += ["space"] if kept.get("space", {}) != facts["space"] else []
    if differing:
        shown = ", ".join(differing[:4]) + (f" and {len(differing) - 4} more" if len(differing) > 4 else "")
        raise InputError(
            f"study {study.name}: its storage {masked(url)} has it with other settings ({shown}); give it another name"
            " with --name"
        )
    if create:
        ledger.plan(study.points, study.seeds)
    return Opened(ledger, kept["id"], Path(config.data.root), config.wandb.as_dict())


def run(study: Study, url: str, out: Path, workers: int, retry_failed: bool, command: Sequence[str]) -> Opened:
    """Create the study or go on with it, until all its trials are finished.

    Raises:
        InputError: as `open_ledger`.
        SystemExit: stopped by SIGTERM or SIGUSR2 (143) or Ctrl-C (130); trials were given back.
    """
    with stopped_by_signals() as stopping:
        sampler, pruner = made_by_optuna(study, "sampler"), made_by_optuna(study, "pruner")
        require_writable(out, "--out", folder=True)
        warnings.filterwarnings("ignore", "The reported value is ignored", UserWarning)  # a resumed trial's old epochs
        opened = while_away(out, lambda: open_ledger(study, url, create=True))
        ledger = opened.ledger
        record = while_away(out, lambda: open_study(url, study.name, [*study.metrics.values()], sampler, pruner))
        if retry_failed:
            print(f"{while_away(out, ledger.retry_failed)} failed trials are tried again")
        while_away(out, lambda: begin(study, ledger, record))
        with atomic_write(out / "study.yaml") as temporary:
            said = f"# python -m catpose.sweep {shlex.join(command)}\n"
            temporary.write_text(said + study.file.read_text(encoding="utf-8"), encoding="utf-8")
        states = [trial.state for trial in while_away(out, ledger.trials)]
        to_come = sum(state in ("waiting", "running") for state in states)
        print(f"study {study.name}: {len(states)} trials, {to_come} to come; storage {masked(url)}, files {out}/")
        crew = Crew(study, ledger, record, fit_runner(study, opened.id, out, workers))
        stopping.append(crew.stop)
        crew.work(workers)
    return opened


def begin(study: Study, ledger: Ledger, record: optuna.Study) -> None:
    """What every worker brings up to date in Optuna's study before it works."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        record.set_metric_names([*study.metrics])  # what the dashboard writes on its axes
    record.set_user_attr("question", study.question)
    mirror(record, ledger, [*study.metrics], study.space.distributions())


def while_away(out: Path, call: Callable[[], T]) -> T:
    """What `call` returns. Where a study was run in this folder before, its server has ten minutes to come back.

    A worker that is started again, by a cluster for example, may well come while the server is restarted. On a first
    start it is more likely that the URL is wrong, and nobody wants to wait for that.

    Raises:
        InputError: the storage can't be used.
    """
    until = time.monotonic() + (PATIENCE_S if (out / "study.yaml").exists() else 0)
    said = False
    while True:
        try:
            return call()
        except (AwayError, *AWAY) as error:
            if time.monotonic() >= until:
                raise
            if not said:
                print(f"waiting for the storage: {one_line(error)[:200]}", flush=True)
            said = True
            time.sleep(2)


def made_by_optuna(study: Study, what: str) -> Any:
    """The sampler or pruner that the study asks for, None where it asks for none.

    Raises:
        InputError: Optuna has none of this name, or refuses its settings.
    """
    described = getattr(study, what)
    if described is None:
        if what == "pruner":
            return optuna.pruners.NopPruner()
        return None if study.trials is None else optuna.samplers.TPESampler(constant_liar=True)
    module = optuna.samplers if what == "sampler" else optuna.pruners
    base = optuna.samplers.BaseSampler if what == "sampler" else optuna.pruners.BasePruner
    made: Any = getattr(module, described["name"], None)
    if not isinstance(made, type) or not issubclass(made, base):
        known = sorted(
            name for name in module.__all__ if name.endswith(what.capitalize()) and not name.startswith("Base")
        )
        raise InputError(
            f"{study.file}: {what}: Optuna has no {one_line(described['name'])}; it has {', '.join(known)}"
        )
    try:
        settings = {key: value for key, value in described.items() if key != "name"}
        if what == "sampler":  # some say only when they are asked what they lack, or can't do
            asked: Any = made(**settings)
            probe = optuna.create_study(sampler=asked, directions=[*study.metrics.values()])
            probe.tell(probe.ask(study.space.distributions()), [0.0] * len(study.metrics))
        return made(**settings)
    except Exception as error:
        raise InputError(f"{study.file}: {what}: {described['name']}: {one_line(error)[:200]}") from None


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[list[Any]]:
    """On SIGTERM, SIGUSR2 or Ctrl-C call what was put into the list, then leave with the signal's exit code.

    A second signal ends at once.
    """
    calls: list[Any] = []
    received: list[int] = []

    def handle(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        if len(received) > 1 or not calls:
            sys.exit(code(signum))
        print("stopping: running trials end and are given back; the same command goes on", file=sys.stderr)
        for call in calls:
            call()

    def code(signum: int) -> int:
        return INTERRUPTED if signum == signal.SIGINT else 128 + signal.SIGTERM

    signals = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGHUP]
    asked = [signum for signum in signals if signal.getsignal(signum) is not signal.SIG_IGN]  # nohup's wish stands
    before = {signum: signal.signal(signum, handle) for signum in asked}
    try:
        yield calls
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if received:
        sys.exit(code(received[0]))
