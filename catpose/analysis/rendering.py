"""A study's report as a table, Markdown, CSV and figures."""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catpose.analysis.report import Report, Row
from catpose.analysis.sentences import conclusion, sentences
from catpose.figures.canvas import SERIES, Drawing
from catpose.figures.configurations import Mark, draw_configurations, draw_pareto, draw_trends
from catpose.files import atomic_write, require_writable
from catpose.text import (
    fraction,
    interval,
    known,
    markdown_escaped,
    markdown_table,
    number,
    p_value,
    setting,
    signed,
    table,
)

#: Columns that stay where they are empty.
ALWAYS = ("configuration", "seeds", "AP")


@dataclass(frozen=True)
class Decision:
    """The winner and the conclusion; None where nothing is decided."""

    winner: str | None
    winner_AP: float | None
    winner_AP_low: float | None
    winner_AP_high: float | None
    winner_AP_corrected: float | None  # for its being the highest
    winner_AP_corrected_low: float | None
    winner_AP_corrected_high: float | None
    conclusion: str


def decision(report: Report) -> Decision:
    """The report's conclusion as plain values, for other programs."""
    best = report.winner
    limits = next((row.estimate for row in report.rows if row.configuration is best), None)
    return Decision(
        winner=best.label if best else None,
        winner_AP=best.mean if best else None,
        winner_AP_low=known(limits.low) if limits else None,
        winner_AP_high=known(limits.high) if limits else None,
        winner_AP_corrected=report.corrected.value if best and report.corrected else None,
        winner_AP_corrected_low=report.corrected.low if best and report.corrected else None,
        winner_AP_corrected_high=report.corrected.high if best and report.corrected else None,
        conclusion=" ".join(conclusion(report)),
    )


def terminal(report: Report) -> str:
    """Title, table and sentences as plain text."""
    header, cells = _table(report)
    lines = [textwrap.fill(s, 100, initial_indent="- ", subsequent_indent="  ") for s in sentences(report)]
    return "\n".join([_title(report), "", table(cells, header), "", *lines])


def markdown(report: Report, figure: str | None = "report.png") -> str:
    """The same as Markdown, with the figure of this name, and the commands that train the winner."""
    header, cells = _table(report)
    parts = [f"# {report.design.name}", report.design.question]
    parts += [f"![The configurations]({figure})"] if figure else []
    parts.append(markdown_table(cells, header))
    parts.append("\n".join(f"- {markdown_escaped(sentence)}" for sentence in sentences(report)))
    commands = [each.command for each in report.winner.finished if each.command] if report.winner else []
    if commands:
        parts.append("The winner's trials:\n\n```sh\n" + "\n".join(commands) + "\n```")
    return "\n\n".join(part for part in parts if part) + "\n"


def csv_text(report: Report) -> str:
    """Every configuration with all digits, those that no row shows included; empty where unknown."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    records = [_record(report, row) for row in [*report.rows, *map(Row, report.others)]]
    writer.writerow(records[0] if records else ["configuration"])
    writer.writerows([_cell(value) for value in record.values()] for record in records)
    return file.getvalue()


def figures(report: Report) -> Drawing:
    """ "png" and "svg": accuracy against cost where it has one, else against a number that it varies, else listed."""
    cost = next(iter(report.design.costs), None)
    marks = [mark(row, cost) for row in report.rows]
    if cost:
        return draw_pareto(marks, cost, _title(report))
    axis, lines = trends(report)
    return draw_trends(lines, axis, _title(report)) if axis else draw_configurations(marks, _title(report))


def trends(report: Report) -> tuple[str, dict[str, list[tuple[float, Mark]]]]:
    """Of a grid of two settings, one of at least three numbers: its name, and for each of the other's values the
    configurations by the number; "" and nothing of any other study."""
    params = [row.configuration.params for row in report.rows]
    names = [*params[0]] if params and not report.design.is_sampled else []
    axis = next((name for name in names if all(type(each.get(name)) in (int, float) for each in params)), "")
    if len(names) != 2 or not axis or len({each[axis] for each in params}) < 3:
        return "", {}
    other = names[1 - names.index(axis)]
    lines: dict[str, list[tuple[float, Mark]]] = {}
    for row, each in zip(report.rows, params, strict=True):
        lines.setdefault(setting(each[other]), []).append((each[axis], mark(row)))
    if len(lines) > len(SERIES):
        return "", {}
    return axis.rsplit(".", 1)[-1], {label: sorted(line, key=lambda at: at[0]) for label, line in lines.items()}


def write(report: Report, folder: Path) -> list[Path]:
    """Write report.md, report.csv, report.png and report.svg into a folder, each whole or not at all.

    Raises:
        InputError: one can't be written.
    """
    require_writable(folder, "--out", folder=True)
    contents = {"md": markdown(report).encode(), "csv": csv_text(report).encode(), **figures(report)}
    files = [folder / f"report.{kind}" for kind in contents]
    for file, content in zip(files, contents.values(), strict=True):
        with atomic_write(file) as temporary:
            temporary.write_bytes(content)
    return files


def _title(report: Report) -> str:
    design = report.design
    return f"{design.name}: {design.question}" if design.question else design.name


def _table(report: Report) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows as text; columns without a single value are left out."""
    rows = [(row, row.configuration, row.difference) for row in report.rows]
    columns: dict[str, list[str]] = {
        "configuration": [each.label + (" (front)" if row.is_front else "") for row, each, _ in rows],
        **{metric: [number(each.logged(metric)) for _, each, _ in rows] for metric in report.design.costs},
        "published*": [fraction(each.published) for _, each, _ in rows],
        "seeds": [each.seed_count for _, each, _ in rows],
        "AP": [fraction(each.mean) for _, each, _ in rows],
        "95 % interval": [interval(row.estimate) for row, _, _ in rows],
        f"{report.spread_of} sd": [fraction(row.sd) for row, _, _ in rows],
        "best epoch's": [fraction(each.best_ap) for _, each, _ in rows],
        "to reference": ["reference" if row.is_reference else signed(d.value) if d else "" for row, _, d in rows],
        "95 % interval ": [interval(d, signed) for _, _, d in rows],
        "p (Holm)": [p_value(row.p) for row, _, _ in rows],
        "min/run": [_minutes(each.seconds) for _, each, _ in rows],
    }
    columns = {key: cells for key, cells in columns.items() if key in ALWAYS or any(cells)}
    varied = report.design.varied
    only = f" ({varied[0].rsplit('.', 1)[-1]})" if len(varied) == 1 else ""  # labels are its values alone
    header = tuple(key.strip() + (only if key == "configuration" else "") for key in columns)
    return header, list(zip(*columns.values(), strict=True))


def _minutes(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{seconds / 60:.1f}" if seconds < 6000 else f"{seconds / 60:.0f}"


def mark(row: Row, cost: str | None = None) -> Mark:
    """A row as figures draw it, with a cost that was logged."""
    each = row.configuration
    low, high = (row.estimate.low, row.estimate.high) if row.estimate else (math.nan, math.nan)
    return Mark(
        label=each.name,
        value=each.mean,
        low=low,
        high=high,
        points=tuple(each.ap.tolist()),
        published=math.nan if each.published is None else each.published,
        cost=each.logged(cost) if cost else math.nan,
        reference=row.is_reference,
        front=row.is_front,
    )


def _record(report: Report, row: Row) -> dict[str, Any]:
    each, limits, compared, costs = row.configuration, row.estimate, row.difference, report.design.costs
    return {
        "configuration": each.label,
        "published_elsewhere": each.published,
        "seeds": len(each.seeds),
        "seeds_planned": len(each.trainings),
        "AP": each.mean,
        "AP_low": limits.low if limits else None,
        "AP_high": limits.high if limits else None,
        "seed_sd": row.sd,
        "best_epoch_AP": each.best_ap,
        "difference": compared.value if compared else None,
        "difference_low": compared.low if compared else None,
        "difference_high": compared.high if compared else None,
        "p_holm": row.p,
        "detectable": report.detectable.value if compared and report.detectable else None,
        "minutes": each.seconds / 60,
        **{metric: each.logged(metric) for metric in costs},
        **({"front": int(row.is_front)} if costs else {}),
        "reference": int(row.is_reference),
        "seed_AP": " ".join(f"{seed}:{value:.6f}" for seed, value in zip(each.seeds, each.ap, strict=True)),
        "notes": "; ".join(map(str, each.losses)),
        "params": json.dumps(each.params, ensure_ascii=False),
    }


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return "" if value is None else value
