"""Exported files that are made up: a graph of a few nodes in the place of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onnx import TensorProto, helper

from catpose.model.onnx_file import Described
from catpose.skeleton import AP10K

SIZE = (32, 64)  # width, height
DESCRIBED = Described(
    version="0.0",
    skeleton=AP10K.to_plain(),
    input_size=SIZE,
    padding=1.25,
    flip_test=False,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    codec="none",
    precision="fp32",
    protocol={},
    agreement={},
)


def graph(*more: Any, keypoints: str = "keypoints") -> Any:
    """A graph that answers with a crop's mean red, twice for each keypoint, after what a test adds to it."""
    batch = helper.make_tensor_value_info("crops", TensorProto.UINT8, ["batch", SIZE[1], SIZE[0], 3])
    outputs = [
        helper.make_tensor_value_info(keypoints, TensorProto.FLOAT, ["batch", 17, 2]),
        helper.make_tensor_value_info("confidence", TensorProto.FLOAT, ["batch", 17]),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("first", TensorProto.INT64, [17], [0] * 17),
        helper.make_tensor("two", TensorProto.INT64, [3], [1, 1, 2]),
        helper.make_tensor("last", TensorProto.INT64, [1], [2]),
    ]
    nodes = [
        *more,
        helper.make_node("Cast", ["crops"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["as_float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Gather", ["mean", "first"], ["confidence"], axis=1),
        helper.make_node("Unsqueeze", ["confidence", "last"], ["column"]),
        helper.make_node("Tile", ["column", "two"], [keypoints]),
    ]
    whole = helper.make_graph(nodes, "graph", [batch], outputs, constants)
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def save(proto: Any, file: Path, description: Any = DESCRIBED) -> Path:
    if description is not None:
        value = description if isinstance(description, str) else description.to_json()
        proto.metadata_props.add(key="catpose", value=value)
    file.write_bytes(proto.SerializeToString())
    return file
