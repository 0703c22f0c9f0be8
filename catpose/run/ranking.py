"""Which unlabelled pictures to label next: those of which a model is least sure.

A picture's uncertainty, 0..1, is that of its least certain animal: the mean over keypoints of (1 − confidence) and of
the spread, each weighing half. The spread is how far a keypoint moves, in tenths of the box's longer side and 1 at
most, where the flip test is left out: a model that has understood a pose finds it in the mirror image too. Of pictures
that are nearly the same, as frames of a video are, the most uncertain one alone is ranked.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from catpose.data.coco_split import CocoSplit
from catpose.data.copies import fingerprints, group_copies
from catpose.errors import InputError
from catpose.score.detections import Detections

SPREAD_UNIT = 0.1  # of the box's longer side


@dataclass(frozen=True)
class Ranked:
    """A picture to label."""

    file: Path
    uncertainty: float
    confidence: float  # mean over the keypoints of the animal that decides
    spread: float  # likewise


def rank_pictures(
    split: CocoSplit, detections: Detections, unflipped: Mapping[int, np.ndarray]
) -> tuple[list[Ranked], int]:
    """The pictures with a detection, the most uncertain first, and how many near-copies were left out.

    Args:
        split: whose pictures and boxes the detections are of.
        detections: with the flip test.
        unflipped: by annotation id the keypoints (K, 2) without it, image px.
    """
    sides = dict(zip(split.ids.tolist(), split.boxes[:, 2:].max(axis=1).tolist(), strict=True))
    paths = {image.id: image.path for image in split.images}
    found: dict[Path, Ranked] = {}
    for id_, image_id, points, confidence in zip(
        detections.annotation_id.tolist(), detections.image_id.tolist(), detections.keypoints, detections.confidence,
        strict=True,
    ):  # fmt: skip
        distance = np.hypot(*(points - unflipped[id_]).T) / (SPREAD_UNIT * sides[id_])
        spread = float(np.fmin(distance, 1).mean())
        sure = float(np.clip(confidence, 0, 1).mean())
        ranked = Ranked(paths[image_id], (1 - sure + spread) / 2, sure, spread)
        found[ranked.file] = max(found.get(ranked.file, ranked), ranked, key=lambda each: each.uncertainty)
    order = sorted(found.values(), key=lambda each: (-each.uncertainty, str(each.file)))
    files = _without_copies([each.file for each in order])
    return [each for each in order if each.file in files], len(order) - len(files)


def ranking_csv(ranked: Sequence[Ranked]) -> str:
    """A line each: rank from 1, file, uncertainty, confidence, spread."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("rank", "file", "uncertainty", "confidence", "spread"))
    for place, each in enumerate(ranked, start=1):
        numbers = (f"{value:.4f}" for value in (each.uncertainty, each.confidence, each.spread))
        writer.writerow((place, each.file, *numbers))
    return text.getvalue()


def _without_copies(files: Sequence[Path]) -> set[Path]:
    """The first of each group of near-copies."""
    looks = {
        file: look for file, look in zip(files, fingerprints(files), strict=True) if not isinstance(look, InputError)
    }
    group = group_copies(looks)
    return {file for file in files if group.get(file, file) == file}
