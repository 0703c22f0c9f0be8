"""Studies with trials that are made up, on detections that are real enough: truth with noise, scored as ever."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from made_up import coco

from catpose.data.coco import read_split
from catpose.data.coco_split import CocoSplit, split_hash
from catpose.data.copies import pool_of
from catpose.score.ap import average_precision, match
from catpose.score.detections import Detections
from catpose.score.protocol import EvaluationProtocol
from catpose.study.file import Study, read_study
from catpose.study.space import Configuration
from catpose.study.stored import Outcome
from catpose.study.trial import Trial

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
    """The trials of a study as its ledger would have them: `trials` and `results(index, seed)`.

    Args:
        truths: the split; of several, random ones of one pool, seed i has that at i mod n.
        noise: of each configuration, px added to the truth's keypoints: more noise, less AP.
        configurations, seeds: the ledger's plan.
    """

    def __init__(
        self,
        truths: Sequence[CocoSplit],
        configurations: Sequence[Configuration | None],
        seeds: Sequence[int],
        noise: Sequence[float],
    ) -> None:
        self.truths = truths
        self.compressed: dict[tuple[int, int], bytes] = {}
        self.asked: set[tuple[int, int]] = set()
        self.trials: list[Trial] = []
        for seed in seeds:
            for index, (configuration, px) in enumerate(zip(configurations, noise, strict=True)):
                detections, outcome = made(truths[seed % len(truths)], px, 1000 * seed + index)
                self.compressed[index, seed] = detections
                run, command = f"runs/{index}-seed{seed}", f"python -m catpose.fit {index} {seed}"
                outcome = outcome.model_copy(update={"run": run, "command": command})
                number = len(self.trials)
                trial = Trial(index, seed, configuration, "complete", token=1, number=number, outcome=outcome)
                self.trials.append(trial)

    def results(self, index: int, seed: int) -> bytes | None:
        self.asked.add((index, seed))
        return self.compressed.get((index, seed))

    def change(self, index: int, seed: int, **fields: Any) -> None:
        """Put other fields into one trial; `outcome` is merged into the one it has."""
        i = next(i for i, trial in enumerate(self.trials) if trial.key == (index, seed))
        if fields.get("outcome"):
            outcome = self.trials[i].outcome or Outcome()
            fields["outcome"] = outcome.model_copy(update=fields["outcome"])
        self.trials[i] = dataclasses.replace(self.trials[i], **fields)


_made: dict[tuple[str, float, int], tuple[bytes, Outcome]] = {}


def made(truth: CocoSplit, noise: float, seed: int) -> tuple[bytes, Outcome]:
    """(compressed results, a trial's outcome) of the truth's keypoints with Gaussian noise."""
    key = (str(truth.file), noise, seed)
    if key not in _made:
        rng = np.random.default_rng(seed)
        n = len(truth)
        each = noise * rng.uniform(0.3, 1.7, (n, 1, 1))  # instances are of unequal difficulty
        detections = Detections(
            image_id=truth.image_id,
            category_id=truth.category_id,
            keypoints=truth.keypoints + rng.normal(size=(n, 17, 2)) * each,
            confidence=np.full((n, 17), 0.9),
            score=rng.random(n),
            annotation_id=truth.ids,
        )
        scored = average_precision(match(truth, detections))
        values = {f"val/{name}": float(value) for name, value in scored.items() if not np.isnan(value)}
        protocol = EvaluationProtocol.of(
            truth,
            detections,
            split="val",
            split_hash=split_hash(truth),
            box_source="ground truth",
            flip_test=True,
            pool=pool_of(truth),
        )
        outcome = {
            "values": values,
            "best_ap": values["val/AP"] + 0.01,
            "best_epoch": 3,
            "epochs": 5,
            "seconds": 90.0,
            "protocol": dataclasses.asdict(protocol),
        }
        plain = Outcome(**json.loads(json.dumps(outcome)))
        _made[key] = zlib.compress(json.dumps(detections.to_results()).encode()), plain
    return _made[key]
