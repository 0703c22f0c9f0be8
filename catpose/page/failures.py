"""The report's sections on where models fail: by keypoint, by error type, by slice, by confidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from catpose.analysis.configurations import Configuration
from catpose.analysis.diagnosis import PER_KEYPOINT, Diagnosis
from catpose.analysis.slices import EXPLAINED
from catpose.analysis.statistics import ENOUGH
from catpose.figures.calibration import draw_reliability, draw_thresholds
from catpose.figures.cat import draw_keypoint_values
from catpose.figures.error_types import MEANING, Estimate, Row, draw_delta_ap, draw_error_types, draw_slices
from catpose.instances import Instances
from catpose.page.html import Answer, Block, Figure, Fold, Section, Table, Text
from catpose.page.results import written
from catpose.score.calibration import reliability, threshold_curves
from catpose.score.error_types import ERROR_TYPES
from catpose.skeleton import Skeleton
from catpose.text import fraction, signed, with_interval


def where_does_it_fail(diagnosis: Diagnosis) -> Answer:
    """About the best model."""
    evaluated = diagnosis.evaluated
    gains = {error: diagnosis.delta_ap(error).value for error in diagnosis.errors}
    worst = max(gains, key=lambda error: gains[error])
    by_keypoint = {name: evaluated.value(f"AP/{name}") for name in diagnosis.truth.skeleton.names}
    known = sorted((value, name) for name, value in by_keypoint.items() if not np.isnan(value))
    lowest = ", ".join(f"{name.replace('_', ' ')} ({fraction(value)})" for value, name in known[:2])
    if not gains[worst] > 0:
        return Answer("Where does it fail?", "Nowhere", "no error type costs AP here", "failures")
    detail = f"corrected, AP would be {fraction(gains[worst])} higher; hardest keypoints: {lowest}"
    hard = [
        (diagnosis.slice_ap(attribute, name).value, f"{attribute}: {name}", diagnosis.size(attribute, name))
        for attribute, names in diagnosis.slices.items()
        for name in names
        if diagnosis.size(attribute, name) >= ENOUGH
    ]
    if hard:
        value, name, n = min(hard)
        detail += f"; hardest slice: {name} ({fraction(value)}, {n} instances)"
    return Answer("Where does it fail?", f"{worst.capitalize()}: {MEANING[worst]}", detail, "failures")


def failures(diagnoses: Sequence[Diagnosis]) -> Section:
    """The best model first; figures of one model are about that one."""
    best, skeleton = diagnoses[0], diagnoses[0].truth.skeleton
    values = [best.evaluated.value(f"AP/{name}") for name in skeleton.names]
    keypoints = Figure(
        "keypoints",
        f"AP of {best.evaluated.name} with one keypoint at a time",
        "AP of each keypoint",
        draw_keypoint_values(skeleton, values, "AP with this keypoint alone"),
        _keypoint_table(best.evaluated, skeleton),
    )
    types, gains = _error_types(diagnoses)
    blocks: list[Block] = [  # figures in an order that fills two columns
        Text(
            "Error types after Ronchi & Perona (ICCV 2017): a keypoint is good or jitters about its place, was taken"
            " for its left or right counterpart (inversion), for one of another animal (swap), or is near nothing"
            " (miss). ΔAP is what AP gains were errors of one type put right."
        ),
        keypoints,
        gains,
        *_confidence(best.evaluated, best.truth),
        types,
        *_slices(diagnoses),
        Fold("ΔAP by keypoint and error type", [_delta_ap_table(best)]),
    ]
    return Section("failures", "Where they fail", blocks)


def _error_types(diagnoses: Sequence[Diagnosis]) -> list[Figure]:
    """How frequent each error type is, and its ΔAP."""
    best = diagnoses[0]
    names = [each.evaluated.name for each in diagnoses]
    gains = {error: [each.delta_ap(error) for each in diagnoses] for error in best.errors}
    return [
        Figure(
            "error_types",
            f"What becomes of each keypoint, {best.evaluated.name}",
            "bars: the part of each keypoint that is good, jitter, inversion, swap or miss",
            draw_error_types(best.error_types, best.truth.skeleton),
            Table(
                "All keypoints",
                ("model", *ERROR_TYPES),
                [(each.evaluated.name, *(f"{100 * share:.1f} %" for share in each.shares)) for each in diagnoses],
            ),
        ),
        Figure(
            "delta_ap",
            "ΔAP: what AP gains, were one error type corrected",
            "ΔAP of each error type, with 95 % intervals",
            draw_delta_ap(names, gains),
            Table(
                "ΔAP",
                ("error type", *names),
                [(f"{error} ({MEANING[error]})", *(_cell(each) for each in gains[error])) for error in gains],
                "Alone each; they don't add up, since one instance may need two of them. A corrected keypoint lies on"
                " its truth.",
            ),
        ),
    ]


def _slices(diagnoses: Sequence[Diagnosis]) -> list[Figure]:
    """AP by slice; nothing where no attribute has several."""
    best = diagnoses[0]
    names = [each.evaluated.name for each in diagnoses]
    rows = {
        attribute: [
            Row(name, best.size(attribute, name), tuple(each.slice_ap(attribute, name) for each in diagnoses))
            for name in slices
        ]
        for attribute, slices in best.slices.items()
    }
    if not rows:
        return []
    table = Table(
        "AP by slice",
        ("slice", "instances", *names, "to the rest", "95 % interval", "p (Holm)"),
        [
            (
                f"{attribute}: {row.label}",
                str(row.n),
                *(_cell(each) for each in row.estimates),
                *best.slice_differences[attribute][row.label].cells,
            )
            for attribute, some in rows.items()
            for row in some
        ],
        EXPLAINED + (f" Of {names[0]}." if len(names) > 1 else ""),
    )
    alt = "AP on slices of the data, with 95 % intervals"
    return [Figure("slices", "AP by slice", alt, draw_slices(names, rows), table)]


def _confidence(evaluated: Configuration, truth: Instances) -> list[Figure]:
    """Of the first run, but for the ECE, which is of all."""
    which = (
        f" (seeds together; below, the first of {len(evaluated.detections)})" if len(evaluated.detections) > 1 else ""
    )
    detections = evaluated.detections[0]
    bins, curves = reliability(truth, detections), threshold_curves(truth, detections)
    ece = evaluated.estimate("ECE")
    edges = np.linspace(0, 1, len(bins.count) + 1)
    return [
        Figure(
            "reliability",
            f"Can confidences be trusted? {evaluated.name}: ECE {with_interval(ece.value, ece)}{which}",
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
            f"What a threshold on confidence does, {evaluated.name}",
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


def _delta_ap_table(diagnosis: Diagnosis) -> Table:
    """The keypoint that costs most first."""
    gains, names = diagnosis.delta_ap_by_keypoint, diagnosis.truth.skeleton.names
    order = np.argsort(-gains.sum(axis=1), kind="stable")
    rows = [(names[k].replace("_", " "), *(signed(value, 4) for value in gains[k])) for k in order]
    note = "AP over all keypoints, were this one's errors of this type alone corrected; costliest first."
    return Table(
        f"ΔAP by keypoint and error type, {diagnosis.evaluated.name}", ("keypoint", *ERROR_TYPES[1:]), rows, note
    )


def _keypoint_table(evaluated: Configuration, skeleton: Skeleton) -> Table:
    rows = []
    for name in skeleton.names:
        cells = []
        for key in PER_KEYPOINT:
            cells.append(_cell(evaluated.estimate(f"{key}/{name}"), written(key)))
        rows.append((name.replace("_", " "), *cells))
    return Table(f"Each keypoint, {evaluated.name}", ("keypoint", "AP", "AR", "PCK@0.1", "EPE, px"), rows)


def _cell(of: Estimate, write: Callable[[float], str] = fraction) -> str:
    return "" if np.isnan(of.value) else with_interval(of.value, of, write)
