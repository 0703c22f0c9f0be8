"""Export a checkpoint for programs without PyTorch: `python -m catpose.export --checkpoint runs/x/best.ckpt`.

The file is an ONNX graph from crops, uint8 RGB (any number, height, width, 3), to `keypoints` in crop px and their
`confidence`: normalisation, the flip test as the checkpoint has it, and decoding are in it. Its metadata say how a crop
is cut and what the keypoints are. `predict --checkpoint best.onnx` and `load("best.onnx")` run it without torch. The
command prints, and the file keeps, how far its keypoints are from PyTorch's, on the animals of --data (with the AP of
both) or on drawn cats, and how long a crop takes.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catpose.errors import InputError, Parser, command, one_line
from catpose.run.options import add_import_option
from catpose.shipped import WEIGHTS, find_model
from catpose.text import signed

if TYPE_CHECKING:  # else torch would be loaded for --help
    from catpose.cost.agreement import Agreement
    from catpose.data.coco_split import CocoSplit
    from catpose.model.onnx_file import Described
    from catpose.model.pose import PoseModel

CALIBRATION_CROPS = 128  # of the training split, for int8


@command
def main(argv: list[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    precision = arguments.precision
    if precision == "int8" and not arguments.data:
        raise InputError("--precision int8: its ranges are taken from training pictures; give --data ROOT as well")
    suffix = ".onnx" if precision == "fp32" else f".{precision}.onnx"
    beside = arguments.checkpoint.with_suffix(suffix)
    out = arguments.out or (Path(beside.name) if beside.parent == WEIGHTS else beside)
    if out.suffix.lower() != ".onnx":
        raise InputError(f"--out {out}: an ONNX file's name ends in .onnx")

    import numpy as np

    from catpose.cost.agreement import agreement, crops_of
    from catpose.data.coco import read_split
    from catpose.files import atomic_write, require_writable
    from catpose.model.export import quantized, require_exporter, to_onnx, with_description
    from catpose.model.onnx_file import OnnxModel
    from catpose.run.checkpoint import load_model
    from catpose.run.prediction import of_skeleton

    require_exporter()
    require_writable(out, "--out")
    if out.resolve() == arguments.checkpoint.resolve():
        raise InputError(f"--out {out}: is the checkpoint itself; name another file")
    split = read_split(arguments.data, arguments.split) if arguments.data else None
    if split is not None and not split.has_keypoints:
        raise InputError(f"{split.file}: holds no keypoints to compare APs on; name another --split")
    model, settings = load_model(arguments.checkpoint, tuple(arguments.trusted))
    width, height = settings["data"]["input_size"]
    split = of_skeleton(split, model.skeleton) if split else None
    try:
        proto = to_onnx(model, (width, height), "fp16" if precision == "fp16" else "fp32")
        if precision == "int8":
            batches = crops_of(read_split(arguments.data, "train"), (width, height), CALIBRATION_CROPS)
            proto = quantized(proto, np.concatenate([batch["crop"].numpy() for batch in batches]))
    except InputError as error:
        raise InputError(f"{arguments.checkpoint}: {error}") from None
    description = described(model, (width, height), precision)
    with tempfile.TemporaryDirectory() as folder:  # on the way to the file that also says what it came to
        first = Path(folder) / "model.onnx"
        first.write_bytes(with_description(proto, description))
        found = agreement(model, OnnxModel(first, _threads()), split)
    content = with_description(proto, dataclasses.replace(description, agreement=found.known()))
    with atomic_write(out) as temporary:
        temporary.write_bytes(content)
    print(f"{out}: {len(content) / 1e6:.1f} MB, {precision}, crops of {width} x {height} px, flip test:"
          f" {'in the graph' if model.flip_test else 'no'}")  # fmt: skip
    print(summary(found, split))
    for line in doubts(found, precision):
        print(one_line(f"catpose.export: {line}"), file=sys.stderr)


def _parser() -> Parser:
    examples = (
        "catpose export --checkpoint runs/x/best.ckpt --data data/cats",
        "catpose export --checkpoint best.ckpt --precision fp16 --out cat.onnx",
    )
    parser = Parser(prog="catpose export", description=__doc__.splitlines()[0].split(":")[0] + ".", examples=examples)
    parser.add_argument("--checkpoint", type=find_model, required=True, help="a best.ckpt or last.ckpt of fit, or cats")
    parser.add_argument("--format", choices=("onnx",), default="onnx", help="of the file (%(default)s)")
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp32",
                        help="of the network; int8 needs --data (%(default)s)")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE", help="(the checkpoint's name, in .onnx)")
    parser.add_argument("--data", type=Path, metavar="ROOT", help="data folder: compare keypoints and AP on it")
    parser.add_argument("--split", default="val", help="of --data: val, test or another (%(default)s)")
    add_import_option(parser)
    return parser


def described(model: PoseModel, input_size: tuple[int, int], precision: str) -> Described:
    """What an export says of itself, but for how it agrees.

    Args:
        input_size: (width, height) of the crops, px.
    """
    from catpose.geometry import PADDING
    from catpose.model.onnx_file import Described
    from catpose.score.protocol import MEAN_CONFIDENCE, NMS_CROP
    from catpose.version import __version__

    mean, std = model.mean.flatten().tolist(), model.std.flatten().tolist()
    protocol: dict[str, Any] = {"score_rule": MEAN_CONFIDENCE, "nms_area": NMS_CROP, "sigmas": model.skeleton.sigmas}
    return Described(
        version=__version__,
        skeleton=model.skeleton.to_plain(),
        input_size=input_size,
        padding=PADDING,
        flip_test=model.flip_test,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        codec=repr(model.codec),
        precision=precision,
        protocol=protocol,
        agreement={},
        calibration=model.calibration,
    )


def summary(found: Agreement, split: CocoSplit | None) -> str:
    """How the export agrees with PyTorch, in lines."""
    from catpose.cost.agreement import SAME_PX

    where = "drawn cats" if split is None else f"the animals of {split.file}"
    lines = [
        f"keypoints of {found.crops} crops of {where}: {found.same:.2%} within {SAME_PX:g} px of PyTorch's,"
        f" the farthest {found.largest_px:.3g} px (of the crop)"
    ]
    if found.AP is not None and found.pytorch_AP is not None:
        lines.append(f"AP: {found.AP:.4f}, PyTorch's {found.pytorch_AP:.4f} ({signed(found.AP - found.pytorch_AP, 4)})")
    lines.append(
        f"a crop on this CPU ({_threads()} threads): {found.latency_ms:.1f} ms by onnxruntime,"
        f" {found.pytorch_latency_ms:.1f} ms by PyTorch"
    )
    return "\n".join(lines)


def doubts(found: Agreement, precision: str) -> list[str]:
    """Why the file shouldn't be used, where it shouldn't."""
    from catpose.cost.agreement import ENOUGH, SAME_AP, SAME_PX

    lines = []
    if precision == "fp32" and found.same < ENOUGH:
        lines.append(
            f"only {found.same:.1%} of the keypoints are within {SAME_PX:g} px of PyTorch's: an untrained"
            " model's heatmaps are ties, a trained one's shouldn't be"
        )
    if found.AP is not None and found.pytorch_AP is not None and found.pytorch_AP - found.AP > SAME_AP:
        lines.append(f"{precision} costs {found.pytorch_AP - found.AP:.3f} of the AP; use fp32, or fp16")
    return lines


def _threads() -> int:
    import torch

    return torch.get_num_threads()


if __name__ == "__main__":
    main(sys.argv[1:])
