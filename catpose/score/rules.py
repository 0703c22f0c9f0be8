"""One set of detections under the rules of other programs: what AP would they print?

The field's APs differ in sigmas above all, then in the area, in which animals count, in matching and in the curve. Each
rule names where it stands in that program's code, with the version that it was compared with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from catpose.instances import Instances
from catpose.score.ap import match
from catpose.score.bootstrap import bootstrap_ap
from catpose.score.detections import Detections
from catpose.score.other_ap import deeplabcut_ap, fiftyone_ap, sleap_nn_ap, ultralytics_ap
from catpose.skeleton import AP10K, COCO_PERSON, Skeleton

#: Of truth, detections, sigmas (K,) and the images' sizes (I, 2) px.
AP = Callable[[Instances, Detections, np.ndarray, np.ndarray], float]
#: A skeleton's sigmas (K,) in a program, or None where it has none for these keypoints.
Sigmas = Callable[[Skeleton], Sequence[float] | None]

_GIVEN = "as given"
_MEAN = "mean confidence"
#: An area that the annotations have, of a segmentation for example.
STATED = "the file's"
#: Which animals COCO counts.
LABELLED = "labelled ones; crowds and others excuse detections"


@dataclass(frozen=True)
class Rule:
    """How a program scores keypoints."""

    name: str
    source: str  # the program, its version, and the files
    sigmas: Sigmas
    ap: AP
    sigmas_text: str
    area: str
    score: str  # of a detection
    counted: str  # which animals are
    before: str  # boxes and NMS of that program's own runs, which results from elsewhere don't go through
    else_: str = ""  # what else differs from COCO's


def coco_ap(truth: Instances, detections: Detections, sigmas: np.ndarray, sizes: np.ndarray) -> float:
    """COCO's AP, 0..1, with sigmas (K,) of one's own and the truth's areas; nan where nothing counts."""
    skeleton = dataclasses.replace(truth.skeleton, sigmas=tuple(sigmas.tolist()))
    matches = match(dataclasses.replace(truth, skeleton=skeleton), detections, by_keypoint=False)
    return float(bootstrap_ap(matches, np.ones((1, len(truth.image_ids)), dtype=np.int64))[0])


def _mmpose_ap(truth: Instances, detections: Detections, sigmas: np.ndarray, sizes: np.ndarray) -> float:
    """As xtcocotools has it: detections without a confidence above 0 are left out."""
    sure = np.flatnonzero(detections.confidence.max(axis=1, initial=0) > 0)
    return coco_ap(truth, detections.subset(sure), sigmas, sizes)


def by_name(sigmas: Mapping[str, float]) -> Sigmas:
    """Those of keypoints by name; for a skeleton all of whose names are known."""
    return lambda skeleton: [sigmas[name] for name in skeleton.names] if sigmas.keys() >= set(skeleton.names) else None


def uniform(sigma: float | None = None) -> Sigmas:
    """One for all keypoints: 1/K where none is given."""
    return lambda skeleton: [sigma or 1 / len(skeleton)] * len(skeleton)


def _coco_order(skeleton: Skeleton) -> list[float] | None:
    return list(COCO_PERSON.values()) if len(skeleton) == len(COCO_PERSON) else None


def _animal_pose() -> dict[str, float]:
    """Animal-Pose's as MMPose lists them, of its keypoints and of those of AP-10K's that they mean.

    (The nose has an ear's, and an ear the nose's: the list is in the order of AP-10K's first names.)
    """
    sides, parts = ("left", "right"), {"elbow": 0.107, "knee": 0.087, "paw": 0.089}
    own = {f"{side}_{end}_{part}": s for side in sides for end in ("front", "back") for part, s in parts.items()}
    own |= {"left_eye": 0.025, "right_eye": 0.025, "left_ear": 0.026, "right_ear": 0.035, "nose": 0.035}
    own |= dict.fromkeys(("throat", "tailbase", "withers", "neck", "root_of_tail"), 0.1)
    meant = {"shoulder": "front_elbow", "elbow": "front_knee", "hip": "back_elbow", "knee": "back_knee"}
    return own | {f"{side}_{name}": own[f"{side}_{means}"] for side in sides for name, means in meant.items()}


_MMPOSE = "MMPose 1.3.2, configs/_base_/datasets/{}.py, mmpose/evaluation/metrics/coco_metric.py; xtcocotools 1.14.3"
_OKS_NMS = "ground-truth boxes, OKS-NMS at 0.9"
_ULTRALYTICS = "Ultralytics 8.4.190, models/yolo/pose/val.py, utils/metrics.py, engine/validator.py"
_YOLO = ("0.53 of the box's", _GIVEN, "all but crowds; those without a label are missed",
         "its own boxes, box NMS at 0.7, 300 an image", "trapezoidal curve, 0.995 at most")  # fmt: skip
RULES = (
    Rule("AP-10K (MMPose)", _MMPOSE.format("ap10k"), by_name(dict(zip(AP10K.names, AP10K.sigmas, strict=True))),
         _mmpose_ap, "AP-10K's", STATED, _GIVEN, LABELLED, _OKS_NMS),
    Rule("Animal-Pose (MMPose)", _MMPOSE.format("animalpose"), by_name(_animal_pose()),
         _mmpose_ap, "Animal-Pose's", STATED, _GIVEN, LABELLED, _OKS_NMS),
    Rule("COCO", "pycocotools 2.0.11, cocoeval.py", _coco_order,
         coco_ap, "COCO person's, in its order", STATED, _GIVEN, LABELLED, "any boxes, no NMS"),
    Rule("Ultralytics, 17 keypoints", _ULTRALYTICS, _coco_order,
         ultralytics_ap, "COCO person's, in its order", *_YOLO),
    Rule("Ultralytics, others", _ULTRALYTICS, uniform(), ultralytics_ap, "1/K", *_YOLO),
    Rule("DeepLabCut", "DeepLabCut 3.0.2, deeplabcut/core/metrics/, core/inferenceutils.py", uniform(0.1),
         deeplabcut_ap, "0.1", "extent of the keypoints", _MEAN, "those with two labelled keypoints",
         "bottom-up or its detector's boxes, no NMS",
         "a detection whose most similar animal is taken is false, though another one is near"),
    Rule("SLEAP-NN", "sleap-nn 0.3.5, sleap_nn/evaluation.py", uniform(0.025),
         sleap_nn_ap, "0.025", "extent of the keypoints", _GIVEN, "labelled ones on images with a detection",
         "its own centroids, no NMS", "detections without a partner don't count"),
    Rule("FiftyOne, kappa 1", "FiftyOne 1.22.1 without keypoint_sigmas, utils/iou.py, utils/eval/coco.py", uniform(1.0),
         fiftyone_ap, "1, without the 2", "extent of the keypoints", _MEAN,
         "all but crowds; those without a label are missed", "any boxes, no NMS",
         "distances in fractions of the image's sides"),
)  # fmt: skip


def ap_by_rule(
    truth: Instances, detections: Detections, sizes: np.ndarray, rules: Sequence[Rule]
) -> list[tuple[Rule, float]]:
    """AP, 0..1, under each rule that has sigmas for these keypoints.

    Args:
        truth: with the file's areas, where it has them.
        sizes: (I, 2) width and height of each image, px.
    """
    known = [(rule, rule.sigmas(truth.skeleton)) for rule in rules]
    return [(rule, rule.ap(truth, detections, np.array(s), sizes)) for rule, s in known if s is not None]
