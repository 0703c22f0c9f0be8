"""Scores of other skeletons than AP-10K's: pycocotools with their sigmas agrees, each figure is by their names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from skeletons import OTHERS, relabelled

from catpose.data.coco import read_split
from catpose.score.cocoeval import cocoeval, require_agreement
from catpose.score.detections import Detections
from catpose.score.error_types import delta_ap_by_keypoint
from catpose.score.full import evaluate
from catpose.score.label_issues import label_issues
from catpose.score.metric import keys, metric_values
from catpose.score.protocol import EvaluationProtocol
from catpose.skeleton import Skeleton


@pytest.mark.one_in(3)
@pytest.mark.parametrize("skeleton", OTHERS.values(), ids=lambda skeleton: skeleton.name)
@pytest.mark.parametrize("stated", [False, True])
def test_pycocotools_agrees(skeleton: Skeleton, stated: bool, drawn: Path, tmp_path: Path) -> None:
    root = relabelled(drawn, tmp_path / "data", skeleton)
    if stated:
        named = ", ".join(f"{name}: {0.02 + 0.01 * k:g}" for k, name in enumerate(skeleton.names))
        (root / "skeleton.yaml").write_text(f"sigmas: {{{named}}}\n")
    truth = read_split(root, "train")
    rng = np.random.default_rng(0)
    places = np.nan_to_num(truth.keypoints) + rng.normal(0, 4, truth.keypoints.shape)
    exchanged = rng.random(len(truth)) < 0.3
    places[exchanged] = places[exchanged][:, list(skeleton.flip)]
    confidence = rng.random(truth.labelled.shape)
    found = Detections(
        truth.image_id, truth.category_id, places, confidence, confidence.mean(axis=1), np.array(truth.ids)
    )
    made = evaluate(truth, found, draws=10)
    require_agreement(made.values, cocoeval(truth.coco, found.to_results(), truth.skeleton, per_keypoint=True))
    assert 0 < made.values["AP"] < 1
    assert {f"{key}/{name}" for key in ("AP", "AR", "PCK@0.1", "EPE") for name in skeleton.names} <= made.values.keys()
    assert np.isnan(made.values["PCK_eyes@0.5"]) == ("left_eye" not in skeleton.names)
    assert tuple(metric_values(truth, found)) == keys(skeleton)
    again = Detections.from_results(found.to_results(), truth)
    assert np.array_equal(again.keypoints, found.keypoints)
    assert delta_ap_by_keypoint(truth, found).shape == (len(skeleton), 4)
    assert all(max(issue.keypoints) < len(skeleton) for issue in label_issues(truth, found))
    protocol = EvaluationProtocol.of(
        truth, found, split="train", split_hash="", box_source="ground truth", flip_test=None
    )
    assert protocol.sigmas == truth.skeleton.sigmas
    narrow = replace(truth, skeleton=replace(truth.skeleton, sigmas=(0.005,) * len(skeleton)))
    assert evaluate(narrow, found, draws=0).values["AP"] < made.values["AP"]
