"""The report's first answers: which model is better, whether the difference is real, beside what was published."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from catpose.analysis.compare import Comparison
from catpose.analysis.configurations import Configuration
from catpose.analysis.models import Model
from catpose.analysis.statistics import ALPHA
from catpose.figures.configurations import Mark, draw_configurations
from catpose.page.html import Answer, Figure, Listing, Section, Table, Text
from catpose.plain_yaml import read_yaml
from catpose.text import fraction, interval, p_value, signed

#: The columns of the models' table: key, header.
COLUMNS = {
    **{key: key for key in ("AP50", "AP75", "AR")},
    **{key: key for key in ("PCK@0.05", "PCK@0.1", "PCK@0.2", "PCKh@0.5", "AUC")},
    **{"NME": "NME", "EPE": "EPE, px", "ECE": "ECE"},
}

MEANINGS = (
    "AP: average precision over OKS (likeness to the truth, 0 to 1) of 0.50 to 0.95; AP50, AP75: at that OKS alone; AR:"
    " average recall. PCK: the share of labelled keypoints within so much of the box's longer side; PCKh: of the"
    " distance between the eyes. AUC: area under the PCK curve up to 0.2, 1 at most. NME: mean distance over the longer"
    " side. EPE: mean distance. ECE: how far confidences are from the share that is right. NME, EPE and ECE are better"
    " the lower they are; NME and EPE leave out animals that were not detected."
)


def which_is_better(comparison: Comparison) -> Answer:
    """The answer that names the best model and its AP."""
    best = comparison.evaluated[comparison.best]
    made, n = best.estimate("AP"), len(comparison.evaluated)
    detail = f"{f'AP {fraction(made.value)} {interval(made)}'.strip()}, {runs(best)}"
    second = _runner_up(comparison)
    if second is not None:
        other = comparison.evaluated[second]
        detail += f"; next of {n} is {other.label}, {fraction(other.value('AP'))}"
    return Answer("Which model is better?", best.label, detail, "results")


def is_it_real(comparison: Comparison) -> Answer:
    """The answer whether the best model differs significantly from the runner-up."""
    question, second = "Is the difference real?", _runner_up(comparison)
    if second is None:
        return Answer(question, "Nothing to compare with", "name two runs or more, or a study", "results")
    difference, p, other = comparison.differences[second], comparison.p[second], comparison.evaluated[second]
    if math.isnan(p):
        much = f"{signed(difference.value)} to {other.label}, on too few images to tell".strip()
        return Answer(question, "Can't be told", much, "results")
    much = f"{signed(difference.value)} {interval(difference, signed)} to {other.label}, p {p_value(p)}"
    apart = [i for i, p in comparison.p.items() if p < ALPHA]
    if p < ALPHA:
        answer = "Yes"
    else:
        answer = "Not significant"
        if difference.se > 0:
            much += f"; a true one of {fraction(difference.detectable)} would be seen 4 times in 5"
    if 0 < len(apart) < len(comparison.p):
        much += f"; it is significantly different from {len(apart)} of the {len(comparison.p)} others"
    if min(len(other.evaluations), len(comparison.evaluated[comparison.best].evaluations)) == 1:
        much += "; of these trainings, not of training again"
    return Answer(question, answer, much, "results")


def results(comparison: Comparison) -> Section:
    """The section of results: models by AP, with intervals and tests."""
    order = _by_ap(comparison)
    header = ("model", "seeds", "AP", "95 % interval", *COLUMNS.values(), "to the best", "95 % interval", "p")
    rows = [_row(comparison, i) for i in order]
    marks = [_mark(comparison.evaluated[i]) for i in order]
    n_images = comparison.evaluated[0].n_images
    n = int(comparison.evaluated[0].evaluations[0].values["n"])
    words = [
        f"All models are scored on the same {n_images} images with {n} instances; their intervals come from the same"
        " resamples of these images, so that what is hard for all of them cancels out of a difference.",
        "p is corrected for all pairs of models (Holm), since these very numbers chose the best one; intervals are not,"
        " and what was chosen as best of many looks a little better than it is.",
    ]
    if any(len(evaluated.evaluations) == 1 for evaluated in comparison.evaluated):
        words.append(
            "A model with one seed is one training: its interval says how it would do on other images, and nothing"
            " about training it again."
        )
    if any(len(evaluated.evaluations) > 1 for evaluated in comparison.evaluated):
        words.append("With several seeds, an AP is the expected one over trainings and images, a dot is one seed.")
    return Section(
        "results",
        "Results",
        [
            Figure(
                "models",
                "AP of each model with its 95 % interval",
                f"AP with 95 % intervals; the best is {comparison.evaluated[comparison.best].label}",
                draw_configurations(marks),
            ),
            Table("Every score, the best model first", header, rows, " ".join(words), highlight=(0,)),
            Table(
                "95 % intervals of the other scores",
                ("model", *COLUMNS.values()),
                [
                    (evaluated.label, *(interval(evaluated.estimate(key), written(key)) for key in COLUMNS))
                    for evaluated in (comparison.evaluated[i] for i in order)
                ],
                MEANINGS,
            ),
        ],
    )


def published(comparison: Comparison) -> Section:
    """The published tables row by row, with ours beside and what contradicts what."""
    blocks: list[Any] = [
        Text(
            "What was printed elsewhere, row by row, next to models of this report that have the setting which the row"
            " is about; their network, input size and epochs, which may be others, are named. Ours are scored on this"
            " page's validation images, theirs on 128 photographs of cats under conditions that can't be checked: the"
            " numbers stand side by side and are never subtracted."
        )
    ]
    contradictions = []
    for table in read_published():
        if table.get("complexity"):
            continue  # with the cost
        rows = [(*row["cells"], ours(comparison, table, row)) for row in table["rows"]]
        note = str(table.get("contradiction") or table.get("remark") or "").strip()
        if "contradiction" in table:
            contradictions.append(f"{table['title']}: {note}")
        blocks.append(Table(f"{table['title']} ({table['source']})", (*table["columns"], "ours"), rows, note))
    count = f"{len(contradictions)} of these tables contradict another one or themselves:"
    blocks[1:1] = [Text(count), Listing(contradictions)]
    return Section("published", "Beside the published tables", blocks)


def read_published() -> list[dict[str, Any]]:
    """The published tables, as published.yaml holds them."""
    return read_yaml(Path(__file__).with_name("published.yaml"), "install catpose again")


def ours(comparison: Comparison, table: dict[str, Any], row: dict[str, Any]) -> str:
    """Our models' AP for a row of a published table; empty where a model can't have its settings."""
    if row["settings"] is None:
        return ""
    study, cells = row.get("study", table.get("study")), []
    for model, evaluated in zip(comparison.models, comparison.evaluated, strict=True):
        name = model.runs[0].study or ""
        of_study = study is None or name == study or name.startswith((f"{study}-", f"{study}_"))
        if of_study and all(has(model, key, value) for key, value in row["settings"].items()):
            made = evaluated.estimate("AP")
            cells.append(f"{fraction(made.value)} {interval(made)} ({model.network}, {model.epochs} epochs)")
    return "; ".join(cells) or "not run"


def has(model: Model, key: str, value: object) -> bool:
    """Whether a model was trained with a setting; classes are compared by their names."""
    own = model.settings.get(key)
    if key.endswith("class_path"):
        return str(own).rsplit(".", 1)[-1] == value
    if isinstance(value, float) and isinstance(own, (int, float)):
        return math.isclose(own, value, rel_tol=1e-6)
    return own == value


def runs(evaluated: Configuration) -> str:
    """How many runs a model has, such as "3 seeds"."""
    return "one run" if len(evaluated.detections) == 1 else f"{len(evaluated.detections)} seeds"


def written(key: str) -> Any:
    """How a score's numbers are written."""
    return (lambda value: f"{value:.1f}") if key == "EPE" else fraction


def _by_ap(comparison: Comparison) -> list[int]:
    return sorted(range(len(comparison.evaluated)), key=lambda i: -comparison.evaluated[i].value("AP"))


def _runner_up(comparison: Comparison) -> int | None:
    order = _by_ap(comparison)
    return next((i for i in order if i != comparison.best), None)


def _row(comparison: Comparison, i: int) -> tuple[str, ...]:
    evaluated = comparison.evaluated[i]
    difference = comparison.differences.get(i)
    compared = ("best", "", "")
    if difference is not None:  # the best one's minus this one's, turned round
        turned = f"[{signed(-difference.high)}, {signed(-difference.low)}]" if not math.isnan(difference.low) else ""
        compared = (signed(-difference.value), turned, p_value(comparison.p[i]))
    return (
        evaluated.label,
        str(len(evaluated.evaluations)),
        fraction(evaluated.value("AP")),
        interval(evaluated.estimate("AP")),
        *(written(key)(evaluated.value(key)) for key in COLUMNS),
        *compared,
    )


def _mark(evaluated: Configuration) -> Mark:
    made = evaluated.estimate("AP")
    points = tuple(evaluation.values["AP"] for evaluation in evaluated.evaluations)
    return Mark(evaluated.label, made.value, made.low, made.high, points)
