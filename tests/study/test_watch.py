"""Silence is measured between looks that follow each other, on one clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from catpose.study.owner import Pulse, Watch

GRACE, INTERVAL, KEY = 60.0, 10.0, (0, 0)


@given(st.lists(st.tuples(st.floats(0.1, 40), st.booleans(), st.booleans()), max_size=30))
def test_silent_is_who_stood_still_for_the_grace_without_a_break(looks: list[tuple[float, bool, bool]]) -> None:
    now, heartbeat, still_since, last = 0.0, 0, None, None
    watch = Watch(GRACE, INTERVAL, lambda: now)
    for seconds, beats, fails in looks:
        now += seconds
        heartbeat += beats
        if fails:
            watch.forget()
            still_since = last = None
            continue
        is_late = last is not None and now - last > 2.5 * INTERVAL
        if still_since is None or beats or is_late:
            still_since = now
        last = now
        pulse = Pulse(1, heartbeat)
        watch.look([(KEY, pulse)], start=now)
        assert watch.is_silent(KEY, pulse) == (now - still_since >= GRACE)
        assert not watch.is_silent(KEY, Pulse(2, heartbeat)), "another owner's"
        assert not watch.is_silent((0, 1), pulse), "another trial's"
