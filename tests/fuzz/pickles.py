"""Pickles that never were: opcodes by a grammar, and sound pickles of tensors with opcodes changed."""

from __future__ import annotations

import io
import pickle
import pickletools
import random
import struct
import zipfile

import torch

NAMES = [
    *("collections OrderedDict", "collections Counter", "torch FloatStorage", "torch LongStorage", "torch BoolStorage"),
    *("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "torch Size", "torch float32"),
    *("numpy dtype", "numpy ndarray", "numpy._core.multiarray scalar", "numpy.core.multiarray _reconstruct"),
    *("argparse Namespace", "_codecs encode", "builtins set", "builtins bytearray", "builtins eval", "posix system"),
    *("torch Tensor", "torch.nn.parameter Parameter", "torch._utils _rebuild_sparse_tensor", "torch sparse_coo"),
    *("torch._utils _rebuild_qtensor", "torch._utils _rebuild_wrapper_subclass", "torch.storage UntypedStorage"),
    *("torch._utils _rebuild_meta_tensor_no_storage", "torch._tensor _rebuild_from_type_v2", "torch FloatTensor"),
    *("torch._utils _rebuild_device_tensor_from_numpy", "torch serialization", "copyreg _reconstructor"),
    *("builtins getattr", "numpy.dtypes Float64DType", "catpose.model.pose PoseModel", "x y.z", "builtins complex"),
]
NUMBERS = [0, 1, 2, 3, 4, 7, 8, 16, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63]
TEXTS = ["storage", "module", "0", "1", "cpu", "cuda:0", "a.weight", "state_dict", "model", "catpose", "f8", "O8", ""]


def number(rng: random.Random) -> bytes:
    value = rng.choice(NUMBERS) * rng.choice((1, 1, 1, -1)) + rng.randint(-1, 1)
    length = (value.bit_length() + 8) // 8 or 1
    return b"\x8a" + bytes([length]) + value.to_bytes(length, "little", signed=True)


def text(rng: random.Random) -> bytes:
    said = rng.choice(TEXTS).encode()
    return b"X" + struct.pack("<I", len(said)) + said


def named(rng: random.Random) -> bytes:
    module, name = rng.choice(NAMES).split(" ")
    if rng.random() < 0.2:
        return b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, name)) + b"\x93"
    return f"c{module}\n{name}\n".encode()


def tuple_of(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def storage(rng: random.Random) -> bytes:
    kind = rng.choice(("FloatStorage", "LongStorage", "HalfStorage", "BoolStorage", "QInt8Storage"))
    count = b"K" + bytes([rng.choice((0, 4, 8, 16, 32, 255))]) if rng.random() < 0.8 else number(rng)
    key = text(rng) if rng.random() < 0.2 else b"X\x01\x00\x00\x000"
    view = rng.choice((b"", b"N", tuple_of(text(rng), number(rng), number(rng))))
    known_as = (b"X\x07\x00\x00\x00storage", f"ctorch\n{kind}\n".encode(), key, b"X\x03\x00\x00\x00cpu", count, view)
    return tuple_of(*known_as) + b"Q"


def tensor(rng: random.Random) -> bytes:
    def some() -> bytes:
        return tuple_of(*(rng.choice((number(rng), b"K" + bytes([rng.randrange(9)]))) for _ in range(rng.randrange(4))))

    made = rng.choice(("_rebuild_tensor_v2", "_rebuild_tensor", "_rebuild_tensor_v3", "_rebuild_qtensor"))
    parts = [storage(rng), number(rng) if rng.random() < 0.3 else b"K\x00", some(), some(), b"\x89", b"}"]
    if rng.random() < 0.1:
        rng.shuffle(parts)
    return f"ctorch._utils\n{made}\n".encode() + tuple_of(*parts) + b"R"


def large(rng: random.Random) -> bytes:
    """Opcodes that announce more than there is."""
    size = rng.choice((2**20, 2**31, 2**32 - 1, 12 * 2**30))
    return rng.choice((
        b"\x96" + struct.pack("<Q", size),
        b"\x8e" + struct.pack("<Q", size),
        b"\x8d" + struct.pack("<Q", size),
        b"\x95" + struct.pack("<Q", size),
        b"\x8b" + struct.pack("<I", size % 2**32),
        b"T" + struct.pack("<I", size % 2**32),
        b"r" + struct.pack("<I", size % 2**32),
        b"j" + struct.pack("<I", size % 2**32),
        b"p" + str(size).encode() + b"\n",
        b"cbuiltins\nbytearray\n" + b"\x8a\x06" + size.to_bytes(6, "little") + b"\x85R",
        b"L" + b"9" * rng.choice((100, 4301, 20000)) + b"L\n",
        b"(" + b"]" * 2000 + b"l",
        b"N" + b"2\x86" * 60,
        b"]q\x09" + b"(h\x09h\x09lq\x09" * 60,
    ))  # fmt: skip


def operation(rng: random.Random) -> bytes:
    plain = [bytes([code]) for code in b"N\x88\x89]})\x8f(021ltd\x90\x91aesuR\x81\x92bQo\x85\x86\x87\x94\x93\x97\x98"]
    plain += [b"\x82\x01", b"iposix\nsystem\n", b"P0\n", b"I01\n", b"I99\n", b"F1e999\n", b"S'x'\n", b"G" + bytes(8)]
    plain += [b"q\x00", b"q\x01", b"h\x00", b"h\x01", b"K\x02", b"C\x02ab"]
    match rng.randrange(10):
        case 0:
            return number(rng)
        case 1:
            return text(rng)
        case 2:
            return named(rng)
        case 3:
            return storage(rng)
        case 4:
            return tensor(rng)
        case 5 if rng.random() < 0.3:
            return large(rng)
        case _:
            return rng.choice(plain)


def by_grammar(rng: random.Random) -> bytes:
    operations = [operation(rng) for _ in range(rng.randint(1, 40))]
    if rng.random() < 0.5:  # in the place where tensors are looked for
        operations = [b"}", text(rng), *operations, b"s"]
    return b"\x80\x02" + b"".join(operations) + b"."


def _operations(content: bytes) -> list[bytes]:
    places = [place for _, _, place in pickletools.genops(content)]
    return [content[a:b] for a, b in zip(places, [*places[1:], len(content)], strict=True)]


def changed(rng: random.Random, content: bytes) -> bytes:
    """A sound pickle with some opcodes left out, doubled, exchanged, put in, or with other arguments."""
    operations = _operations(content)
    for _ in range(rng.randint(1, 4)):
        i, j = rng.randrange(len(operations)), rng.randrange(len(operations))
        match rng.randrange(5):
            case 0:
                operations[i] = operation(rng)
            case 1:
                operations.insert(i, operation(rng))
            case 2 if len(operations) > 2:
                del operations[i]
            case 3:
                operations.insert(i, operations[j])
            case 4:
                numbers = [k for k, each in enumerate(operations) if each[:1] in b"KMJ\x8a"]
                operations[rng.choice(numbers or [i])] = number(rng)
    return b"".join(operations)


def zipped(content: bytes) -> bytes:
    """An archive of torch's with a pickle of one's own, and storages of 64 bytes."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        for key in ("0", "1", "a.weight"):
            archive.writestr(f"archive/data/{key}", bytes(range(64)))
        archive.writestr("archive/version", b"3\n")
    return made.getvalue()


def legacy(content: bytes) -> bytes:
    """torch's format of old with a pickle of one's own, and a storage of 16 numbers."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]
    pickles = b"".join(pickle.dumps(part, protocol=2) for part in head)
    return pickles + content + pickle.dumps(["0"], protocol=2) + (16).to_bytes(8, "little") + bytes(64)


def sound(rng: random.Random) -> object:
    """What checkpoints hold."""
    tensors = {f"layer{i}.weight": torch.zeros(rng.randint(0, 3), 4) for i in range(rng.randint(1, 3))}
    return {"state_dict": tensors, "epoch": 3, "name": "x", "lr": [1e-3, None], "flag": True}


def pickle_of(content: object, old: bool) -> bytes:
    """The pickle alone of what torch.save writes."""
    made = io.BytesIO()
    torch.save(content, made, _use_new_zipfile_serialization=not old)
    if not old:
        with zipfile.ZipFile(made) as archive:
            return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    made.seek(0)
    for _ in range(3):
        list(pickletools.genops(made))
    start = made.tell()
    list(pickletools.genops(made))
    return made.getvalue()[start : made.tell()]
