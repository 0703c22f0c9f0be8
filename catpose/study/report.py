"""What a study ends in: its arms as a table, with intervals, differences and corrected p-values, in words, drawn."""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from catpose.files import atomic_write, require_writable
from catpose.show.arms import Mark, draw_arms, draw_pareto
from catpose.show.table import table
from catpose.study.arms import ArmResult, arms, costs, front, mean_of_known, reference, shown, winner
from catpose.study.statistics import Difference, Estimate, against, difference, estimate, holm
from catpose.study.words import ap, conclusion, interval, name, number, probability, sentences, signed

if TYPE_CHECKING:
    from catpose.study.file import Study

__all__ = ["ArmResult", "Report", "Row", "arms", "report"]

LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Row:
    """An arm with what the statistics say of it; None where they can't."""

    arm: ArmResult
    estimate: Estimate | None
    difference: Difference | None  # to the reference
    p: float | None  # of this difference, corrected for all of them (Holm)
    is_reference: bool
    is_front: bool  # on the Pareto front

    @property
    def sd(self) -> float:
        """The standard deviation between seeds; nan with fewer than two."""
        return float(self.arm.ap.std(ddof=1)) if len(self.arm.ap) > 1 else math.nan


@dataclass(frozen=True, eq=False)
class Report:
    """A study as far as it has come."""

    study: Study
    arms: tuple[ArmResult, ...]  # all of them
    rows: tuple[Row, ...]  # those shown, in the table's order
    winner: ArmResult | None  # of the highest mean AP among the arms complete in all seeds
    pairs: dict[int, float]  # p of the winner against each other row (by its place), corrected for all pairs of rows

    @cached_property
    def sentences(self) -> list[str]:
        """The decision, and everything one must know to read the table."""
        return sentences(self)

    @property
    def decision(self) -> dict[str, Any]:
        """The winner and the conclusion, for a summary of a few values."""
        won = next((row for row in self.rows if row.arm is self.winner), None)
        limits = won.estimate if won else None
        return {
            "winner": self.winner.label if self.winner else None,
            "winner_AP": self.winner.mean if self.winner else None,
            "winner_AP_low": limits.low if limits else None,
            "winner_AP_high": limits.high if limits else None,
            "conclusion": " ".join(conclusion(self)),
        }

    def terminal(self, width: int = 100) -> str:
        """Title, table and words as plain text."""
        header, cells = self._table()
        title = f"{self.study.name}: {self.study.question}" if self.study.question else self.study.name
        words = [textwrap.fill(s, width, initial_indent="- ", subsequent_indent="  ") for s in self.sentences]
        return "\n".join([title, "", table(cells, header), "", *words])

    def markdown(self, figure: str | None = "report.png") -> str:
        """The same as Markdown, with the figure of this name, and the command lines that make the winner."""
        header, cells = self._table()
        rows = [header, ("---", *["---:"] * (len(header) - 1)), *([_escaped(cell) for cell in row] for row in cells)]
        parts = [f"# {self.study.name}", self.study.question] + ([f"![The arms]({figure})"] if figure else [])
        parts.append("\n".join("| " + " | ".join(row) + " |" for row in rows))
        parts.append("\n".join(f"- {_escaped(sentence)}" for sentence in self.sentences))
        commands = [str(o["command"]) for o in self.winner.outcomes if o.get("command")] if self.winner else []
        if commands:
            parts.append("The winner's trials:\n\n```sh\n" + "\n".join(commands) + "\n```")
        return "\n\n".join(part for part in parts if part) + "\n"

    def csv(self) -> str:
        """Every arm with all digits, those of a sampled study that aren't shown included; empty where unknown."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        rows = [*self.rows, *(Row(a, None, None, None, False, False) for a in self._others())]
        lines = [_record(self.study, row) for row in rows]
        writer.writerow(lines[0] if lines else ["arm"])
        writer.writerows([_cell(value) for value in line.values()] for line in lines)
        return file.getvalue()

    def figures(self) -> dict[str, bytes]:
        """ "png" and "svg" of the arms, or of accuracy against cost where the study has a cost."""
        title = f"{self.study.name}: {self.study.question}" if self.study.question else self.study.name
        cost = next(iter(costs(self.study)), None)
        marks = [_mark(row, cost) for row in self.rows]
        return draw_pareto(marks, cost, title) if cost else draw_arms(marks, title)

    def write(self, folder: Path) -> list[Path]:
        """Write report.md, report.csv, report.png and report.svg into a folder, each whole or not at all.

        Raises:
            InputError: one can't be written.
        """
        require_writable(folder, "--out", folder=True)
        contents = {"md": self.markdown().encode(), "csv": self.csv().encode(), **self.figures()}
        files = [folder / f"report.{kind}" for kind in contents]
        for file, content in zip(files, contents.values(), strict=True):
            with atomic_write(file) as temporary:
                temporary.write_bytes(content)
        return files

    def _others(self) -> list[ArmResult]:
        rows = {id(row.arm) for row in self.rows}
        return [arm for arm in self.arms if id(arm) not in rows]

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Header and rows as text; columns without a single value are left out."""
        columns: dict[str, list[str]] = {
            "arm": [row.arm.label + (" (front)" if row.is_front else "") for row in self.rows],
            **{metric: [number(row.arm.value(metric)) for row in self.rows] for metric in costs(self.study)},
            "published*": [ap(row.arm.published) for row in self.rows],
            "seeds": [
                str(len(row.arm.seeds)) + ("" if row.arm.is_complete else f" of {len(row.arm.states)}")
                for row in self.rows
            ],
            "AP": [ap(row.arm.mean) for row in self.rows],
            "95 % interval": [interval(row.estimate) for row in self.rows],
            "seed sd": [ap(row.sd) for row in self.rows],
            "best epoch's": [ap(mean_of_known(row.arm.best_ap)) for row in self.rows],
            "to reference": [
                "reference" if row.is_reference else signed(row.difference.value) if row.difference else ""
                for row in self.rows
            ],
            "95 % interval ": [interval(row.difference, signed) for row in self.rows],
            "p (Holm)": [probability(row.p) for row in self.rows],
            "detectable": [ap(row.difference.detectable) if row.difference else "" for row in self.rows],
            "min/run": [minutes(mean_of_known(row.arm.seconds)) for row in self.rows],
        }
        kept = {key: cells for key, cells in columns.items() if key in ("arm", "seeds", "AP") or any(cells)}
        varied = self.study.space.dimensions
        only = f" ({varied[0].name.rsplit('.', 1)[-1]})" if len(varied) == 1 else ""  # labels are its values alone
        header = tuple(key.strip() + (only if key == "arm" else "") for key in kept)
        return header, list(zip(*kept.values(), strict=True))


def report(study: Study, arm_results: Sequence[ArmResult]) -> Report:
    """The statistics of a study's arms.

    Of a grid, every arm is compared with the reference, and the winner with every other arm. Of a sampled study, whose
    points were chosen by the very numbers that would be tested, there are intervals, and no p-values.
    """
    on_front = {id(arm) for arm in front(study, arm_results)}
    base, best = reference(study, arm_results), winner(arm_results)
    rows_of = shown(study, arm_results)
    first = base.sample if base else None
    compared = [arm for arm in rows_of if first and arm is not base and arm.sample]
    differences = {
        id(arm): difference(arm.sample, first, LEVEL, len(compared))  # type: ignore[arg-type]
        for arm in compared
    }
    corrected: dict[int, float] = {}
    if compared:
        p = holm(np.array([differences[id(arm)].p for arm in compared]))
        corrected = {id(arm): float(value) for arm, value in zip(compared, p, strict=True)}
    rows = tuple(
        Row(
            arm=arm,
            estimate=estimate(arm.sample, LEVEL) if arm.sample else None,
            difference=differences.get(id(arm)),
            p=corrected.get(id(arm)),
            is_reference=arm is base,
            is_front=id(arm) in on_front,
        )
        for arm in rows_of
    )
    pairs = _winner_against(rows, best) if study.trials is None else {}
    return Report(study, tuple(arm_results), rows, best, pairs)


def _winner_against(rows: Sequence[Row], best: ArmResult | None) -> dict[int, float]:
    """Corrected p of the winner against each other row, by its place among the rows.

    Against the reference it is the table's. Against others it is corrected for all pairs of rows.
    """
    able = [i for i, row in enumerate(rows) if row.arm.sample]
    place = next((i for i in able if rows[i].arm is best), None)
    if place is None:
        return {}
    if rows[place].is_reference:
        return {i: row.p for i, row in enumerate(rows) if row.p is not None}
    _, p = against([rows[i].arm.sample for i in able], able.index(place), LEVEL)  # type: ignore[misc]
    corrected = {able[i]: value for i, value in p.items()}
    planned = rows[place].p
    return corrected | {i: planned for i in corrected if rows[i].is_reference and planned is not None}


def minutes(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{seconds / 60:.1f}" if seconds < 6000 else f"{seconds / 60:.0f}"


def _escaped(cell: str) -> str:
    """Text that Markdown reads as it stands."""
    return "".join(f"\\{c}" if c in "\\|*`<" else c for c in cell)


def _mark(row: Row, cost: str | None) -> Mark:
    low, high = (row.estimate.low, row.estimate.high) if row.estimate else (math.nan, math.nan)
    return Mark(
        label=name(row.arm),
        value=row.arm.mean,
        low=low,
        high=high,
        points=tuple(row.arm.ap.tolist()),
        published=math.nan if row.arm.published is None else row.arm.published,
        cost=row.arm.value(cost) if cost else math.nan,
        reference=row.is_reference,
        front=row.is_front,
    )


def _record(study: Study, row: Row) -> dict[str, Any]:
    arm, made, compared = row.arm, row.estimate, row.difference
    return {
        "arm": arm.label,
        "published_elsewhere": arm.published,
        "seeds": len(arm.seeds),
        "seeds_planned": len(arm.states),
        "AP": arm.mean,
        "AP_low": made.low if made else None,
        "AP_high": made.high if made else None,
        "seed_sd": row.sd,
        "best_epoch_AP": mean_of_known(arm.best_ap),
        "difference": compared.value if compared else None,
        "difference_low": compared.low if compared else None,
        "difference_high": compared.high if compared else None,
        "p_holm": row.p,
        "detectable": compared.detectable if compared else None,
        "minutes": mean_of_known(arm.seconds) / 60,
        **{metric: arm.value(metric) for metric in costs(study)},
        **({"front": int(row.is_front)} if costs(study) else {}),
        "reference": int(row.is_reference),
        "seed_AP": " ".join(f"{seed}:{value:.6f}" for seed, value in zip(arm.seeds, arm.ap, strict=True)),
        "notes": "; ".join(arm.notes),
        "params": json.dumps(arm.params, ensure_ascii=False),
    }


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return "" if value is None else value
