"""How fast the score is, as ratios within one run: `python tests/benchmarks/score.py [IMAGES] [DRAWS]`.

A made-up data set (a tenth of the images with several cats, half of the keypoints labelled, an AP of about one half)
is evaluated by pycocotools and by us, once; then by us on bootstrap draws over its images. All figures each time: AP,
AP50, AP75, AP(M), AP(L), AR, and the AP of each of 17 keypoints. `Bootstrap` does what `average_precision` would do on
the draws, and agrees to 1e-12; `evaluate` is all that `test` says, with PCK, PCKh, AUC, NME, EPE and ECE.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from catpose.instances import Instances
from catpose.score.ap import average_precision, match
from catpose.score.bootstrap import Bootstrap, image_weights
from catpose.score.calibration import threshold_curves
from catpose.score.cocoeval import cocoeval, require_agreement
from catpose.score.detections import Detections
from catpose.score.full import evaluate


def made_up(n_images: int, rng: np.random.Generator) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id in range(1, n_images + 1):
        for _ in range(1 + int(rng.random() < 0.1) + int(rng.random() < 0.03)):
            side = float(np.exp(rng.uniform(np.log(40), np.log(450))))
            x, y = rng.uniform(0, 100, 2)
            points, labelled = rng.random((17, 2)) * side + (x, y), rng.random(17) < 0.5
            truth = np.column_stack([np.where(labelled[:, None], points, 0), 2 * labelled])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [x, y, side, side],
                    "area": side * side,
                    "iscrowd": 0,
                    "num_keypoints": int(labelled.sum()),
                    "keypoints": truth.ravel().tolist(),
                }
            )
            spread = side * rng.gamma(2.0, 0.025)
            found = np.column_stack([points + rng.normal(size=(17, 2)) * spread, rng.random(17)])
            entry = {"image_id": image_id, "category_id": 1, "keypoints": found.ravel().tolist()}
            results.append(entry | {"score": float(np.exp(-20 * spread / side) + 0.1 * rng.random())})
    images = [{"id": image_id} for image_id in range(1, n_images + 1)]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1}]}, results


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    value = function()
    return time.perf_counter() - start, value


def main() -> None:
    n_images, n_draws = (int(a) for a in (*sys.argv[1:], *("200", "1000")[len(sys.argv) - 1 :]))
    rng = np.random.default_rng(0)
    coco, results = made_up(n_images, rng)
    reference_s, reference = seconds(lambda: cocoeval(coco, results, per_keypoint=True))
    truth_s, truth = seconds(lambda: Instances.from_coco(coco))
    read_s, detections = seconds(lambda: Detections.from_results(results, truth))
    match_s, matches = seconds(lambda: match(truth, detections))
    once_s, ours = seconds(lambda: average_precision(matches))
    require_agreement(ours, reference)
    weights = image_weights(n_images, n_draws)
    draws_s, drawn = seconds(lambda: dict(Bootstrap(matches, weights)))
    full_s, full = seconds(lambda: dict(evaluate(truth, detections, n_draws).draws))
    curves_s, _ = seconds(lambda: threshold_curves(truth, detections))

    once_all_s, per_draw = truth_s + read_s + match_s + once_s, max(n_draws, 1)
    print(f"{n_images} images, {len(truth)} instances, AP {ours['AP']:.3f} +- {np.std(drawn['AP']):.3f}")
    print(f"pycocotools, once                  {reference_s:9.3f} s")
    print(f"ours, once                         {once_all_s:9.3f} s   {reference_s / once_all_s:7.0f} times as fast")
    print(f"  reading / matching / counting    {truth_s + read_s:9.3f} / {match_s:.3f} / {once_s:.3f} s")
    speed = f"{reference_s / draws_s * per_draw:7.0f} times as fast a draw"
    print(f"{f'bootstrap, {n_draws} draws':34} {draws_s:9.3f} s   {speed}")
    print(f"{f'evaluate, {len(full)} figures, {n_draws} draws':34} {full_s:9.3f} s")
    print(f"threshold curves                   {curves_s:9.3f} s")


if __name__ == "__main__":
    main()
