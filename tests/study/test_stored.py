"""A storage that someone wrote into by hand, friend or not: one line that names the place, or the truth."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from catpose.errors import InputError
from catpose.study.file import Study, read_study
from catpose.study.ledger import Ledger
from catpose.study.owner import this_process
from catpose.study.runner import fit_args
from catpose.study.storage import open_engine
from catpose.study.stored import Facts, Outcome, Owner
from catpose.study.tables import POINTS, STUDIES, TRIALS

REPOSITORY = Path(__file__).parents[2]
SAMPLED = """
experiment: experiments/quickstart.yaml
space:
  model.lr: {low: 1e-4, high: 1e-2, log: true}
  data.batch_size: {low: 8, high: 64}
  size: {small: {data.input_size: [64, 64]}, large: {data.input_size: [96, 96]}}
  model.codec: [MSRAHeatmap, true]
trials: 4
seeds: 2
"""
PARAMS: dict[str, Any] = {"model.lr": 1e-3, "data.batch_size": 16, "size": "small", "model.codec": "MSRAHeatmap"}
FACTS = {"id": "a", "settings": {}, "data": {"train": "x"}, "metrics": {"val/AP": "maximize"}, "space": {}}
CODE = ["--trainer.callbacks+=os.system", "--model=stranger.Model"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    file = tmp_path_factory.mktemp("study") / "study.yaml"
    file.write_text(SAMPLED.replace("experiments/", f"{REPOSITORY}/experiments/"))
    return read_study(file)


def opened(study: Study, file: Path) -> Ledger:
    return Ledger(open_engine(f"sqlite:///{file}"), study.name, 60, space=study.space)


@pytest.fixture(scope="module")
def storage(study: Study) -> Path:
    """The file as the study's own workers write it."""
    file = study.file.with_name("study.db")
    ledger = opened(study, file)
    ledger.facts(Facts(**FACTS))
    ledger.plan(study.configurations, study.seeds)
    for index in range(4):
        ledger.assign(index, study.space.configuration(PARAMS))
    return file


@pytest.fixture
def ledger(study: Study, storage: Path, tmp_path: Path) -> Ledger:
    """Of a copy, to be written into."""
    ledger = opened(study, Path(shutil.copy(storage, tmp_path)))
    ledger.facts()
    return ledger


def write(ledger: Ledger, table: sa.Table, **values: Any) -> None:
    """Write into a row: of configuration 2, seed 1 where there are several."""
    where = [table.c[key] == value for key, value in (("point", 2), ("seed", 1)) if key in table.c]
    with ledger._engine.begin() as connection:
        assert connection.execute(sa.update(table).where(*where).values(**values)).rowcount == 1


HUGE = "9" * 5000
CONFIGURATIONS = [
    "",
    "null",
    "[]",
    "{",
    "[" * 5000,
    HUGE,
    "NaN",
    '{"label": "x", "params": {}}',
    '{"label": "x", "params": [1]}',
    '{"label": 1, "params": {}}',
    '{"params": {}}',
    *(
        json.dumps({"label": "x", "params": PARAMS | {key: value}})
        for key, value in [
            ("model.lr", 1.0),
            ("model.lr", "1e-3"),
            ("model.lr", True),
            ("model.lr", None),
            ("model.lr", float("nan")),
            ("model.lr", float("inf")),
            ("model.lr", [1e-3]),
            ("model.lr", {"class_path": "os.system"}),
            ("model.lr", 10**17),
            ("data.batch_size", 16.0),
            ("data.batch_size", 65),
            ("size", "Small"),
            ("size", "--model=stranger.Model"),
            ("model.codec", 1),
            ("model.codec", False),
            ("model.codec", 1.0),
            ("trainer.callbacks", "os.system"),
        ]
    ),
    json.dumps({"label": "x", "params": {key: PARAMS[key] for key in ("model.lr", "size")}}),
    json.dumps({"label": "x", "params": PARAMS, "words": CODE}),
    json.dumps({"label": "x", "params": PARAMS, "words": "x"}),
    json.dumps({"label": "x", "params": PARAMS, "args": CODE}),
    json.dumps({"label": "x", "params": PARAMS, "args": [1]}),
    json.dumps({"label": "x", "params": PARAMS, "more": ["x" * 100] * 20_000}),
]
PROTOCOLS: list[Any] = [1, [], {"split": {}}, {"sigmas": [{}]}]
OWNER = dict(this_process())
OWNERS = [
    *("[]", "null", "{}", "1", "{", '"x"'),
    *(json.dumps(OWNER | {"pid": pid}) for pid in (0, -1, 2**70, "1", None, 1.5, True)),
    json.dumps(OWNER | {"started_s": "x"}),
    json.dumps(OWNER | {"machine": 3}),
]
OUTCOMES = [
    *("[]", "null", "1", "{", '"x"', "{'a': 1}"),
    *(json.dumps({"values": values}) for values in (1, [1], {"val/AP": "0.5"}, {"val/AP": [1]}, {"val/AP": 10**200})),
    f'{{"values": {{"val/AP": {HUGE}}}}}',
    '{"reason": "a", "reason": "b"}',
    *(json.dumps({key: []}) for key in ("reason", "run", "command", "seconds", "best_ap", "best_epoch", "epochs")),
    *(json.dumps({"protocol": protocol}) for protocol in PROTOCOLS),
    json.dumps({"best_epoch": 1.5}),
    json.dumps({"epochs": -1}),
]


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        *((POINTS, "arm", text) for text in CONFIGURATIONS),
        *((TRIALS, "holder", text) for text in OWNERS),
        *((TRIALS, "outcome", text) for text in OUTCOMES),
        *((TRIALS, "state", state) for state in ("", "paused", "Complete", "\x1b[31m")),
        *((TRIALS, key, -1) for key in ("token", "beat", "lost", "number")),
    ],
    ids=itertools.count(),  # some of these texts name this process
)
def test_what_nobody_of_us_writes_is_one_line(
    study: Study, ledger: Ledger, table: sa.Table, column: str, value: object
) -> None:
    write(ledger, table, **{column: value})
    for call in (ledger.trials, lambda: ledger.trial(2, 1)):
        with pytest.raises(InputError) as error:
            call()
        message = str(error.value)
        assert message.startswith(f"study {study.name}: trial of configuration 2, seed ")
        assert "restore the storage" in message
        assert column in message
        assert message.isprintable()
        assert len(message) < 500


@pytest.mark.parametrize("key", ["token", "beat", "lost", "number"])
def test_text_in_the_place_of_a_number(ledger: Ledger, key: str) -> None:
    with ledger._engine.begin() as connection:  # SQLite takes it
        connection.execute(sa.text(f"UPDATE catpose_trials SET {key} = 'many' WHERE point = 2 AND seed = 1"))
    with pytest.raises(InputError, match=f"configuration 2, seed 1: {key} is 'many', no whole number"):
        ledger.trials()


@pytest.mark.parametrize("state", ["paused", "Complete", ""])
def test_nobody_waits_for_a_trial_of_an_unknown_state(ledger: Ledger, state: str) -> None:
    write(ledger, TRIALS, state=state)

    def work() -> None:
        while ledger.claim() or ledger.unfinished():
            pass

    with pytest.raises(InputError, match="configuration 2, seed 1: its state is"):
        work()


def test_a_trials_settings_come_from_the_studys_file_alone(study: Study, ledger: Ledger) -> None:
    own = ledger.claim()
    assert own is not None
    with ledger._engine.begin() as connection:
        text = json.dumps({"label": "--model=stranger.Model", "params": PARAMS})
        connection.execute(sa.update(POINTS).values(arm=text))
    trial = ledger.claim()
    assert trial is not None
    args = fit_args(study, "a", trial, Path("out"))
    assert args == fit_args(study, "a", own, Path("out")) or trial.configuration_index != own.configuration_index
    assert not any("stranger" in arg for arg in args)
    assert "--model.lr=0.001" in args
    assert trial.configuration == study.space.configuration(PARAMS)


@pytest.mark.parametrize("args", [CODE, ["--model.lr=0.001"], []])
def test_other_settings_than_the_files_are_refused_where_they_would_run(
    study: Study, ledger: Ledger, args: list[str]
) -> None:
    trial = ledger.claim()
    assert trial is not None
    assert trial.configuration is not None
    other = dataclasses.replace(trial.configuration, args=tuple(args))
    with pytest.raises(InputError, match="other settings than the study's file"):
        fit_args(study, "a", dataclasses.replace(trial, configuration=other), Path("out"))


def test_what_010_wrote_is_read(study: Study, ledger: Ledger) -> None:
    own = study.space.configuration(PARAMS)
    arm = {
        "label": own.label,
        "params": PARAMS,
        "words": ["--model.codec=Classic" if "codec" in a else a for a in own.args],
    }
    write(ledger, POINTS, arm=json.dumps(arm))
    holder = {"machine": "m", "host": "h", "pid": 3, "started": 12345, "pgid": None, "job": None}
    write(ledger, TRIALS, holder=json.dumps(holder), outcome=json.dumps({"contract": {"split": "val"}, "more": 1}))
    trial = ledger.trial(2, 1)
    assert trial.configuration == own
    assert trial.owner == Owner(machine="m", host="h", pid=3)
    assert trial.outcome == Outcome(protocol={"split": "val"})
    write(ledger, STUDIES, facts=json.dumps(FACTS | {"settings": {"model.codec": "Classic"}}))
    facts = ledger.facts()
    assert facts is not None
    assert (facts.settings, facts.versions) == ({"model.codec": "MSRAHeatmap"}, None)


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[]", "{}", "{", "1"),
        *(json.dumps({key: value for key, value in FACTS.items() if key != gone}) for gone in FACTS if gone != "space"),
        *(json.dumps(FACTS | {key: 1}) for key in FACTS),
        json.dumps(FACTS | {"corrections": "x"}),
    ],
)
def test_damaged_facts_are_one_line(study: Study, ledger: Ledger, text: str) -> None:
    write(ledger, STUDIES, facts=text)
    for call in (lambda: ledger.facts(Facts(**FACTS)), ledger.claim):
        with pytest.raises(InputError, match=f"study {study.name}: facts.*restore the storage"):
            call()
