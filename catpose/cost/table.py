"""What a model costs, as tables of text: a header, and rows."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from catpose.text import table

if TYPE_CHECKING:
    from catpose.cost.record import Complexity, Cost, Profile, Timing, TrainingStep
    from catpose.cost.runtime import RunTime, Spread

#: The report, 5.2, word for word; and its figures as what they are, seconds an iteration.
PUBLISHED_RUN_TIME = (
    "slowest epoch 885, average time is 0.0466",
    "fastest epoch 11412, average time is 0.0006",
    "time std over epochs is 0.0032",
)
PUBLISHED_ITERATION = {"std": "0.0032", "slowest": "0.0466 (iteration 885)", "fastest": "0.0006 (iteration 11412)"}

PREDICTIONS = (
    "heatmaps: from crops on the device to heatmaps there. keypoints: from uint8 crops in main memory to keypoints back"
    " there."
)
LINE = 110  # characters of a sentence's line

Header = tuple[str, ...]
Rows = list[tuple[str, ...]]


def quantity(n: float) -> str:
    """1234567 as "1.23 M"."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if n >= unit:
            return f"{n / unit:.2f}{name}"
    return f"{n:.0f}"


def milliseconds(value: float) -> str:
    """Three digits, or all of those before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.{1 if value >= 10 else 2}f}"


def parts_table(complexity: Complexity) -> tuple[Header, Rows]:
    """A row for each part, and their sum."""
    header = ("part", "parameters", "multiply–adds", "published convention")
    rows = [(p.name, quantity(p.params), quantity(p.macs), quantity(p.published_macs)) for p in complexity.parts]
    sums = (complexity.params, complexity.macs, complexity.published_macs)
    return header, [*rows, ("all", *map(quantity, sums))]


def published_lines(complexity: Complexity) -> tuple[str, str, str]:
    """The model as the tool of the published report writes it, digit by digit."""
    return (
        f"Input shape: (1, 3, {complexity.height_px}, {complexity.width_px})",
        f"Flops: {round(complexity.published_macs / 1e9, 2)} GFLOPs",
        f"Params: {round(complexity.params / 1e6, 2)} M",
    )


def counted(complexity: Complexity) -> list[str]:
    """Sentences on what was counted in this model, and what wasn't."""
    calls = ", ".join(f"{name} ×{n}" for name, n in complexity.left_out.items())
    kinds = ", ".join(f"{kind} {quantity(n)}" for kind, n in complexity.published_kinds.items())
    seen = [f"{name} ({quantity(n)} by fvcore)" for name, n in complexity.unseen.items() if n]
    uncounted = [name for name, n in complexity.unseen.items() if not n]
    return [
        f"Multiply–adds of one crop of {complexity.width_px} × {complexity.height_px} px to its heatmaps, without the"
        " flip test's second pass. FLOPs are twice as many.",
        "Counted by fvcore: convolutions, matrix products, attention, normalisation, upsampling. Left out by it: bias,"
        f" and {calls or 'nothing else'}.",
        f"The published convention, MMCV's, says FLOPs for multiply–adds and counts each module when called: {kinds}."
        f" Functions called outside of such modules are not in it: {', '.join(seen + uncounted) or 'none'}.",
    ]


def predictions_table(timings: Sequence[Timing]) -> tuple[Header, Rows]:
    """A row for each kind, precision, compilation and batch size, in this order."""
    on_gpu = any(timing.peak_mb is not None for timing in timings)
    header = ("predictions", "batch", "p50 ms", "p95 ms", "n", "images/s", *(["peak MB"] if on_gpu else []))
    rows = []
    for t in sorted(timings, key=lambda t: (t.compiled, t.precision != "float32", t.kind)):
        times = (milliseconds(t.p50_ms), milliseconds(t.p95_ms), str(t.n), f"{t.images_per_s:.1f}")
        peak = [] if not on_gpu else ["" if t.peak_mb is None else f"{t.peak_mb:.0f}"]
        rows.append((f"{t.kind}, {variant(t)}", str(t.batch_size), *times, *peak))
    return header, rows


def variant(timing: Timing) -> str:
    """What tells timings of one kind apart."""
    return f"{timing.precision}{', compiled' if timing.compiled else ''}"


def training_table(step: TrainingStep) -> tuple[Header, Rows]:
    """A row for each phase, and the whole."""
    rows = [(phase.name, milliseconds(phase.median_ms), f"{100 * phase.share:.1f} %") for phase in step.phases]
    return ("training step", "median ms", "share"), [*rows, ("whole step", milliseconds(step.p50_ms), "100 %")]


def training_sentence(step: TrainingStep) -> str:
    """What the training step was measured with."""
    source = "made-up crops, none waited for" if step.data is None else f"{step.data}, {step.workers} loading processes"
    peak = "not told here" if step.peak_mb is None else f"{step.peak_mb:.0f} MB ({step.peak_is})"
    return (
        f"Batches of {step.batch_size} from {source}; {step.precision}; {step.n} steps, p95"
        f" {milliseconds(step.p95_ms)} ms, {step.images_per_s:.1f} images/s. Peak memory: {peak}. Taken by fit's own"
        " loop, without loggers and validations; in between are Lightning's hooks, metrics and schedule."
    )


def run_time_table(runs: Sequence[RunTime]) -> tuple[Header, Rows]:
    """A column for each run, and the published one, whose "epochs" are iterations."""

    def of(spread: Spread | None, what: str) -> str:
        if spread is None:
            return ""
        value = getattr(spread, f"{what}_s")
        epoch = f" (epoch {getattr(spread, f'{what}_epoch')})" if what in ("slowest", "fastest") else ""
        return "" if value is None else f"{seconds(value)}{epoch}"

    def row(name: str, cells: Sequence[str], theirs: str = "") -> tuple[str, ...]:
        return (name, *cells, theirs)

    rows = [row("finished epochs (starts)", [f"{run.epochs} ({run.starts})" for run in runs])]
    rows += [row("first epochs, s", [", ".join(map(seconds, run.first_epochs_s)) for run in runs])]
    for name in ("mean", "std", "slowest", "fastest"):
        rows.append(row(f"an epoch, {name}, s", [of(run.epoch, name) for run in runs]))
    for name in ("mean", "std", "slowest", "fastest"):
        theirs = PUBLISHED_ITERATION.get(name, "")
        rows.append(row(f"an iteration, {name}, s", [of(run.iteration, name) for run in runs], theirs))
    rows += [
        row("images/s in training", [f"{run.images_per_s:.1f}" for run in runs]),
        row("part of the time in training", [f"{100 * run.training_share:.0f} %" for run in runs]),
        row("all finished epochs, s", [seconds(run.total_s) for run in runs]),
    ]
    return ("run time", *(Path(run.run).name for run in runs), "published"), rows


def seconds(value: float) -> str:
    """Four digits after the point where the report has four, else one."""
    return f"{value:.4f}" if value < 10 else f"{value:.1f}"


def _run_time_sentences(runs: Sequence[RunTime]) -> list[str]:
    """How the table of run times is to be read."""
    resumed = any(run.starts > 1 for run in runs)
    return [
        "An iteration is a step of the optimiser, its time the mean of an epoch's training; an epoch is training and"
        " validation. The first epoch of each start, which warms up, has its own line and is otherwise in the sum only."
        + (" Of a resumed run, what an interrupted epoch had taken is in no figure." if resumed else ""),
        f"The report has: {'; '.join(PUBLISHED_RUN_TIME)}. Of 210 epochs: these are places in a list of iterations.",
    ]


def profile_text(profile: Profile) -> str:
    """A profile as a command prints it."""
    blocks = [] if profile.cost is None else _cost_blocks(profile.cost)
    if profile.runs:
        header, rows = run_time_table(profile.runs)
        blocks += [table(rows, header), _wrapped(_run_time_sentences(profile.runs))]
    return "\n\n".join(blocks)


def place(cost: Cost) -> str:
    """What a model was measured on."""
    threads = f", {cost.threads} thread{'s' if cost.threads > 1 else ''}" if cost.device == "cpu" else ""
    return f"{cost.device}{threads}"


def _wrapped(sentences: Sequence[str]) -> str:
    return "\n".join(textwrap.fill(sentence, LINE, break_on_hyphens=False) for sentence in sentences)


def _cost_blocks(cost: Cost) -> list[str]:
    """The tables of a model with the sentences that belong to them."""
    header, rows = parts_table(cost.complexity)
    blocks = [
        f"{cost.model} on {place(cost)}, random weights",
        table(rows, header),
        _wrapped(counted(cost.complexity)),
        "In the published form:\n  " + "\n  ".join(published_lines(cost.complexity)),
    ]
    if cost.training:
        header, rows = training_table(cost.training)
        blocks += [table(rows, header), _wrapped([training_sentence(cost.training)])]
    if cost.predictions:
        header, rows = predictions_table(cost.predictions)
        blocks += [table(rows, header), _wrapped([PREDICTIONS])]
    if cost.largest_training_batch is not None:
        blocks.append(
            f"Largest batch that fits: {cost.largest_training_batch} in training,"
            f" {cost.largest_prediction_batch} in prediction"
        )
    return blocks + ([_wrapped([f"note: {note}" for note in cost.notes])] if cost.notes else [])
