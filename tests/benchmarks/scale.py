"""How the costs of a data set grow with it, in CPU seconds (user and system, all threads) of this process.

    python tests/benchmarks/scale.py [--sizes 1000,10000,100000]

Made-up data: so many pictures (links to one file) with an animal each. Behind each time stands its growth since the
size before, as a power: 1 is linear, 2 quadratic. 100,000 animals take some minutes and 3 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from catpose.data.cache import open_pictures
from catpose.data.copies import N_BITS, Fingerprint, near_pairs
from catpose.run.training import sound_data
from catpose.score.ap import own_oks
from catpose.score.metric import KeypointAP
from catpose.skeleton import AP10K

WIDTH, HEIGHT = 640, 480
BATCH = 32


def write_data(root: Path, n: int) -> None:
    """A data folder whose train.json and val.json hold n animals on n pictures each."""
    for name in ("annotations", "images"):
        (root / name).mkdir(parents=True)
    cv2.imwrite(str(root / "picture.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    categories = [{"id": 1, "name": "cat", "keypoints": list(AP10K.names)}]
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        boxes = np.concatenate([rng.uniform(0, 200, (n, 2)), rng.uniform(100, 250, (n, 2))], axis=1).round(1)
        points = boxes[:, None, :2] + rng.random((n, len(AP10K), 2)) * boxes[:, None, 2:]
        seen = rng.choice([0, 1, 2], (n, len(AP10K), 1), p=[0.2, 0.2, 0.6])
        triples = np.concatenate([points.round(1) * (seen > 0), seen], axis=-1).reshape(n, -1)
        names = [f"{split}{i}.png" for i in range(n)]
        for name in names:
            os.symlink(root / "picture.png", root / "images" / name)
        images = [{"id": i, "file_name": names[i], "width": WIDTH, "height": HEIGHT} for i in range(n)]
        annotations = [
            {"id": i, "image_id": i, "category_id": 1, "bbox": boxes[i].tolist(), "keypoints": triples[i].tolist()}
            for i in range(n)
        ]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"{split}.json").write_text(json.dumps(content))


def made_up_looks(n: int) -> list[Fingerprint]:
    """Of n pictures, every tenth of which is nearly another."""
    rng = np.random.default_rng(0)
    gradients = rng.random((n, N_BITS)) < 0.5
    gradients[: n // 10] = gradients[-(n // 10) :] ^ (rng.random((n // 10, N_BITS)) < 0.02)
    return [Fingerprint(b"", (WIDTH, HEIGHT), each, 50.0) for each in gradients]


def measure(n: int, folder: Path) -> dict[str, float]:
    """CPU seconds by what they were spent on."""
    seconds: dict[str, float] = {}

    def timed(what: str, work: Callable[[], Any]) -> Any:
        before = cpu_seconds()
        result = work()
        seconds[what] = cpu_seconds() - before
        return result

    root = folder / "data"
    write_data(root, n)
    splits, _ = timed("annotations read and checked, twice n", lambda: sound_data(root, "box"))
    split = splits["val"]
    timed("disk cache opened", lambda: open_pictures(split, range(n), "disk", folder / "cache"))
    metric = KeypointAP(split, (256, 256))
    keypoints = torch.from_numpy(np.nan_to_num(split.keypoints) + np.random.default_rng(1).normal(0, 5, (n, 17, 2)))
    confidence, ids = torch.rand(n, len(AP10K)), torch.from_numpy(split.ids)

    def validate() -> None:
        for some in torch.arange(n).split(BATCH):
            metric.update(keypoints[some], confidence[some], ids[some])

    timed("validation: batches", validate)
    timed("validation: AP and the others", metric.compute)
    detections = metric.detections
    assert detections is not None
    text = timed("validation: results as JSON", lambda: json.dumps(detections.to_results(own_oks(split, detections))))
    seconds["(their MB)"] = len(text) / 1e6
    looks = made_up_looks(n)
    timed("near-copies", lambda: list(near_pairs(looks)))
    return seconds


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,10000,100000", help="animals, rising (%(default)s)")
    sizes = [int(size) for size in parser.parse_args().sizes.split(",")]
    columns = []
    for n in sizes:
        with tempfile.TemporaryDirectory() as folder:
            columns.append(measure(n, Path(folder)))
    print("| CPU seconds | " + " | ".join(f"{n:,}" for n in sizes) + " |")
    print("|---|" + "---|" * len(sizes))
    for what in columns[0]:
        cells = []
        for i, (n, seconds) in enumerate(zip(sizes, columns, strict=True)):
            cells.append(f"{seconds[what]:.3g}")
            if i:
                grown = max(seconds[what], 1e-3) / max(columns[i - 1][what], 1e-3)
                cells[-1] += f" ({math.log(grown) / math.log(n / sizes[i - 1]):.2f})"
        print(f"| {what} | " + " | ".join(cells) + " |")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
