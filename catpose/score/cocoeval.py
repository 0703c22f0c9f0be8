"""The COCOeval reference of `ap.py`: the same metrics from pycocotools, to be held against ours."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from catpose.skeleton import AP10K, Skeleton

STATS = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L")
#: Of boxes; "AR@1" and "AR@10" are the recalls with so many detections an image and category.
BOX_STATS = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "AR@1", "AR@10", "AR", "AR_S", "AR_M", "AR_L")


def cocoeval(
    coco: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    skeleton: Skeleton = AP10K,
    per_keypoint: bool = False,
    area: str = "box",
) -> dict[str, float]:
    """What pycocotools says of a COCO keypoint file and a results file, quietly; neither is changed.

    Its input is given what it needs to work: `area` by the rule, `num_keypoints` as counted and an absent `iscrowd`,
    as in `Instances.from_coco`, and annotations are numbered from 1 (a detection matched to an annotation with the
    id 0 it would take for unmatched).

    Returns:
        the keys of `average_precision` but for "n", "n_M", "n_L" (AP/KEYPOINT and AR/KEYPOINT only with
        `per_keypoint`); nan where pycocotools says -1.
    """
    truth = _completed(coco, area)
    values = dict(zip(STATS, _evaluate(truth, results, skeleton.sigmas), strict=True))
    for k, name in enumerate(skeleton.names if per_keypoint else ()):
        alone = truth | {"annotations": [_only(annotation, k) for annotation in truth["annotations"]]}
        stats = _evaluate(alone, results, skeleton.sigmas, by_size=False)
        values |= {f"AP/{name}": stats[0], f"AR/{name}": stats[5]}
    return _plain(values)


def cocoeval_boxes(coco: Mapping[str, Any], results: Sequence[Mapping[str, Any]], area: str) -> dict[str, float]:
    """The same of a COCO file and box results.

    Returns:
        "AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "AR", "AR_S", "AR_M", "AR_L"; nan where pycocotools says -1.
    """
    values = dict(zip(BOX_STATS, _evaluate(_completed(coco, area), results, None), strict=True))
    return _plain({key: value for key, value in values.items() if "@" not in key})


def require_agreement(ours: Mapping[str, Any], reference: Mapping[str, float]) -> None:
    """Raise RuntimeError where any value of the reference is missing in `ours`, or differs by more than 1e-9."""
    wrong = [
        f"{key} {float(ours.get(key, np.inf))!r} instead of {value!r}"
        for key, value in reference.items()
        if not np.isclose(float(ours.get(key, np.inf)), value, rtol=0, atol=1e-9, equal_nan=True)
    ]
    if wrong:
        raise RuntimeError("the score differs from pycocotools', which is a bug of ours: " + ", ".join(wrong))


def _plain(values: Mapping[str, float]) -> dict[str, float]:
    return {key: float("nan") if value == -1 else float(value) for key, value in values.items()}


def _completed(coco: Mapping[str, Any], area: str) -> dict[str, Any]:
    truth = {key: coco[key] for key in ("images", "categories")}
    return truth | {"annotations": [_complete(each, i + 1, area) for i, each in enumerate(coco["annotations"])]}


def _complete(annotation: Mapping[str, Any], number: int, area: str) -> dict[str, Any]:
    derived = {
        "id": number,
        "area": annotation["area"] if area == "file" else annotation["bbox"][2] * annotation["bbox"][3],
        "iscrowd": int(bool(annotation.get("iscrowd"))),
        "num_keypoints": sum(v > 0 for v in annotation.get("keypoints", ())[2::3]),
    }
    return dict(annotation) | derived


def _only(annotation: Mapping[str, Any], keypoint: int) -> dict[str, Any]:
    keypoints = list(annotation["keypoints"])
    keypoints[2::3] = [v if k == keypoint else 0 for k, v in enumerate(keypoints[2::3])]
    return dict(annotation) | {"keypoints": keypoints, "num_keypoints": int(keypoints[3 * keypoint + 2] > 0)}


def _evaluate(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    sigmas: Sequence[float] | None,
    by_size: bool = True,
) -> Sequence[float]:
    """pycocotools' `stats`, of boxes where no sigmas are given; those of sizes are -1 where they aren't asked for."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        ground = COCO()
        ground.dataset = {key: [dict(entry) for entry in truth[key]] for key in truth}  # it adds keys to entries
        ground.createIndex()
        if results:
            # A segmentation or caption would be taken for what these results are.
            entries = [{k: v for k, v in r.items() if k not in ("segmentation", "caption")} for r in results]
            found = ground.loadRes(entries)
        else:  # loadRes can't read an empty list
            found = COCO()
            found.dataset = {**ground.dataset, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(ground, found, "bbox" if sigmas is None else "keypoints")
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        if not by_size:  # which is two thirds of the work
            evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]
