"""What a study shows: its configurations with intervals, differences from the reference and corrected p-values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from catpose.analysis.configurations import Configuration, Design, front, reference, shown, winner
from catpose.analysis.evaluations import estimate_of
from catpose.analysis.power import Detectable, detectable
from catpose.analysis.selection import corrected
from catpose.analysis.statistics import Difference, Estimate, against, difference, holm
from catpose.analysis.variance import Components, components


@dataclass(frozen=True, eq=False)
class Row:
    """A configuration with what the statistics say of it; None where they can't."""

    configuration: Configuration
    estimate: Estimate | None = None
    difference: Difference | None = None  # from the reference
    p: float | None = None  # of this difference, corrected for all of them (Holm)
    is_reference: bool = False
    is_front: bool = False  # on the Pareto front

    @property
    def sd(self) -> float:
        """The standard deviation between seeds; nan with fewer than two."""
        ap = self.configuration.ap
        return float(ap.std(ddof=1)) if len(ap) > 1 else math.nan


@dataclass(frozen=True)
class Tested:
    """The winner's AP minus another's."""

    difference: Difference
    p: float  # corrected


@dataclass(frozen=True, eq=False)
class Report:
    """A study as far as it has come."""

    design: Design
    configurations: tuple[Configuration, ...]  # all of them
    rows: tuple[Row, ...]  # those shown, in the table's order
    winner: Configuration | None  # of the highest mean AP among those complete in all seeds
    corrected: Estimate | None  # the winner's AP, given that it is the highest; as of `_corrected`
    detectable: Detectable | None  # None where nothing is compared, and over splits
    pairs: dict[int, Tested]  # the winner against each other row, by its place; p corrected for all pairs of rows
    notes: tuple[str, ...] = ()  # what the storage holds beside all this, a line each

    @property
    def others(self) -> list[Configuration]:
        """Those that no row shows."""
        rows = {row.configuration.index for row in self.rows}
        return [each for each in self.configurations if each.index not in rows]

    @property
    def tied(self) -> list[Configuration]:
        """The winner, and the complete ones of the same mean AP; none before there is a winner."""
        best = self.winner
        return [each for each in self.configurations if best and each.is_complete and each.mean == best.mean]

    @property
    def alone(self) -> list[Configuration]:
        """Those with one seed that statistics are made of."""
        return [row.configuration for row in self.rows if row.estimate and len(row.configuration.seeds) == 1]

    @property
    def is_of_models(self) -> bool:
        """Whether none has more than one seed: then all that is said is about the trained models."""
        return bool(self.alone) and len(self.alone) == sum(row.estimate is not None for row in self.rows)

    @property
    def components(self) -> Components | None:
        """Of the variance of one training's AP, over all configurations; None but of a study over random splits."""
        return components([row.configuration.sample for row in self.rows if row.configuration.sample])

    @property
    def spread_of(self) -> str:
        """What the rows' standard deviations are between."""
        return "training" if self.design.splits else "seed"

    @property
    def pooled_df(self) -> int:
        """The degrees of freedom of the spread between seeds, over all configurations with several."""
        return sum(len(row.configuration.seeds) - 1 for row in self.rows if row.estimate)

    @property
    def evaluated(self) -> list[int]:
        """The places of the rows with an AP: the winner, then the others from the highest mean to the lowest."""
        able = [i for i, row in enumerate(self.rows) if row.configuration.evaluations]
        by_ap = sorted(able, key=lambda i: -self.rows[i].configuration.mean)
        return sorted(by_ap, key=lambda i: self.rows[i].configuration is not self.winner)


def report(design: Design, configurations: Sequence[Configuration], notes: Sequence[str] = ()) -> Report:
    """The statistics of a study's configurations; `notes` are sentences on what isn't among them.

    Of a grid, every configuration is compared with the reference, and the winner with every other one. Of a sampled
    study, whose configurations were chosen by the very numbers that would be tested, there are intervals, and no
    p-values.
    """
    on_front = {each.index for each in front(design, configurations)}
    base, best = reference(design, configurations), winner(configurations)
    chosen = shown(design, configurations)
    samples = [each.sample for each in chosen if each.sample]
    differences, p = _differences(chosen, base)
    rows = tuple(
        Row(
            configuration=each,
            estimate=estimate_of(each.evaluations, "AP", samples) if each.evaluations else None,
            difference=differences.get(each.index),
            p=p.get(each.index),
            is_reference=each is base,
            is_front=each.index in on_front,
        )
        for each in chosen
    )
    pairs = {} if design.is_sampled else _winner_against(rows, best)
    raised, found = _corrected(design, rows, best), _detectable(design, rows)
    return Report(design, tuple(configurations), rows, best, raised, found, pairs, tuple(notes))


def _corrected(design: Design, rows: Sequence[Row], best: Configuration | None) -> Estimate | None:
    """None of a single one, in a tie, where none is the highest, and where configurations were sampled or are over
    splits."""
    able = [row.configuration for row in rows if row.configuration.is_complete]
    samples = [each.sample for each in able if each.sample]
    n_best = sum(each.mean == best.mean for each in able if best)
    return None if design.is_sampled or design.splits or n_best != 1 or not samples else corrected(samples)


def _differences(
    configurations: Sequence[Configuration], base: Configuration | None
) -> tuple[dict[int, Difference], dict[int, float]]:
    """Of each configuration's AP from the reference's, with p corrected for all of them (Holm), by its index."""
    first = base.sample if base else None
    if first is None:
        return {}, {}
    samples = {each.index: each.sample for each in configurations if each is not base and each.sample}
    every = [first, *samples.values()]
    differences = {i: difference(each, first, comparisons=len(samples), others=every) for i, each in samples.items()}
    corrected = holm(np.array([each.p for each in differences.values()]))
    return differences, {i: float(p) for i, p in zip(differences, corrected, strict=True)}


def _detectable(design: Design, rows: Sequence[Row]) -> Detectable | None:
    """Of a comparison with the reference, or of any two configurations where there is none."""
    able = [row for row in rows if row.configuration.sample]
    samples = [row.configuration.sample for row in able if row.configuration.sample]
    base = next((i for i, row in enumerate(able) if row.is_reference), None)
    if design.is_sampled or design.splits:
        return None
    pairs = [(i, j) for j in range(len(able)) for i in range(j) if base is None or base in (i, j)]
    return detectable(samples, pairs, len(pairs))


def _winner_against(rows: Sequence[Row], best: Configuration | None) -> dict[int, Tested]:
    """The winner minus each other row, by its place among the rows.

    Against the reference p is the table's. Against others it is corrected for all pairs of rows.
    """
    samples = {i: row.configuration.sample for i, row in enumerate(rows) if row.configuration.sample}
    place = next((i for i in samples if rows[i].configuration is best), None)
    if place is None:
        return {}
    if rows[place].is_reference:
        compared = ((i, row.difference, row.p) for i, row in enumerate(rows))
        return {i: Tested(d.reversed, p) for i, d, p in compared if d is not None and p is not None}
    able = list(samples)
    differences, p = against(list(samples.values()), able.index(place))
    pairs = {able[i]: Tested(differences[i], p[i]) for i in differences}
    planned, base = rows[place].p, next((i for i in pairs if rows[i].is_reference), None)
    return pairs if base is None or planned is None else pairs | {base: Tested(pairs[base].difference, planned)}
