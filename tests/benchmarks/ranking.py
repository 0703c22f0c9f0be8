"""What `predict --rank` gains: pictures that it puts first, labelled next, against as many at random.

    python tests/benchmarks/ranking.py --checkpoint runs/few/best.ckpt --labelled data/fifty --data data/cats

The checkpoint was trained on the pictures of LABELLED/annotations/train.json. All others of DATA's train.json are
photographs that nobody has labelled: `predict --rank` orders them, and its first N, or N at random, join those that the
checkpoint has seen. From the checkpoint on, `fit` trains on both with `experiments/few.yaml`, each seed with a random
choice of its own, and is scored on DATA's val.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from catpose.text import table

REPOSITORY = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--labelled", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--more", type=int, default=50, help="pictures to label next")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--input-size", default="[96, 96]")
    arguments = parser.parse_args()
    seen = names(arguments.labelled / "annotations" / "train.json")
    pool = sorted(set(names(arguments.data / "annotations" / "train.json")) - set(seen))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        ranked = order(arguments, pool, folder)
        rows, scores = [], []
        for seed in range(arguments.seeds):
            drawn = np.random.default_rng(seed).choice(pool, arguments.more, replace=False).tolist()
            choices = {"ranked": ranked[: arguments.more], "random": drawn}
            scores.append([trained(arguments, [*seen, *choice], seed, folder / f"{what}{seed}")
                           for what, choice in choices.items()])  # fmt: skip
            rows.append((str(seed), *(f"{value:.3f}" for value in scores[-1])))
    rows.append(("mean", *(f"{value:.3f}" for value in np.mean(scores, axis=0))))
    print(f"validation AP; {len(seen)} pictures labelled, {arguments.more} more of {len(pool)}\n")
    print(table(rows, ("seed", "first ranked", "at random")))


def names(file: Path) -> list[str]:
    """The pictures of an annotation file that have an animal."""
    coco = json.loads(file.read_text())
    used = {entry["image_id"] for entry in coco["annotations"]}
    return [image["file_name"] for image in coco["images"] if image["id"] in used]


def order(arguments: argparse.Namespace, pool: list[str], folder: Path) -> list[str]:
    """The pool as `predict --rank` orders it."""
    photographs = folder / "photographs"
    photographs.mkdir()
    for name in pool:
        (photographs / name).symlink_to((arguments.data / "images" / name).resolve())
    run("predict", photographs, "--checkpoint", arguments.checkpoint, "--rank", folder / "next.csv",
        "--out", folder / "predictions.json")  # fmt: skip
    with (folder / "next.csv").open(newline="") as file:
        return [Path(row["file"]).name for row in csv.DictReader(file)]


def trained(arguments: argparse.Namespace, chosen: list[str], seed: int, folder: Path) -> float:
    """The validation AP after training on the chosen pictures."""
    coco = json.loads((arguments.data / "annotations" / "train.json").read_text())
    images = [image for image in coco["images"] if image["file_name"] in set(chosen)]
    ids = {image["id"] for image in images}
    entries = [entry for entry in coco["annotations"] if entry["image_id"] in ids]
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").symlink_to((arguments.data / "images").resolve())
    train = coco | {"images": images, "annotations": entries}
    (folder / "annotations" / "train.json").write_text(json.dumps(train))
    val = (arguments.data / "annotations" / "val.json").read_text()
    (folder / "annotations" / "val.json").write_text(val)
    run("fit", "--config", REPOSITORY / "experiments" / "few.yaml", "--model.weights", arguments.checkpoint,
        "--data.root", folder, "--data.input_size", arguments.input_size, "--seed_everything", seed,
        "--trainer.max_epochs", arguments.epochs, "--trainer.check_val_every_n_epoch", arguments.epochs,
        "--wandb.mode", "disabled", "--out", folder / "run")  # fmt: skip
    return float(json.loads((folder / "run" / "val_score.json").read_text())["score"]["AP"])


def run(command: str, *args: object) -> None:
    done = subprocess.run([sys.executable, "-m", f"catpose.{command}", *map(str, args)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-2000:])


if __name__ == "__main__":
    main()
