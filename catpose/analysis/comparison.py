"""The comparison of configurations as a table: on the page, and in LaTeX and Markdown to paste into a text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from catpose.analysis.report import Report
from catpose.text import counted, fraction, interval, latex_table, markdown_table, p_value, signed

Rows = list[tuple[str, ...]]


def comparison(report: Report) -> tuple[Sequence[str], Rows]:
    """Header and rows as text, the winner first: AP, and by how much the winner is above, with intervals and p.

    Where no p can be given, as of configurations that a sampler chose, those columns are left out.
    """
    has_sd = any(not math.isnan(report.rows[i].sd) for i in report.evaluated)
    header = ("model", "seeds", "AP", "95 % interval", *((f"{report.spread_of} sd",) if has_sd else ()))
    compared = ("winner minus it", "95 % interval", "p (Holm)") if report.pairs else ()
    rows: Rows = []
    for i in report.evaluated:
        row, pair = report.rows[i], report.pairs.get(i)
        each = row.configuration
        cells: tuple[str, ...] = (each.name, each.seed_count, fraction(each.mean), interval(row.estimate))
        cells += (fraction(row.sd),) if has_sd else ()
        if pair is not None:
            cells += (signed(pair.difference.value), interval(pair.difference, signed), p_value(pair.p))
        elif report.pairs:
            cells += ("winner" if each is report.winner else "", "", "")
        rows.append(cells)
    return (*header, *compared), rows


def scored_on(report: Report, split: str) -> str:
    """What all were scored on.

    Args:
        split: the annotation file's name without ".json".
    """
    if report.design.splits:
        return f"{report.design.splits} random splits of the training and validation images"
    n = report.rows[report.evaluated[0]].configuration.n_images
    return f"the {counted(n, 'image')} of {split}"


def caption(report: Report, split: str) -> str:
    """What stands above the table in a text; `split` as of `scored_on`."""
    by = " by the corrected resampled t-test (Nadeau & Bengio 2003)" if report.design.splits else ""
    what = f"AP on {scored_on(report, split)}, with 95 % intervals{by}"
    how = "; differences are the winner's from each, p corrected by Holm's method" if report.pairs else ""
    of = "; one trained model each" if report.is_of_models else ""
    return f"{what}{how}{of}."


def latex(report: Report, split: str) -> str:
    """A LaTeX table, for documents that load booktabs."""
    header, rows = comparison(report)
    return latex_table(rows, header, caption(report, split))


def markdown(report: Report, split: str) -> str:
    """A Markdown table under its caption."""
    header, rows = comparison(report)
    return f"{caption(report, split)}\n\n{markdown_table(rows, header)}"
