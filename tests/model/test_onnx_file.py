"""Exported files as they are read: ours, other programs', damaged ones, and such as want more than a graph may."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_graphs import DESCRIBED, SIZE, graph, save
from refused import says

from catpose.errors import InputError
from catpose.model import onnx_file
from catpose.model.onnx_file import OnnxModel
from catpose.skeleton import AP10K


def refusal(file: Path) -> str:
    with pytest.raises(InputError) as error:
        OnnxModel(file)
    line = str(error.value)
    assert "\n" not in line
    assert str(file) in line
    return line


def test_a_file_is_run_for_any_number_of_crops(tmp_path: Path) -> None:
    model = OnnxModel(save(graph(), tmp_path / "a.onnx"))
    assert (model.skeleton, model.input_size, model.flip_test) == (AP10K, SIZE, False)
    for n in (1, 3):
        crops = np.random.default_rng(n).integers(0, 256, (n, SIZE[1], SIZE[0], 3), dtype=np.uint8)
        keypoints, confidence = model(crops)
        assert keypoints.shape == (n, 17, 2)
        assert keypoints.dtype == confidence.dtype == np.float32
        np.testing.assert_allclose(confidence, np.repeat(crops[..., 0].mean((1, 2))[:, None], 17, 1), rtol=1e-5)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["no ONNX file"]),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), ["no ONNX file"]),
        (b"PK\x03\x04" + bytes(100), ["no ONNX file"]),
        (b"\x08" + b"\xff" * 20, ["no ONNX file"]),
        (b"\x3a\xff\xff\xff\xff\x0f", ["no ONNX file"]),
        (b"\x38\x01", ["no ONNX file"]),  # a number where the graph is
    ],
)
def test_what_is_no_onnx_file_is_said(content: bytes, words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    file.write_bytes(content)
    says(refusal(file), *words, "copy it or export")


def test_a_file_that_isnt_there_or_is_another_programs_is_said(tmp_path: Path) -> None:
    says(refusal(tmp_path / "none.onnx"), "no such file")
    says(refusal(tmp_path), "no such file")
    says(refusal(save(graph(), tmp_path / "a.onnx", None)), "not exported by catpose", "catpose.export")


@pytest.mark.parametrize(
    "change",
    [
        {"input_size": [32]},
        {"input_size": [16, 10**9]},
        {"input_size": [64, 64]},  # not the graph's
        {"skeleton": {}},
        {"skeleton": {**AP10K.to_plain(), "names": ["tail"]}},
        {"flip_test": "yes"},
        {"padding": 1.5},
        {"padding": float("nan")},
        {"version": None},
    ],
)
def test_metadata_that_dont_suit_are_said(change: dict[str, Any], tmp_path: Path) -> None:
    text = json.dumps(dataclasses.asdict(DESCRIBED) | change)
    says(refusal(save(graph(), tmp_path / "a.onnx", text)), "export")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"version": 1e999}', "[" * 1000])
def test_metadata_that_are_none_are_said(text: str, tmp_path: Path) -> None:
    refusal(save(graph(), tmp_path / "a.onnx", text))


def test_a_graph_with_other_outputs_is_refused(tmp_path: Path) -> None:
    says(refusal(save(graph(keypoints="points"), tmp_path / "a.onnx")), "doesn't suit its metadata")


def external(proto: Any) -> None:
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def external_in_a_constant(proto: Any) -> None:
    node = helper.make_node("Constant", [], ["more"], value=helper.make_tensor("c", TensorProto.FLOAT, [1], [0.0]))
    node.attribute[0].t.external_data.add(key="location", value="/etc/passwd")
    proto.graph.node.append(node)


def subgraph(proto: Any) -> None:
    inner = helper.make_graph([], "inner", [], [])
    proto.graph.node.append(helper.make_node("If", ["crops"], ["more"], then_branch=inner, else_branch=inner))


def foreign(proto: Any) -> None:
    proto.graph.node.append(helper.make_node("EPContext", ["crops"], ["more"], domain="com.microsoft"))


def text(proto: Any) -> None:
    proto.graph.initializer.append(helper.make_tensor("t", TensorProto.STRING, [1], [b"x"]))


def text_in_a_constant(proto: Any) -> None:
    proto.graph.node.append(helper.make_node("Constant", [], ["more"], value_string="x"))


def texts_in_a_constant(proto: Any) -> None:
    proto.graph.node.append(helper.make_node("Constant", [], ["more"], value_strings=["x", "y"]))


def numbers_as_text(proto: Any) -> None:
    proto.graph.node.append(helper.make_node("Cast", ["crops"], ["more"], to=TensorProto.STRING))


def function(proto: Any) -> None:
    proto.functions.add(name="f", domain="ours")


def sparse(proto: Any) -> None:
    proto.graph.sparse_initializer.add()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (external, "other files"),
        (external_in_a_constant, "other files"),
        (subgraph, "graphs within"),
        (foreign, "com.microsoft"),
        (text, "texts"),
        (text_in_a_constant, "texts"),
        (texts_in_a_constant, "texts"),
        (numbers_as_text, "texts"),
        (function, "functions"),
        (sparse, "sparse"),
    ],
)
def test_what_no_export_holds_is_refused(change: Callable[[Any], None], words: str, tmp_path: Path) -> None:
    proto = graph()
    change(proto)
    says(refusal(save(proto, tmp_path / "a.onnx")), words)


def test_a_file_of_two_graphs_is_refused(tmp_path: Path) -> None:
    """Parsers merge them: what is looked at must be what is run."""
    file = save(graph(), tmp_path / "a.onnx")
    file.write_bytes(2 * file.read_bytes())
    says(refusal(file), "no ONNX file")


def varint(number: int) -> bytes:
    return bytes([number & 127 | 128]) + varint(number >> 7) if number > 127 else bytes([number])


def in_graph(content: bytes, field: bytes) -> bytes:
    """A file's content with a field more in its graph."""
    proto = onnx.load_from_string(content)
    inner = proto.graph.SerializeToString() + field
    proto.ClearField("graph")
    return proto.SerializeToString() + b"\x3a" + varint(len(inner)) + inner


@pytest.mark.parametrize("beyond", [32, 33, 34])
def test_no_field_is_hidden_behind_a_number_that_is_cut(beyond: int, tmp_path: Path) -> None:
    """Protobuf's parser takes 32 bits of a field's number and kind, and finds an operator of somebody else's here."""
    proto = graph()
    foreign(proto)
    node = proto.graph.node.pop().SerializeToString()
    proto.opset_import.add(domain="com.microsoft", version=1)
    file = save(proto, tmp_path / "a.onnx")
    field = varint(1 << 3 | 2 | 1 << beyond) + varint(len(node)) + node
    file.write_bytes(in_graph(file.read_bytes(), field))
    says(refusal(file), "no ONNX file")


def test_a_file_is_read_as_onnx_whatever_it_looks_like(tmp_path: Path) -> None:
    """onnxruntime knows its own format by four letters, and would read what wasn't looked through."""
    file = save(graph(), tmp_path / "a.onnx")
    file.write_bytes(b"\x12\x08\x00\x00ORTM\x00\x00" + file.read_bytes())  # as the name of who made it
    assert OnnxModel(file)(np.full((1, SIZE[1], SIZE[0], 3), 7, np.uint8))[0].max() == pytest.approx(7)


@pytest.mark.parametrize("factor", [1e5, -1e12, 3e38])
def test_keypoints_far_from_any_crop_are_refused(factor: float, tmp_path: Path) -> None:
    proto = graph(helper.make_node("Constant", [], ["factor"], value_float=factor))
    proto.graph.node[-1].output[0] = "near"
    proto.graph.node.append(helper.make_node("Mul", ["near", "factor"], ["keypoints"]))
    model = OnnxModel(save(proto, tmp_path / "a.onnx"))
    with pytest.raises(InputError, match=r"a\.onnx: finds keypoints far outside"):
        model(np.full((1, SIZE[1], SIZE[0], 3), 50, np.uint8))


def test_a_file_of_too_many_parts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MOST_FIELDS", 20)
    says(refusal(save(graph(), tmp_path / "a.onnx")), "more than 20 fields")


def test_a_graph_that_asks_for_terabytes_gets_none(tmp_path: Path) -> None:
    """Its file is small: only onnxruntime knows what a node makes of its inputs."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [10**6, 10**6])
    proto = graph(
        helper.make_node("Constant", [], ["shape"], value=shape),
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["sum"]),
    )
    proto.graph.node[-1].output[0] = "still"
    proto.graph.node.append(helper.make_node("Add", ["still", "sum"], ["keypoints"]))
    file = save(proto, tmp_path / "a.onnx")
    with pytest.raises(InputError, match=r"can't (load|run) it"):  # where constants are folded, or not
        OnnxModel(file)(np.zeros((1, SIZE[1], SIZE[0], 3), np.uint8))


def test_damaged_files_end_in_an_error_or_in_numbers(tmp_path: Path) -> None:
    """Any byte may be another, or the rest absent."""
    whole = save(graph(), tmp_path / "a.onnx").read_bytes()
    rng, refused = np.random.default_rng(0), 0
    crops = np.zeros((1, SIZE[1], SIZE[0], 3), np.uint8)
    file = tmp_path / "b.onnx"
    for i in range(300):
        content = bytearray(whole)
        if i % 3:
            for place in rng.integers(0, len(whole), 1 + i % 4):
                content[place] = rng.integers(0, 256)
        else:
            del content[rng.integers(0, len(whole)) :]
        file.write_bytes(content)
        try:
            OnnxModel(file, threads=1)(crops)
        except InputError:
            refused += 1
    assert refused > 100


def test_onnx_and_the_reader_agree_on_the_metadata(tmp_path: Path) -> None:
    file = save(graph(), tmp_path / "a.onnx")
    ours = onnx_file.described(file.read_bytes(), file)
    assert {each.key: each.value for each in onnx.load(file).metadata_props} == {"catpose": ours.to_json()}
    assert ours == DESCRIBED
