"""The report's first answers: which model is better, whether the difference is real, beside what was published."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from catpose.analysis.comparison import comparison, latex, markdown
from catpose.analysis.configurations import Configuration
from catpose.analysis.rendering import mark, trends
from catpose.analysis.report import Report, Row
from catpose.analysis.rules import HEADER, TITLE, rules_notes, rules_rows, scored_by_rules
from catpose.analysis.sentences import has_learnt, highest_ap, picked, scope_of, sentences
from catpose.analysis.statistics import ALPHA
from catpose.cost.table import PUBLISHED_RUN_TIME
from catpose.data.coco_split import CocoSplit
from catpose.figures.canvas import NARROW
from catpose.figures.configurations import draw_configurations, draw_trends
from catpose.page.html import Answer, Beside, Code, Figure, Fold, Listing, Section, Table, Text
from catpose.page.run_folder import Run, Runs, runs_of
from catpose.plain_yaml import read_yaml
from catpose.score.rules import RULES
from catpose.text import fraction, listed, p_value, signed, with_interval

#: The columns of the models' table: key, header.
COLUMNS = {
    **{key: key for key in ("AP50", "AP75", "AR")},
    **{key: key for key in ("PCK@0.05", "PCK@0.1", "PCK@0.2", "PCK_eyes@0.5", "AUC")},
    **{"NME": "NME", "EPE": "EPE, px", "ECE": "ECE"},
}

#: Of a published row that no model of the report has the settings of.
NOT_RUN = "not run"
RUN_TIME = "No run had more than 210 epochs: what is numbered up to 11412, and timed, are iterations."
MEANINGS = (
    "AP: average precision over OKS (likeness to the truth, 0 to 1) of 0.50 to 0.95; AP50, AP75: at that OKS alone; AR:"
    " average recall. PCK: the share of labelled keypoints within so much of the box's longer side; PCK_eyes: of the"
    " distance between the eyes. AUC: area under the PCK curve up to 0.2, 1 at most. NME: mean distance over the longer"
    " side. EPE: mean distance. ECE: how far confidences are from the share that is right. NME, EPE and ECE are better"
    " the lower they are; NME and EPE leave out animals that were not detected."
)


def which_is_better(report: Report) -> Answer:
    """The answer that names the winner and its AP."""
    question, order = "Which model is better?", report.evaluated
    best = report.rows[order[0]]
    if report.winner is None:
        detail = f"none is complete in all its seeds; the highest so far is {best.configuration.name}, {_ap(best)}"
        return Answer(question, "Not decided", detail, "results")
    if not has_learnt(report):
        return Answer(question, "None has learnt", f"the highest AP is {highest_ap(report)}", "results")
    detail = f"AP {highest_ap(report)}, {seeds(best.configuration)}{picked(report)}"
    if report.corrected:
        corrected = with_interval(report.corrected.value, report.corrected)
        detail += f"; corrected for its being the highest {corrected}"
    others = [report.rows[i].configuration for i in order if report.rows[i].configuration not in report.tied]
    if others:
        other = others[0]
        detail += f"; next of {len(order)} is {other.name_and_seeds}, {fraction(other.mean)}"
    names = [each.name for each in report.tied]
    return Answer(question, f"{listed(names)} tie" if len(names) > 1 else names[0], detail, "results")


def is_it_real(report: Report) -> Answer:
    """The answer whether the winner differs significantly from the runner-up."""
    question, order = "Is the difference real?", report.evaluated
    if len(order) < 2:
        remedy = "no other has an AP yet" if len(report.configurations) > 1 else "name two runs or more, or a study"
        return Answer(question, "Nothing to compare with", remedy, "results")
    winner, other = report.rows[order[0]].configuration, report.rows[order[1]].configuration
    pair = report.pairs.get(order[1])
    if pair is None:
        why = "a sampler chose these by their AP" if report.design.is_sampled else "no configuration is complete"
        return Answer(question, "Not tested", f"{signed(winner.mean - other.mean)} to {other.name}; {why}", "results")
    if math.isnan(pair.p):
        few = "common splits" if report.design.splits else "images"
        much = f"{signed(pair.difference.value)} to {other.name}, on too few {few} to tell".strip()
        return Answer(question, "Can't be told", much, "results")
    much = f"{with_interval(pair.difference.value, pair.difference, signed)} to {other.name_and_seeds}"
    much += f"{scope_of(report)}, p {p_value(pair.p)}"
    apart = [i for i, each in report.pairs.items() if each.p < ALPHA]
    if pair.p < ALPHA:
        answer = "Yes" if pair.difference.value > 0 else "Yes, it is lower"  # than one that lost seeds
    else:
        answer = "Not significant"
        if report.detectable:
            much += f"; a true one of about {fraction(report.detectable.value)} would be seen 4 times in 5"
    if 0 < len(apart) < len(report.pairs):
        much += f"; it is significantly different from {len(apart)} of the {len(report.pairs)} others"
    if report.is_of_models:
        much += "; of these trainings, not of training again"
    return Answer(question, answer, much, "results")


def what_does_it_vary_with(report: Report) -> Answer:
    """The answer that takes the variance over random splits apart."""
    shares = report.components.shares if report.components else {}
    names = {"images": "images", "seed": "seed", "division": "split" if "seed" in shares else "seed and split"}
    parts = ", ".join(f"{100 * share:.0f} % {names[part]}" for part, share in shares.items())
    detail = "of the variance of one training's AP" if parts else "it takes as many seeds of every split"
    return Answer("What does it vary with?", parts or "Not known", detail, "results")


def results(report: Report, split: CocoSplit) -> Section:
    """The section of results: what follows, and the configurations by AP, with intervals and tests."""
    rows = [(i, report.rows[i].configuration) for i in report.evaluated]
    first = rows[0][1]
    header, cells = comparison(report)
    axis, lines = trends(report)
    n = int(first.evaluations[0].values["n"])
    words = (
        f"All are scored on the same {first.n_images} images with {n} instances; their intervals come from the same"
        " resamples of these images, so that what is hard for all of them cancels out of a difference."
    )
    if report.design.splits:
        words = (
            "Each seed is scored on the images of its split. Errors by keypoint, type, slice and picture are of one set"
            " of images, and left out here: the page of one split's runs shows them."
        )
    return Section(
        "results",
        "Results",
        [
            Listing(sentences(report)),
            Beside(
                [
                    Table("AP of each model, the best first", header, cells, words, highlight=(0,)),
                    Figure(
                        "models",
                        "AP of each model with its 95 % interval",
                        f"AP with 95 % intervals; the best is {first.name}",
                        draw_trends(lines, axis, width=NARROW)
                        if axis
                        else draw_configurations([mark(report.rows[i]) for i, _ in rows], width=NARROW),
                    ),
                ]
            ),
            Fold(
                f"Other scores: {', '.join(COLUMNS)}",
                [
                    Table(
                        "Other scores with their 95 % intervals",
                        ("model", *COLUMNS.values()),
                        [(each.name, *(_score(each, key) for key in COLUMNS)) for _, each in rows],
                        MEANINGS,
                        highlight=(0,),
                    )
                ],
            ),
            *([] if report.design.splits else [_by_rules(first, split)]),
            Fold(
                "The table to paste, in LaTeX and Markdown",
                [Code(latex(report, split.file.stem)), Code(markdown(report, split.file.stem))],
            ),
        ],
    )


def _by_rules(configuration: Configuration, split: CocoSplit) -> Fold:
    """Of its first run."""
    training = configuration.finished[0]
    assert training.detections is not None
    assert training.evaluation is not None
    by_rule = scored_by_rules(split, training.detections, RULES)
    ap, area = training.evaluation.values["AP"], str((training.protocol or {}).get("area_rule", ""))
    which = f" The first of {len(configuration.finished)} seeds." if len(configuration.finished) > 1 else ""
    return Fold(
        f"AP of {configuration.name} by the rules of other programs",
        [
            Table(f"{TITLE}.{which}", HEADER, rules_rows(by_rule, ap, area, split.skeleton), highlight=(0,)),
            Listing(rules_notes(by_rule)),
        ],
    )


def published(report: Report, runs: Runs) -> Section:
    """The published rows that models of this report have the settings of; the whole tables are folded away."""
    blocks: list[Any] = [
        Text(
            "What was printed elsewhere, row by row, next to models of this report that have the setting which the row"
            " is about; their network, input size and epochs, which may be others, are named. Ours are scored on this"
            " page's validation images, theirs on 128 photographs of cats under conditions that can't be checked: the"
            " numbers stand side by side and are never subtracted."
        )
    ]
    whole: list[Any] = []
    contradictions = []
    for table in read_published():
        note = str(table.get("contradiction") or table.get("remark") or "").strip()
        if table.get("complexity"):
            whole.append(_complexity(table, note))
            continue
        rows = [(*row["cells"], ours(report, runs, table, row)) for row in table["rows"]]
        if "contradiction" in table:
            contradictions.append(f"{table['title']}: {note}")
        caption, header = f"{table['title']} ({table['source']}; AP by the rule of {table['rule']})", table["columns"]
        beside = [row for row in rows if row[-1] not in ("", NOT_RUN)]
        if beside:
            blocks.append(Table(caption, (*header, "ours"), beside, note))
        whole.append(Table(caption, (*header, "ours"), rows, note))
    if len(blocks) == 1:
        blocks.append(Text("No model of this report has the settings of a published row."))
    printed = [(line,) for line in PUBLISHED_RUN_TIME]
    whole.append(Table("Run time (report, 5.2)", ("what is printed",), printed, RUN_TIME))
    count = f"{len(contradictions)} of these tables contradict another one or themselves:"
    summary = f"All {len(whole)} published tables, and what contradicts what"
    blocks.append(Fold(summary, [Text(count), Listing(contradictions), *whole]))
    return Section("published", "Beside the published tables", blocks)


def _complexity(table: dict[str, Any], note: str) -> Table:
    """The published complexity, row by row, beside what catpose counts of the same networks."""
    rows = [(*row["cells"], *row["counted"]) for row in table["rows"]]
    header = (*table["columns"], "ours: parameters", "published convention", "fvcore alone")
    return Table(f"{table['title']} ({table['source']})", header, rows, note)


def read_published() -> list[dict[str, Any]]:
    """The published tables, as published.yaml holds them."""
    return read_yaml(Path(__file__).with_name("published.yaml"), "install catpose again")


def ours(report: Report, runs: Runs, table: dict[str, Any], row: dict[str, Any]) -> str:
    """Our AP for a row of a published table; empty where no configuration can have its settings."""
    if row["settings"] is None:
        return ""
    study, cells = row.get("study", table.get("study")), []
    for mine in (report.rows[i] for i in report.evaluated):
        trained = runs_of(mine.configuration, runs)
        name = trained[0].study.resolve().name if trained[0].study else ""
        of_study = study is None or name == study or name.startswith((f"{study}-", f"{study}_"))
        if of_study and all(has(trained[0], key, value) for key, value in row["settings"].items()):
            cells.append(f"{_ap(mine)} ({trained[0].network}, {epochs(trained)} epochs)")
    return "; ".join(cells) or NOT_RUN


def has(run: Run, key: str, value: object) -> bool:
    """Whether a run was trained with a setting; classes are compared by their names."""
    own = run.settings.get(key)
    if key.endswith("class_path"):
        return str(own).rsplit(".", 1)[-1] == value
    if isinstance(value, float) and isinstance(own, (int, float)):
        return math.isclose(own, value, rel_tol=1e-6)
    return own == value


def seeds(configuration: Configuration) -> str:
    """How many trainings a configuration has, such as "3 seeds"."""
    return "one run" if len(configuration.trainings) == 1 else f"{configuration.seed_count} seeds"


def epochs(runs: Sequence[Run]) -> str:
    """How many epochs each run trained: "20", or "18 to 20"."""
    counts = sorted({len(run.history) for run in runs})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def written(key: str) -> Any:
    """How a score's numbers are written."""
    return (lambda value: f"{value:.1f}") if key == "EPE" else fraction


def _ap(row: Row) -> str:
    return with_interval(row.configuration.mean, row.estimate)


def _score(configuration: Configuration, key: str) -> str:
    return with_interval(configuration.value(key), configuration.estimate(key), written(key))
