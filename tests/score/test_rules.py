"""AP under other programs' rules: what their own code gives for the same results (`tests/benchmarks/rules.py`)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skeletons import ANIMAL_POSE, HEAD, LEGS

from catpose.instances import Instances
from catpose.score.ap import average_precision, match
from catpose.score.detections import Detections
from catpose.score.rules import RULES, ap_by_rule
from catpose.skeleton import AP10K, Skeleton

FOLDER = Path(__file__).parent / "rules"
CASES = ("quickstart", "hard")
NAMES = [rule.name for rule in RULES]


def read(case: str, truth: Path | None = None) -> tuple[Instances, Detections, np.ndarray, dict[str, dict[str, Any]]]:
    names = ("truth", "results", "reference")
    files = {name: FOLDER / f"{case}_{name}.json" for name in names} | ({"truth": truth} if truth else {})
    coco, results, reference = (json.loads(files[name].read_text()) for name in names)
    instances = Instances.from_coco(coco, "file")
    images = sorted(coco["images"], key=lambda each: each["id"])
    sizes = np.array([[image["width"], image["height"]] for image in images], dtype=np.float64)
    return instances, Detections.from_results(results, instances), sizes, reference


def values(case: str, truth: Instances | None = None, detections: Detections | None = None) -> dict[str, float]:
    read_truth, found, sizes, _ = read(case)
    made = ap_by_rule(truth or read_truth, found if detections is None else detections, sizes, RULES)
    return {rule.name: ap for rule, ap in made}


@pytest.mark.parametrize("case", CASES)
def test_each_rule_is_that_of_the_programs_own_code(case: str) -> None:
    reference = read(case)[-1]
    assert set(reference) == set(NAMES)
    assert values(case) == pytest.approx({name: each["AP"] for name, each in reference.items()}, abs=1e-6)
    assert all(reference[rule.name]["version"] in rule.source for rule in RULES)


@pytest.mark.realdata
def test_each_rule_of_a_real_models_predictions(cats17: Path) -> None:
    """Of results/mobilenet on the 132 validation cats, whose truth isn't part of the project."""
    truth, found, sizes, reference = read("cats", cats17 / "annotations" / "val.json")
    made = {rule.name: ap for rule, ap in ap_by_rule(truth, found, sizes, RULES)}
    assert made == pytest.approx({name: each["AP"] for name, each in reference.items()}, abs=1e-6)


def test_the_rules_differ_much() -> None:
    made = values("quickstart")
    assert max(made.values()) - min(made.values()) > 0.4
    assert len(set(NAMES)) == len(NAMES)


def test_our_own_rule_is_that_of_ap10k_with_the_same_areas() -> None:
    truth, found, sizes, _ = read("quickstart")
    ours = average_precision(match(truth, found))["AP"]
    assert ap_by_rule(truth, found, sizes, RULES)[0][1] == pytest.approx(ours, abs=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_perfect_detections_are_1_but_where_a_program_counts_what_has_no_label(case: str) -> None:
    truth, *_ = read(case)
    rows = np.flatnonzero(~truth.ignored)
    points, middle = truth.keypoints[rows], truth.boxes[rows, None, :2] + truth.boxes[rows, None, 2:] / 2
    perfect = Detections(
        truth.image_id[rows],
        truth.category_id[rows],
        np.where(np.isnan(points), middle, points),
        np.ones(points.shape[:2]),
        np.linspace(0.1, 1, len(rows)),
        truth.ids[rows],
    )
    made = values(case, detections=perfect)
    for name, ap in made.items():
        most = 0.995 if name.startswith("Ultralytics") else 1  # its curve falls to 0 before the last of 101 recalls
        misses = case == "hard" and name.startswith(("Ultralytics", "FiftyOne", "DeepLabCut"))
        assert ap < most if misses else ap == pytest.approx(most)


def test_no_detection_is_0_and_no_animal_is_nothing() -> None:
    truth, found, *_ = read("hard")
    nothing = values("hard", detections=found.subset(np.zeros(len(found), dtype=bool)))
    assert all(ap == 0 or (name == "SLEAP-NN" and np.isnan(ap)) for name, ap in nothing.items())
    empty = dataclasses.replace(truth, crowd=np.ones_like(truth.crowd), ignored=np.ones_like(truth.ignored))
    assert all(np.isnan(ap) for ap in values("hard", truth=empty).values())


@pytest.mark.parametrize(
    ("skeleton", "without"),
    [
        (AP10K, set()),
        (LEGS, {"COCO", "Ultralytics, 17 keypoints"}),
        (ANIMAL_POSE, {"AP-10K (MMPose)", "COCO", "Ultralytics, 17 keypoints"}),
        (HEAD, {"AP-10K (MMPose)", "Animal-Pose (MMPose)", "COCO", "Ultralytics, 17 keypoints"}),
    ],
    ids=lambda each: each.name if isinstance(each, Skeleton) else "",
)
def test_a_rule_without_sigmas_for_the_keypoints_is_left_out(skeleton: Skeleton, without: set[str]) -> None:
    assert {rule.name for rule in RULES if rule.sigmas(skeleton) is None} == without
