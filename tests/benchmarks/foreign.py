"""`compare` on other programs' own result files, beside pycocotools called directly on the same files.

By hand, with clones of both programs, whose examples they are:

    git clone https://github.com/jin-s13/xtcocoapi && git -C xtcocoapi checkout d74033f
    git clone https://github.com/MiXaiLL76/faster_coco_eval && git -C faster_coco_eval checkout 33ab609
    python tests/benchmarks/foreign.py xtcocoapi faster_coco_eval OUT

Writes to OUT what is compared, so that `python -m catpose.compare` can be run on it too: xtcocotools' people (17
keypoints, whole-body results cut to the body), the same with six of them, and faster-coco-eval's boxes (those of its
masks are the masks' own). Prints a row a file for RESULTS.md.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from catpose import compare

#: Eyes, shoulders and hips, which AP-10K has by the same names and with the same sigmas.
SIX = (1, 2, 5, 6, 11, 12)


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def cut(keypoints: list[float]) -> list[float]:
    return [value for i in SIX for value in keypoints[3 * i : 3 * i + 3]]


def people(folder: Path) -> dict[str, Any]:
    """Truth and results of 17 and of six keypoints, by the names of the files to write."""
    truth = read(folder / "example_coco_val.json")
    ids = {image["id"] for image in truth["images"]}
    keys = ("image_id", "category_id", "keypoints", "score")
    made: dict[str, Any] = {"17_truth": truth}
    for name in ("coco", "wholebody"):
        results = read(folder / f"example_{name}_preds.json")
        made[f"17_{name}"] = [{key: each[key] for key in keys} for each in results if each["image_id"] in ids]
        made[f"6_{name}"] = [{**each, "keypoints": cut(each["keypoints"])} for each in made[f"17_{name}"]]
    category = {**truth["categories"][0], "skeleton": []}
    category["keypoints"] = [category["keypoints"][i] for i in SIX]
    annotations = [{**each, "keypoints": cut(each["keypoints"])} for each in truth["annotations"]]
    for each in annotations:
        each["num_keypoints"] = sum(flag > 0 for flag in each["keypoints"][2::3])
    made["6_truth"] = {**truth, "categories": [category], "annotations": annotations}
    return made


def boxes(folder: Path) -> dict[str, Any]:
    results = {name: read(folder / f"instances_val2014_{name}_results.json") for name in ("fakebbox100", "fakesegm100")}
    for each in results["fakesegm100"]:
        each["bbox"] = mask.toBbox(each.pop("segmentation")).tolist()
    return {
        "boxes_truth": read(folder / "instances_val2014_100.json"),
        **{f"boxes_{name}": each for name, each in results.items()},
    }


def of_pycocotools(truth: Path, results: Path, sigmas: np.ndarray | None) -> float:
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO(str(truth))
        evaluation = COCOeval(ground, ground.loadRes(str(results)), "bbox" if sigmas is None else "keypoints")
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = sigmas
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def rows(out: Path, kind: str, names: tuple[str, str], sigmas: np.ndarray | None) -> None:
    truth = out / f"{kind}_truth.json"
    first, second = (out / f"{kind}_{name}.json" for name in names)
    made = compare(first, second, truth)
    ((_, tested),) = made.against("AP").items()
    for place, (file, method) in enumerate(zip((first, second), made.methods, strict=True)):
        (evaluated,) = method.evaluations
        ap = evaluated.values["AP"]
        said = f"{tested.difference.value:+.3f}" if place == made.best else ""
        print(f"| {kind} | {file.stem} | {ap:.4f} | {ap - of_pycocotools(truth, file, sigmas):.0e} | {said} |")


def main() -> None:
    xtcocotools, faster_coco_eval, out = map(Path, sys.argv[1:4])
    out.mkdir(parents=True, exist_ok=True)
    made = people(xtcocotools / "annotations") | boxes(faster_coco_eval / "tests/dataset/cocoapi")
    for name, content in made.items():
        (out / f"{name}.json").write_text(json.dumps(content))
    person = COCOeval(iouType="keypoints").params.kpt_oks_sigmas
    rows(out, "17", ("coco", "wholebody"), person)
    rows(out, "6", ("coco", "wholebody"), person[list(SIX)])
    rows(out, "boxes", ("fakebbox100", "fakesegm100"), None)


if __name__ == "__main__":
    main()
