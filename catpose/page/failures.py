"""The report's sections on where models fail: by keypoint, by kind of error, by condition, by confidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from catpose.analysis.compare import ENOUGH, Judged
from catpose.analysis.diagnosis import PER_KEYPOINT, Diagnosis
from catpose.figures.calibration import draw_reliability, draw_thresholds
from catpose.figures.cat import draw_keypoint_values
from catpose.figures.error_types import MEANING, Estimate, Row, draw_ap_gains, draw_error_types, draw_slices
from catpose.instances import Instances
from catpose.page.html import Answer, Block, Figure, Section, Table, Text
from catpose.page.results import written
from catpose.score.calibration import reliability, threshold_curves
from catpose.score.error_types import KINDS
from catpose.skeleton import Skeleton
from catpose.text import fraction, interval


def where_does_it_fail(diagnosis: Diagnosis) -> Answer:
    """About the best model."""
    judged = diagnosis.judged
    gains = {error: diagnosis.gain(error).value for error in diagnosis.errors}
    worst = max(gains, key=lambda error: gains[error])
    by_keypoint = {name: judged.value(f"AP/{name}") for name in diagnosis.skeleton.names}
    known = sorted((value, name) for name, value in by_keypoint.items() if not np.isnan(value))
    lowest = ", ".join(f"{name.replace('_', ' ')} ({fraction(value)})" for value, name in known[:2])
    if not gains[worst] > 0:
        return Answer("Where does it fail?", "Nowhere", "no kind of error costs AP here", "failures")
    detail = f"corrected, AP would be {fraction(gains[worst])} higher; hardest keypoints: {lowest}"
    hard = [
        (diagnosis.part(condition, name).value, f"{condition}: {name}", diagnosis.size(condition, name))
        for condition, parts in diagnosis.parts.items()
        for name in parts
        if diagnosis.size(condition, name) >= ENOUGH
    ]
    if hard:
        value, name, n = min(hard)
        detail += f"; hardest part of the data: {name} ({fraction(value)}, {n} instances)"
    return Answer("Where does it fail?", f"{worst.capitalize()}: {MEANING[worst]}", detail, "failures")


def failures(diagnoses: Sequence[Diagnosis], truth: Instances) -> Section:
    """The best model first; figures of one model are about that one."""
    best = diagnoses[0]
    values = [best.judged.value(f"AP/{name}") for name in best.skeleton.names]
    keypoints = Figure(
        "keypoints",
        f"AP of {best.judged.label} with one keypoint at a time",
        "AP of each keypoint",
        draw_keypoint_values(best.skeleton, values, "AP with this keypoint alone"),
        _keypoint_table(best.judged, best.skeleton),
    )
    blocks: list[Block] = [
        Text(
            "Kinds of error after Ronchi & Perona (ICCV 2017): a keypoint is good or jitters about its place, was taken"
            " for its left or right counterpart (inversion), for one of another animal (swap), or is near nothing"
            " (miss). What a kind costs is the AP regained were it put right."
        ),
        keypoints,
        *_error_types(diagnoses),
        _gained_table(best),
        *_slices(diagnoses),
        *_confidence(best.judged, truth),
    ]
    return Section("failures", "Where they fail", blocks)


def _error_types(diagnoses: Sequence[Diagnosis]) -> list[Figure]:
    """How frequent each kind of error is, and what it costs."""
    best = diagnoses[0]
    names = [each.judged.label for each in diagnoses]
    gains = {error: [each.gain(error) for each in diagnoses] for error in best.errors}
    return [
        Figure(
            "kinds",
            f"What becomes of each keypoint, {best.judged.label}",
            "bars: the part of each keypoint that is good, jitter, inversion, swap or miss",
            draw_error_types(best.kinds, best.skeleton),
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
            draw_ap_gains(names, gains),
            Table(
                "AP regained",
                ("kind", *names),
                [(f"{error} ({MEANING[error]})", *(_cell(each) for each in gains[error])) for error in gains],
                "Alone each; they don't add up, since one instance may need two of them. A corrected keypoint lies on"
                " its truth.",
            ),
        ),
    ]


def _slices(diagnoses: Sequence[Diagnosis]) -> list[Figure]:
    """AP on parts of the data; nothing where no condition parts them."""
    best = diagnoses[0]
    names = [each.judged.label for each in diagnoses]
    rows = {
        condition: [
            Row(name, best.size(condition, name), tuple(each.part(condition, name) for each in diagnoses))
            for name in parts
        ]
        for condition, parts in best.parts.items()
    }
    if not rows:
        return []
    table = Table(
        "AP on parts of the data",
        ("condition", "instances", *names),
        [
            (f"{condition}: {row.label}", str(row.n), *(_cell(each) for each in row.estimates))
            for condition, some in rows.items()
            for row in some
        ],
    )
    alt = "AP on parts of the data, with 95 % intervals"
    return [Figure("conditions", "AP by condition", alt, draw_slices(names, rows), table)]


def _confidence(judged: Judged, truth: Instances) -> list[Figure]:
    """Of the first run, but for the ECE, which is of all."""
    which = f" (seeds together; below, the first of {len(judged.detections)})" if len(judged.detections) > 1 else ""
    detections = judged.detections[0]
    bins, curves = reliability(truth, detections), threshold_curves(truth, detections)
    ece = judged.estimate("ECE")
    edges = np.linspace(0, 1, len(bins.count) + 1)
    return [
        Figure(
            "reliability",
            f"Can confidences be trusted? {judged.label}: ECE {fraction(ece.value)} {interval(ece)}{which}",
            "reliability: the part of keypoints that is right, by confidence",
            draw_reliability(bins),
            Table(
                "Keypoints by confidence; right is a similarity of 0.5 or more",
                ("confidence", "keypoints", "mean confidence", "right"),
                [
                    (f"{low:.1f} to {high:.1f}", str(n), fraction(confidence), fraction(correct))
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
                    (f"{row[0]:.2f}", *(fraction(float(value)) for value in row[1:]))
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
        (diagnosis.skeleton.names[k].replace("_", " "), *(f"{value:+.4f}" if value else "0" for value in gained[k]))
        for k in order
    ]
    note = "AP over all keypoints, were this one's errors of this kind alone corrected; costliest first."
    return Table(f"AP regained by keypoint and kind, {diagnosis.judged.label}", ("keypoint", *KINDS[1:]), rows, note)


def _keypoint_table(judged: Judged, skeleton: Skeleton) -> Table:
    rows = []
    for name in skeleton.names:
        cells = []
        for key in PER_KEYPOINT:
            made = judged.estimate(f"{key}/{name}")
            write = written(key)
            cells.append("" if np.isnan(made.value) else f"{write(made.value)} {interval(made, write)}".strip())
        rows.append((name.replace("_", " "), *cells))
    return Table(f"Each keypoint, {judged.label}", ("keypoint", "AP", "AR", "PCK@0.1", "EPE, px"), rows)


def _cell(of: Estimate) -> str:
    if np.isnan(of.value):
        return ""
    return fraction(of.value) + ("" if np.isnan(of.low) else f" [{fraction(of.low)}, {fraction(of.high)}]")
