"""The report's sections on where models fail: by keypoint, by kind of error, by condition, by confidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from catpose.pages.results import figure_of
from catpose.score.calibration import reliability, threshold_curves
from catpose.score.error_kinds import KINDS
from catpose.score.instances import Truth
from catpose.show.calibration import draw_reliability, draw_thresholds
from catpose.show.cat import draw_keypoint_values
from catpose.show.errors_figure import MEANING, Estimate, Row, draw_conditions, draw_kinds, draw_regained
from catpose.show.page import Answer, Block, Figure, Section, Table, Text
from catpose.skeleton import KEYPOINTS
from catpose.study.compare import ENOUGH, Judged
from catpose.study.diagnosis import PER_KEYPOINT, Diagnosis
from catpose.study.words import ap, interval


def where_does_it_fail(diagnosis: Diagnosis) -> Answer:
    """About the best model."""
    judged = diagnosis.judged
    gains = {error: diagnosis.gain(error).value for error in diagnosis.errors}
    worst = max(gains, key=lambda error: gains[error])
    by_keypoint = {name: judged.value(f"AP/{name}") for name in KEYPOINTS}
    known = sorted((value, name) for name, value in by_keypoint.items() if not np.isnan(value))
    lowest = ", ".join(f"{name.replace('_', ' ')} ({ap(value)})" for value, name in known[:2])
    if not gains[worst] > 0:
        return Answer("Where does it fail?", "Nowhere", "no kind of error costs AP here", "failures")
    detail = f"corrected, AP would be {ap(gains[worst])} higher; hardest keypoints: {lowest}"
    hard = [
        (diagnosis.part(condition, name).value, f"{condition}: {name}", diagnosis.size(condition, name))
        for condition, parts in diagnosis.parts.items()
        for name in parts
        if diagnosis.size(condition, name) >= ENOUGH
    ]
    if hard:
        value, name, n = min(hard)
        detail += f"; hardest part of the data: {name} ({ap(value)}, {n} instances)"
    return Answer("Where does it fail?", f"{worst.capitalize()}: {MEANING[worst]}", detail, "failures")


def failures(diagnoses: Sequence[Diagnosis], truth: Truth) -> Section:
    """The best model first; figures of one model are about that one."""
    best = diagnoses[0]
    names = [each.judged.label for each in diagnoses]
    values = [best.judged.value(f"AP/{name}") for name in KEYPOINTS]
    gains = {error: [each.gain(error) for each in diagnoses] for error in best.errors}
    rows = {
        condition: [
            Row(name, best.size(condition, name), tuple(each.part(condition, name) for each in diagnoses))
            for name in parts
        ]
        for condition, parts in best.parts.items()
    }
    blocks: list[Block] = [
        Text(
            "Kinds of error after Ronchi & Perona (ICCV 2017): a keypoint is good or jitters about its place, was taken"
            " for its left or right counterpart (inversion), for one of another animal (swap), or is near nothing"
            " (miss). What a kind costs is the AP regained were it put right."
        ),
        Figure(
            "keypoints",
            f"AP of {best.judged.label} with one keypoint at a time",
            "AP of each keypoint on a drawn cat",
            draw_keypoint_values(values, "AP with this keypoint alone"),
            _keypoint_table(best.judged),
        ),
        Figure(
            "kinds",
            f"What becomes of each keypoint, {best.judged.label}",
            "bars: the part of each keypoint that is good, jitter, inversion, swap or miss",
            draw_kinds(best.kinds),
            Table(
                "All keypoints",
                ("model", *KINDS),
                [(each.judged.label, *(f"{100 * share:.1f} %" for share in each.shares)) for each in diagnoses],
            ),
        ),
        Figure(
            "regained",
            "AP regained, were one kind of error corrected",
            "AP regained for each kind of error, with 95 % intervals",
            draw_regained(names, gains),
            Table(
                "AP regained",
                ("kind", *names),
                [(f"{error} ({MEANING[error]})", *(_cell(each) for each in gains[error])) for error in gains],
                "Alone each; they don't add up, since one instance may need two of them. A corrected keypoint lies on"
                " its truth.",
            ),
        ),
        _gained_table(best),
    ]
    if rows:
        blocks.append(
            Figure(
                "conditions",
                "AP by condition",
                "AP on parts of the data, with 95 % intervals",
                draw_conditions(names, rows),
                Table(
                    "AP on parts of the data",
                    ("condition", "instances", *names),
                    [
                        (f"{condition}: {row.label}", str(row.n), *(_cell(each) for each in row.estimates))
                        for condition, some in rows.items()
                        for row in some
                    ],
                ),
            )
        )
    return Section("failures", "Where they fail", [*blocks, *_confidence(best.judged, truth)])


def _confidence(judged: Judged, truth: Truth) -> list[Figure]:
    """Of the first run, but for the ECE, which is of all."""
    which = f" (seeds together; below, the first of {len(judged.detections)})" if len(judged.detections) > 1 else ""
    detections = judged.detections[0]
    bins, curves = reliability(truth, detections), threshold_curves(truth, detections)
    ece = judged.estimate("ECE")
    edges = np.linspace(0, 1, len(bins.count) + 1)
    return [
        Figure(
            "reliability",
            f"Can confidences be trusted? {judged.label}: ECE {ap(ece.value)} {interval(ece)}{which}",
            "reliability: the part of keypoints that is right, by confidence",
            draw_reliability(bins),
            Table(
                "Keypoints by confidence; right is a similarity of 0.5 or more",
                ("confidence", "keypoints", "mean confidence", "right"),
                [
                    (f"{low:.1f} to {high:.1f}", str(n), ap(confidence), ap(correct))
                    for low, high, n, confidence, correct in zip(
                        edges[:-1], edges[1:], bins.count, bins.confidence, bins.correct, strict=True
                    )
                ],
            ),
        ),
        Figure(
            "thresholds",
            f"What a threshold on confidence does, {judged.label}",
            "AP, precision and recall against the threshold",
            draw_thresholds(curves),
            Table(
                "Thresholds",
                ("threshold", "AP above it", "precision", "recall", "AP, scored by keypoints above it"),
                [
                    (f"{row[0]:.2f}", *(ap(float(value)) for value in row[1:]))
                    for row in zip(
                        *(curves.threshold, curves.ap, curves.precision, curves.recall, curves.ap_rescored), strict=True
                    )
                ],
            ),
        ),
    ]


def _gained_table(diagnosis: Diagnosis) -> Table:
    """The keypoint that costs most first."""
    gained = diagnosis.gained_by_keypoint
    order = np.argsort(-gained.sum(axis=1), kind="stable")
    rows = [
        (KEYPOINTS[k].replace("_", " "), *(f"{value:+.4f}" if value else "0" for value in gained[k])) for k in order
    ]
    note = "AP over all keypoints, were this one's errors of this kind alone corrected; costliest first."
    return Table(f"AP regained by keypoint and kind, {diagnosis.judged.label}", ("keypoint", *KINDS[1:]), rows, note)


def _keypoint_table(judged: Judged) -> Table:
    rows = []
    for name in KEYPOINTS:
        cells = []
        for key in PER_KEYPOINT:
            made = judged.estimate(f"{key}/{name}")
            written = figure_of(key)
            cells.append("" if np.isnan(made.value) else f"{written(made.value)} {interval(made, written)}".strip())
        rows.append((name.replace("_", " "), *cells))
    return Table(f"Each keypoint, {judged.label}", ("keypoint", "AP", "AR", "PCK@0.1", "EPE, px"), rows)


def _cell(of: Estimate) -> str:
    if np.isnan(of.value):
        return ""
    return ap(of.value) + ("" if np.isnan(of.low) else f" [{ap(of.low)}, {ap(of.high)}]")
