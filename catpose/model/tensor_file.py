"""Reading a file of named tensors that somebody else wrote, without ever executing what is in it."""

from __future__ import annotations

import io
import math
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from catpose.errors import InputError, one_line
from catpose.model.tensor_pickle import Refused, Storage, read_pickle, require_whole
from catpose.model.weights_file import SUFFIX, as_checkpoint

# Under which keys training programs keep the weights, where they save more than those; the first present one counts.
WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "teacher",
    "student",
)

FETCH_AGAIN = "Fetch it again, or have the tool that wrote it save its weights alone, as .safetensors"

#: A zip archive that unpacks to more than this and to ten times its size is a bomb: weights hardly compress.
SMALL = 2**26
MOST_MEMBERS = 100_000  # of a zip archive; each takes ten times as much memory as it takes room in the file
LARGEST_PICKLE = 2**26  # bytes, without the numbers
LARGEST_HEADER = 2**24  # bytes, of safetensors
_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")  # torch.save's before torch 1.6


def tensors_of(content: object, path: Path) -> dict[str, Tensor]:
    """The named tensors in what `read_content` returns, each of any shape; those of a wrapped `state_dict` too.

    Raises:
        InputError: there are none.
    """
    for _ in range(4):
        if not isinstance(content, dict) or any(isinstance(value, Tensor) for value in content.values()):
            break
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), None) or content
    named = content.items() if isinstance(content, dict) else ()
    tensors = {name: tensor for name, tensor in named if isinstance(name, str) and isinstance(tensor, Tensor)}
    if not tensors:
        keys = ", ".join(str(name)[:40] for name, _ in list(named)[:5]) or "nothing at all"
        raise InputError(f"{path} holds no named tensors (but {keys}); save the weights as a dict of name to tensor")
    return tensors


def read_content(path: Path, remedy: str = FETCH_AGAIN) -> object:
    """What is in a file of tensors, plain data beside them included: a dict, mostly; tensors on the CPU, as stored.

    Of a weights file of ours it is what a checkpoint of the same model holds.

    The content, not the suffix, tells the format: safetensors, torch.save (a zip archive, or a pickle before torch
    1.6) or numpy's `.npz`.

    Args:
        remedy: what to do about a file that can't be read.

    Raises:
        InputError: `path` is missing, unreadable, damaged, of another format, or its pickle asks for anything but
            tensors and plain data. None of it has been executed.
    """
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; name a file in it")
    if not os.path.isfile(path):  # whatever the name is: pathlib's raises where it is too long
        raise InputError(f"{str(path)[:200]}: no such file; name an existing file")
    try:
        return _content(path)
    except Exception as error:  # the bytes are anybody's, and three parsers read them: what goes wrong is bad input
        raise InputError(
            f"{path} is not a sound file of tensors: {_reason(error)}. Nothing in it was executed. {remedy}"
        ) from None


def _content(path: Path) -> object:
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise Refused("it is empty")
    if path.suffix == SUFFIX or start[8:9] == b"{":  # eight bytes of header length, then the header's JSON
        return _safetensors(path, int.from_bytes(start[:8], "little"))
    if start.startswith(b"PK"):
        return _zipped(path)
    if _MAGIC in start:
        return _legacy(path)
    raise Refused("it is in no known format")


def _safetensors(path: Path, header: int) -> dict[str, Any]:
    if header > LARGEST_HEADER:
        raise Refused(f"its header would have {header} bytes, more than the {LARGEST_HEADER} of any that is known")
    with safe_open(path, framework="pt") as file:
        tensors = {name: _sound(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        texts = file.metadata() or {}
    return as_checkpoint(tensors, texts) if "catpose" in texts else tensors


def _sound(tensor: Tensor) -> Tensor:
    """The tensor as torch can use it: truth values are 0 or 1, where a file may have others.

    Raises:
        Refused: torch has a name for its kind of numbers, such as four bits each, and no arithmetic.
    """
    try:
        torch.empty(1, dtype=tensor.dtype).real.double()
    except (NotImplementedError, RuntimeError):
        raise Refused(f"it holds numbers of the kind {tensor.dtype}, which torch can't convert") from None
    return tensor.view(torch.uint8) != 0 if tensor.dtype == torch.bool else tensor


def _zipped(path: Path) -> object:
    """torch.save's or numpy's archive: what its directory says is checked before any of it is unpacked."""
    if _count(path, b"PK\x01\x02") > MOST_MEMBERS:
        raise Refused(f"it is an archive of more than {MOST_MEMBERS} members")
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if len(members) < len(archive.infolist()):
            raise Refused("it is an archive that holds two members of one name")
        unpacked = sum(member.file_size for member in members.values())
        if unpacked > max(SMALL, 10 * path.stat().st_size):
            raise Refused(f"it would unpack to {unpacked / 2**30:.1f} GiB, far beyond its size")
        if sum(member.compress_size for member in members.values()) > path.stat().st_size:
            raise Refused("it is an archive that announces more bytes than it has")  # and would set them aside
        if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members.values()):
            raise Refused("it is an archive packed in another way than torch and numpy do it")
        if any(name.endswith(".npy") for name in members):
            return {
                name: tensor
                for member in members
                if (tensor := _array(archive, member)) is not None
                for name in [member.removesuffix(".npy")]
            }
        if any(name.endswith("/constants.pkl") for name in members):
            raise Refused("it is a TorchScript program, which would have to be run")
        root = next((name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")), None)
        if root is None:
            raise Refused("it is in no known format")
        if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
            raise Refused("its numbers are big-endian, which isn't read here")
        return _unpickled(archive, root)


def _count(path: Path, mark: bytes) -> int:
    found, before = 0, b""
    with path.open("rb") as file:
        while block := file.read(2**20):
            found += (before + block).count(mark)
            before = block[1 - len(mark) :]
    return found


def _unpickled(archive: zipfile.ZipFile, root: str) -> object:
    if archive.getinfo(f"{root}data.pkl").file_size > LARGEST_PICKLE:
        raise Refused(f"its pickle is larger than {LARGEST_PICKLE // 2**20} MiB, without the numbers")
    bytes_of: dict[str, Tensor] = {}  # by member: its numbers can be there as several types
    storages: dict[tuple[str, torch.dtype], Storage] = {}

    def storage(dtype: torch.dtype, known_as: tuple[Any, ...]) -> Storage:
        member, announced = f"{root}data/{known_as[0]}", known_as[2] * dtype.itemsize
        if (member, dtype) not in storages:
            if member not in bytes_of:
                content = bytearray(archive.read(member))
                bytes_of[member] = torch.frombuffer(content, dtype=torch.uint8) if content else torch.zeros(0).byte()
            if len(bytes_of[member]) != announced:
                raise Refused(f"it announces {announced} bytes of numbers where it has {len(bytes_of[member])}")
            values = bytes_of[member].view(dtype)
            storages[member, dtype] = Storage(_sound(values))
        return storages[member, dtype]

    return read_pickle(io.BytesIO(archive.read(f"{root}data.pkl")), storage)


def _legacy(path: Path) -> object:
    """torch.save's before torch 1.6: pickles one after the other, then each storage's length and numbers."""
    file = io.BytesIO(path.read_bytes())
    room = len(file.getbuffer())
    storages: dict[str | int, Storage] = {}  # whose numbers come after the tensors

    def none(*_: object) -> Storage:
        raise Refused("its pickle holds more than tensors and plain values")

    def storage(dtype: torch.dtype, known_as: tuple[Any, ...]) -> Storage:
        nonlocal room
        key, _, count, *view = known_as
        if key not in storages:
            room -= count * dtype.itemsize
            if room < 0:
                raise Refused("it announces more numbers than it has room for")
            storages[key] = Storage(torch.zeros(count, dtype=dtype))
        values = storages[key].values
        if values.dtype != dtype or len(values) != count:
            raise Refused("it has two storages of one name")
        if not view or view[0] is None:
            return storages[key]
        _, first, length = view[0]  # torch 0.3's views of a storage
        require_whole(first, length)
        return Storage(values[first : first + length])

    read_pickle(file, none)  # the magic number
    if read_pickle(file, none) != 1001:
        raise Refused("it is of an unknown version of torch's format")
    system = read_pickle(file, none)
    if not isinstance(system, dict) or system.get("little_endian", True) is not True:
        raise Refused("its numbers are big-endian, which isn't read here")
    content = read_pickle(file, storage)
    keys = read_pickle(file, none)
    if not isinstance(keys, list) or any(type(key) not in (str, int) for key in keys) or {*keys} != {*storages}:
        raise Refused("its numbers aren't those of its tensors")
    for key in dict.fromkeys(keys):
        values = storages[key].values
        count = int.from_bytes(file.read(8), "little")
        room_for: Any = values.view(torch.uint8).numpy()
        if count != len(values) or file.readinto(room_for) != count * values.dtype.itemsize:
            raise Refused("it is cut short, or its numbers aren't those of its tensors")
        if values.dtype == torch.bool:
            values.copy_(_sound(values))
    return content


def _array(archive: zipfile.ZipFile, name: str) -> Tensor | None:
    """An array of numbers, None for one of text; its header is checked against what there is of it."""
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read_header:
            raise Refused("it has an array in a format that isn't known")
        shape, by_columns, dtype = read_header[version](member)
        if dtype.hasobject:
            raise Refused("it has an array of Python's objects, which could run code")
        content = member.read()
    if math.prod(shape) * dtype.itemsize != len(content) or min(shape, default=0) < 0:
        raise Refused(f"it has an array {shape} of {len(content)} bytes")
    if dtype.kind not in "biuf":
        return None
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if by_columns else "C")
    array = np.array(array, dtype.newbyteorder("="), order="C")  # a copy: the bytes are nobody's to change
    return torch.from_numpy(array != 0 if dtype.kind == "b" else array)


def _reason(error: Exception) -> str:
    if isinstance(error, Refused):
        return one_line(error)
    reason = re.split(r"\. |: ", one_line(error), maxsplit=1)[0][:120].rstrip(".")
    return reason if " " in reason else "it is damaged, or in no known format"
