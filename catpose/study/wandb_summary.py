"""A study on Weights & Biases: a summary run with its table and figure, and a report that compares configurations.

The trials' own runs are `fit`'s: their group is the study's name and their job type the configuration's label, by which
both the project's page and the report here draw a configuration's seeds as one line with its spread.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import importlib.util
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from catpose.analysis.rendering import csv_text, decision, markdown
from catpose.errors import InputError, one_line
from catpose.run.wandb import (
    BEGIN_S,
    Mode,
    closed_wandb,
    has_key,
    job_type,
    server,
    unreachable,
    wandb_mode,
    wandb_project,
    warn,
)

if TYPE_CHECKING:
    from wandb import Run
    from wandb_workspaces.reports.v2 import BarPlot, LinePlot
    from wandb_workspaces.reports.v2 import Report as Page

    from catpose.analysis.configurations import Design
    from catpose.analysis.report import Report

SUMMARY = "summary"  # the job type of a study's summary run
TABLE, FIGURE = "configurations", "figure"  # what the summary run calls them
#: With more configurations than these a report shows them as one set of runs: nobody opens fifty.
RUN_SETS = 12
#: W&B's own limit of a report's title, in characters.
TITLE = 128


def summary_id(study_id: str) -> str:
    """The W&B id of a study's summary run, the same for life."""
    return hashlib.sha256(f"{study_id} {SUMMARY}".encode()).hexdigest()[:16]


def log_summary(
    report: Report,
    study_id: str,
    folder: Path,
    project: str | None = None,
    entity: str | None = None,
    tags: Sequence[str] = (),
    mode: Mode = "auto",
) -> str | None:
    """Log a study's table, figure and decision as one W&B run, which the next report of the study updates.

    Args:
        report: what the study has come to.
        study_id: the study's own in its storage.
        folder: where the report was written with its figure, `report.png`; W&B's files go below it.
        project: the W&B project of the trials; as of `fit` where None.
        entity: the user or team that owns it; W&B's default where None.
        tags: words to filter by.
        mode: as of `fit`: online with a key, offline without.

    Returns:
        Where the run is seen: its page, or its folder where W&B is offline; None where W&B is disabled.

    Raises:
        InputError: the figure isn't there, or W&B refuses; in one line.
    """
    way = wandb_mode(mode)
    if way == "disabled":
        return None
    if way == "online":
        _require_key("W&B online")
        if why := unreachable():
            way = "offline"
            warn(f"{why}; the summary is kept offline")
    design, figure = report.design, folder / "report.png"
    if not figure.is_file():
        raise InputError(f"{figure}: no such figure; write the report with --report first")
    with closed_wandb():
        run = _summary_run(design, study_id, folder, wandb_project(project), entity, [*tags, SUMMARY], way)
        _log(run, report, figure)
        return run.url if way == "online" else str(Path(run.dir).parent)


def _summary_run(
    design: Design,
    study_id: str,
    folder: Path,
    project: str,
    entity: str | None,
    tags: Sequence[str],
    mode: Literal["online", "offline"],
) -> Run:
    """The study's one summary run, begun or resumed."""
    import wandb

    # An argument may hold a storage's password: neither the command line nor the source goes to W&B.
    settings = wandb.Settings(
        console="off",
        silent=True,
        x_disable_meta=True,
        x_disable_stats=True,
        save_code=False,
        disable_git=True,
        init_timeout=BEGIN_S,
    )
    return wandb.init(
        project=project,
        entity=entity,
        dir=os.environ.get("WANDB_DIR") or folder,
        id=summary_id(study_id),
        name=design.name,
        notes=design.question,
        tags=tags,
        group=design.name,
        job_type=SUMMARY,
        config={"study": design.name, "question": design.question},
        resume="allow",
        mode=mode,
        settings=settings,
    )


def _log(run: Run, report: Report, figure: Path) -> None:
    import wandb

    columns, rows = _table(csv_text(report))
    picture = wandb.Image(str(figure), caption=report.design.question)
    run.log({TABLE: wandb.Table(columns=columns, data=rows), FIGURE: picture})
    run.summary.update(dataclasses.asdict(decision(report)))


def report_page(report: Report, project: str | None = None, entity: str | None = None) -> Page:
    """A W&B report that compares a study's configurations: sentences and table, curves and bars, the summary's figure.

    Nothing is sent and nobody asked: without a key it can be built all the same.

    Args:
        report: what the study has come to. Its name is the group of its runs, and a configuration's label their
            `job_type`.
        project: the W&B project of the runs.
        entity: the user or team that owns it; for a report that isn't to be saved None will do.

    Raises:
        InputError: the library isn't installed.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
    except ImportError as error:
        raise InputError("--wandb-report needs wandb-workspaces; pip install -e '.[reports]'") from error

    project = wandb_project(project)
    design, labels = report.design, [each.label for each in report.configurations]

    def runs(name: str, condition: str) -> wr.Runset:
        # With entity and project the library looks the project up when it saves; without, it is the report's own.
        filters = f"Metric('Group') == {_literal(design.name)} and {condition}"
        return wr.Runset(name=name, filters=filters, entity=entity or "", project=project if entity else "")

    metric = next((name for name in design.metrics if name.startswith("val/")), "val/AP")
    trials = (
        [runs(label, f"Metric('JobType') == {_literal(job_type(label))}") for label in labels]
        if 0 < len(labels) <= RUN_SETS
        else [runs("all configurations", f"Metric('JobType') != {_literal(SUMMARY)}")]
    )
    figure = wr.MediaBrowser(title="Configurations", media_keys=[FIGURE], num_columns=1, layout=wr.Layout(0, 0, 24, 14))
    return wr.Report(
        project=project,
        entity=entity or "",
        title=f"{design.name}: {design.question}"[:TITLE],
        description=design.question,
        width="fixed",
        blocks=[
            wr.MarkdownBlock(markdown(report, figure=None)),
            wr.PanelGrid(
                runsets=[runs(SUMMARY, f"Metric('JobType') == {_literal(SUMMARY)}")],
                panels=[figure],
                hide_run_sets=True,
            ),
            wr.H2("Configurations"),
            wr.PanelGrid(runsets=trials, panels=[*_panels(metric)]),
        ],
    )


def _panels(metric: str) -> list[LinePlot | BarPlot]:
    """Curves of a metric and of the loss, and bars of the metric's last epoch; a configuration's seeds are one line
    with its range."""
    import wandb_workspaces.reports.v2 as wr

    grouped: dict[str, Any] = {
        "groupby": wr.Metric("JobType"),
        "groupby_aggfunc": "mean",
        "groupby_rangefunc": "minmax",
    }
    half = {"w": 12, "h": 9}  # of 24 columns
    curves = [
        wr.LinePlot(
            title=f"{y}: mean and range over seeds",
            x="epoch",
            title_x="epoch",
            y=[y],
            title_y=y,
            layout=wr.Layout(x, 0, **half),
            **grouped,
        )
        for x, y in [(0, metric), (12, "train/loss")]
    ]
    bars = wr.BarPlot(
        title=f"{metric} of the last epoch: mean and range over seeds",
        metrics=[metric],
        orientation="h",
        layout=wr.Layout(0, 9, 24, 9),
        **grouped,
    )
    return [*curves, bars]


def require_report() -> None:
    """InputError where what `save_report` needs of this machine is missing: said before the work, not after it."""
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise InputError("--wandb-report needs wandb-workspaces; pip install -e '.[reports]'")
    _require_key("--wandb-report")


def save_report(
    report: Report,
    project: str | None = None,
    entity: str | None = None,
    mode: Mode = "auto",
) -> str:
    """Save `report_page` as a new report on W&B, and return its address; older reports stay as they are.

    Raises:
        InputError: without the library, a key or a connection, or where W&B refuses; in one line.
    """
    project = wandb_project(project)
    report_page(report, project, entity)
    _require_key("--wandb-report")
    if wandb_mode(mode) != "online":
        raise InputError("--wandb-report needs W&B online; leave out WANDB_MODE and --wandb.mode")
    import wandb

    try:
        owner = entity or os.environ.get("WANDB_ENTITY") or wandb.Api().default_entity
        return report_page(report, project, owner).save().url
    except Exception as error:  # the library raises bare Exceptions too
        raise InputError(
            f"--wandb-report: {one_line(error)[:200]}; check the key, the connection, and that the study's runs are in "
            f"project {project}"
        ) from error


def _require_key(what: str) -> None:
    """Raise where W&B would ask for a key, or refuse."""
    if not has_key():
        raise InputError(f"{what} needs a W&B key for {server()}; put it into WANDB_API_KEY, or run `wandb login`")


def _literal(text: str) -> str:
    """`text` as a Python string for a filter of run sets.

    The library rewrites `=` and `<` throughout a filter, strings included, before it parses it as Python: so all but
    letters, digits and blanks are written as escapes, which it only then reads.
    """
    escaped = (c if c.isascii() and (c.isalnum() or c == " ") else f"\\U{ord(c):08x}" for c in text)
    return "'" + "".join(escaped) + "'"


def _table(text: str) -> tuple[list[str | int], list[list[Any]]]:
    """The columns and rows of a report's CSV: a column is of numbers where all its cells are, but for the first."""
    columns, *rows = csv.reader(io.StringIO(text))
    cells = [[row[0] for row in rows], *(_numbers([row[i] for row in rows]) for i in range(1, len(columns)))]
    return [*columns], [list(row) for row in zip(*cells, strict=True)]


def _numbers(column: Sequence[str]) -> list[Any]:
    """The cells as numbers, None where empty; as they are where one isn't a number."""
    try:
        return [float(cell) if cell else None for cell in column]
    except ValueError:
        return list(column)
