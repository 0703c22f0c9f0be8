"""The report's section on what models cost: size, multiply–adds, run time, beside what was published."""

from __future__ import annotations

import math
import statistics
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
    milliseconds,
    parts_table,
    place,
    predictions_table,
    training_sentence,
    training_table,
)
from catpose.figures.configurations import Mark, draw_pareto
from catpose.page.html import Answer, Block, Figure, Fold, Listing, Section, Table
from catpose.page.run_folder import Run, Runs, runs_of
from catpose.run.directory import RunDirectory
from catpose.skeleton import Skeleton
from catpose.text import fraction

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
    def images_per_s(self) -> float:
        """In training, the mean over runs."""
        return statistics.fmean(time.images_per_s for time in self.times.values()) if self.times else math.nan

    def validation_ms(self, n_images: int) -> float:
        """Of an image of so many in validation, the mean over runs."""
        seconds = [time.epoch.mean_s * (1 - time.training_share) for time in self.times.values()]
        return 1000 * statistics.fmean(seconds) / n_images if seconds else math.nan

    @property
    def minutes(self) -> float:
        """Of one training, the mean over runs."""
        return statistics.fmean(time.total_s for time in self.times.values()) / 60 if self.times else math.nan


def price(runs: Sequence[Run], skeleton: Skeleton, trusted: tuple[str, ...]) -> Price:
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
    from catpose.cost.complexity import complexity, published_macs
    from catpose.model.bounded import bounded_building, bounded_outputs
    from catpose.model.pose import PoseModel
    from catpose.model.stored import described_model

    file = run.path / "config.yaml"
    try:
        with bounded_building(*LARGEST), bounded_outputs():
            model, settings = described_model(file.read_text(encoding="utf-8"), PoseModel, trusted, skeleton)
            published_macs(model, settings["data"]["input_size"])
        return complexity(model, tuple(settings["data"]["input_size"]))  # within bounds fvcore sees no operation
    except Exception:  # a class of the user's own that isn't trusted, or one that has changed since
        return None


#: What each configuration costs, by its row's place in the report.
Prices = Mapping[int, Price]


def what_does_it_cost(report: Report, runs: Runs, prices: Prices, profiles: Sequence[Profile]) -> Answer:
    """About the best model: minutes and milliseconds first."""
    first = report.evaluated[0]
    mine = prices[first]
    images = report.rows[first].configuration.n_images
    answer = [f"{_minutes(mine.minutes)} a training"] if mine.times else []
    timing = _latency(runs_of(report.rows[first].configuration, runs)[0], mine, profiles)
    details = []
    if timing:
        answer.append(f"{milliseconds(timing[0])} ms a crop")
        details.append(f"without flip test ({timing[1]})")
    elif mine.times:
        answer.append(f"{milliseconds(mine.validation_ms(images))} ms an image")
        details.append("in validation, with loading, flip test and scoring")
    if mine.complexity:
        details.append(f"{mine.params_m:.1f} M parameters; {_giga(mine.complexity.macs)} G multiply–adds a crop")
    cheaper = [i for i, each in report.pairs.items() if prices[i].gmacs < mine.gmacs and not each.p < ALPHA]
    if cheaper:
        cheapest = min(cheaper, key=lambda i: prices[i].gmacs)
        details.append(f"cheaper, and not significantly different: {report.rows[cheapest].configuration.name}")
    return Answer("What does it cost?", ", ".join(answer) or "Not known", "; ".join(details), "cost")


def cost(report: Report, runs: Runs, prices: Prices, profiles: Sequence[Profile]) -> Section:
    """What each model costs in time and in size, its AP against that, and what was profiled."""
    rows = []
    for i, each in prices.items():
        configuration = report.rows[i].configuration
        timing = _latency(runs_of(configuration, runs)[0], each, profiles)
        rows.append(
            (
                configuration.name,
                f"{each.minutes:.1f}" if each.times else "",
                f"{each.images_per_s:.0f}" if each.times else "",
                milliseconds(each.validation_ms(configuration.n_images)) if each.times else "",
                *([milliseconds(timing[0]) if timing else ""] if profiles else []),
                f"{each.params_m:.2f}" if each.complexity else "",
                _giga(each.complexity.macs) if each.complexity else "",
                fraction(configuration.mean),
                runs_of(configuration, runs)[0].network,
            )
        )
    header = (
        *("model", "training, min", "images/s", "validation, ms an image"),
        *(["ms a crop"] if profiles else []),
        *("parameters, M", "multiply–adds, G", "AP", "network and input size"),
    )
    blocks: list[Block] = [Table("What each model costs", header, rows, _note(prices))]
    marks = _marks(report, prices)
    if len({mark.cost for mark in marks if not math.isnan(mark.cost)}) > 1:
        blocks.append(
            Figure(
                "pareto",
                "AP against multiply–adds; blue: no other model has more AP for less",
                "AP against billions of multiply–adds a crop",
                draw_pareto(marks, "multiply–adds a crop, G"),
            )
        )
    return Section("cost", "What they cost", [*blocks, *_run_times(report, prices), *_profile_blocks(profiles)])


def _note(prices: Prices) -> str:
    """How the table is to be read."""
    counted = all(each.complexity for each in prices.values())
    return (
        "A training's minutes are those of its epochs with their validation, from metrics.csv, the mean over seeds;"
        " validation includes loading, the flip test and scoring. Multiply–adds are those from one crop to its heatmaps"
        " without the flip test, as fvcore counts them; FLOPs are twice as many."
        + ("" if counted else " Blank where a model can't be built here: not counted.")
    )


def _marks(report: Report, prices: Prices) -> list[Mark]:
    """The front is that of complete configurations, as in `analysis.configurations.front`."""
    rows = {i: report.rows[i] for i in prices}
    aps = [row.configuration.mean if row.configuration.is_complete else math.nan for row in rows.values()]
    on_front = pareto_front(np.array([(ap, -each.gmacs) for ap, each in zip(aps, prices.values(), strict=True)]))
    return [
        replace(mark(row), cost=prices[i].gmacs, front=bool(is_front), reference=False)
        for (i, row), is_front in zip(rows.items(), on_front, strict=True)
    ]


def _run_times(report: Report, prices: Prices) -> list[Fold]:
    """Each run's epochs."""
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
    return [Fold("Run time, epoch by epoch", [Table("Run time", header, rows, note)])] if rows else []


def _profile_blocks(profiles: Sequence[Profile]) -> list[Block]:
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
        inside: list[Table | Listing] = [Table(f"Parts of {title}", *parts_table(measured.complexity))]
        if measured.predictions:
            inside.append(Table(f"Predictions, {title}", *predictions_table(measured.predictions)))
        if measured.training:
            sentence = training_sentence(measured.training)
            inside.append(Table(f"A training step, {title}", *training_table(measured.training), sentence))
        if measured.notes:
            inside.append(Listing(measured.notes))
        blocks.append(Fold(f"{title}, in numbers", inside))
    return blocks


def _latency(run: Run, mine: Price, profiles: Sequence[Profile]) -> tuple[float, str] | None:
    """Milliseconds that one crop takes and on what, where the same network at the same size was profiled."""
    name = str(run.settings.get("model.class_path")).rsplit(".", 1)[-1]
    for measured in (profile.cost for profile in profiles if profile.cost):
        if measured.model != name or measured.complexity != mine.complexity:
            continue
        for timing in measured.predictions:
            if timing.batch_size == 1 and timing.kind == "keypoints" and not timing.compiled:
                return timing.p50_ms, place(measured)
    return None


def _minutes(minutes: float) -> str:
    return f"{minutes:.0f} min" if minutes >= 10 else f"{minutes:.1f} min" if minutes >= 1 else f"{60 * minutes:.0f} s"


def _giga(macs: int) -> str:
    """Billions with three digits after the point, or with two digits in all."""
    return f"{macs / 1e9:.3f}" if macs >= 1e7 else f"{macs / 1e9:.2g}"
