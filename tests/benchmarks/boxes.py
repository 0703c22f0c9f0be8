"""What boxes are worth: PCK@0.1 of single cats that cover at most a third of their picture, under boxes of five kinds.

    python tests/benchmarks/boxes.py --checkpoint runs/mobilenet/best.ckpt --data ../shared/data/cats17

Ground-truth boxes; the whole picture; the whole picture and a second pass, as `predict` makes it; ground-truth boxes
whose centre is moved by a share of their sides in a random direction, and whose size is multiplied by one more or less
than that share, either as likely. Intervals are of 95 %, from resamples of the pictures; differences to the whole
picture from the same resamples. The checkpoint should not have seen these pictures: take the validation split's.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from catpose.data.boxes import Boxes, with_boxes
from catpose.data.coco import read_split
from catpose.data.coco_split import CocoSplit
from catpose.instances import Instances
from catpose.run.network import Network
from catpose.run.prediction import detect, scored_by_box
from catpose.run.second_pass import second_boxes
from catpose.score.bootstrap import image_weights
from catpose.score.detections import Detections
from catpose.score.distances import distances, means, measures
from catpose.text import table

LARGEST = 1 / 3
SHARES = (0.1, 0.2)
DRAWS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = Network.load(arguments.checkpoint, "cpu")
    split = small_and_single(read_split(arguments.data, arguments.split))
    weights = image_weights(len(split.images), DRAWS)

    def predicted(boxes: Boxes) -> Detections:
        return scored_by_box(detect(model, with_boxes(split, boxes)), boxes)

    def pck(detections: Detections) -> tuple[float, np.ndarray]:
        measured = measures(split, distances(split, detections))
        return float(means(split, measured)["PCK@0.1"]), means(split, measured, weights)["PCK@0.1"]

    whole = of_pictures(split, [[0, 0, image.width, image.height] for image in split.images])
    first = predicted(whole)
    second, n_refined = second_boxes(split, first)
    found = {"ground-truth boxes": pck(predicted(of_pictures(split, split.boxes.tolist())))}
    found["whole picture"] = pck(first)
    found[f"whole picture, second pass on {n_refined}"] = pck(predicted(second))
    for share in SHARES:
        found[f"boxes off by {share:.0%}"] = pck(predicted(of_pictures(split, shaken(split.boxes, share).tolist())))
    rows = []
    for name, (value, draws) in found.items():
        difference = draws - found["whole picture"][1]
        rows.append((name, f"{value:.3f}", interval(draws), f"{difference.mean():+.3f}", interval(difference, "+")))
    print(f"{len(split)} single cats of at most a third of their picture, {arguments.data} {arguments.split}\n")
    print(table(rows, ("", "PCK@0.1", "95 % interval", "against whole", "95 % interval")))


def small_and_single(split: CocoSplit) -> CocoSplit:
    """The pictures with one instance, labelled and covering at most a third of it."""
    alone = np.bincount(split.image_index, minlength=len(split.images))[split.image_index] == 1
    sizes = np.array([image.width * image.height for image in split.images])[split.image_index]
    rows = alone & split.used & (split.boxes[:, 2] * split.boxes[:, 3] <= LARGEST * sizes)
    ids, wanted = set(split.ids[rows].tolist()), set(split.image_id[rows].tolist())
    coco = split.coco | {
        "images": [image for image in split.coco["images"] if image["id"] in wanted],
        "annotations": [entry for entry in split.coco["annotations"] if entry["id"] in ids],
    }
    instances = Instances.from_coco(coco, skeleton=split.skeleton)
    images = tuple(image for image in split.images if image.id in wanted)
    return replace(split, **vars(instances), coco=coco, images=images, stated_areas=split.stated_areas[rows])


def of_pictures(split: CocoSplit, boxes: list[list[float]]) -> Boxes:
    """A box for each picture, in their order, which is the instances'."""
    return Boxes.of([(place, box, 1.0) for place, box in zip(range(len(split.images)), boxes, strict=True)])


def shaken(boxes: np.ndarray, share: float) -> np.ndarray:
    """Boxes (N, 4) as a detector errs: moved by `share` of their sides, larger or smaller by it."""
    random = np.random.default_rng(0)
    angle, sign = random.uniform(0, 2 * np.pi, len(boxes)), random.choice((-1, 1), len(boxes))
    size = boxes[:, 2:] * (1 + share * sign)[:, None]
    centre = boxes[:, :2] + boxes[:, 2:] / 2 + share * boxes[:, 2:] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.concatenate([centre - size / 2, size], axis=1)


def interval(draws: np.ndarray, sign: str = "") -> str:
    low, high = np.nanpercentile(draws, (2.5, 97.5))
    return f"{low:{sign}.3f} to {high:{sign}.3f}"


if __name__ == "__main__":
    main()
