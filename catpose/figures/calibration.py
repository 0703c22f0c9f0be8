"""Figures of confidence: how far it can be trusted, and what a threshold on it does."""

from __future__ import annotations

from catpose.figures.canvas import BLUE, GREEN, GREY, GRID, NARROW, ORANGE, VERMILION, Drawing, canvas, encoded, plain
from catpose.score.calibration import Reliability, ThresholdCurves


def draw_reliability(bins: Reliability) -> Drawing:
    """The part of keypoints that is right by their confidence, as dots whose area is their number, and the diagonal.

    Returns:
        "png" and "svg": the files' contents.
    """
    with plain():
        figure, axes = canvas(3.4, width=NARROW)
        axes.plot([0, 1], [0, 1], "--", color=GREY, lw=1, label="as it should be")
        known = bins.count > 0
        most = max(int(bins.count.max()), 1)
        axes.plot(bins.confidence[known], bins.correct[known], "-", color=BLUE, lw=1.2, zorder=2)
        axes.scatter(
            bins.confidence[known], bins.correct[known], s=20 + 130 * bins.count[known] / most, color=BLUE, zorder=3,
            label=f"keypoints, {most} in the largest bin",
        )  # fmt: skip
        axes.set_xlim(0, 1.03)
        axes.set_ylim(0, 1.03)
        axes.set_xlabel("confidence", fontsize=8.5)
        axes.set_ylabel("part that is right", fontsize=8.5)
        axes.grid(color=GRID, lw=0.6)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=7.5, markerscale=0.6)
        return encoded(figure)


def draw_thresholds(curves: ThresholdCurves) -> Drawing:
    """AP, precision and recall of the detections above a threshold, and AP with scores of the keypoints above it.

    Returns:
        "png" and "svg": the files' contents.
    """
    lines = (
        ("AP of detections above it", curves.ap, BLUE, "-"),
        ("AP, scored by keypoints above it", curves.ap_rescored, ORANGE, "-."),
        ("precision at OKS 0.5", curves.precision, GREEN, "--"),
        ("recall at OKS 0.5", curves.recall, VERMILION, ":"),
    )
    with plain():
        figure, axes = canvas(3.4, width=NARROW)
        for label, values, colour, dashes in lines:
            axes.plot(curves.threshold, values, dashes, color=colour, lw=1.6, label=label)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.03)
        axes.set_xlabel("threshold on confidence", fontsize=8.5)
        axes.grid(color=GRID, lw=0.6)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=7.5)
        return encoded(figure)
