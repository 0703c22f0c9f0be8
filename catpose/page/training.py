"""The report's learning curves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from catpose.analysis.configurations import Configuration
from catpose.figures.configurations import draw_curves
from catpose.page.html import Figure, Fold, Section, Table
from catpose.page.run_folder import Run, Runs, runs_of
from catpose.text import fraction

METRICS = {
    "val/AP": "validation AP",
    "train/loss": "training loss",
}


def training(configurations: Sequence[Configuration], runs: Runs) -> Section:
    """The section of learning curves, of all trainings that were finished."""
    figures = []
    for key, what in METRICS.items():
        curves = {each.name: [_curve(run, key) for run in runs_of(each, runs)] for each in configurations}
        if not any(len(epochs) for seeds in curves.values() for epochs, _ in seeds):
            continue
        name = key.replace("/", "_")
        figures.append(
            Figure(
                name, what[:1].upper() + what[1:], f"{what} by epoch", draw_curves(curves, what, log=key != "val/AP")
            )
        )
    last = Fold("Last and best epoch of each run", [_table(configurations, runs)])
    return Section("training", "Learning curves", [*figures, last])


def _curve(run: Run, key: str) -> tuple[np.ndarray, np.ndarray]:
    rows = [(int(row["epoch"]), float(row[key])) for row in run.history if row.get(key)]
    epochs, values = (np.array(column) for column in zip(*rows, strict=True)) if rows else (np.empty(0), np.empty(0))
    return epochs, values


def _table(configurations: Sequence[Configuration], runs: Runs) -> Table:
    rows = []
    for each in configurations:
        for run in runs_of(each, runs):
            _, aps = _curve(run, "val/AP")
            epoch, best = max(run.validations, key=lambda each: each[1], default=(0, math.nan))
            rows.append(
                (
                    each.name,
                    str(run.seed),
                    run.lacks or str(len(run.history)),
                    fraction(aps[-1]) if len(aps) else "",
                    f"{fraction(best)} ({epoch})" if run.validations else "",
                )
            )
    note = "This report is about last epochs: the best one was chosen on the very images it is measured on."
    tested = [each.name for each in configurations if any(run.by_test for run in runs_of(each, runs))]
    if tested:
        note += f" Of {', '.join(tested)}, it is about the checkpoint that catpose.test was given."
    return Table("Last and best epoch", ("model", "seed", "epochs", "last AP", "best AP (epoch)"), rows, note)
