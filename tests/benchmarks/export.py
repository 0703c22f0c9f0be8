"""What exports of four kinds of network come to: keypoints and AP beside PyTorch's, and the time of a crop.

    python tests/benchmarks/export.py [--models mobilenet resnet50 hrnet vit] [--epochs 12] [--images 400] [--out DIR]

Each model is first trained on drawn cats, from random weights, crops of 128 × 128: an untrained one's heatmaps are all
ties. The table has a row a model and precision, for RESULTS.md; a training that has not come to AP 0.3 is said.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

from catpose import export, fit, prepare
from catpose.model.onnx_file import OnnxModel

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
#: A transformer's experiment is for large batches and pre-trained weights, which these aren't.
OF_ONE = {"vit": {"model.lr": 5e-4, "model.scale_lr": "false", "model.layer_decay": 1.0}}
ENOUGH_AP = 0.3
PRECISIONS = ("fp32", "fp16", "int8")


def train(model: str, data: Path, runs: Path, epochs: int) -> Path:
    """A checkpoint of an experiment's network, trained on drawn cats; a run that is there goes on or is taken."""
    out = runs / model
    settings = {
        "data.root": data,
        "data.input_size": "[128, 128]",
        "data.batch_size": 16,
        "data.cache_dir": runs / "cache",
        "model.weights": "null",
        "model.lr": 1e-3,
        "model.optimizer": "adamw",
        "model.warmup_iterations": 50,
        "model.global_batch_size": 16,
        "model.codec": "UDPHeatmap",
        "model.codec.sigma": 1.5,
        "model.schedule": "cosine",
        "trainer.max_epochs": epochs,
        "wandb.mode": "disabled",
        **OF_ONE.get(model, {}),
    }
    args = [f"--{name}={value}" for name, value in settings.items()]
    fit.main(["--config", str(EXPERIMENTS / f"{model}.yaml"), "--out", str(out), *args])
    return out / "best.ckpt"


def row(model: str, file: Path) -> str:
    """A line of the table, of what the file says of itself."""
    found = OnnxModel(file).described
    values = found.agreement
    return (
        f"| {model} | {found.precision} | {file.stat().st_size / 1e6:.1f} | {values['same']:.2%} |"
        f" {values['largest_px']:.3g} | {values['pytorch_AP']:.3f} | {values['AP'] - values['pytorch_AP']:+.4f} |"
        f" {values['pytorch_latency_ms']:.1f} | {values['latency_ms']:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["mobilenet", "resnet50", "hrnet", "vit"])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--images", type=int, default=400, help="to train on (%(default)s)")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--out", type=Path, default=Path("runs/exports"))
    arguments = parser.parse_args()
    data = arguments.out / "drawn"
    if not data.exists():
        prepare.main(["drawn", "--out", str(data), "--sizes", str(arguments.images), "100", "8"])
    rows, weak = [], []
    for model in arguments.models:
        checkpoint = train(model, data, arguments.out, arguments.epochs)
        for precision in arguments.precisions:
            file = checkpoint.with_suffix(f".{precision}.onnx")
            words = ["--checkpoint", str(checkpoint), "--data", str(data), "--precision", precision, "--out", str(file)]
            with contextlib.redirect_stdout(sys.stderr):
                export.main(words)
            rows.append(row(model, file))
            if OnnxModel(file).described.agreement["pytorch_AP"] < ENOUGH_AP:
                weak.append(model)
    print("| model | precision | MB | within 0.05 px | farthest, px | AP | ΔAP | PyTorch, ms | onnxruntime, ms |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    print("\n".join(rows))
    for model in dict.fromkeys(weak):
        print(f"{model}: below AP {ENOUGH_AP}; train longer (--epochs)", file=sys.stderr)


if __name__ == "__main__":
    main()
