"""AP under other programs' rules (`catpose.score.rules`), as `test --rules` prints and writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from catpose.data.coco_split import CocoSplit
from catpose.data.skeletons import read_statement, skeleton_of_category
from catpose.errors import InputError, one_line
from catpose.score.detections import Detections
from catpose.score.protocol import Score
from catpose.score.rules import LABELLED, RULES, STATED, Rule, ap_by_rule, by_name, coco_ap
from catpose.skeleton import Skeleton
from catpose.text import fraction, table

#: Of `--rules`: all that `catpose.score.rules` has.
ALL = "all"
TITLE = "The same detections by the rules of other programs, no two of whose APs can be compared"
LACKING = "the box's, for want of the file's"  # in a rule's place of STATED
HEADER = ("rule", "AP", "sigmas", "area", "score")


def rules_asked(names: Sequence[str], split: CocoSplit) -> list[Rule]:
    """What --rules names: all, or files that state sigmas of the split's keypoints.

    Raises:
        InputError: a file that can't be read, or states something else.
    """
    rules: list[Rule] = []
    for each in names:
        if each == ALL:
            rules += RULES
        elif not Path(each).is_file():
            raise InputError(f"--rules {each}: is no file; give {ALL}, or a skeleton.yaml that states sigmas")
        else:
            rules.append(_stated(Path(each), split))
    return rules


def scored_by_rules(split: CocoSplit, detections: Detections, rules: Sequence[Rule]) -> list[tuple[Rule, float | None]]:
    """AP, 0..1, under each rule, nan where nothing counts; None where the rule has no sigmas for these keypoints.

    A rule that takes the file's areas takes those of the boxes where an instance has none, and says so.
    """
    sizes = np.array([(image.width, image.height) for image in split.images], dtype=np.float64)
    truth = split.with_stated_areas()
    if truth.area_rule == "box":
        rules = [replace(rule, area=LACKING) if rule.area == STATED else rule for rule in rules]
    known = dict(ap_by_rule(truth, detections, sizes, rules))
    return [(rule, known.get(rule)) for rule in rules]


def rules_rows(
    by_rule: Sequence[tuple[Rule, float | None]], ap: float, area_rule: str, skeleton: Skeleton
) -> list[tuple[str, ...]]:
    """A table's rows under `HEADER`: the score's own AP, 0..1, with its protocol's area rule, then each rule's."""
    area = area_rule.partition(";")[0].removeprefix("truth: ")
    known = [(rule, value) for rule, value in by_rule if value is not None]
    rows = [(rule.name, fraction(value), rule.sigmas_text, rule.area, rule.score) for rule, value in known]
    return [("this score", fraction(ap), f"{skeleton.name}'s", area, "its own"), *rows]


def rules_notes(by_rule: Sequence[tuple[Rule, float | None]]) -> list[str]:
    """What else differs in each rule, and where it is written."""
    return [
        f"{rule.name}: counts {rule.counted}; {rule.else_ + '; ' if rule.else_ else ''}its own runs: {rule.before}."
        f" Source: {rule.source}"
        if ap is not None
        else f"{rule.name}: has no sigmas for these keypoints"
        for rule, ap in by_rule
    ]


def rules_text(by_rule: Sequence[tuple[Rule, float | None]], scored: Score, skeleton: Skeleton) -> str:
    """A table of AP under each rule, then what else differs and where the rule is written."""
    rows = rules_rows(by_rule, scored.values["AP"], scored.protocol.area_rule, skeleton)
    return "\n".join([f"{TITLE}:", "", table(rows, HEADER), "", *rules_notes(by_rule)]) + "\n"


def rules_content(by_rule: Sequence[tuple[Rule, float | None]], skeleton: Skeleton) -> list[dict[str, Any]]:
    """The same for a JSON file, without the rules that have no sigmas for the keypoints."""
    return [
        {
            "rule": rule.name,
            "AP": None if np.isnan(ap) else ap,
            "sigmas": [float(sigma) for sigma in rule.sigmas(skeleton) or ()],
            "area": rule.area,
            "score": rule.score,
            "counted": rule.counted,
            "own_runs": rule.before,
            "else": rule.else_,
            "source": rule.source,
        }
        for rule, ap in by_rule
        if ap is not None
    ]


def _stated(file: Path, split: CocoSplit) -> Rule:
    category = {"keypoints": list(split.skeleton.names), "skeleton": None}
    try:
        skeleton = skeleton_of_category(category, read_statement(file))
    except InputError as error:
        raise InputError(f"--rules {file}: {error}") from None
    sigmas = by_name(dict(zip(skeleton.names, skeleton.sigmas, strict=True)))
    return Rule(file.name, one_line(file), sigmas, coco_ap, "the file's", STATED, "as given", LABELLED, "any")
