"""Pickles that ask for more than tensors are refused or inert, at a bounded price; what torch writes is read."""

from __future__ import annotations

import io
import pickle
import random
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzz.pickles import legacy, zipped

from catpose.errors import InputError
from catpose.model.tensor_file import read_content
from catpose.model.tensor_pickle import MOST_OPERATIONS, StandIn, read_pickle


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def tensor(size: bytes, stride: bytes, offset: bytes = b"K\x00", count: bytes = b"K\x10") -> bytes:
    """A view of sixteen numbers, as torch pickles it."""
    kind = named("torch", "FloatStorage")
    storage = b"(X\x07\x00\x00\x00storage" + kind + b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + count + b"tQ"
    return named("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + offset + size + stride + b"\x89}tR"


TWELVE_GB = (12 << 30).to_bytes(8, "little")
DOUBLED = b"N" + b"2\x86" * 60  # a pair of pairs of pairs …: 2⁶⁰ parts for whoever looks at all
REFUSED: dict[str, tuple[bytes, str]] = {
    "bytearray of 12 GB": (named("builtins", "bytearray") + b"\x8a\x08" + TWELVE_GB + b"\x85R", "builtins.bytearray"),
    "bytearray of 12 GB by opcode": (b"\x96" + TWELVE_GB, "but only"),
    "bytes of 12 GB": (b"\x8e" + TWELVE_GB, "but only"),
    "text of 4 GB": (b"X\xff\xff\xff\xff", "but only"),
    "a number of 2 GB": (b"\x8b\xff\xff\xff\x7f", "not enough data"),
    "a number of a million digits": (b"L" + b"9" * 10**6 + b"L\n", "digits"),
    "a tensor beyond its storage": (tensor(b"K\x11\x85", b"K\x01\x85"), "reaches beyond its 16 numbers"),
    "a tensor that begins beyond it": (tensor(b"K\x01\x85", b"K\x01\x85", b"K\x10"), "reaches beyond"),
    "a tensor of steps beyond it": (tensor(b"K\x02\x85", b"K\x10\x85"), "reaches beyond"),
    "a tensor of 2⁴⁰ equal numbers": (tensor(b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85", b"K\x00\x85"), "reaches beyond"),
    "steps backwards": (tensor(b"K\x02\x85", b"J\xff\xff\xff\xff\x85", b"K\x04"), "impossible size"),
    "a negative size": (tensor(b"J\xff\xff\xff\xff\x85", b"K\x01\x85"), "impossible size"),
    "a size that is a text": (tensor(b"X\x01\x00\x00\x001\x85", b"K\x01\x85"), "impossible size"),
    "a size without a step": (tensor(b"K\x02\x85", b")"), "impossible size"),
    "a storage that isn't there": (tensor(b"K\x02\x85", b"K\x01\x85", count=b"M\xff\xff"), "announces"),
    "a key of 2⁶⁰ parts": (b"}" + DOUBLED + b"Ns", "no plain values"),
    "a name of 2⁶⁰ parts": (DOUBLED + DOUBLED + b"\x93", "without a name"),
    "a key of 20,000 bits": (b"}\x8b\xc4\x09\x00\x00" + b"\x01" * 2500 + b"Ns", "more than tensors"),
    "a list as a key": (b"}]Ns", "no plain values"),
    "an object of an old class": (b"(iposix\nsystem\n", "INST"),
    "an extension": (b"\x82\x01", "EXT1"),
    "a call of a tensor": (tensor(b"K\x02\x85", b"K\x01\x85") + b")R", "more than tensors"),
    "attributes of a tensor": (tensor(b"K\x02\x85", b"K\x01\x85") + b"}b", "more than tensors"),
    "a tensor's class": (named("torch", "FloatTensor") + TWELVE_GB, "torch.FloatTensor"),
    "a wrapper class": (named("torch._utils", "_rebuild_wrapper_subclass"), "_rebuild_wrapper_subclass"),
    "a million tensors": (
        tensor(b"K\x02\x85", b"K\x01\x85").replace(b"tR", b"tq\x01R")
        + (named("torch._utils", "_rebuild_tensor_v2") + b"h\x01R") * 100_001,
        "more than 100000 tensors",
    ),
    "many operations": (b"N0" * (MOST_OPERATIONS // 2 + 1), "operations"),
    "an empty stack": (b"R", "not a sound file"),
    "a memo of nothing": (b"h\x07", "not a sound file"),
    "no end": (b"N" * 9 + b"\x00", "not a sound file"),
}  # fmt: skip
LONG = ("a million tensors", "many operations")
INERT: dict[str, bytes] = {
    "a numpy dtype told what it is afterwards": (
        named("numpy", "dtype") + b"X\x02\x00\x00\x00V8\x89\x88\x87R(K\x03X\x01\x00\x00\x00<N(X\x01\x00\x00\x00xt}"
        b"X\x01\x00\x00\x00xNsJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x10tb"
    ),
    "a numpy scalar of objects": (
        named("numpy._core.multiarray", "scalar") + named("numpy", "dtype") + b"X\x02\x00\x00\x00O8\x89\x88\x87RC\x08"
        + bytes(range(1, 9)) + b"\x86R"
    ),
    "an array's state": (
        named("numpy._core.multiarray", "_reconstruct") + named("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
        b"(K\x01K\x09\x85N\x89C\x08abcdefghtb"
    ),
    "a memo of 2³² entries": b"Nr\xff\xff\xff\xff",
    "a list within itself": b"]q\x00h\x00a",
    "lists a million deep": b"]" * 900_000 + b"a" * 899_999,
    "a list of 2⁶⁰ parts": b"]" + b"q\x00(h\x00h\x00l" * 60,
}  # fmt: skip


@pytest.mark.parametrize("packed", [zipped, legacy])
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind in LONG else []) for kind in REFUSED]
)
def test_what_is_refused(kind: str, packed: Callable[[bytes], bytes], tmp_path: Path) -> None:
    content, words = REFUSED[kind]
    (tmp_path / "w.pth").write_bytes(packed(b"\x80\x02" + content + b"."))
    begun = time.process_time()
    with pytest.raises(InputError, match="not a sound file") as caught:
        read_content(tmp_path / "w.pth")
    assert time.process_time() - begun < 60
    assert words in str(caught.value) or packed is legacy
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("packed", [zipped, legacy])
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] if "million" in kind else []) for kind in INERT]
)
def test_what_is_inert(kind: str, packed: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """Read as a stand-in or a plain value; a file of the old format has no storage for it, and is refused."""
    (tmp_path / "w.pth").write_bytes(packed(b"\x80\x02" + INERT[kind] + b"."))
    try:
        content = read_content(tmp_path / "w.pth")
    except InputError:
        assert packed is legacy
    else:
        assert isinstance(content, StandIn | list | None)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_torch_writes_is_read_as_torch_reads_it(old: bool, protocol: int, tmp_path: Path) -> None:
    rows = torch.arange(24.0).reshape(4, 6)
    content = {
        **{str(kind): torch.arange(5).to(kind) for kind in (torch.uint8, torch.int8, torch.int16, torch.int32)},
        **{str(kind): torch.arange(5).to(kind) for kind in (torch.int64, torch.float16, torch.bfloat16, torch.float64)},
        "bool": torch.tensor([True, False, True]),
        "complex": torch.ones(2, dtype=torch.complex64),
        "transposed": rows.T,
        "part": rows[1:3, ::2],
        "spread": torch.arange(3.0).expand(1, 3),
        "one": torch.tensor(3.0),
        "none": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(rows),
    }
    torch.save(content, tmp_path / "w.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=not old)
    read = read_content(tmp_path / "w.pth")
    assert isinstance(read, dict)
    assert read.keys() == content.keys()
    for name, value in content.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value.detach())


@pytest.mark.parametrize("old", [False, True])
def test_an_optimizers_and_a_schedules_state(old: bool, tmp_path: Path) -> None:
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(net.parameters())
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    content = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(), "net": net.state_dict()}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not old)
    read = read_content(tmp_path / "w.pth")
    assert isinstance(read, dict)
    torch.optim.AdamW(net.parameters()).load_state_dict(read["optimizer"])
    assert read["schedule"] == content["schedule"]
    assert torch.equal(read["optimizer"]["state"][0]["exp_avg"], content["optimizer"]["state"][0]["exp_avg"])


def test_truth_values_of_a_file_are_0_or_1(tmp_path: Path) -> None:
    torch.save({"b": torch.ones(4, dtype=torch.bool)}, tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    assert content.count(b"\x01\x01\x01\x01") == 1
    made = io.BytesIO()
    with zipfile.ZipFile(tmp_path / "w.pth") as before, zipfile.ZipFile(made, "w") as after:
        for name in before.namelist():
            after.writestr(name, before.read(name).replace(b"\x01\x01\x01\x01", b"\x02\x00\xff\x80"))
    (tmp_path / "w.pth").write_bytes(made.getvalue())
    read = read_content(tmp_path / "w.pth")
    assert isinstance(read, dict)
    assert read["b"].view(torch.uint8).tolist() == [1, 0, 1, 1]


PLAIN = [None, True, 3, -(2**40), 0.5, "ä", b"x", (1, 2), [1, [2]], {"a": 1, 2: {}, (1, "x"): 3}]


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_read_as_pickle_reads_them(protocol: int) -> None:
    values = [value for value in PLAIN if value != b"x" or protocol > 2]
    rng = random.Random(protocol)
    for _ in range(20):
        value = [rng.choice(values) for _ in range(rng.randint(0, 5))]
        assert read_pickle(io.BytesIO(pickle.dumps(value, protocol)), lambda *_: pytest.fail("a storage")) == value


def test_numpys_numbers_are_not_made(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1), "best": np.float64(3.0)}, tmp_path / "w.pth")
    content = read_content(tmp_path / "w.pth")
    assert isinstance(content, dict)
    assert type(content["best"]) is StandIn
