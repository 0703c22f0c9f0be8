"""A study's outcome in plain sentences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from catpose.analysis.caution import caution
from catpose.analysis.configurations import ENDS, SHOWN, Configuration
from catpose.analysis.report import Report, Row, Tested
from catpose.analysis.statistics import ALPHA, Difference
from catpose.errors import one_line
from catpose.text import fraction, interval, listed, number, p_value, signed, with_interval

#: Of more configurations or trials than these there are counts.
MANY = 12
#: Where no configuration has so much AP, nothing was learnt.
LEARNT = 0.01


def sentences(report: Report) -> list[str]:
    """The decision first, then what came in its way, then how to read the numbers."""
    if not any(row.configuration.seeds for row in report.rows):
        nothing = "No trial is complete yet, so nothing can be said."
        return [nothing, *_progress(report), *_losses(report), *report.notes]
    return [
        *conclusion(report),
        *_versions(report),
        *_progress(report),
        *_partial(report),
        *_losses(report),
        *_caution(report),
        *estimand(report),
        *_reading(report),
        *report.notes,
    ]


def conclusion(report: Report) -> list[str]:
    """The winner and the differences alone; nothing before a trial is complete."""
    if not any(row.configuration.seeds for row in report.rows):
        return []
    return [*_winner(report), *_differences(report), *_detectable(report), *_front(report)]


def confirmation(report: Report, chosen: int) -> list[str]:
    """The configuration that was chosen on validation, and the reference, on the test split.

    Args:
        report: of these alone, on the test split.
        chosen: index of the former.
    """
    rows = sorted(report.rows, key=lambda row: row.configuration.index != chosen)
    each = [
        f"{_called(report, row.configuration)} {with_interval(row.configuration.mean, row.estimate)}" for row in rows
    ]
    first = f"AP on the test split, on which nothing was chosen: {', '.join(each)}"
    has_interval = [row for row in rows if row.estimate and not math.isnan(row.estimate.low)]
    first += f"{caution([row.configuration for row in has_interval], bool(report.alone))}."
    if len(rows) > 1:
        compared = _differences(report)
    elif rows[0].is_reference:
        compared = ["The winner is the reference itself, so there is no change to be compared with it."]
    elif report.design.is_sampled:
        compared = []
    else:
        compared = [f"The reference {report.design.reference} has no complete trial: nothing is compared with it."]
    return [*_nothing_learnt(report), first, *compared, *_detectable(report), *_partial(report), *estimand(report)]


def tested(difference: Difference, p: float | None) -> str:
    """ "+0.012 [-0.003, +0.027], p 0.110"; the number alone on too few images."""
    much = with_interval(difference.value, difference, signed)
    return f"{much}, p {p_value(p)}" if p_value(p) else much


def _winner(report: Report) -> list[str]:
    best = report.winner
    if best is None:
        highest = max((row.configuration for row in report.rows if row.configuration.seeds), key=lambda each: each.mean)
        return [
            f"No configuration is complete in all {len(highest.trainings)} seeds, so there is no winner; the highest so"
            f" far is {highest.name}, {fraction(highest.mean)} with {highest.seed_count} seeds."
        ]
    row = next(row for row in report.rows if row.configuration is best)
    value = highest_ap(report) + picked(report)
    if report.corrected and row.estimate and not math.isnan(row.estimate.low):
        value += f"; corrected for its being the highest of {len(_complete(report))}, "
        value += with_interval(report.corrected.value, report.corrected)
    if row.estimate and not math.isnan(row.estimate.low):
        value += caution([row.configuration for row in report.rows], bool(report.corrected or report.alone))
    so_far, mean = "So far " if _to_come(report) else "", "AP" if report.is_of_models else "mean AP"
    higher = [each for each in report.configurations if each.mean > best.mean]
    how = f"the highest {mean}{' of those complete in all their seeds' if higher else ''}: {value}."
    if len(report.tied) > 1:
        first = f"{so_far}{listed([_called(report, each) for each in report.tied])} tie for {how}"
    elif len(_complete(report)) > 1:
        first = f"{so_far}{_called(report, best)} has {how}"
    else:
        first = f"{so_far}{best.name} is the only configuration complete in all its seeds, with an AP of {value}."
    first = _capital(first)
    incomplete = [f"Higher, but not complete in all its seeds: {listed(_names(higher))}."] if higher else []
    return [*_nothing_learnt(report), first, *incomplete, *_winner_against(report, row)]


def _complete(report: Report) -> list[Configuration]:
    return [each for each in report.configurations if each.is_complete]


def highest_ap(report: Report) -> str:
    """The winner's AP with its interval, and in a tie with the others', where they aren't the same."""
    best, tied = report.winner, report.tied
    ends = [interval(row.estimate) for each in tied for row in report.rows if row.configuration is each]
    known = listed(ends[:1] if len({*ends}) == 1 else ends) if ends else ""
    return f"{fraction(best.mean if best else None)} {known}".strip()


def picked(report: Report) -> str:
    """What restricts the highest AP where it isn't corrected for being the highest; empty elsewhere."""
    if len(_complete(report)) < 2 or not (report.design.is_sampled or report.design.splits):
        return ""
    n = sum(bool(each.seeds) for each in report.configurations)
    of = "sampled configurations" if report.design.is_sampled else "configurations"
    return f", picked as the best of {n} {of} and biased upwards by that"


def has_learnt(report: Report) -> bool:
    """Whether a configuration has an AP to speak of; else the highest means nothing."""
    return any(each.mean >= LEARNT for each in report.configurations)


def _nothing_learnt(report: Report) -> list[str]:
    if has_learnt(report):
        return []
    return [f"Nothing was learnt: no configuration reaches an AP of {LEARNT}, and which is the highest means nothing."]


def scope_of(report: Report) -> str:
    """What a comparison is about beside seeds and images; with one seed each it is about the models alone."""
    if report.is_of_models:
        return ""
    is_final = _protocol(report).get("split") == "test"
    if report.design.splits:
        return f" over {'training sets from' if is_final else 'random splits of'} these pictures"
    return " on this training set" if is_final else " on this training set and split"


def _protocol(report: Report) -> Mapping[str, Any]:
    """The evaluation protocol, which all trainings share; empty where none is known."""
    finished = (training for each in report.configurations for training in each.finished)
    return next((training.protocol for training in finished), {})


def _called(report: Report, configuration: Configuration) -> str:
    """A configuration as what the statistics are about: where it has one seed as all others, its one model."""
    name = configuration.name_and_seeds
    return f"the one model trained with {name}" if report.is_of_models else name


def _capital(sentence: str) -> str:
    """With a capital where it begins with an article, as it is: a name keeps its letters."""
    return sentence[0].upper() + sentence[1:] if sentence.startswith("the ") else sentence


def _winner_against(report: Report, winner: Row) -> list[str]:
    """The winner minus each other; nothing where all of that is the comparison with the reference."""
    if winner.is_reference or all(report.rows[i].is_reference for i in report.pairs):
        return []
    pairs = [(report.rows[i].configuration.name_and_seeds, each) for i, each in report.pairs.items()]
    better = [(name, each) for name, each in pairs if each.p < ALPHA and each.difference.value > 0]
    worse = [(name, each) for name, each in pairs if each.p < ALPHA and each.difference.value <= 0]
    alike = [(name, each) for name, each in pairs if each.p >= ALPHA]
    untold = [(name, each) for name, each in pairs if math.isnan(each.p)]
    groups = (
        ("better than", better),
        ("worse than", worse),  # one that isn't complete in all its seeds
        ("not significantly different from", alike),
        (_untold(report), untold),
    )
    parts = [f"{how} {_each(some)}" for how, some in groups if some]
    why = "p corrected for all pairs of configurations, since these very numbers chose the winner"
    if any(report.rows[i].is_reference for i in report.pairs):
        why += "; that to the reference for the comparisons with it, which were planned"
    subject = _capital(_called(report, winner.configuration)) if report.is_of_models else "It"
    scope = scope_of(report) if better or worse else ""
    return [f"{subject} is {'; '.join(parts)}{scope}{f' ({why})' if len(untold) < len(pairs) else ''}."]


def _each(pairs: Sequence[tuple[str, Tested]]) -> str:
    """ "lr 0.001: +0.012 [-0.003, +0.027], p 0.110", the largest difference first; names alone of many."""
    ordered = sorted(pairs, key=lambda pair: -pair[1].difference.value)
    if len(ordered) > MANY:
        return listed([name for name, _ in ordered])
    return ", ".join(f"{name} ({tested(each.difference, each.p)})" for name, each in ordered)


def _differences(report: Report) -> list[str]:
    base = next((row for row in report.rows if row.is_reference), None)
    if base is None:
        return []
    compared = [(row, row.difference) for row in report.rows if row.difference is not None]
    named = base.configuration.name
    called = _called(report, base.configuration)
    reference = f"{called} (the reference)" if report.is_of_models else f"the reference {called}"
    if not compared:
        waits = not base.configuration.seeds
        return [f"The reference {named} has no complete trial: nothing can be compared with it yet."] if waits else []
    different = [(row, d) for row, d in compared if row.p is not None and row.p < ALPHA]
    alike = [(row, d) for row, d in compared if (row, d) not in different]
    if len(compared) > MANY:
        return _counted([row for row, _ in different], len(compared), named)
    scope = scope_of(report)
    each = [
        _significant(_capital(_called(report, row.configuration)), row, d, reference, scope) for row, d in different
    ]
    each += [_alike(report, _capital(_called(report, row.configuration)), row, d, reference) for row, d in alike]
    holm = f"p is corrected for all {len(compared)} comparisons (Holm); an interval stands for itself alone."
    return [*each, holm] if sum(bool(p_value(row.p)) for row, _ in compared) > 1 else each


def _counted(different: Sequence[Row], n: int, base: str) -> list[str]:
    """Many comparisons with the reference, as counts; `n` of them."""
    names = listed(_names([row.configuration for row in different]))
    counts = [f"Of {n} configurations, {len(different)} differ significantly from the reference {base}: {names}."]
    if n > len(different):
        counts.append(f"The other {n - len(different)} are not significantly different from it.")
    return counts


def _detectable(report: Report) -> list[str]:
    """What the study can detect, once for all comparisons, and how sure that is."""
    of = report.detectable
    if of is None:
        return []
    what = "with one seed each" if of.seeds == 1 else f"with {of.seeds} seeds each"
    if of.value >= 1:
        return [f"How large a difference this study detects {what}, they don't show: their spread may be any."]
    why = "images" if of.seeds == 1 else f"{of.seeds} seeds"
    range_ = f"between {fraction(of.low)} and {fraction(of.high)}, given how little {why} say of a normal spread"
    few = "; two seeds say hardly anything of it, a third would say much more" if of.seeds == 2 else ""
    return [
        f"This study detects, with 80 % power and {what}, a difference of about {fraction(of.value)} ({range_}{few})."
    ]


def _significant(called: str, row: Row, difference: Difference, base: str, scope: str) -> str:
    better = "better" if difference.value > 0 else "worse"
    return f"{called} is {better} than {base}{scope}: {tested(difference, row.p)}."


def _untold(report: Report) -> str:
    return f"on too few {'common splits' if report.design.splits else 'images'} to be told from"


def _alike(report: Report, called: str, row: Row, difference: Difference, base: str) -> str:
    how = "not significantly different from" if p_value(row.p) else _untold(report)
    return f"{called} is {how} {base}: {tested(difference, row.p)}."


def _front(report: Report) -> list[str]:
    metrics = list(report.design.costs)
    front = [row.configuration for row in report.rows if row.is_front]
    if not front:
        return ["No configuration has all metrics in all seeds yet: there is no Pareto front."] if metrics else []
    each = [
        f"{c.name} (AP {fraction(c.mean)}, {', '.join(f'{m} {number(c.logged(m))}' for m in metrics)})" for c in front
    ]
    return [
        f"On the Pareto front of AP and {listed(metrics)}, by the means: {listed(each, MANY)}. No other configuration"
        " equals one of these in every metric and is better in one; whether two neighbours' AP differ is another"
        " question."
    ]


def _states(report: Report) -> Counter[str]:
    return Counter(trial.state for each in report.configurations for trial in each.trainings)


def _to_come(report: Report) -> int:
    return _states(report)["waiting"] + _states(report)["running"]


def _progress(report: Report) -> list[str]:
    states, to_come = _states(report), _to_come(report)
    running = f" ({states['running']} running)" if states["running"] else ""
    return [f"{to_come} of {states.total()} trials still to come{running}."] if to_come else []


def _partial(report: Report) -> list[str]:
    partial = [
        row.configuration for row in report.rows if row.configuration.seeds and not row.configuration.is_complete
    ]
    if not partial:
        return []
    lines = [f"Not complete in all seeds: {listed([each.name_and_seeds for each in partial], MANY)}."]
    if any(each.losses for each in partial):
        lines.append(
            "Where the seeds that failed, ended early or were pruned were the bad ones, the mean of the others flatters"
            " the configuration."
        )
    return lines


def _versions(report: Report) -> list[str]:
    """What trials of mixed versions differ in."""
    each = [trial.versions for configuration in report.configurations for trial in configuration.finished]
    mixed = []
    for package in dict.fromkeys(package for versions in each for package in versions):
        counts = Counter(str(versions.get(package, "an unknown one")) for versions in each)
        if len(counts) > 1 or ", " in next(iter(counts)):
            trials = [f"{one_line(version)} ({n} trial{'s' if n > 1 else ''})" for version, n in counts.items()]
            mixed.append(f"{package} {listed(trials)}")
    if not mixed:
        return []
    return [
        f"The trials were trained with mixed versions, which a difference may come from as well: {'; '.join(mixed)}."
    ]


def _losses(report: Report) -> list[str]:
    losses = [(configuration, loss) for configuration in report.configurations for loss in configuration.losses]
    if len(losses) <= MANY:
        return [f"{configuration.name}, {str(loss).rstrip('.')}." for configuration, loss in losses]
    states = _states(report)
    why = Counter(loss.reason for _, loss in losses if loss.state == "failed")
    counts = [f"{states[s]} of {states.total()} trials {how}." for s, how in ENDS.items() if states[s]]
    return counts + [f"Failed, {n} times: {one_line(reason)[:200].rstrip('.')}." for reason, n in why.most_common(5)]


def _caution(report: Report) -> list[str]:
    if not report.design.is_sampled:
        return []
    n = sum(bool(each.seeds) for each in report.configurations)
    shown = f" The table shows the best {min(SHOWN, n)}" if len(report.rows) < n else ""
    front = shown and (" and the whole front." if report.design.costs else ".")
    return [
        f"The AP of the best of {n} sampled configurations is biased upwards: it was picked for its high AP on these"
        f" images, of which its interval knows nothing. Confirm it in a grid with seeds of its own.{shown}{front}"
    ]


def estimand(report: Report) -> list[str]:
    """What intervals and differences are about."""
    able = [row.configuration for row in report.rows if row.estimate and not math.isnan(row.estimate.low)]
    if not able:  # nothing is complete, or on too few images
        return []
    if report.design.splits:
        return _over_splits(report)
    if report.is_of_models:
        return [
            "With one seed a configuration, intervals and differences speak of these trained models on other images,"
            " not of their recipes, which other seeds might put in another order."
        ]
    lines = [
        "What is estimated is a configuration's expected AP over training seeds and over images like these"
        f" {able[0].n_images}: a bootstrap over the images, the same for all configurations, and the spread between"
        " seeds together make the 95 % interval."
    ]
    if report.alone:
        lines.append(
            f"With one seed, {listed(_names(report.alone))} can't show a spread between seeds: that of the others is"
            f" taken for it, pooled ({report.pooled_df} degrees of freedom)."
        )
    return lines


def _over_splits(report: Report) -> list[str]:
    n = report.design.splits
    if _protocol(report).get("split") == "test":
        return [
            "Seeds were trained on different random splits of the training and validation pictures: their spread is of"
            " seed and split, taken as if trainings were independent, though these splits share most of their pictures."
        ]
    lines = [
        "What is estimated is a configuration's expected AP over training seeds and random splits of these training and"
        f" validation pictures: seed i was trained and scored on split i mod {n}, the same for all configurations."
        " Intervals and p are of the splits' means, differences over the splits that both have, by Nadeau & Bengio's"
        " (2003) corrected resampled t-test; of training sets that aren't such splits they don't speak. The column"
        " 'training sd' is the spread of single trainings. The highest AP isn't corrected for being the highest."
    ]
    shares = report.components.shares if report.components else {}
    if shares and "seed" in shares:
        images, seed, split = (f"{100 * shares[part]:.0f} %" for part in ("images", "seed", "division"))
        lines.append(
            f"Of the variance of one training's AP, {images} comes with the images that it is scored on, {seed} with"
            f" the seed and {split} with the split."
        )
    elif shares:
        lines.append(
            f"Of the variance of one training's AP, {100 * shares['images']:.0f} % comes with the images that it is"
            f" scored on, the rest with seed and split, which one seed a split can't tell apart; seeds: {2 * n} would."
        )
    return lines


def _reading(report: Report) -> list[str]:
    able = any(row.estimate is not None for row in report.rows) and not report.is_of_models
    column = " The column 'seed sd' is the spread between seeds alone." if able and not report.design.splits else ""
    flatters = "AP is the last epoch's; the best epoch is chosen on the very images it is measured on, and flatters."
    lines = [flatters + column]
    if any(row.configuration.published is not None for row in report.rows):
        lines.append(
            "*Published elsewhere, under a protocol that can't be checked: it stands beside these numbers, and is never"
            " subtracted from them."
        )
    if protocol := _protocol(report):
        flip = {True: "with flip test", False: "without flip test"}.get(protocol["flip_test"], "flip test unknown")
        split = f"split {protocol['split']} (sha256 {protocol['split_hash'][:12]})"
        if protocol.get("pool") and report.design.splits:
            split = f"random splits of train and val (sha256 {protocol['pool'][:12]})"
        lines.append(
            f"All under one protocol: {split}; boxes:"
            f" {protocol['box_source']}; {flip}; areas of {protocol['area_rule']}; score: {protocol['score_rule']}."
        )
    return lines


def _names(configurations: Sequence[Configuration]) -> list[str]:
    return [each.name for each in configurations]
