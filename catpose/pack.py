"""Pack a trained model into one small file: `python -m catpose.pack runs/x/last.ckpt --out x.safetensors`.

The file has the model alone, its kernels in half precision: `--model.weights x.safetensors` starts from it, `predict`
and `test` take it as `--checkpoint`. Of a run with averaged weights (EMA) it has the average. The model is scored on
its run's validation split before and after rounding, and both are printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catpose.errors import InputError, Parser, command, one_line
from catpose.run.options import add_model_options
from catpose.text import counted, signed

if TYPE_CHECKING:  # else torch would be loaded for --help
    from catpose.data.coco_split import CocoSplit
    from catpose.model.pose import PoseModel


@command
def main(argv: list[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)

    from catpose.data.coco import read_split
    from catpose.data.coco_split import split_hash
    from catpose.files import require_writable
    from catpose.model.weights_file import SUFFIX, round_to_half, write_weights
    from catpose.plain_yaml import dump_yaml, parse_yaml
    from catpose.run.checkpoint import load_model, read_checkpoint
    from catpose.run.directory import refuse_run_file
    from catpose.version import __version__

    if arguments.out.suffix != SUFFIX:
        raise InputError(f"--out {arguments.out}: is safetensors; let its name end in {SUFFIX}")
    require_writable(arguments.out, "--out")
    refuse_run_file(arguments.out, "--out")
    model, _ = load_model(arguments.checkpoint, tuple(arguments.trusted))
    checkpoint = read_checkpoint(arguments.checkpoint)
    if "epoch" not in checkpoint:
        raise InputError(f"{arguments.checkpoint}: is packed already; name a best.ckpt or last.ckpt")
    settings = parse_yaml(checkpoint["catpose"])
    _require_run(arguments.checkpoint, settings, checkpoint["epoch"])
    data = settings["data"] | ({"root": str(arguments.data)} if arguments.data else {})
    val = read_split(data["root"], "val", data.get("area", "box"))
    arguments_of_model = settings["model"].get("init_args", {})
    trained_on = one_line(arguments.trained_on or _trained_on(arguments_of_model.get("weights"), data, checkpoint))
    model.float()
    before = _val_ap(model, val, data["input_size"], arguments)
    try:
        round_to_half(model)
    except InputError as error:
        raise InputError(f"{arguments.checkpoint}: {error}") from None
    after = _val_ap(model, val, data["input_size"], arguments)
    described = settings["model"] | {"init_args": arguments_of_model | {"weights": None}}
    texts = {
        "catpose": dump_yaml({"model": described, "data": {"input_size": data["input_size"]}}),
        "skeleton": json.dumps(model.skeleton.to_plain()),
        "network": f"{type(model).__name__} on {model.timm_name or 'a backbone of its own'}",
        "trained_on": trained_on,
        "val": f"AP {after:.4f} on {counted(int(val.used.sum()), 'instance')} (sha256 {split_hash(val)[:12]})",
        "version": __version__,
    }
    write_weights(arguments.out, model, texts)
    print(f"{texts['network']}, trained on {trained_on}")
    change = signed(after - before, 4)
    print(f"AP on {val.file}: {before:.4f} as trained, {after:.4f} rounded to half precision ({change})")
    print(f"written: {arguments.out}, {arguments.out.stat().st_size / 1e6:.1f} MB")


def _parser() -> Parser:
    examples = (
        "catpose pack runs/x/best.ckpt --out x.safetensors",
        "catpose pack runs/x/last.ckpt --out x.safetensors --data /elsewhere/cats",
    )
    parser = Parser(prog="catpose pack", description=__doc__.splitlines()[0].split(":")[0] + ".", examples=examples)
    parser.add_argument("checkpoint", type=Path, help="a best.ckpt or last.ckpt of fit")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file, NAME.safetensors")
    parser.add_argument("--data", type=Path, metavar="ROOT", help="where the run's data are now")
    parser.add_argument("--trained-on", metavar="TEXT", help="data and start, in words (the run's own)")
    add_model_options(parser)
    return parser


def _require_run(file: Path, settings: dict[str, Any], epoch: object) -> None:
    """InputError where settings that a model could be built of, or its epoch, are none that `fit` writes."""
    from catpose.instances import AREA_RULES

    data, start = settings["data"], settings["model"].get("init_args", {}).get("weights")
    also = data.get("also") or {}
    texts = [data.get("root"), start or "", *also] if isinstance(also, dict) else [None]
    if not isinstance(epoch, int) or data.get("area", "box") not in [*AREA_RULES] or not all(
        isinstance(text, str) for text in texts
    ):  # fmt: skip
        raise InputError(f"{file}: its settings are none of catpose.fit's; name a best.ckpt or last.ckpt of a run")


def _val_ap(model: PoseModel, val: CocoSplit, input_size: list[int], arguments: argparse.Namespace) -> float:
    from catpose.run.network import Network
    from catpose.run.prediction import detect
    from catpose.score.metric import metric_values

    network = Network(model, (input_size[0], input_size[1]), arguments.device)
    return metric_values(val, detect(network, val, arguments.batch_size, labelled_only=True))["AP"]


def _trained_on(start: str | None, data: dict[str, Any], checkpoint: dict[str, Any]) -> str:
    """A run's training data, its length, what it started from, and whether its weights are an average."""
    from catpose.data.coco import read_split

    kinds: Counter[str] = Counter()
    for root in (data["root"], *(data.get("also") or {})):
        split = read_split(root, "train", data.get("area", "box"))
        names = {entry["id"]: str(entry["name"]) for entry in split.coco["categories"]}
        kinds.update(names[category] for category in split.category_id[split.used].tolist())
    animals = ", ".join(f"{count} {name}" for name, count in kinds.most_common())
    images = data.get("train_images")
    return (
        f"{animals}{f' ({images} pictures of the first folder)' if images else ''}, in {checkpoint['epoch'] + 1} epochs"
        f" from {Path(start).name if start else 'random weights'}"
        f"{'; averaged weights' if 'averaging_state' in checkpoint else ''}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
