"""Files of tensors: every format is read, and nothing in any file is ever executed."""

from __future__ import annotations

import collections
import json
import os
import pickle
import random
import tarfile
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from catpose.errors import InputError
from catpose.model.tensor_file import read_content, tensors_of

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2, dtype=torch.float16)}


class Hostile:
    """Runs a command that leaves a marker when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


class HostileCode(Hostile):
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return eval, (f"open({str(self.marker)!r}, 'w').close()",)


def save_legacy(content: object, file: Path) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=False)


def save_pickle(protocol: int) -> Callable[[object, Path], None]:
    return lambda content, file: file.write_bytes(pickle.dumps(content, protocol=protocol)) and None


def save_tar(content: object, file: Path) -> None:
    """torch's format of 2016: a tar archive of pickles."""
    with tarfile.open(file, "w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            member = file.with_name(name)
            member.write_bytes(pickle.dumps(content, protocol=2))
            archive.add(member, name)


def save_npz(content: object, file: Path) -> None:
    with file.open("wb") as stream:
        np.savez(stream, allow_pickle=True, a=np.array([content], dtype=object))


PICKLED: dict[str, Callable[[object, Path], None]] = {
    **{f"pickle {protocol}": save_pickle(protocol) for protocol in range(6)},
    "torch zip": torch.save,
    "torch legacy": save_legacy,
    "torch tar": save_tar,
    "npz": save_npz,
}


def read_tensors(file: Path) -> dict[str, torch.Tensor]:
    return tensors_of(read_content(file), file)


@pytest.mark.parametrize("hostile", [Hostile, HostileCode])
@pytest.mark.parametrize("suffix", [".pth", ".npz", ".ckpt"])
@pytest.mark.parametrize("form", PICKLED)
def test_hostile_pickles_are_refused(form: str, suffix: str, hostile: type[Hostile], tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    file = tmp_path / f"w{suffix}"
    PICKLED[form]({"state_dict": TENSORS, "meta": [hostile(marker)]}, file)
    with pytest.raises(InputError) as caught:
        read_tensors(file)
    assert not marker.exists()
    assert str(caught.value).startswith(f"{file} is not a sound file of tensors: ")
    assert "\n" not in str(caught.value)
    assert "safetensors" in str(caught.value)


@pytest.mark.parametrize("hostile", [Hostile, HostileCode])
def test_those_pickles_would_have_run(hostile: type[Hostile], tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(hostile(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("save", [torch.save, save_legacy])
@pytest.mark.parametrize(
    "hide",
    [
        lambda evil: Namespace(inner=evil),
        lambda evil: np.array([evil], dtype=object),
        lambda evil: collections.OrderedDict(inner=evil),
        lambda evil: {evil: 1},
    ],
)
def test_hostile_pickles_inside_allowed_types(
    hide: Callable[[object], object], save: Callable[[object, Path], None], tmp_path: Path
) -> None:
    save({"state_dict": TENSORS, "args": hide(Hostile(tmp_path / "marker"))}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"its pickle (asks for|holds more)"):
        read_tensors(tmp_path / "w.pth")
    assert not (tmp_path / "marker").exists()


def test_whole_modules_are_refused_by_name(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"its pickle asks for torch\.nn\.modules\.linear\.Linear"):
        read_tensors(tmp_path / "w.pth")


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "w.pt")
    with pytest.raises(InputError, match="TorchScript"):
        read_tensors(tmp_path / "w.pt")


def save_arrays(content: dict[str, torch.Tensor], file: Path) -> None:
    with file.open("wb") as stream:
        np.savez_compressed(stream, **{name: tensor.numpy() for name, tensor in content.items()})


FORMATS: dict[str, Callable[[dict[str, torch.Tensor], Path], None]] = {
    "safetensors": save_file,
    "torch zip": torch.save,
    "torch legacy": save_legacy,
    "npz": save_arrays,
}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pth.tar", ".bin", ".npz", ""])
@pytest.mark.parametrize("form", FORMATS)
def test_formats_are_told_by_content(form: str, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"w{suffix}"
    FORMATS[form](TENSORS, file)
    if suffix == ".safetensors" and form != "safetensors":
        with pytest.raises(InputError, match="not a sound file of tensors"):
            read_tensors(file)
    else:
        read = read_tensors(file)
        assert read.keys() == TENSORS.keys()
        for name, tensor in TENSORS.items():
            assert read[name].dtype == tensor.dtype
            assert torch.equal(read[name], tensor)


def test_arrays_of_the_other_byte_order_and_text(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", a=np.arange(3, dtype=">f4"), words=np.array(["x"]))
    assert {name: t.tolist() for name, t in read_tensors(tmp_path / "w.npz").items()} == {"a": [0, 1, 2]}


@pytest.mark.parametrize("save", [torch.save, save_legacy])
def test_plain_data_beside_the_weights_is_read(save: Callable[[object, Path], None], tmp_path: Path) -> None:
    beside = {
        "args": Namespace(lr=1e-3, name="x", steps=[1, 2]),
        "numbers": [np.float64(0.5), np.float32(0.5), np.int64(3), np.bool_(True)],
        "arrays": [np.zeros((2, 3)), np.arange(4), np.zeros(2, np.float16), np.ones(3, bool)],
        "order": collections.OrderedDict(a=1),
    }
    save({"state_dict": TENSORS, **beside}, tmp_path / "w.pth")
    assert read_tensors(tmp_path / "w.pth").keys() == TENSORS.keys()


@pytest.mark.parametrize("names", [(b"numpy.core.", b"numpy._core."), (b"numpy._core.", b"numpy.core.")])
def test_numpys_pickles_of_either_generation_are_read(names: tuple[bytes, bytes], tmp_path: Path) -> None:
    """numpy 2 renamed the module that its pickles name; MMPose's published checkpoints hold numpy 1's."""
    save_legacy({"meta": [np.float64(0.5), np.arange(3)], "state_dict": TENSORS}, tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    assert b"core.multiarray" in content
    (tmp_path / "w.pth").write_bytes(content.replace(*names))
    assert read_tensors(tmp_path / "w.pth").keys() == TENSORS.keys()


def lying_header(file: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1000, 1000], "data_offsets": [0, 4000000]}}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))


def endless_header(file: Path) -> None:
    file.write_bytes((2**62).to_bytes(8, "little") + b'{"a": 1}')


def bomb(file: Path) -> None:
    """A small archive whose directory announces eight gigabytes."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", bytes(99))
        archive.filelist[0].file_size = 2**33


def announced(file: Path) -> None:
    """A small archive whose directory announces four gigabytes that are packed in it, and little that comes of them."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", bytes(99))
        archive.filelist[0].compress_size = 2**32 - 2


def huge_array(file: Path) -> None:
    """An array that claims 2⁵⁰ numbers and brings two."""
    with zipfile.ZipFile(file, "w") as archive, archive.open("a.npy", "w") as a:
        np.lib.format.write_array_header_1_0(a, {"descr": "<f8", "fortran_order": False, "shape": (2**50,)})
        a.write(bytes(16))


def two_of_one_name(file: Path) -> None:
    """Python reads the last of them, torch the first."""
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            archive.writestr("archive/data.pkl", b"\x80\x02}.")


def many_members(file: Path) -> None:
    """The directory alone, an entry 200,000 times."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", b"")
    whole = file.read_bytes()
    start, end = whole.index(b"PK\x01\x02"), whole.index(b"PK\x05\x06")
    file.write_bytes(whole[:start] + 200_000 * whole[start:end] + whole[end:])


def packed_otherwise(file: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")


def large_header(file: Path) -> None:
    file.write_bytes((2**25).to_bytes(8, "little") + b"{" + b" " * 2**25 + b"}")


def objects(file: Path) -> None:
    np.savez(file.open("wb"), a=np.array([{}], dtype=object))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda file: None, "no such file"),
    "folder": (lambda file: file.mkdir(), "is a folder"),
    "empty": (lambda file: file.touch(), "it is empty"),
    "text": (lambda file: file.write_text("Access denied, please log in.\n" * 9), "not a sound file"),
    "html": (lambda file: file.write_text("<!DOCTYPE html>\n<html>"), "not a sound file"),
    "json": (lambda file: file.write_text('{"weights": "none"}'), "not a sound file"),
    "empty zip": (lambda file: zipfile.ZipFile(file, "w").close(), "not a sound file"),
    "zip of text": (lambda file: zipfile.ZipFile(file, "w").writestr("readme", "x"), "not a sound file"),
    "lying header": (lying_header, "not a sound file"),
    "endless header": (endless_header, "not a sound file"),
    "bomb": (bomb, "it would unpack to 8.0 GiB"),
    "announced": (announced, "announces more bytes than it has"),
    "two of one name": (two_of_one_name, "two members of one name"),
    "many members": (many_members, "more than 100000 members"),
    "packed otherwise": (packed_otherwise, "packed in another way"),
    "large header": (large_header, "its header would have"),
    "objects": (objects, "could run code"),
    "huge array": (huge_array, "not a sound file"),
    "no tensors": (
        lambda file: torch.save({"epoch": 3, "state_dict": {"lr": 0.1}}, file),
        r"no named tensors \(but lr",
    ),
    "a list": (lambda file: torch.save([torch.ones(3)], file), "no named tensors"),
    "one tensor": (lambda file: torch.save(torch.ones(3), file), "no named tensors"),
    "numbered tensors": (lambda file: torch.save({1: torch.ones(3)}, file), "no named tensors"),
    "no arrays": (lambda file: file.with_suffix(".npz").touch() or np.savez(file.open("wb")), "not a sound|no named"),
}


def of_dtype(dtype: str, bits: int, file: Path) -> Path:
    """Four zeros of one of safetensors' kinds of numbers."""
    header = json.dumps({"a": {"dtype": dtype, "shape": [4], "data_offsets": [0, bits // 2]}}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(bits // 2))
    return file


def test_numbers_that_torch_cannot_convert_are_refused(tmp_path: Path) -> None:
    """safetensors reads all that torch has a name for."""
    with pytest.raises(InputError, match="not a sound file of tensors"):
        read_tensors(of_dtype("F4", 4, tmp_path / "w.safetensors"))
    for dtype, bits in (("F8_E4M3", 8), ("BF16", 16), ("F16", 16), ("U8", 8), ("I64", 64)):
        assert not read_tensors(of_dtype(dtype, bits, tmp_path / "w.safetensors"))["a"].double().any()


@pytest.mark.parametrize("suffix", [".pth", ".npz", ".safetensors"])
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_get_one_line(kind: str, suffix: str, tmp_path: Path) -> None:
    make, wording = BROKEN[kind]
    file = tmp_path / f"broken{suffix}"
    make(file)
    with pytest.raises(InputError) as caught:
        read_tensors(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)
    if suffix != ".safetensors":  # there its parser speaks first
        assert caught.match(wording)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("form", FORMATS)
def test_truncated_and_altered_files_never_crash(form: str, tmp_path: Path) -> None:
    """Cut short anywhere: refused. Bytes changed anywhere: refused, or read as tensors; never anything else."""
    file = tmp_path / "w"
    FORMATS[form](TENSORS, file)
    whole = file.read_bytes()
    rng = random.Random(0)
    for _ in range(40):
        file.write_bytes(whole[: rng.randrange(len(whole))])
        with pytest.raises(InputError):
            read_tensors(file)
    for _ in range(200):
        altered = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            altered[rng.randrange(len(altered))] = rng.randrange(256)
        file.write_bytes(altered)
        try:
            read_tensors(file)
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017 - not every altered file is refused
