"""torch's pickles as data: an interpreter of pickle opcodes that builds tensors and plain values only.

Neither `pickle` nor `torch.load(weights_only=True)` is used. Both allocate what a file asks for before checking that
the file holds it (`bytearray(12 GB)`, a memo of 2³¹ entries, a storage of 2⁴⁰ numbers), and both let a file change the
objects that it builds (a numpy dtype whose `__setstate__` reads pointers of the file's choosing). Here a name stands
for this module's own constructor; what published checkpoints hold beside their weights (numpy scalars, argparse
namespaces) becomes an empty stand-in.
"""

from __future__ import annotations

import math
import pickletools
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor

#: Opcodes of a pickle. A network of ten thousand tensors takes some 300,000, each at most a hundred bytes of memory.
MOST_OPERATIONS = 2_000_000
MOST_TENSORS = 100_000  # each takes a kilobyte, however little of the file it is
MOST_DIMENSIONS = 16
#: Key parts of a dict are of these types, whose hashes are quick and don't collide at a file's will.
_KEYS = (str, bytes, int, float, bool, type(None))
_CONSTANTS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
_STORAGES = {f"{module}.{name}": dtype for module in ("torch", "torch.cuda") for name, dtype in _DTYPES.items()}
#: Names that published checkpoints hold beside their weights; accepted and ignored.
_STAND_INS = {
    "argparse.Namespace",
    "numpy.ndarray",
    "numpy.dtype",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    "_codecs.encode",
    "builtins.set",
    "__builtin__.set",
    "torch.Size",
    "torch.device",
    *(str(dtype) for dtype in _DTYPES.values()),
}


class Refused(ValueError):
    """A pickle that holds, or asks for, more than tensors and plain values."""


@dataclass(frozen=True, eq=False)
class Storage:
    """Numbers in a row, (n,), of which tensors are views."""

    values: Tensor


@dataclass(frozen=True, slots=True)
class StandIn:
    """A name, and the empty result of calling it."""

    name: str


def read_pickle(file: BinaryIO, storage: Callable[[torch.dtype, tuple[Any, ...]], Storage]) -> object:
    """The value of the pickle that begins where `file` stands, and ends where it stands afterwards.

    Args:
        file: its bytes, in memory.
        storage: gives a storage by its dtype and (key, location, number of elements, …), as torch wrote them.

    Raises:
        Refused: it asks for anything but tensors and plain values. ValueError, LookupError, TypeError,
            AttributeError: damaged.
    """
    interpreter = _Interpreter(storage)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count > MOST_OPERATIONS:
            raise Refused(f"its pickle has more than {MOST_OPERATIONS} operations")
        if opcode.name == "STOP":
            return interpreter.stack.pop()
        interpreter.run(opcode.name, argument)
    raise ValueError("its pickle has no end")


class _Interpreter:
    """The stack, marks and memo of a pickle, and what each opcode does to them."""

    def __init__(self, storage: Callable[[torch.dtype, tuple[Any, ...]], Storage]) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._storage = storage
        self._tensors = 0

    def run(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self.stack.append(argument)
        elif not (self._move(name, argument) or self._collect(name) or self._call(name, argument)):
            raise Refused(f"its pickle holds more than tensors and plain values ({name})")

    def _from_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _move(self, name: str, argument: Any) -> bool:
        """Opcodes of stack, marks and memo; False for any other, as below."""
        stack = self.stack
        match name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self._marks.append(len(stack))
            case "POP":
                stack.pop()
            case "POP_MARK":
                self._from_mark()
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case _:
                return False
        return True

    def _collect(self, name: str) -> bool:
        """Opcodes of plain values and containers."""
        stack = self.stack
        match name:
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "EMPTY_LIST" | "EMPTY_SET":  # a set's values as a list, which hashes none of them
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_DICT":
                stack.append({})
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = [stack.pop() for _ in range(int(name[-1]))]
                stack.append(tuple(reversed(items)))
            case "TUPLE" | "FROZENSET":
                stack.append(tuple(self._from_mark()))
            case "LIST":
                stack.append(self._from_mark())
            case "DICT":
                stack.append(_filled({}, _pairs(self._from_mark())))
            case "APPEND" | "APPENDS" | "ADDITEMS":
                items = [stack.pop()] if name == "APPEND" else self._from_mark()
                if type(stack[-1]) is list:
                    stack[-1].extend(items)
                elif type(stack[-1]) is not StandIn:
                    raise Refused("its pickle holds more than tensors and plain values")
            case "SETITEM" | "SETITEMS":
                items = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else self._from_mark()
                if isinstance(stack[-1], dict):
                    _filled(stack[-1], _pairs(items))
                elif type(stack[-1]) is not StandIn:
                    raise Refused("its pickle holds more than tensors and plain values")
            case _:
                return False
        return True

    def _call(self, name: str, argument: Any) -> bool:
        """Opcodes that name something, call it, set its attributes, or refer to a storage."""
        stack = self.stack
        match name:
            case "GLOBAL":
                stack.append(_named(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                last, module = stack.pop(), stack.pop()
                if type(last) is not str or type(module) is not str:
                    raise Refused("its pickle asks for something without a name")
                stack.append(_named(f"{module}.{last}"))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_called(function, arguments))
                self._tensors += isinstance(stack[-1], Tensor)
                if self._tensors > MOST_TENSORS:
                    raise Refused(f"its pickle has more than {MOST_TENSORS} tensors")
            case "BUILD":  # attributes: an OrderedDict's, a namespace's, a numpy array's
                stack.pop()
                if not isinstance(stack[-1], OrderedDict | StandIn):
                    raise Refused("its pickle holds more than tensors and plain values")
            case "BINPERSID":
                stack.append(_persistent(stack.pop(), self._storage))
            case _:
                return False
        return True


def _pairs(items: list[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(items[::2], items[1::2], strict=True)


def _named(name: str) -> StandIn:
    if name.startswith(("torch._utils._rebuild_", "torch.sparse", "torch.nested")) and name not in _CALLED:
        raise Refused(f"it has tensors of another kind than rows of numbers (quantised, sparse or empty: {name[:60]})")
    if name not in _STAND_INS and name not in _STORAGES and name not in _CALLED:
        raise Refused(f"its pickle asks for {name[:100]}, which could run code")
    return StandIn(name)


def _called(function: object, arguments: object) -> object:
    if type(function) is not StandIn or type(arguments) is not tuple:
        raise Refused("its pickle holds more than tensors and plain values")
    build = _CALLED.get(function.name)
    return build(*arguments) if build else function


def _persistent(known_as: object, storage: Callable[[torch.dtype, tuple[Any, ...]], Storage]) -> Storage:
    """A storage by the tuple that torch puts in its place: "storage", type, key, location, number of elements, …"""
    if type(known_as) is not tuple or len(known_as) < 5 or known_as[0] not in ("storage", b"storage"):
        raise Refused("its pickle holds more than tensors and plain values")
    kind, key, _, count = known_as[1:5]
    if type(kind) is not StandIn or kind.name not in _STORAGES or type(key) not in (str, int):
        raise Refused("its pickle has tensors of an unknown type")
    require_whole(count)
    return storage(_STORAGES[kind.name], known_as[2:])


def _filled(target: dict[Any, Any], pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    for key, value in pairs:
        parts = key if type(key) is tuple and len(key) <= 8 else (key,)
        if not all(type(part) in _KEYS and (type(part) is not int or part.bit_length() <= 64) for part in parts):
            raise Refused("its pickle has a dict with keys that are no plain values")
        target[key] = value
    return target


def _dict(kind: type[dict[Any, Any]]) -> Callable[..., dict[Any, Any]]:
    def build(entries: object = ()) -> dict[Any, Any]:
        if isinstance(entries, dict):
            return _filled(kind(), entries.items())
        if not isinstance(entries, list | tuple) or not all(
            isinstance(pair, list | tuple) and len(pair) == 2 for pair in entries
        ):
            raise Refused("its pickle has a dict that is none")
        return _filled(kind(), ((key, value) for key, value in entries))

    return build


def require_whole(*numbers: object) -> None:
    """Raise `Refused` unless all are integers that a size, a stride or an offset can be."""
    if not all(type(number) is int and 0 <= number < 2**48 for number in numbers):
        raise Refused("its pickle has a tensor of an impossible size")


def _tensor(storage: object, offset: Any, size: Any, stride: Any, *others: object) -> Tensor:
    """A view of a storage that stays within it, and isn't larger than it is: (…) as `size` says.

    Args:
        others: requires_grad, backward hooks and metadata, of which the last alone would change a number.
    """
    if type(storage) is not Storage or type(size) is not tuple or type(stride) is not tuple or any(others[2:]):
        raise Refused("its pickle has a tensor that is none")
    require_whole(offset, *size, *stride)
    values = storage.values
    if len(size) != len(stride) or len(size) > MOST_DIMENSIONS or math.prod(max(1, n) for n in size) >= 2**62:
        raise Refused("its pickle has a tensor of an impossible size")
    if 0 in size:
        return torch.empty(size, dtype=values.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= len(values) or math.prod(size) > len(values):
        raise Refused(f"its pickle has a tensor {size}, which reaches beyond its {len(values)} numbers")
    return torch.as_strided(values, size, stride, offset)


def _parameter(tensor: object, *_: object) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise Refused("its pickle has a parameter that is no tensor")
    return tensor


#: Constructors by the name that a pickle calls.
_CALLED: dict[str, Callable[..., object]] = {
    "collections.OrderedDict": _dict(OrderedDict),
    "collections.Counter": _dict(Counter),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
}
