"""What catpose costs beside MMPose 1.3.2 on the same torch, one thread: the table of ratios for RESULTS.md.

By hand, in ten minutes, in an environment that has catpose, and MMPose without most of what it names:

    pip install 'setuptools<81' wheel
    pip install --no-deps mmengine==0.10.7 mmpose==1.3.2 addict yapf six munkres json-tricks termcolor rich
    pip install --no-deps --no-build-isolation mmcv-lite==2.1.0
    pip install --no-deps --no-build-isolation --no-binary xtcocotools xtcocotools==1.14.3
    python tests/benchmarks/against_mmpose.py [--rounds 9] [--parts networks samples score commands]

Each row's two sides are measured by turns in CPU time, so that a busy machine slows both alike; medians stand in the
table. Networks are random, of MMPose's own AP-10K configurations at 256×256, and get the same picture; a training
sample is one of `loader.py`'s, with its target. (The script isn't called mmpose.py, which Python would import instead.)
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import contextlib
import copy
import importlib.util
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from loader import AUGMENTATIONS, N_IMAGES, data_module, picture_like_a_photograph, write_data
from score import made_up
from startup import CATPOSE, FIRST_STEP, PYTHON, cpu_seconds

from catpose import prepare
from catpose.cost.profiling import build
from catpose.data.dataset import collate
from catpose.instances import Instances
from catpose.run.cli import FitCLI
from catpose.run.network import Network
from catpose.run.prediction import poses_in
from catpose.score.metric import KeypointAP

#: Compiled operators and detectors, which MMPose imports and nothing here calls.
MMPOSE = """
import os, sys, warnings
from unittest.mock import MagicMock
warnings.simplefilter("ignore")
sys.modules |= {name: MagicMock(__path__=[], __spec__=None) for name in ("mmcv.ops", "mmdet", "mmdet.utils")}
from mmengine.runner import Runner
from mmpose.utils import register_all_modules
register_all_modules()
"""
MMPOSE_FIRST_STEP = f"""{MMPOSE}
from mmengine.config import Config
from mmengine.hooks import Hook
class FirstStep(Hook):
    def after_train_iter(self, *_, **__):
        os._exit(0)
runner = Runner.from_cfg(Config.fromfile(sys.argv[1]))
runner.register_hook(FirstStep())
runner.train()
"""
CATPOSE_IMPORTS = "import catpose.run.training"  # what `fit` imports
MODELS = {  # experiments of ours, configurations of theirs
    "ResNet-50": ("resnet50", "td-hm_res50_8xb64-210e_ap10k-256x256"),
    "HRNet-w32": ("hrnet", "td-hm_hrnet-w32_8xb64-210e_ap10k-256x256"),
}
BATCH = 2
GOALS = {"training step": 0.9, "one crop": 0.8, "fit to its first step, warm": 0.8, "fit to its first step, cold": 0.9}

Side = Callable[[int], object]  # the work of a round
Row = tuple[str, Side, Side, int]  # its name, ours, theirs, and its repetitions in a round; 0: a command of its own


def cpu_seconds_so_far() -> float:
    """Of this process and those of its children that have ended."""
    return time.process_time() + sum(os.times()[2:4])


def by_turns(ours: Side, theirs: Side, rounds: int, repeats: int) -> tuple[float, float]:
    """Median CPU seconds of each, after a first round that isn't counted; who begins changes."""
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(rounds + 1):
        for which, side in sorted(enumerate((ours, theirs)), reverse=i % 2 == 1):
            before = cpu_seconds_so_far()
            for j in range(repeats):
                side(i * repeats + j)
            times[which].append(cpu_seconds_so_far() - before)
    return tuple(statistics.median(own[1:]) / repeats for own in times)  # type: ignore[return-value]


def their_config(name: str, root: Path) -> Any:
    """One of MMPose's own, on a data folder of ours, from random weights, without worker processes."""
    from mmengine.config import Config

    package = Path(importlib.util.find_spec("mmpose").origin).parent  # type: ignore[union-attr,arg-type]
    (file,) = package.glob(f".mim/configs/animal_2d_keypoint/*/ap10k/{name}.py")
    config = Config.fromfile(file)
    config.model.backbone.init_cfg = None
    for split, loader in (("train", config.train_dataloader), ("val", config.val_dataloader)):
        loader.update(batch_size=BATCH, num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(root), ann_file=f"annotations/{split}.json", data_prefix={"img": "images/"})
    config.val_evaluator.ann_file = str(root / "annotations" / "val.json")
    config.test_dataloader = config.test_evaluator = config.test_cfg = None
    config.work_dir = str(root.parent / "work")
    return config


def networks(experiment: str, config: Any, root: Path) -> Iterator[Row]:
    """A training step, and one crop with flip test and decoding."""
    from mmengine.dataset import pseudo_collate
    from mmengine.optim import build_optim_wrapper
    from mmpose.registry import DATASETS, MODELS

    mine, _ = build(FitCLI(["--config", experiment, "--model.weights=null", f"--data.root={root}"]))
    crops = data_module(root, AUGMENTATIONS[next(iter(AUGMENTATIONS))], 0, "memory").train_dataloader().dataset
    batch = collate([crops[0, i] for i in range(BATCH)])
    learner = copy.deepcopy(mine).to(memory_format=torch.channels_last).train()  # as `PoseModel.setup`
    optimizer = torch.optim.Adam(learner.parameters(), lr=1e-5)

    def step(_: int) -> None:
        loss = learner.loss(learner(batch["crop"]), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    network = Network(mine, (256, 256), "cpu")
    crop, affine = batch["crop"][:1].numpy(), batch["crop_to_image"][:1].numpy()

    train, val = (DATASETS.build(loader.dataset) for loader in (config.train_dataloader, config.val_dataloader))
    their_batch = pseudo_collate([train[i] for i in range(BATCH)])
    their_learner, theirs = MODELS.build(config.model).train(), MODELS.build(config.model).eval()
    config.optim_wrapper.optimizer.lr = 1e-5
    wrapper = build_optim_wrapper(their_learner, config.optim_wrapper)
    their_crop = pseudo_collate([val[0]])

    def predict(_: int) -> None:
        with torch.no_grad():
            theirs.test_step(their_crop)

    yield f"training step, {BATCH} crops", step, lambda _: their_learner.train_step(their_batch, wrapper), 1
    yield "one crop, flip test and decoding", lambda _: poses_in(network, crop, affine), predict, 2


def samples(root: Path, folder: Path) -> Iterator[Row]:
    """Training samples, of pictures that are kept decoded and of files that are read each time."""
    from mmpose.registry import DATASETS

    mine, _ = build(FitCLI(["--config", "resnet50", f"--data.root={root}"]))
    train = DATASETS.build(their_config(MODELS["ResNet-50"][1], root).train_dataloader.dataset)
    augmentation = AUGMENTATIONS[next(iter(AUGMENTATIONS))]
    for cache, what in (("memory", "from a decoded picture"), ("off", "from its file")):
        crops = data_module(root, augmentation, 0, cache).train_dataloader().dataset  # type: ignore[arg-type]

        def sample(i: int, crops: Any = crops) -> None:
            batch = collate([crops[0, i % N_IMAGES]])
            mine.codec.encode(batch["keypoints_crop"], batch["visibility"], (256, 256), (64, 64))

        yield f"training sample, ours {what}", sample, lambda i: train[i % N_IMAGES], 100


def scores(root: Path, folder: Path) -> Iterator[Row]:
    """AP of detections in 200 images, which both sides must agree on."""
    from mmpose.registry import DATASETS, METRICS

    coco, results = made_up(200, np.random.default_rng(0))
    file = folder / "truth.json"
    file.write_text(json.dumps(coco))
    truth = Instances.from_coco(coco)
    found = np.array([each["keypoints"] for each in results], np.float32).reshape(-1, 17, 3)
    keypoints, confidence, ids = torch.tensor(found[..., :2]), torch.tensor(found[..., 2]), torch.tensor(truth.ids)
    detections = [
        {
            "id": annotation["id"],
            "img_id": annotation["image_id"],
            "pred_instances": {"keypoints": each[None, :, :2], "keypoint_scores": each[None, :, 2]},
            "gt_instances": {"bbox_scales": 1.25 * np.array(annotation["bbox"])[None, 2:]},
        }
        for annotation, each in zip(coco["annotations"], found, strict=True)
    ]
    metric = METRICS.build({"type": "CocoMetric", "ann_file": str(file)})
    metric.dataset_meta = DATASETS.get("AP10KDataset")(lazy_init=True).metainfo

    def ours(_: int) -> float:
        own = KeypointAP(truth)
        own.update(keypoints, confidence, ids)
        return own.compute()["AP"]

    def theirs(_: int) -> float:
        metric.process([], detections)
        return metric.evaluate(len(detections))["coco/AP"]

    assert abs(ours(0) - theirs(0)) < 1e-6, (ours(0), theirs(0))
    yield "AP of 200 images", ours, theirs, 2


def commands(root: Path, folder: Path) -> Iterator[Row]:
    """Processes of their own: ResNet-50 on drawn cats, since `fit` refuses copies of one picture."""
    root = folder / "drawn"
    with contextlib.redirect_stdout(sys.stderr):
        prepare.main(["drawn", "--out", str(root), "--sizes", "64", "16", "8"])
    (folder / "first_step.py").write_text(FIRST_STEP)
    their_config(MODELS["ResNet-50"][1], root).dump(folder / "theirs.py")
    fit = (*CATPOSE, "fit", "--import", "first_step", "--config", "resnet50", "--data.root", str(root))
    fit += ("--model.weights=null", f"--data.batch_size={BATCH}", "--data.num_workers=0", "--wandb.mode=disabled")
    fit += ("--trainer.accelerator=cpu", "--trainer.callbacks", "first_step.FirstStep")

    def run(*command: str) -> Side:
        return lambda i: cpu_seconds(tuple(part.format(i) for part in command), folder)

    their_fit = lambda _: cpu_seconds((*PYTHON, MMPOSE_FIRST_STEP, "theirs.py"), folder)  # noqa: E731
    yield "import for training", run(*PYTHON, CATPOSE_IMPORTS), lambda _: cpu_seconds((*PYTHON, MMPOSE), folder), 0
    yield "fit to its first step, warm", run(*fit, "--data.cache_dir=warm", "--out=warm-{}"), their_fit, 0
    yield "fit to its first step, cold", run(*fit, "--data.cache_dir=cold-{0}", "--out=cold-run-{0}"), their_fit, 0


def networks_of_both(root: Path, folder: Path) -> Iterator[Row]:
    for name, (experiment, config) in MODELS.items():
        for what, *row in networks(experiment, their_config(config, root), root):
            yield (f"{what}, {name}", *row)  # type: ignore[misc]


PARTS = {"networks": networks_of_both, "samples": samples, "score": scores, "commands": commands}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="of each row; three of commands (%(default)s)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with contextlib.redirect_stdout(sys.stderr):
        exec(MMPOSE, {})
    print(f"torch {torch.__version__}\n\n| | catpose, CPU ms | MMPose | ratio | goal |\n|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "data"
        write_data(root, picture_like_a_photograph())
        for part in arguments.parts:
            for name, ours, theirs, repeats in PARTS[part](root, Path(place)):
                with contextlib.redirect_stdout(io.StringIO()):  # theirs says much
                    own, other = by_turns(ours, theirs, arguments.rounds if repeats else 3, repeats or 1)
                goal = next((goal for what, goal in GOALS.items() if name.startswith(what)), "")
                print(f"| {name} | {1e3 * own:.1f} | {1e3 * other:.1f} | {own / other:.2f} | {goal} |", flush=True)


if __name__ == "__main__":
    main()
