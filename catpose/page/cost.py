"""The report's section on what models cost: size, multiply–adds, run time, beside what was published."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from catpose.analysis.rendering import mark
from catpose.analysis.report import Report
from catpose.analysis.statistics import ALPHA, pareto_front
from catpose.cost.figure import figures
from catpose.cost.record import Complexity, Profile
from catpose.cost.runtime import RunTime, run_time
from catpose.cost.table import (
    PUBLISHED_RUN_TIME,
    milliseconds,
    parts_table,
    place,
    predictions_table,
    training_sentence,
    training_table,
)
from catpose.figures.configurations import Mark
from catpose.figures.pareto import draw_pareto
from catpose.page.html import Answer, Block, Figure, Listing, Section, Table, Text
from catpose.page.results import read_published
from catpose.page.run_folder import Run, Runs, runs_of
from catpose.run.directory import RunDirectory
from catpose.skeleton import Skeleton
from catpose.text import fraction, interval

#: Tensors and numbers of the largest network that is built to count what it does: a ViT-H has 600 million.
LARGEST = (10_000, 200_000_000)


@dataclass(frozen=True)
class Price:
    """What a model costs, as far as it is known."""

    complexity: Complexity | None  # None where the model can't be built here
    times: dict[int, RunTime]  # by seed

    @property
    def gmacs(self) -> float:
        return self.complexity.macs / 1e9 if self.complexity else math.nan

    @property
    def params_m(self) -> float:
        return self.complexity.params / 1e6 if self.complexity else math.nan

    @property
    def minutes(self) -> float:
        """Of one training, the mean over runs."""
        return sum(time.total_s for time in self.times.values()) / len(self.times) / 60 if self.times else math.nan


def price(runs: Sequence[Run], skeleton: Skeleton, trusted: tuple[str, ...] = ()) -> Price:
    """Counted on a model of the first run's settings, if its class is catpose's or trusted, and read from the logs.

    Args:
        runs: of one configuration.
    """
    times = {run.seed: run_time(run.path) for run in runs if run.history}
    return Price(_counted(runs[0], skeleton, trusted), times)


def _counted(run: Run, skeleton: Skeleton, trusted: tuple[str, ...]) -> Complexity | None:
    """What `fit` counted at its end; of a run that has no such file, counted here."""
    written = RunDirectory(run.path).complexity
    if written.exists():
        return Complexity.read(written)
    # Here, since torch takes longer to import than the page to be made.
    from catpose.cost.complexity import complexity
    from catpose.model.bounded import bounded_building, bounded_outputs
    from catpose.run.checkpoint import described_model

    file = run.path / "config.yaml"
    try:
        with bounded_building(*LARGEST), bounded_outputs():
            made, settings = described_model(file.read_text(encoding="utf-8"), trusted, skeleton)
            return complexity(made, tuple(settings["data"]["input_size"]))
    except Exception:  # a class of the user's own that isn't trusted, or one that has changed since
        return None


#: What each configuration costs, by its row's place in the report.
Prices = Mapping[int, Price]


def what_does_it_cost(report: Report, runs: Runs, prices: Prices, profiles: Sequence[Profile]) -> Answer:
    """About the best model."""
    first = report.evaluated[0]
    mine = prices[first]
    answer = f"{mine.gmacs:.2f} G multiply–adds" if mine.complexity else "unknown size"
    said = [f"{mine.params_m:.1f} M parameters"] if mine.complexity else []
    if mine.times:
        said.append(
            f"{mine.minutes:.0f} min of training a run" if mine.minutes >= 1 else "less than a minute of training"
        )
    timing = _latency(runs_of(report.rows[first].configuration, runs)[0], mine, profiles)
    if timing:
        said.append(timing)
    cheaper = [i for i, each in report.pairs.items() if prices[i].gmacs < mine.gmacs and not each.p < ALPHA]
    if cheaper:
        cheapest = min(cheaper, key=lambda i: prices[i].gmacs)
        said.append(f"cheaper, and not significantly different: {report.rows[cheapest].configuration.name}")
    return Answer("What does it cost?", answer, "; ".join(said), "cost")


def cost(report: Report, runs: Runs, prices: Prices, profiles: Sequence[Profile]) -> Section:
    """What each model costs, its AP against that, and what was profiled."""
    blocks: list[Block] = [
        Text(
            "Multiply–adds are those from one crop to its heatmaps, as fvcore counts them; FLOPs are twice as many."
            " The published convention also counts ReLU, pooling and bias. The flip test doubles a prediction's cost."
        )
    ]
    marks = _marks(report, prices)
    if any(not math.isnan(mark.cost) for mark in marks):
        blocks.append(
            Figure(
                "pareto",
                "AP against multiply–adds; blue: no other model has more AP for less",
                "AP against billions of multiply–adds a crop",
                draw_pareto(marks, "multiply–adds a crop, G"),
            )
        )
    rows = [
        (
            report.rows[i].configuration.name,
            runs_of(report.rows[i].configuration, runs)[0].network,
            f"{each.params_m:.2f}" if each.complexity else "",
            f"{each.gmacs:.3f}" if each.complexity else "",
            f"{each.complexity.published_macs / 1e9:.3f}" if each.complexity else "",
            f"{fraction(report.rows[i].configuration.mean)} {interval(report.rows[i].estimate)}",
        )
        for i, each in prices.items()
    ]
    is_counted = all(each.complexity for each in prices.values())
    note = "" if is_counted else "Blank where a model can't be built here: not counted."
    header = ("model", "network and input size", "parameters, M", "G multiply–adds", "published convention", "AP")
    blocks += [
        Table("What each model costs", header, rows, note),
        *_published_blocks(),
        *_run_times(report, prices),
    ]
    return Section("cost", "What they cost", blocks + profile_blocks(profiles))


def _marks(report: Report, prices: Prices) -> list[Mark]:
    """The front is that of complete configurations, as in `analysis.configurations.front`."""
    rows = {i: report.rows[i] for i in prices}
    aps = [row.configuration.mean if row.configuration.is_complete else math.nan for row in rows.values()]
    on_front = pareto_front(np.array([(ap, -each.gmacs) for ap, each in zip(aps, prices.values(), strict=True)]))
    return [
        replace(mark(row), cost=prices[i].gmacs, front=bool(is_front), reference=False)
        for (i, row), is_front in zip(rows.items(), on_front, strict=True)
    ]


def _published_blocks() -> list[Table]:
    """The published complexity, row by row, beside what catpose counts of the same networks."""
    made = []
    for table in read_published():
        if not table.get("complexity"):
            continue
        rows = [(*row["cells"], *row["counted"]) for row in table["rows"]]
        header = (*table["columns"], "ours: parameters", "published convention", "fvcore alone")
        note = str(table["contradiction"]).strip()
        made.append(Table(f"{table['title']} ({table['source']})", header, rows, note))
    return made


def _run_times(report: Report, prices: Prices) -> list[Table]:
    rows = []
    for i, each in prices.items():
        for seed, time in each.times.items():
            epoch, step = time.epoch, time.iteration
            rows.append(
                (
                    report.rows[i].configuration.name + (f", seed {seed}" if len(each.times) > 1 else ""),
                    f"{epoch.mean_s:.1f}",
                    "" if epoch.std_s is None else f"{epoch.std_s:.1f}",
                    f"{epoch.slowest_s:.1f} ({epoch.slowest_epoch})",
                    f"{epoch.fastest_s:.1f} ({epoch.fastest_epoch})",
                    f"{step.mean_s:.3f}" if step else "",
                    f"{time.images_per_s:.0f}",
                    f"{time.total_s / 60:.1f}",
                )
            )
    header = (
        "model",
        "epoch, s",
        "std, s",
        "slowest, s (epoch)",
        "fastest, s (epoch)",
        "iteration, s",
        "images/s",
        "total, min",
    )
    note = (
        "From each run's metrics.csv, epochs with their validation; the first epoch of a start, when caches fill, is in"
        " the total only."
    )
    printed = [(line,) for line in PUBLISHED_RUN_TIME]
    contradiction = "No run had more than 210 epochs: what is numbered up to 11412, and timed, are iterations."
    return [
        *([Table("Run time", header, rows, note)] if rows else []),
        Table("Run time (report, 5.2)", ("what is printed",), printed, contradiction),
    ]


def profile_blocks(profiles: Sequence[Profile]) -> list[Block]:
    """What `catpose.profile` measured."""
    blocks: list[Block] = []
    for number, profile in enumerate(profiles, 1):
        measured = profile.cost
        if measured is None:
            continue
        title = f"{measured.model} at {measured.complexity.width_px}x{measured.complexity.height_px}, {place(measured)}"
        blocks += [
            Figure(f"profile{number}-{name}", f"{title}: {name.replace('_', ' ')}", f"{name} of {title}", files)
            for name, files in figures(measured).items()
        ]
        blocks.append(Table(f"Parts of {title}", *parts_table(measured.complexity)))
        if measured.predictions:
            blocks.append(Table(f"Predictions, {title}", *predictions_table(measured.predictions)))
        if measured.training:
            sentence = training_sentence(measured.training)
            blocks.append(Table(f"A training step, {title}", *training_table(measured.training), sentence))
        if measured.notes:
            blocks.append(Listing(measured.notes))
    return blocks


def _latency(run: Run, mine: Price, profiles: Sequence[Profile]) -> str:
    """The time that one crop takes, where the same network at the same size was profiled."""
    name = str(run.settings.get("model.class_path")).rsplit(".", 1)[-1]
    for measured in (profile.cost for profile in profiles if profile.cost):
        if measured.model != name or measured.complexity != mine.complexity:
            continue
        for timing in measured.predictions:
            if timing.batch_size == 1 and timing.kind == "keypoints" and not timing.compiled:
                return f"{milliseconds(timing.p50_ms)} ms a crop without flip test ({place(measured)})"
    return ""
