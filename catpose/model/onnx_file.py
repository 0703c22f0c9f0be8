"""An exported model: its ONNX file, which may be a stranger's, read and run by onnxruntime, without torch.

The graph takes uint8 RGB crops (B, H, W, 3) as `crops`, and gives `keypoints` (B, K, 2) in crop px and `confidence`
(B, K), both float32: normalisation, flip test and decoding are in it. What the keypoints are and how a crop is cut
stands in the file's metadata, as JSON under the key `catpose`.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from catpose.errors import InputError, one_line
from catpose.files import as_record, parse_json
from catpose.geometry import PADDING
from catpose.machine import usable_cores
from catpose.skeleton import Skeleton

#: The metadata's key; whose value has no more characters than this.
KEY, LONGEST_METADATA = "catpose", 2**20
LARGEST_FILE = 2**31 - 1  # bytes: protobuf's own limit
MOST_FIELDS = 2_000_000  # of the file's structure; HRNet-W48 with the flip test has 30,000
#: Bytes that onnxruntime may use for all models of a process together.
MOST_MEMORY = 4 * 2**30
FARTHEST = 1e6  # px: no keypoint of a crop of 4096 px is there
INPUT, OUTPUTS = "crops", ("keypoints", "confidence")


@dataclass(frozen=True)
class Described:
    """What an exported file says of itself."""

    version: str  # of catpose, that exported it
    skeleton: dict[str, Any]  # as `Skeleton.to_plain` has it
    input_size: tuple[int, int]  # width and height of the crops, px
    padding: float  # a crop's size over its box's, in the shape of the crop
    flip_test: bool  # in the graph
    mean: tuple[float, float, float]  # in the graph: of red, green and blue, 0–255
    std: tuple[float, float, float]
    codec: str  # in the graph, such as "UDPHeatmap(sigma=2)"
    precision: str  # fp32, fp16, int8
    protocol: dict[str, Any]  # how detections are scored
    agreement: dict[str, float]  # with PyTorch, as the export measured it
    calibration: dict[str, Any] | None = None  # what confidences are worth, where the checkpoint was calibrated

    def to_json(self) -> str:
        """The metadata's text."""
        return json.dumps({field: getattr(self, field) for field in self.__dataclass_fields__}, allow_nan=False)


class OnnxModel:
    """An exported model, run by onnxruntime on the CPU.

    Args:
        path: a file of `catpose.export`.
        threads: of onnxruntime; None: as many as there are usable cores.

    Attributes:
        skeleton: the K keypoints. input_size: (width, height) of the crops, px. flip_test: whether it is in the graph.
        calibration: what its confidences are worth, or None. described: all that the file says of itself.

    Raises:
        InputError: no such file, none of `catpose.export`, a damaged one, no onnxruntime.
    """

    n_threads = 0  # that decode pictures beside it: the network takes all cores

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.path = path
        content = _content(path)
        self.described = described(content, path)
        try:
            self.skeleton = Skeleton.from_plain(self.described.skeleton)
        except InputError as error:
            raise InputError(f"{path}: {error}; export the checkpoint again") from None
        self.input_size, self.flip_test = self.described.input_size, self.described.flip_test
        self.calibration = self.described.calibration
        self._session = _session(content, path, threads)
        width, height = self.input_size
        try:
            inputs = [(each.name, each.type, each.shape[1:]) for each in self._session.get_inputs()]
            outputs = [(each.name, each.type) for each in self._session.get_outputs()]
        except UnicodeDecodeError:  # its names are no text
            inputs, outputs = [], []
        if inputs != [(INPUT, "tensor(uint8)", [height, width, 3])] or outputs != [
            (name, "tensor(float)") for name in OUTPUTS
        ]:
            raise InputError(f"{path}: its graph doesn't suit its metadata; export the checkpoint again")

    def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints (B, K, 2) in crop px and confidence (B, K), both float32, of crops (B, H, W, 3) uint8 RGB.

        Raises:
            InputError: onnxruntime can't run the graph, there is too little memory for so many crops, or it gives no
                keypoints of a crop.
        """
        try:
            keypoints, confidence = self._session.run(OUTPUTS, {INPUT: crops})
        except Exception as error:  # onnxruntime's own classes, none of which it documents
            why = one_line(error)
            remedy = "give a smaller --batch-size" if "memory" in why.lower() else "export the checkpoint again"
            raise InputError(f"{self.path}: onnxruntime can't run it ({why[-160:]}); {remedy}") from None
        n = (len(crops), len(self.skeleton))
        if keypoints.shape != (*n, 2) or confidence.shape != n:
            raise InputError(f"{self.path}: its graph doesn't suit its metadata; export the checkpoint again")
        if (np.abs(keypoints) > FARTHEST).any():
            raise InputError(f"{self.path}: finds keypoints far outside of its crops; export the checkpoint again")
        return keypoints, confidence


def is_onnx(path: Path) -> bool:
    """Whether a model's file is an exported one, by its name."""
    return path.suffix.lower() == ".onnx"


def described(content: bytes, path: Path) -> Described:
    """What an exported file's content says of itself, after a look at its structure, in which nothing may lead outside.

    Args:
        path: the file's name, for messages.

    Raises:
        InputError: no ONNX, another program's, or one that holds what an export never does: weights in other files,
            graphs within graphs, operators beyond ONNX's own.
    """
    try:
        metadata = _Structure(content).metadata()
    except _Refused as error:
        raise InputError(f"{path}: {error}; export the checkpoint again") from None
    except (ValueError, IndexError, UnicodeDecodeError):
        raise InputError(f"{path}: is no ONNX file, or a damaged one; copy it or export the checkpoint again") from None
    if KEY not in metadata:
        raise InputError(f"{path}: is not exported by catpose (no metadata of it); run python -m catpose.export")
    try:
        found = as_record(Described, parse_json(metadata[KEY], path))
    except ValueError as error:
        raise InputError(
            f"{path}: its metadata can't be read ({one_line(error)[:100]}); export it with this version of catpose"
        ) from None
    if not all(32 <= side <= 4096 for side in found.input_size):
        raise InputError(f"{path}: no crop has {found.input_size} px; export the checkpoint again")
    if found.padding != PADDING:
        raise InputError(
            f"{path}: its crops are {found.padding:g} times their boxes, those here {PADDING:g} times; export the"
            " checkpoint again"
        )
    return found


def _content(path: Path) -> bytes:
    if not os.path.isfile(path):
        raise InputError(f"{str(path)[:200]}: no such file; name one that python -m catpose.export wrote")
    if os.path.getsize(path) > LARGEST_FILE:
        raise InputError(f"{path}: has more than the 2 GiB that an ONNX file may have; is it the right file?")
    try:
        return path.read_bytes()
    except (OSError, MemoryError) as error:
        raise InputError(f"{path}: can't be read ({one_line(error)[:80]}); check its permissions") from None


def _session(content: bytes, path: Path, threads: int | None) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise InputError(f"{path}: needs onnxruntime; run pip install 'catpose[export]'") from None
    _bound_memory()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is raised too
    options.intra_op_num_threads = threads or usable_cores()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # none that wasn't looked through
    try:
        return onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"], enable_fallback=False)
    except Exception as error:
        raise InputError(
            f"{path}: onnxruntime can't load it ({one_line(error)[-160:]}); copy it or export the checkpoint again"
        ) from None


@functools.cache  # onnxruntime keeps one such allocator a process
def _bound_memory() -> None:
    """Bound what graphs can allocate: one may ask for any amount, whatever its file's size."""
    import onnxruntime

    info = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    as_requested, default = 1, -1
    configuration = onnxruntime.OrtArenaCfg(MOST_MEMORY, as_requested, default, default)
    onnxruntime.create_and_register_allocator(info, configuration)


#: The type of texts: `MOST_MEMORY` doesn't bound theirs, and one that is doubled forty times fills any machine.
_TEXT = 8


class _Refused(Exception):
    """What an export never holds."""


class _Structure:
    """An ONNX file's structure, read without unpacking anything: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.

    Field numbers below are that file's.
    """

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self._left = MOST_FIELDS

    def metadata(self) -> dict[str, str]:
        """The metadata's texts by their keys.

        Raises:
            _Refused: what an export never holds. ValueError, IndexError: no such structure.
        """
        metadata, graphs = {}, 0
        for number, value in self._fields(self._content):
            if number == 7:
                graphs += 1
                self._require_graph(_message(value))
            elif number == 14:
                key, text = self._entry(_message(value))
                metadata[key] = text
            elif number in (20, 25):
                raise _Refused("holds functions or training, which an export doesn't")
        if graphs != 1:
            raise ValueError("no graph")
        return metadata

    def _require_graph(self, graph: memoryview) -> None:
        for number, value in self._fields(graph):
            if number == 1:
                self._require_node(_message(value))
            elif number == 5:
                self._require_tensor(_message(value))
            elif number == 15:
                raise _Refused("holds sparse tensors, which an export doesn't")

    def _require_node(self, node: memoryview) -> None:
        for number, value in self._fields(node):
            if number == 7 and bytes(_message(value)) not in (b"", b"ai.onnx"):
                name = one_line(bytes(_message(value))[:40].decode(errors="replace"))
                raise _Refused(f"holds operators of {name}, which an export doesn't")
            if number == 5:
                self._require_attribute(_message(value))

    def _require_attribute(self, attribute: memoryview) -> None:
        fields = list(self._fields(attribute))
        names = {bytes(_message(value)) for number, value in fields if number == 1}
        if names & {b"value_string", b"value_strings"} or (b"to" in names and (3, _TEXT) in fields):
            raise _Refused("holds texts as values, which an export doesn't")
        for number, value in fields:
            if number in (6, 11, 22, 23):
                raise _Refused("holds graphs within its graph or sparse tensors, which an export doesn't")
            if number in (5, 10):
                self._require_tensor(_message(value))

    def _require_tensor(self, tensor: memoryview) -> None:
        for number, value in self._fields(tensor):
            if number == 13 or (number == 14 and value != 0):
                raise _Refused("has weights in other files, which are never read")
            if number == 2 and isinstance(value, int) and value % 2**32 == _TEXT:  # it is cut to 32 bits
                raise _Refused("holds texts as values, which an export doesn't")

    def _entry(self, entry: memoryview) -> tuple[str, str]:
        parts = {number: _message(value) for number, value in self._fields(entry)}
        if any(len(part) > LONGEST_METADATA for part in parts.values()):
            raise _Refused("has metadata of more than 1 MiB, which an export doesn't")
        return bytes(parts.get(1, b"")).decode(), bytes(parts.get(2, b"")).decode()

    def _fields(self, message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        """Number and value of each field: whole numbers, or the bytes of anything else."""
        at = 0
        while at < len(message):
            self._left -= 1
            if self._left < 0:
                raise _Refused(f"has more than {MOST_FIELDS} fields, which no export has")
            tag, at = _varint(message, at)
            if tag >= 2**32:  # a parser would cut it, and find another field than the one looked at here
                raise ValueError("a field's number of more than 29 bits")
            kind = tag & 7
            if kind == 0:
                value, at = _varint(message, at)
                yield tag >> 3, value
                continue
            if kind == 2:
                size, at = _varint(message, at)
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
            else:
                raise ValueError(f"no field has the kind {kind}")
            if at + size > len(message):
                raise ValueError("cut short")
            yield tag >> 3, message[at : at + size]
            at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A whole number of protobuf's, and where the next one begins."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128 and value < 2**64:
            return value, at
    raise ValueError("a number of more than 64 bits")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number in the place of a message")
    return value
