"""The report's learning curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from catpose.analysis.models import Model, Run
from catpose.figures.learning import draw_curves
from catpose.page.html import Figure, Section, Table

METRICS = {
    "val/AP": "validation AP",
    "train/loss": "training loss",
    "val/loss": "validation loss",
    "lr": "learning rate",
}


def training(models: Sequence[Model]) -> Section:
    """The section of learning curves."""
    figures = []
    for key, what in METRICS.items():
        curves = {model.label: [_curve(run, key) for run in model.runs] for model in models}
        if not any(len(epochs) for seeds in curves.values() for epochs, _ in seeds):
            continue
        name = key.replace("/", "_")
        figures.append(
            Figure(
                name, what[:1].upper() + what[1:], f"{what} by epoch", draw_curves(curves, what, log=key != "val/AP")
            )
        )
    return Section("training", "Learning curves", [*figures, _table(models)])


def _curve(run: Run, key: str) -> tuple[np.ndarray, np.ndarray]:
    rows = [(int(row["epoch"]), float(row[key])) for row in run.history if row.get(key)]
    epochs, values = (np.array(column) for column in zip(*rows, strict=True)) if rows else (np.empty(0), np.empty(0))
    return epochs, values


def _table(models: Sequence[Model]) -> Table:
    rows = []
    for model in models:
        for run in model.runs:
            epochs, aps = _curve(run, "val/AP")
            epochs, aps = epochs[~np.isnan(aps)], aps[~np.isnan(aps)]
            best = int(aps.argmax()) if len(aps) else -1
            rows.append(
                (
                    model.label,
                    str(run.seed),
                    str(len(run.history)) + ("" if run.is_whole else f" of {run.settings.get('trainer.max_epochs')}"),
                    f"{aps[-1]:.3f}" if len(aps) else "",
                    f"{aps[best]:.3f} ({epochs[best]})" if len(aps) else "",
                )
            )
    note = "This report is about last epochs: the best one was chosen on the very images it is measured on."
    tested = [model.label for model in models if any(run.results.name != "val_results.json" for run in model.runs)]
    if tested:
        note += f" Of {', '.join(tested)}, it is about the checkpoint that catpose.test was given."
    return Table("Last and best epoch", ("model", "seed", "epochs", "last AP", "best AP (epoch)"), rows, note)
