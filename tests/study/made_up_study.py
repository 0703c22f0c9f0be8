"""Studies with trials that are made up, on detections that are real enough: truth with noise, scored as ever."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from made_up import coco

from catpose.data.coco import CocoSplit, read_split, split_hash
from catpose.score.ap import average_precision, match
from catpose.score.contract import Contract
from catpose.score.instances import Detections, Truth
from catpose.study.file import Study, read_study
from catpose.study.ledger import Trial

N_IMAGES = 24


def study(folder: Path, text: str) -> Study:
    """The study of a sweep file with this text; `experiment` is added."""
    (folder / "experiment.yaml").write_text("model: HRNet\n")
    file = folder / "lr.yaml"
    file.write_text(f"# Question: which learning rate?\nexperiment: {folder / 'experiment.yaml'}\n{text}")
    return read_study(file)


def validation(folder: Path) -> CocoSplit:
    """A data folder's validation split of 24 images with 32 cats."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "annotations" / "val.json").write_text(json.dumps(coco(range(1, N_IMAGES + 1))))
    return read_split(folder, "val")


class Trials:
    """The trials of a study as its ledger would have them: `trials` and `results(point, seed)`.

    Args:
        truth: the split. noise: of each point, px added to the truth's keypoints: more noise, less AP.
        arms, seeds: the ledger's plan.
    """

    def __init__(
        self, truth: CocoSplit, arms: Sequence[dict[str, Any] | None], seeds: Sequence[int], noise: Sequence[float]
    ) -> None:
        self.compressed: dict[tuple[int, int], bytes] = {}
        self.asked: set[tuple[int, int]] = set()
        self.trials: list[Trial] = []
        for seed in seeds:
            for point, (arm, px) in enumerate(zip(arms, noise, strict=True)):
                detections, outcome = made(truth, px, 1000 * seed + point)
                self.compressed[point, seed] = detections
                outcome = outcome | {
                    "run": f"runs/{point}-seed{seed}",
                    "command": f"python -m catpose.fit {point} {seed}",
                }
                self.trials.append(Trial(point, seed, arm, "complete", 1, 0, 0, None, len(self.trials), outcome))

    def results(self, point: int, seed: int) -> bytes | None:
        self.asked.add((point, seed))
        return self.compressed.get((point, seed))

    def change(self, point: int, seed: int, **fields: Any) -> None:
        """Put other fields into one trial; `outcome` is merged into the one it has."""
        i = next(i for i, trial in enumerate(self.trials) if (trial.point, trial.seed) == (point, seed))
        if fields.get("outcome"):
            fields["outcome"] = {**(self.trials[i].outcome or {}), **fields["outcome"]}
        self.trials[i] = dataclasses.replace(self.trials[i], **fields)


_made: dict[tuple[str, float, int], tuple[bytes, dict[str, Any]]] = {}


def made(truth: CocoSplit, noise: float, seed: int) -> tuple[bytes, dict[str, Any]]:
    """(compressed results, a trial's outcome) of the truth's keypoints with Gaussian noise."""
    key = (str(truth.file), noise, seed)
    if key not in _made:
        instances = _truth(truth.file)
        rng = np.random.default_rng(seed)
        n = len(instances)
        each = noise * rng.uniform(0.3, 1.7, (n, 1, 1))  # instances are of unequal difficulty
        detections = Detections(
            image_id=instances.image_id,
            category_id=instances.category_id,
            keypoints=instances.keypoints + rng.normal(size=(n, 17, 2)) * each,
            confidence=np.full((n, 17), 0.9),
            score=rng.random(n),
            annotation_id=instances.annotation_id,
        )
        scored = average_precision(match(instances, detections))
        values = {f"val/{name}": float(value) for name, value in scored.items() if not np.isnan(value)}
        contract = Contract.of(
            instances,
            detections,
            split="val",
            split_hash=split_hash(truth),
            box_source="ground truth",
            flip_test=True,
        )
        outcome = {
            "values": values,
            "best_ap": values["val/AP"] + 0.01,
            "best_epoch": 3,
            "epochs": 5,
            "seconds": 90.0,
            "reason": None,
            "contract": dataclasses.asdict(contract),
        }
        _made[key] = zlib.compress(json.dumps(detections.to_results()).encode()), json.loads(json.dumps(outcome))
    return _made[key]


@cache
def _truth(file: Path) -> Truth:
    return Truth.from_coco(json.loads(file.read_text()))
