"""A study's outcome in plain sentences, and its numbers as text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from catpose.errors import one_line
from catpose.study.arms import SHOWN, ArmResult, costs
from catpose.study.statistics import Difference, Estimate

if TYPE_CHECKING:
    from catpose.study.report import Report, Row

ALPHA = 0.05
#: Of more arms or trials than these the words give counts.
MANY = 12


def sentences(report: Report) -> list[str]:
    """The decision first, then what came in its way, then how to read the numbers."""
    if not any(row.arm.seeds for row in report.rows):
        return ["No trial is complete yet, so nothing can be said.", *_progress(report), *_losses(report)]
    return [
        *conclusion(report),
        *_progress(report),
        *_partial(report),
        *_losses(report),
        *_caution(report),
        *_estimand(report),
        *_reading(report),
    ]


def conclusion(report: Report) -> list[str]:
    """The winner and the differences alone; nothing before a trial is complete."""
    if not any(row.arm.seeds for row in report.rows):
        return []
    return [*_winner(report), *_differences(report), *_front(report)]


def name(arm: ArmResult) -> str:
    """An arm in a sentence: where one thing is varied, which, since the label is its value alone."""
    return f"{next(iter(arm.params)).rsplit('.', 1)[-1]} {arm.label}" if len(arm.params) == 1 else arm.label


def number(value: float | None) -> str:
    """Four digits; this and the following are blank where nothing is known."""
    return "" if value is None or math.isnan(value) else f"{value:.4g}"


def ap(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.3f}"


def signed(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:+.3f}"


def interval(of: Estimate | Difference | None, written: Callable[[float], str] = ap) -> str:
    return "" if of is None or math.isnan(of.low) else f"[{written(of.low)}, {written(of.high)}]"


def probability(p: float | None) -> str:
    return "" if p is None or math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _winner(report: Report) -> list[str]:
    best = report.winner
    if best is None:
        highest = max((row.arm for row in report.rows if row.arm.seeds), key=lambda arm: arm.mean)
        return [
            f"No arm is complete in all {len(highest.states)} seeds, so there is no winner; the highest so far is"
            f" {name(highest)}, {ap(highest.mean)} with {_seeds(highest)}."
        ]
    row = next(row for row in report.rows if row.arm is best)
    so_far = "So far " if _to_come(report) else ""
    if sum(arm.is_complete for arm in report.arms) > 1:
        what = f"{name(best)} has the highest mean AP"
    else:
        what = f"{name(best)} is the only arm complete in all its seeds, with an AP of"
    said = [f"{so_far}{what}: {ap(best.mean)} {interval(row.estimate)}".replace("of:", "of").rstrip() + "."]
    higher = [arm for arm in report.arms if arm.mean > best.mean]
    if higher:
        said.append(f"Higher, but not complete in all its seeds: {_listed(_names(higher))}.")
    apart = _names([report.rows[i].arm for i, p in report.pairs.items() if p < ALPHA])
    alike = _names([report.rows[i].arm for i, p in report.pairs.items() if not p < ALPHA])
    if apart or alike:
        told = f"can be told from {_listed(apart)}" if apart else f"can't be told from {_listed(alike)}"
        told += f", but not from {_listed(alike)}" if apart and alike else ""
        planned = row.is_reference or all(report.rows[i].is_reference for i in report.pairs)
        why = (
            "" if planned else " (p corrected for all pairs of arms, since the winner was picked by these very numbers)"
        )
        said.append(f"It {told}{why}.")
    return said


def _differences(report: Report) -> list[str]:
    base = next((name(row.arm) for row in report.rows if row.is_reference), None)
    compared = [row for row in report.rows if row.difference is not None]
    if base is None:
        return []
    if not compared:
        waits = not any(row.is_reference and row.arm.seeds for row in report.rows)
        return [f"The reference {base} has no complete trial: nothing can be compared with it yet."] if waits else []
    apart = [row for row in compared if row.p is not None and row.p < ALPHA]
    alike = [row for row in compared if row not in apart]
    if len(compared) > MANY:
        seen = sorted(row.difference.detectable for row in alike if row.difference)
        said = [
            f"Of {len(compared)} arms, {len(apart)} differ from the reference {base}:"
            f" {_listed(_names([row.arm for row in apart]))}."
        ]
        if alike:
            said.append(
                f"The other {len(alike)} can't be told from it; this study would have seen differences of {ap(seen[0])}"
                f" to {ap(seen[-1])} with 80 % power."
            )
        return said
    said = [_told(row, base) for row in apart] + [_not_told(row, base) for row in alike]
    if len(compared) > 1:
        said.append(f"p is corrected for all {len(compared)} comparisons (Holm); an interval stands for itself alone.")
    return said


def _told(row: Row, base: str) -> str:
    assert row.difference is not None
    better = "better" if row.difference.value > 0 else "worse"
    how = f"{signed(row.difference.value)} {interval(row.difference, signed)}, p {probability(row.p)}"
    return f"{name(row.arm)} is {better} than the reference {base}: {how}."


def _not_told(row: Row, base: str) -> str:
    assert row.difference is not None
    how = f"{signed(row.difference.value)} {interval(row.difference, signed)}, p {probability(row.p)}"
    power = f"; this study would have seen a difference of {ap(row.difference.detectable)} with 80 % power"
    shown = power if row.difference.se > 0 else ""  # where nothing varied (nobody learnt), nothing is known of it
    return f"{name(row.arm)} and the reference {base} can't be told apart: {how}{shown}."


def _front(report: Report) -> list[str]:
    metrics = list(costs(report.study))
    on = [row.arm for row in report.rows if row.is_front]
    if not on:
        return ["No arm has all metrics in all seeds yet: there is no Pareto front."] if metrics else []
    each = [
        f"{name(arm)} (AP {ap(arm.mean)}, {', '.join(f'{m} {number(arm.value(m))}' for m in metrics)})" for arm in on
    ]
    return [
        f"On the Pareto front of AP and {_listed(metrics)}, by the means: {_listed(each, MANY)}. No other arm equals"
        " one of these in every metric and beats it in one; whether two neighbours' AP differ is another question."
    ]


def _states(report: Report) -> Counter[str]:
    return Counter(state for arm in report.arms for state in arm.states.values())


def _to_come(report: Report) -> int:
    return _states(report)["waiting"] + _states(report)["running"]


def _progress(report: Report) -> list[str]:
    states, to_come = _states(report), _to_come(report)
    running = f" ({states['running']} running)" if states["running"] else ""
    return [f"{to_come} of {states.total()} trials still to come{running}."] if to_come else []


def _partial(report: Report) -> list[str]:
    partial = [row.arm for row in report.rows if row.arm.seeds and not row.arm.is_complete]
    said = []
    if partial:
        said.append(f"Not complete in all seeds: {_listed([f'{name(a)} ({_seeds(a)})' for a in partial], MANY)}.")
    if any(arm.notes for arm in partial):
        said.append(
            "Where the seeds that failed or were pruned were the bad ones, the mean of the others flatters the arm."
        )
    return said


def _losses(report: Report) -> list[str]:
    notes = [(arm, note) for arm in report.arms for note in arm.notes]
    if len(notes) <= MANY:
        return [f"{name(arm)}, {note.rstrip('.')}." for arm, note in notes]
    states = _states(report)
    why = Counter(note.split("failed: ", 1)[1] for _, note in notes if " failed: " in note)
    said = [f"{states[s]} of {states.total()} trials {s}." for s in ("failed", "pruned") if states[s]]
    return said + [f"Failed, {n} times: {one_line(reason)[:200].rstrip('.')}." for reason, n in why.most_common(5)]


def _caution(report: Report) -> list[str]:
    if report.study.trials is None:
        return []
    n = sum(bool(arm.seeds) for arm in report.arms)
    shown = f" The table shows the best {min(SHOWN, n)}" if len(report.rows) < n else ""
    front = shown and (" and the whole front." if costs(report.study) else ".")
    return [
        f"The best of {n} sampled points flatters itself: it was picked for its high AP on these images, of which its"
        f" interval knows nothing. Confirm it in a grid with seeds of its own.{shown}{front}"
    ]


def _estimand(report: Report) -> list[str]:
    able = [row.arm for row in report.rows if row.estimate is not None]
    alone = [name(arm) for arm in able if len(arm.seeds) == 1]
    if not able:
        return []
    if len(alone) == len(able):
        return [
            "With one seed an arm, intervals and differences speak of these trained models on other images, not of"
            " their recipes, which other seeds might put in another order."
        ]
    said = [
        "What is estimated is an arm's expected AP over training seeds and over images like these"
        f" {able[0].n_images}: a bootstrap over the images, the same for all arms, and the spread between seeds"
        " together make the 95 % interval; the column 'seed sd' is that spread alone."
    ]
    if alone:
        said.append(f"With one seed, of {_listed(alone)}, they speak of this trained model on other images alone.")
    return said


def _reading(report: Report) -> list[str]:
    said = [
        "AP is the last epoch's; the best epoch is chosen on the very images it is measured on, and flatters.",
    ]
    if any(row.arm.published is not None for row in report.rows):
        said.append(
            "*Published elsewhere, under a protocol that can't be checked: it stands beside these numbers, and is never"
            " subtracted from them."
        )
    contract = next((arm.outcomes[0].get("contract") for arm in report.arms if arm.outcomes), None)
    if contract:
        flip = {True: "with flip test", False: "without flip test"}.get(contract["flip_test"], "flip test unknown")
        said.append(
            f"All under one contract: split {contract['split']} (sha256 {contract['split_hash'][:12]}); boxes:"
            f" {contract['box_source']}; {flip}; areas of {contract['area_rule']}; score: {contract['score_rule']}."
        )
    return said


def _seeds(arm: ArmResult) -> str:
    return f"{len(arm.seeds)} of {len(arm.states)} seeds"


def _names(arms: Sequence[ArmResult]) -> list[str]:
    return [name(arm) for arm in arms]


def _listed(words: Sequence[str], most: int = 6) -> str:
    """`a, b and c`, or the first few and a count."""
    if not words:
        return "none"
    if len(words) > most:
        return f"{', '.join(words[:most])} and {len(words) - most} more"
    return " and ".join([part for part in (", ".join(words[:-1]), words[-1]) if part])
