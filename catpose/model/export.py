"""A pose model as an ONNX graph: normalisation, network, flip test and decoding, from crops to keypoints."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from catpose.errors import InputError, one_line
from catpose.model.onnx_file import INPUT, KEY, LARGEST_FILE, OUTPUTS, Described
from catpose.model.pose import PoseModel

Precision = Literal["fp32", "fp16", "int8"]

#: What int8 leaves in float32: all but these, which have the weights.
QUANTIZED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class Located(nn.Module):
    """Uint8 RGB crops (B, H, W, 3) to keypoints (B, K, 2), crop px, and confidence (B, K), as the model finds them."""

    def __init__(self, model: PoseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        model, (n, height, width, _) = self.model, crops.shape
        if model.flip_test:  # both in one pass: the graph has the network once
            both = model(torch.cat([crops, crops.flip(2)]))
            heatmaps = (both[:n].float() + model.codec.unflip(both[n:], model.skeleton.flip).float()) / 2
        else:
            heatmaps = model(crops)
        return model.codec.decode(heatmaps, (width, height))


def to_onnx(model: PoseModel, input_size: tuple[int, int], precision: Precision = "fp32") -> Any:
    """The graph of a model as onnx's `ModelProto`, for any number of crops.

    Args:
        input_size: width and height of the crops, px.
        precision: of the network, fp32 or fp16; what is decoded is float32 in either.

    Raises:
        InputError: without onnx and onnxscript; a model that torch can't export, or of more than 2 GiB.
    """
    require_exporter()
    width, height = input_size
    crops = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    network = copy.deepcopy(model).cpu().eval().to(torch.float16 if precision == "fp16" else torch.float32)
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                Located(network),
                (crops,),
                dynamo=True,
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                external_data=False,
                verbose=False,
            )
        assert program is not None
        proto = program.model_proto
    except Exception as error:  # whatever a network of one's own leads to
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        why = next((line for line in lines if "Error" in line or "unsupported" in line.lower()), lines[0])
        raise InputError(f"the model can't be exported ({one_line(why)[:200]})") from None
    if proto.ByteSize() > LARGEST_FILE:
        raise InputError("the model has more than the 2 GiB that an ONNX file may have; export it in fp16")
    return proto


def quantized(proto: Any, crops: np.ndarray) -> Any:
    """A float32 graph in int8, by onnxruntime: weights by channel, activations by the range they have on crops.

    What makes the heatmaps stays in float32: their peaks are compared to fractions of a percent.

    Args:
        proto: of `to_onnx`.
        crops: (N, H, W, 3) uint8 RGB, such as the model was trained on; 100 are enough.

    Raises:
        InputError: onnxruntime can't do it.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # asks for the next until there is none
        def __init__(self) -> None:
            self._batches = iter(np.array_split(crops, -(-len(crops) // 8)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(({INPUT: batch} for batch in self._batches), None)

    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain, fused, small = (str(Path(folder) / name) for name in ("plain.onnx", "fused.onnx", "small.onnx"))
        onnx.save(proto, plain)
        try:
            quant_pre_process(plain, fused, skip_symbolic_shape=True)
            quantize_static(
                fused,
                small,
                Reader(),
                op_types_to_quantize=list(QUANTIZED),
                nodes_to_exclude=_makers_of_heatmaps(onnx.load(fused)),
                per_channel=True,
                weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8,
            )
        except Exception as error:  # whatever onnxruntime makes of a network of one's own
            raise InputError(f"the model can't be put into int8 ({one_line(error)[:160]}); export fp32") from None
        return onnx.load(small)


def _makers_of_heatmaps(proto: Any) -> list[str]:
    """The last layer with weights, and those of the codec's readout."""
    layers = [node for node in proto.graph.node if node.op_type in QUANTIZED]
    readout = [node.name for node in layers if any(name.startswith("model.readout.") for name in node.input)]
    return [*readout, *(node.name for node in layers[-1:])]


def with_description(proto: Any, description: Described) -> bytes:
    """The file's content: the graph, with what it says of itself."""
    del proto.metadata_props[:]
    proto.metadata_props.add(key=KEY, value=description.to_json())
    return proto.SerializeToString()


def require_exporter() -> None:
    """InputError where a package is missing that exports need."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise InputError(f"an export needs {name}; run pip install 'catpose[export]'")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress and warnings of exporters, which are about their own insides."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
