"""Files of other kinds that never were: bytes, texts and values changed at random."""

from __future__ import annotations

import copy
import functools
import io
import json
import random
import struct
import zipfile
from typing import Any

import numpy as np
import torch
from onnx_graphs import DESCRIBED, graph
from safetensors.torch import save

from catpose.model.backbones.pyramid import FeaturePyramid
from catpose.model.weights_file import KEYS
from catpose.skeleton import AP10K

VALUES: list[Any] = [None, True, 0, -1, 1, 2**31, 2**63, 10**40, 1e308, float("nan"), float("inf"), -0.0, "", "x", "1"]
VALUES += [[], {}, [[]], "\x1b]0;x\x07", "\u202e", "../x", "/dev/zero", "a" * 5000, [1] * 2000, {"a": {"a": {}}}]
TOKENS = [
    "&a ",
    "*a",
    "[",
    "]",
    "{",
    "}",
    ": ",
    "- ",
    "? ",
    "| ",
    "> ",
    "!!int ",
    "!x ",
    "<<: ",
    "'",
    '"',
    "#",
    "%",
    "@",
    "\t",
]
TOKENS += ["9" * 5000, "1e9999", "0x" + "f" * 999, "1:" * 99, "...\n", "---\n", "\x00", "\ufeff", "\x85", "{a: " * 500]
TOKENS += ["[" * 3000, "- " * 500, "&a [*a, *a]", "\n", "  ", "null", ".nan", "'" + "x" * 3000, "? " * 99, "*a, " * 400]


def bytes_changed(rng: random.Random, content: bytes) -> bytes:
    """Flipped, cut, doubled, moved; places where sizes may stand made extreme."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(changed) or 1)
        match rng.randrange(7):
            case 0 | 1:
                changed[at : at + 1] = bytes([rng.randrange(256)])
            case 2:
                changed[at : at + 4] = struct.pack("<I", rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1)))
            case 3:
                changed[at : at + 8] = struct.pack("<Q", rng.choice((0, 2**32, 2**40, 2**62, 2**63, 2**64 - 1)))
            case 4:
                del changed[at : at + rng.randint(1, 40)]
            case 5:
                changed[at:at] = changed[at : at + rng.randint(1, 200)]
            case 6 if rng.random() < 0.3:
                del changed[at:]
    return bytes(changed)


def text_changed(rng: random.Random, text: str) -> bytes:
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(TOKENS) + text[at + rng.choice((0, 0, 1, 9)) :]
    return text.encode()


def value_changed(rng: random.Random, value: object) -> bytes:
    """JSON of a value with some of its parts exchanged, left out, or with another key."""
    value = copy.deepcopy(value)
    for _ in range(rng.randint(1, 4)):
        place: Any = value
        while isinstance(place, dict | list) and place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = rng.choice(keys)
            if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.15:
                match rng.randrange(4):
                    case 0:
                        del place[key]
                    case 1 if isinstance(place, dict):
                        place[rng.choice(("", "x", "id", "\x1b[2J"))] = place.pop(key)
                    case _:
                        place[key] = copy.deepcopy(rng.choice(VALUES))
                break
            place = place[key]
    text = json.dumps(value)
    return bytes_changed(rng, text.encode()) if rng.random() < 0.2 else text.encode()


def safetensors(rng: random.Random) -> bytes:
    dtypes = ("F32", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "F4", "X", "")
    numbers = (0, 1, 2, 4, 8, 16, 64, 2**31, 2**62, 2**64, -1, 1.5, "1", None)
    header: dict[str, Any] = {}
    for i in range(rng.randint(0, 4)):
        shape = [rng.choice(numbers) if rng.random() < 0.4 else rng.randint(0, 4) for _ in range(rng.randint(0, 4))]
        begin = 16 * i if rng.random() < 0.6 else rng.choice(numbers)
        end = 16 * i + 16 if rng.random() < 0.6 else rng.choice(numbers)
        header[f"t{i}"] = {"dtype": rng.choice(dtypes), "shape": shape, "data_offsets": [begin, end]}
    if rng.random() < 0.3:
        header["__metadata__"] = rng.choice(VALUES)
    text = json.dumps(header).encode()
    if rng.random() < 0.2:
        text = bytes_changed(rng, text)
    length = len(text) if rng.random() < 0.8 else rng.choice((0, 1, 2**20, 2**32, 2**63, 2**64 - 1))
    return length.to_bytes(8, "little") + text + bytes(rng.choice((0, 16, 64)))


def npz(rng: random.Random) -> bytes:
    made = io.BytesIO()
    descriptions = (
        "'<f4'",
        "'|b1'",
        "'>f8'",
        "'|O'",
        "'<U4'",
        "'|V8'",
        "[('a', '<f4')]",
        "'<f4, (9,9)f8'",
        "'<c16'",
        "'|S0'",
    )
    with zipfile.ZipFile(made, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for i in range(rng.randint(1, 3)):
            shape = tuple(rng.choice((0, 1, 2, 4, 2**31, 2**50, -1)) for _ in range(rng.randint(0, 4)))
            shown = (
                repr(shape)
                if rng.random() < 0.7
                else rng.choice(("4", "(4,)", "(2, 2)", "None", "(" * 90 + ")" * 90, "9**9**9"))
            )
            kind, order = rng.choice(descriptions), rng.choice((True, False, 3))
            fields = f"'descr': {kind}, 'fortran_order': {order}, 'shape': {shown}"
            header = f"{{{fields}, }}\n".encode()
            if rng.random() < 0.2:
                header = bytes_changed(rng, header)
            length = len(header) if rng.random() < 0.8 else rng.choice((0, 10, 65535))
            version = rng.choice((b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"))
            size = length.to_bytes(2 if version[0] == 1 else 4, "little")
            body = b"\x93NUMPY" + version + size + header + bytes(rng.choice((0, 4, 16, 64)))
            archive.writestr(rng.choice((f"t{i}.npy", "t.npy", "../t.npy")), body)
    return bytes_changed(rng, made.getvalue()) if rng.random() < 0.3 else made.getvalue()


def weights(rng: random.Random) -> bytes:
    """A sound file of weights in any format, with bytes changed; the archives' directories are part of them."""
    tensors = {
        "a.weight": torch.arange(6.0).reshape(2, 3),
        "a.bias": torch.ones(2),
        "b": torch.ones(3, dtype=torch.bool),
    }
    made = io.BytesIO()
    match rng.randrange(4):
        case 0:
            made.write(save(tensors))
        case 1:
            torch.save(tensors, made)
        case 2:
            torch.save(tensors, made, _use_new_zipfile_serialization=False)
        case 3:
            np.savez_compressed(made, **{name: tensor.numpy() for name, tensor in tensors.items()})
    return bytes_changed(rng, made.getvalue())


def bomb(rng: random.Random) -> bytes:
    """Archives that unpack to more than they are, say so or not."""
    made = io.BytesIO()
    method = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(made, "w", method) as archive:
        name = rng.choice(("archive/data.pkl", "archive/data/0", "t.npy"))
        archive.writestr(name, bytes(rng.choice((2**16, 2**18, 2**22))))
        if rng.random() < 0.5:
            archive.writestr("archive/data.pkl" if name != "archive/data.pkl" else "archive/data/0", b"\x80\x02}.")
        for member in archive.filelist:
            if rng.random() < 0.5:
                member.file_size = rng.choice((0, 16, 2**20, 2**33))
            if rng.random() < 0.2:
                member.flag_bits |= 1
    return made.getvalue()


@functools.cache
def _packed() -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """A small model's tensors and texts, as a weights file has them."""
    model = FeaturePyramid("test_resnet", head_channels=8, weights=None)
    described = {
        "model": {
            "class_path": "catpose.model.backbones.pyramid.FeaturePyramid",
            "init_args": {"name": "test_resnet", "head_channels": 8, "weights": None},
        },
        "data": {"input_size": [32, 32]},
    }
    calibration = {"confidence": [0.1, 0.9], "probability": [0.2, 0.7], "radius": [0.1] * 17}
    texts = dict.fromkeys(KEYS, "x") | {"catpose": json.dumps(described), "skeleton": json.dumps(AP10K.to_plain())}
    return model.state_dict(), texts | {"calibration": json.dumps(calibration)}


def packed(rng: random.Random) -> bytes:
    """A weights file with texts or numbers exchanged, or bytes changed."""
    tensors, texts = (dict(each) for each in _packed())
    if rng.random() < 0.8:
        key = rng.choice(("catpose", "skeleton", "calibration", "calibration", *texts))
        value: Any = json.loads(texts[key]) if texts[key] != "x" else "x"
        changed = value_changed(rng, {"": value}) if value == "x" else value_changed(rng, value)
        if rng.random() < 0.3:
            changed = text_changed(rng, texts[key])
        texts[key] = changed.decode(errors="replace")
    for name in rng.sample(sorted(tensors), rng.choice((0, 0, 1, 3))):
        kind = rng.choice((torch.float16, torch.float64, torch.int8, torch.bool, torch.float8_e5m2, torch.bfloat16))
        tensor = tensors[name].clone().float().flatten()
        tensor[rng.randrange(len(tensor))] = rng.choice((float("nan"), float("inf"), 1e30, 0.0, -1.0))
        tensors[name] = tensor.reshape(tensors[name].shape if rng.random() < 0.7 else (-1,)).to(kind)
    content = save(tensors, texts)
    return bytes_changed(rng, content) if rng.random() < 0.2 else content


def onnx_file(rng: random.Random) -> bytes:
    """An exported file with bytes changed, or its metadata's values."""
    proto, text = graph(), DESCRIBED.to_json()
    if rng.random() < 0.4:
        text = value_changed(rng, json.loads(text)).decode(errors="replace")
    proto.metadata_props.add(key="catpose", value=text)
    content = proto.SerializeToString()
    graph_alone = content.index(b"catpose") if rng.random() < 0.5 else len(content)
    if rng.random() < 0.7:
        return bytes_changed(rng, content[:graph_alone]) + content[graph_alone:]
    return content
