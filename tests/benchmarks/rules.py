"""AP of one results file as other programs' own code has it: what `tests/score/test_rules.py` compares ours with.

By hand, in an environment with the versions below. Of FiftyOne 1.22.1 its wheel, unpacked, is enough; of the others
what isn't asked for (databases, projects, compiled operators) may be left out with `--no-deps`.

    pip install ultralytics==8.4.190 sleap-nn==0.3.5 deeplabcut==3.0.2
    pip install mmpose==1.3.2 xtcocotools==1.14.3 pycocotools==2.0.11
    python tests/benchmarks/rules.py FIFTYONE_FOLDER tests/score/rules/quickstart tests/score/rules/hard

For each it reads NAME_truth.json and NAME_results.json and writes NAME_reference.json.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import io
import json
import sys
import types
from collections import defaultdict
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np

Coco, Results = dict[str, Any], list[dict[str, Any]]
#: What AP-10K's keypoints are called in MMPose's Animal-Pose.
IN_ANIMAL_POSE = {
    "left_eye": "L_Eye", "right_eye": "R_Eye", "nose": "Nose", "neck": "Throat", "root_of_tail": "TailBase",
    "left_shoulder": "L_F_Elbow", "left_elbow": "L_F_Knee", "left_front_paw": "L_F_Paw",
    "right_shoulder": "R_F_Elbow", "right_elbow": "R_F_Knee", "right_front_paw": "R_F_Paw",
    "left_hip": "L_B_Elbow", "left_knee": "L_B_Knee", "left_back_paw": "L_B_Paw",
    "right_hip": "R_B_Elbow", "right_knee": "R_B_Knee", "right_back_paw": "R_B_Paw",
}  # fmt: skip


def names_of(truth: Coco) -> list[str]:
    return truth["categories"][0]["keypoints"]


def triples(entry: dict[str, Any]) -> np.ndarray:
    return np.array(entry["keypoints"], dtype=np.float64).reshape(-1, 3)


def mmpose(truth: Coco, results: Results, dataset: str) -> float:
    from xtcocotools.coco import COCO
    from xtcocotools.cocoeval import COCOeval

    folder = Path(importlib.util.find_spec("mmpose").origin).parent / ".mim/configs/_base_/datasets"  # type: ignore[union-attr,arg-type]
    config: dict[str, Any] = {}
    exec((folder / f"{dataset}.py").read_text(), config)
    info = config["dataset_info"]
    by_name = {each["name"]: info["sigmas"][each["id"]] for each in info["keypoint_info"].values()}
    names = names_of(truth) if dataset == "ap10k" else [IN_ANIMAL_POSE[name] for name in names_of(truth)]
    sigmas = info["sigmas"] if dataset == "ap10k" else [by_name[name] for name in names]
    ground = COCO()
    ground.dataset, ground.anno_file = truth, [""]
    ground.createIndex()
    evaluation = COCOeval(ground, ground.loadRes(results), "keypoints", np.array(sigmas))
    return accumulated(evaluation)


def coco(truth: Coco, results: Results) -> float:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    ground = COCO()
    ground.dataset = truth
    ground.createIndex()
    return accumulated(COCOeval(ground, ground.loadRes(results), "keypoints"))


def accumulated(evaluation: Any) -> float:
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0])


def ultralytics(truth: Coco, results: Results, sigmas: str) -> float:
    import torch
    from ultralytics.engine.validator import BaseValidator
    from ultralytics.utils.metrics import OKS_SIGMA, ap_per_class, kpt_iou

    n = len(names_of(truth))
    sigma = OKS_SIGMA if sigmas == "coco" else np.ones(n) / n
    validator = types.SimpleNamespace(iouv=torch.linspace(0.5, 0.95, 10))
    stats = defaultdict(list)
    for image in truth["images"]:
        labels = [a for a in truth["annotations"] if a["image_id"] == image["id"] and not a["iscrowd"]]
        found = sorted((r for r in results if r["image_id"] == image["id"]), key=lambda r: -r["score"])
        classes, wanted = (torch.tensor([e["category_id"] for e in some]) for some in (found, labels))
        correct = np.zeros((len(found), 10), dtype=bool)
        if labels and found:
            points, where = (torch.tensor(np.stack([triples(e) for e in some])).float() for some in (labels, found))
            area = torch.tensor([a["bbox"][2] * a["bbox"][3] for a in labels]).float() * 0.53
            similar = kpt_iou(points, where, sigma=sigma, area=area)
            correct = BaseValidator.match_predictions(validator, classes, wanted, similar).numpy()
        for key, value in (
            ("tp", correct),
            ("conf", [r["score"] for r in found]),
            ("pred", classes),
            ("target", wanted),
        ):
            stats[key].append(np.asarray(value))
    tp, conf, pred, target = (np.concatenate(stats[key]) for key in ("tp", "conf", "pred", "target"))
    return float(ap_per_class(tp, conf, pred, target)[5].mean())


def deeplabcut(truth: Coco, results: Results) -> float:
    if "deeplabcut" not in sys.modules:  # without what their __init__ imports
        folder = Path(importlib.util.find_spec("deeplabcut").origin).parent  # type: ignore[union-attr,arg-type]
        for name, place in (("deeplabcut", folder), ("deeplabcut.core", folder / "core")):
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__path__ = [str(place)]
        sys.modules["deeplabcut.utils"] = MagicMock()  # of projects, videos and plots, which metrics have none of
    compute_metrics = importlib.import_module("deeplabcut.core.metrics.api").compute_metrics
    poses, found = {}, {}
    for image in truth["images"]:
        here = [triples(a) for a in truth["annotations"] if a["image_id"] == image["id"] and not a["iscrowd"]]
        there = [triples(r) for r in results if r["image_id"] == image["id"]]
        empty = np.zeros((0, len(names_of(truth)), 3))
        poses[str(image["id"])] = np.stack(here) if here else empty
        found[str(image["id"])] = np.stack(there) if there else empty
    return compute_metrics(poses, found, compute_detection_rmse=False)["mAP"] / 100


def sleap_nn(truth: Coco, results: Results) -> float:
    import sleap_io as sio
    from sleap_nn.evaluation import Evaluator

    skeleton = sio.Skeleton(nodes=names_of(truth))
    video = sio.Video(filename="cats.mp4", open_backend=False)
    labels: dict[str, list[sio.LabeledFrame]] = {"truth": [], "found": []}
    for index, image in enumerate(truth["images"]):
        here = [a for a in truth["annotations"] if a["image_id"] == image["id"] and not a["iscrowd"]]
        points = [np.where(triples(a)[:, 2:] > 0, triples(a)[:, :2], np.nan) for a in here]
        users = [sio.Instance.from_numpy(p, skeleton=skeleton) for p in points if not np.isnan(p).all()]
        found = [
            sio.PredictedInstance.from_numpy(
                triples(r)[:, :2], skeleton=skeleton, point_scores=triples(r)[:, 2], score=r["score"]
            )
            for r in results
            if r["image_id"] == image["id"]
        ]
        for key, instances in (("truth", users), ("found", found)):
            if instances:
                labels[key].append(sio.LabeledFrame(video=video, frame_idx=index, instances=instances))
    made = {key: sio.Labels(frames, videos=[video], skeletons=[skeleton]) for key, frames in labels.items()}
    return float(Evaluator(made["truth"], made["found"]).voc_metrics()["oks_voc.mAP"])


def fiftyone(truth: Coco, results: Results, folder: Path) -> float:
    from scipy import spatial

    class Keypoint(dict):  # type: ignore[type-arg]
        def __getattr__(self, name: str) -> Any:
            return self[name]

        def get_attribute_value(self, name: str, default: Any) -> Any:
            return self.get(name, default)

        @property
        def id(self) -> int:
            return self["id_"]

    class Keypoints(dict):  # type: ignore[type-arg]
        _LABEL_LIST_FIELD = "keypoints"

    def taken(file: str, names: set[str], scope: dict[str, Any]) -> dict[str, Any]:
        tree = ast.parse((folder / file).read_text())
        tree.body = [each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name in names]
        exec(compile(tree, file, "exec"), scope)
        return scope

    iou = taken("fiftyone/utils/iou.py", {"_compute_keypoint_similarities", "_compute_object_keypoint_similarity"},
                {"np": np, "sp": spatial})  # fmt: skip
    compute_ious = lambda preds, gts, sparse, **_: iou["_compute_keypoint_similarities"](preds, gts, sparse=sparse)  # noqa: E731
    scope = {
        "np": np, "defaultdict": defaultdict, "_NO_MATCH_ID": "", "_NO_MATCH_IOU": None,
        "logger": types.SimpleNamespace(info=lambda _: None), "_copy_labels": lambda labels: labels,
        "fol": types.SimpleNamespace(Keypoints=Keypoints, Keypoint=Keypoint),
        "foui": types.SimpleNamespace(compute_ious=compute_ious),
    }  # fmt: skip
    names = {"_coco_evaluation_iou_sweep", "_coco_evaluation_setup", "_compute_matches", "_compute_pr_curves"}
    curves = taken("fiftyone/utils/eval/coco.py", names, scope)["_compute_pr_curves"]

    samples = []
    for image in truth["images"]:
        size = [image["width"], image["height"]]
        sample = {}
        for field, entries in (("gt", truth["annotations"]), ("pred", results)):
            objects = []
            for i, entry in enumerate(entries):
                if entry["image_id"] == image["id"]:
                    points = triples(entry)
                    places = points[:, :2] / size
                    if field == "gt":
                        places[points[:, 2] == 0] = np.nan
                    said = {"label": str(entry["category_id"]), "iscrowd": entry.get("iscrowd", 0)}
                    where = {"points": places.tolist(), "confidence": points[:, 2].tolist()}
                    objects.append(Keypoint(id_=f"{field}{i}", **said, **where))
            sample[field] = Keypoints(keypoints=objects)
        samples.append(sample)

    class Samples:
        def select_fields(self, _: list[str]) -> Samples:
            return self

        def _handle_frame_field(self, field: str) -> tuple[str, bool]:
            return field, False

        def iter_samples(self, progress: object) -> list[dict[str, Keypoints]]:
            return samples

    config = types.SimpleNamespace(gt_field="gt", pred_field="pred", iou_threshs=[x / 100 for x in range(50, 100, 5)],
                                   classwise=True, iscrowd="iscrowd", error_level=1, use_masks=False, use_boxes=False,
                                   keypoint_sigmas=None, max_preds=100)  # fmt: skip
    by_class = np.mean(curves(Samples(), config)[0], axis=(0, 2))
    return float(by_class[by_class > -1].mean())


def main() -> None:
    folder = Path(sys.argv[1])
    for case in map(Path, sys.argv[2:]):

        def read(what: str, case: Path = case) -> Any:
            return json.loads(case.with_name(f"{case.name}_{what}.json").read_text())

        programs: dict[str, tuple[str, Callable[[Coco, Results], float]]] = {
            "AP-10K (MMPose)": ("mmpose", lambda t, r: mmpose(t, r, "ap10k")),
            "Animal-Pose (MMPose)": ("mmpose", lambda t, r: mmpose(t, r, "animalpose")),
            "COCO": ("pycocotools", coco),
            "Ultralytics, 17 keypoints": ("ultralytics", lambda t, r: ultralytics(t, r, "coco")),
            "Ultralytics, others": ("ultralytics", lambda t, r: ultralytics(t, r, "1/K")),
            "DeepLabCut": ("deeplabcut", deeplabcut),
            "SLEAP-NN": ("sleap-nn", sleap_nn),
            "FiftyOne, kappa 1": ("fiftyone", lambda t, r: fiftyone(t, r, folder)),
        }
        values = {}
        for name, (package, program) in programs.items():
            search = {"path": [str(folder)]} if package == "fiftyone" else {}
            (found,) = list(metadata.distributions(name=package, **search))[:1]
            with contextlib.redirect_stdout(io.StringIO()):
                values[name] = {"AP": program(read("truth"), read("results")), "version": found.version}
            print(f"{case.name}: {name} {values[name]['version']}: {values[name]['AP']:.6f}")
        case.with_name(f"{case.name}_reference.json").write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
