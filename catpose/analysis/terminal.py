"""What goes wrong with a model, and how it compares with another, as plain text."""

from __future__ import annotations

import textwrap

import numpy as np

from catpose.analysis.configurations import Configuration
from catpose.analysis.diagnosis import PER_KEYPOINT, Diagnosis
from catpose.analysis.evaluations import paired
from catpose.analysis.sentences import tested
from catpose.analysis.slices import EXPLAINED
from catpose.analysis.statistics import ALPHA, Difference, Estimate
from catpose.errors import one_line
from catpose.score.error_types import ERROR_TYPES
from catpose.text import interval, metric, p_value, signed, table, with_interval

#: What two models are compared in.
COMPARED = ("AP", "AP50", "AP75", "AR", "PCK@0.05", "PCK@0.1", "PCK@0.2", "AUC", "NME", "EPE")


def analysis_text(diagnosis: Diagnosis) -> str:
    """Tables: each keypoint, the error types, and slices of the data."""
    evaluated = diagnosis.evaluated
    keypoints = [
        (name.replace("_", " "), *(_both(evaluated.estimate(f"{key}/{name}")) for key in PER_KEYPOINT))
        for name in diagnosis.truth.skeleton.names
    ]
    shares = dict(zip(ERROR_TYPES, diagnosis.shares, strict=True))
    types = [("good", f"{100 * shares['good']:.1f} %", "")] if not np.isnan(shares["good"]) else []
    for error in diagnosis.errors:
        share = shares.get(error, np.nan)
        types.append((error, "" if np.isnan(share) else f"{100 * share:.1f} %", _both(diagnosis.delta_ap(error))))
    slices = [
        (
            f"{attribute}: {name}",
            str(diagnosis.size(attribute, name)),
            _both(diagnosis.slice_ap(attribute, name)),
            *diagnosis.slice_differences[attribute][name].cells,
        )
        for attribute, names in diagnosis.slices.items()
        for name in names
    ]
    tables = [
        table(keypoints, ("keypoint", "AP", "AR", "PCK@0.1", "EPE, px")),
        "Error types (Ronchi & Perona 2017) of labelled keypoints, and ΔAP, what AP gains with one type corrected:",
        table(types, ("error type", "keypoints", "ΔAP")),
        *([table(slices, ("slice", "instances", "AP", "to the rest", "95 % interval", "p (Holm)"))] if slices else []),
        *([textwrap.fill(EXPLAINED, 100)] if slices else []),
    ]
    return "\n\n".join(tables) + "\n"


def comparison_text(ours: Configuration, theirs: Configuration) -> str:
    """Two models on the same resamples of the images, and in a sentence which is better."""
    rows = []
    differences = {key: paired(ours.evaluations[0], theirs.evaluations[0], key) for key in COMPARED}
    for key, each in differences.items():
        compared = (signed(each.value), interval(each, signed), p_value(each.p))
        rows.append((key, metric(ours.value(key)), metric(theirs.value(key)), *compared))
    header = ("", "this", "against", "difference", "95 % interval", "p")
    title = f"{one_line(ours.label)} against {one_line(theirs.label)}"
    return f"{title}:\n\n{table(rows, header)}\n\n{_verdict(differences['AP'])}\n"


def _verdict(ap: Difference) -> str:
    images = "on other images like these, of these two trained models; nothing is said about training them again."
    much = tested(ap, ap.p)
    if ap.p < ALPHA:
        return f"In AP it is {'better' if ap.value > 0 else 'worse'}: {much}, {images}"
    if np.isnan(ap.p):
        return "Nothing can be said of the difference in AP."
    seen = (
        f"; these images would have shown a difference of {metric(ap.detectable)} with 80 % power" if ap.se > 0 else ""
    )
    return f"In AP the two are not significantly different: {much}{seen}; {images}"


def _both(of: Estimate) -> str:
    return "" if np.isnan(of.value) else with_interval(of.value, of, metric)
