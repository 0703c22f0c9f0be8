"""A study's plan in its storage: how it grows, is corrected, and what is noticed of rows that were deleted."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sqlalchemy as sa
from forked import together
from hypothesis import given
from hypothesis import strategies as st

from catpose.errors import InputError
from catpose.study.ledger import Ledger
from catpose.study.plan import AGAIN
from catpose.study.space import Configuration
from catpose.study.storage import open_engine
from catpose.study.stored import Facts, Outcome
from catpose.study.tables import POINTS, STUDIES, TRIALS

FACTS = Facts(id="a", settings={"model.lr": 1}, data={"train": "x"}, metrics={"val/AP": "maximize"})


def configuration(x: int, setting: int | None = None) -> Configuration:
    return Configuration(f"x {x}", {"x": x}, (f"--model.x={x if setting is None else setting}",))


def grid(*values: int) -> list[Configuration]:
    return [configuration(x) for x in values]


def facts(**fields: Any) -> Facts:
    return FACTS.model_copy(update=fields)


def in_memory() -> sa.Engine:
    return sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False})


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 4), min_size=1, unique=True), st.lists(st.integers(0, 3), min_size=1, unique=True)
        ),
        min_size=1,
        max_size=5,
    )
)
def test_a_grid_may_change_in_choices_order_and_seeds(plans: list[tuple[list[int], list[int]]]) -> None:
    """Whatever is asked for: a trial of each arm and seed, what was finished stays so, and is that arm's."""
    engine = in_memory()
    done: dict[tuple[int, int], int] = {}
    for values, seeds in plans:
        ledger = Ledger(engine, "s")
        plan = ledger.plan(grid(*values), seeds)
        trials = ledger.trials()
        known = [(trial.configuration.params["x"], trial.seed) for trial in trials if trial.configuration]
        assert sorted(known) == sorted((x, seed) for x in values for seed in seeds)
        for trial in trials:
            assert trial.configuration is not None
            key = (trial.configuration.params["x"], trial.seed)
            assert (trial.state == "complete") == (key in done)
            assert plan.indices[values.index(key[0])] == trial.configuration_index
        ever = {x for x, _ in done} - {*values}
        assert all(any(f"configuration x {x}" in note for note in plan.notes) for x in ever)
        assert not any("deleted" in note for note in plan.notes)
        assert len(plan.notes) <= 1
        while taken := ledger.claim():
            assert taken.configuration is not None
            key = (taken.configuration.params["x"], taken.seed)
            assert key not in done, "run twice"
            assert key[0] in values
            assert key[1] in seeds, "not asked for"
            assert ledger.finish(taken, "complete", Outcome())
            done[key] = taken.token
        assert ledger.unfinished() == 0


def test_what_is_left_out_is_said_in_one_line() -> None:
    engine = in_memory()
    Ledger(engine, "s").plan(grid(1, 2, 3), [0, 1, 2])
    notes = Ledger(engine, "s").plan(grid(3, 1), [0]).notes
    assert len(notes) == 1
    assert "configuration x 2, seeds 1, 2" in notes[0]
    assert "no longer asks for" in notes[0]
    assert Ledger(engine, "s").plan(grid(1, 2, 3), [2, 0, 1]).notes == ()


@pytest.mark.parametrize("trials", [[5, 3], [3, 5]])
def test_sampled_configurations_may_become_more_or_fewer(trials: list[int]) -> None:
    engine = in_memory()
    for number in trials:
        ledger = Ledger(engine, "s")
        ledger.plan([None] * number, [0])
        assert [trial.configuration_index for trial in ledger.trials()] == [*range(number)]
    with engine.connect() as connection:
        assert len(connection.execute(sa.select(TRIALS)).all()) == 5


def test_a_choice_of_another_meaning_is_refused() -> None:
    engine = in_memory()
    Ledger(engine, "s").plan(grid(1, 2), [0])
    other = [configuration(1), configuration(2, setting=7)]
    assert Ledger(engine, "s").other_settings(other) == ["configuration x 2: --model.x=2 → --model.x=7"]
    with pytest.raises(
        InputError, match=r"study s: .* configuration x 2 with other settings \(--model.x=2, now --model.x=7\)"
    ):
        Ledger(engine, "s").plan(other, [0])
    assert Ledger(engine, "s").other_settings(grid(1, 2, 3)) == []


# -- corrections ------------------------------------------------------------------------------------------------------


def test_a_study_of_which_nothing_is_complete_is_corrected(url: str) -> None:
    ledger = Ledger(open_engine(url), "s")
    assert ledger.facts(FACTS) == FACTS
    ledger.plan(grid(1, 2, 3), [0])
    held, failed = ledger.claim(), ledger.claim()
    assert held is not None
    assert failed is not None
    assert ledger.finish(failed, "failed", Outcome(reason="x"))

    new = facts(id="b", settings={"model.lr": 2})
    other = Ledger(open_engine(url), "s")
    assert other.facts() == FACTS
    now = [configuration(2, setting=7), configuration(4)]
    assert other.correct(FACTS, new, now)
    assert not Ledger(open_engine(url), "s").correct(FACTS, new, now), "others were quicker"
    assert other.facts() == new
    assert other.plan(now, [0]).notes == ()
    assert [(t.configuration, t.state, t.outcome) for t in other.trials()] == [(a, "waiting", None) for a in now]
    assert not ledger.beat(held), "who trains with the old settings is fenced"
    assert not ledger.finish(held, "complete", Outcome())
    with pytest.raises(InputError, match="corrected meanwhile; start this worker again"):
        ledger.claim()
    assert other.unfinished() == 2

    taken = other.claim()
    assert taken is not None
    assert other.finish(taken, "pruned", Outcome())
    assert not other.correct(new, facts(id="c"), now), "one is pruned"
    assert other.facts() == new
    assert other.trial(taken.configuration_index, 0).state == "pruned"


def test_a_sampled_study_loses_its_configurations_when_it_is_corrected() -> None:
    ledger = Ledger(in_memory(), "s")
    ledger.facts(FACTS)
    ledger.plan([None] * 2, [0])
    ledger.assign(0, configuration(1))
    assert ledger.correct(FACTS, facts(id="b"), [None] * 3)
    ledger.plan([None] * 3, [0])
    assert [trial.configuration for trial in ledger.trials()] == [None] * 3


def test_either_a_trial_is_complete_or_the_study_corrected(url: str) -> None:
    """Whichever comes first, the other doesn't happen."""
    for turn in range(8):
        name = f"s{turn}"
        ledger = Ledger(open_engine(url), name)
        ledger.facts(FACTS)
        ledger.plan(grid(1, 2), [0])
        held = ledger.claim()
        assert held is not None
        start = threading.Barrier(2)
        answers: list[bool] = [False, False]

        def finish(held: Any = held, ledger: Ledger = ledger, start: Any = start, answers: Any = answers) -> None:
            start.wait()
            answers[0] = ledger.finish(held, "complete", Outcome())

        def correct(name: str = name, start: Any = start, answers: Any = answers) -> None:
            other = Ledger(open_engine(url), name)
            start.wait()
            answers[1] = other.correct(FACTS, facts(id="b"), grid(1, 2))

        threads = [threading.Thread(target=work) for work in (finish, correct)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [False, True]
        assert (ledger.trial(*held.key).state == "complete") == answers[0]


@pytest.mark.slow
def test_many_correct_at_once(url: str) -> None:
    ledger = Ledger(open_engine(url), "s")
    ledger.facts(FACTS)
    ledger.plan(grid(1), [0])

    def work(index: int) -> bool:
        return Ledger(open_engine(url), "s").correct(FACTS, facts(id=f"new {index}"), grid(2))

    assert sum(together(8, work)) == 1


# -- deleted rows -----------------------------------------------------------------------------------------------------


def test_a_deleted_trial_is_said_and_planned_again() -> None:
    engine = in_memory()
    ledger = Ledger(engine, "s")
    ledger.plan(grid(1, 2), [0, 1])
    held = ledger.claim()
    assert held is not None
    with engine.begin() as connection:
        connection.execute(
            sa.delete(TRIALS).where(TRIALS.c.point == held.configuration_index, TRIALS.c.seed == held.seed)
        )
    with pytest.raises(InputError, match="configuration 0, seed 0: its row was deleted"):
        ledger.trial(0, 0)
    other = Ledger(engine, "s")
    only_read = other.plan(grid(1, 2), [0, 1], write=False)
    plan = other.plan(grid(1, 2), [0, 1])
    assert plan.notes == only_read.notes
    assert "trials were deleted from its storage (configuration 0, seed 0)" in plan.notes[0]
    taken = other.claim()
    assert taken is not None
    assert (*taken.key, taken.token) == (0, 0, AGAIN + 1)
    assert not ledger.beat(held), "the owner of the deleted row isn't taken for the new one"
    assert other.plan(grid(1, 2), [0, 1]).notes == ()


def test_a_deleted_configuration_with_its_trials_is_said_and_planned_again() -> None:
    engine = in_memory()
    Ledger(engine, "s").plan(grid(1, 2, 3), [0, 1])
    with engine.begin() as connection:
        for table in (POINTS, TRIALS):
            connection.execute(sa.delete(table).where(table.c.point == 1))
    ledger = Ledger(engine, "s")
    (note,) = ledger.plan(grid(1, 2, 3), [0, 1]).notes
    assert "configuration 1, seed 0; configuration 1, seed 1" in note
    assert [trial.configuration for trial in ledger.trials()] == [*grid(1, 2, 3), *grid(1, 2, 3)]


def test_trials_without_their_configuration_are_refused() -> None:
    engine = in_memory()
    ledger = Ledger(engine, "s")
    ledger.plan(grid(1, 2), [0])
    with engine.begin() as connection:
        connection.execute(sa.delete(POINTS).where(POINTS.c.point == 1))
    for call in (ledger.trials, lambda: ledger.plan(grid(1, 2), [0]), lambda: ledger.assign(1, configuration(1))):
        with pytest.raises(InputError, match=r"study s: .*configuration 1.*restore the storage"):
            call()


def test_a_deleted_study_is_refused() -> None:
    engine = in_memory()
    ledger = Ledger(engine, "s")
    ledger.facts(FACTS)
    ledger.plan(grid(1), [0])
    with engine.begin() as connection:
        connection.execute(sa.delete(STUDIES))
    for again in (lambda: Ledger(engine, "s").facts(FACTS), ledger.claim):
        with pytest.raises(InputError, match="its row in catpose_studies was deleted"):
            again()
