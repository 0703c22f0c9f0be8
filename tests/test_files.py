"""Files are written whole or not at all, and JSON is read by one reader."""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catpose.errors import InputError
from catpose.files import DEEPEST_JSON, atomic_write, parse_json, read_json, require_folder, write_json


def test_a_broken_write_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    write_json(file, {"AP": 0.5})
    with pytest.raises(ValueError, match="JSON"):
        write_json(file, {"AP": math.nan})
    with contextlib.suppress(KeyError), atomic_write(file) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert json.loads(file.read_text()) == {"AP": 0.5}
    assert list(tmp_path.iterdir()) == [file]


COCO = '{"images": [{"id": 1}], "annotations": [{"id": 7, "bbox": [1, 2, 3, 4]}]}'

NO_JSON: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is empty"),
    "blanks": (b" \r\n\t", "is empty"),
    "a byte order mark": (b"\xef\xbb\xbf", "is empty"),
    "cut short": (COCO[:-2].encode(), "was it cut short"),
    "cut in a text": (b'{"images": [{"file_name": "1.p', "was it cut short"),
    "UTF-16": (COCO.encode("utf-16"), "not UTF-8 but UTF-16"),
    "UTF-16, no mark": (COCO.encode("utf-16-be"), "not UTF-8 but UTF-16"),
    "UTF-32": (COCO.encode("utf-32"), "not UTF-8 but UTF-32"),
    "Latin-1": ('{"name": "Kätzchen"}'.encode("latin-1"), "not UTF-8 (byte 11)"),
    "gzip": (gzip.compress(COCO.encode()), "unpack it (gunzip)"),
    "zip": (b"PK\x03\x04" + bytes(20), "zip archive"),
    "xz": (b"\xfd7zXZ\0" + bytes(20), "unxz"),
    "HTML": (b"\n<!DOCTYPE html><html></html>", "web page"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
    "text": (b"hello", "line 1, column 1"),
    "two files": (f"{COCO}\n{COCO}".encode(), "several JSON texts"),
    "rubbish behind": (f"{COCO}]".encode(), "several JSON texts"),
    "a comma too many": (b'{\n"a": 1,\n}', "correct it there"),
    "Python's own": (b"{'images': []}", "correct it there"),
    "NUL bytes": (bytes(64), "not UTF-8"),
    "a line break in a text": (b'["a\nb"]', "correct it there"),
    "lists without end": (b"[" * 99_999, "nested too deeply"),
    "deep lists": (b"[" * (DEEPEST_JSON + 2) + b"]" * (DEEPEST_JSON + 2), "nested too deeply"),
    "deep objects": (b'{"a":' * 900 + b"1" + b"}" * 900, "nested too deeply"),
    "400 digits": (b'{"a": 1,\n "b": [1' + b"0" * 400 + b"]}", "line 2: a number of more than 300 digits"),
    "5000 digits": (b"9" * 5000, "more than 300 digits"),
    "negative, 400 digits": (b"[-" + b"9" * 400 + b"]", "more than 300 digits"),
    "a key twice": (b'{"images": [1], "annotations": [2], "images": [3]}', "'images' is there twice at the top level"),
    "a key twice inside": (
        b'{"annotations": [{"id": 1}, {"id": 2, "bbox": [1], "bbox": [2]}]}',
        "'bbox' is there twice in annotations[1]",
    ),
    "a key twice, spelt otherwise": (b'{"a": {"b": {"\\u0063": 1, "c": 1}}}', "'c' is there twice in a.b"),
    "a key twice in what another hides": (b'{"a": {"b": 1, "b": 2}, "a": 3}', "'a' is there twice at the top level"),
}


@pytest.mark.parametrize("kind", NO_JSON)
def test_what_is_no_sound_json_is_told_in_one_line(kind: str, tmp_path: Path) -> None:
    data, named = NO_JSON[kind]
    file = tmp_path / "some.json"
    file.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_json(file)
    line = str(caught.value)
    assert line.startswith(f"{file}: ")
    assert named in line
    assert line.isprintable()
    assert len(line) < len(str(file)) + 200


def test_sound_json_is_read(tmp_path: Path) -> None:
    file = tmp_path / "some.json"
    file.write_text(COCO, encoding="utf-8-sig")
    assert read_json(file) == json.loads(COCO)
    assert parse_json("[1e999, -Infinity, 12345678901234567890]", "x") == [math.inf, -math.inf, 12345678901234567890]
    assert math.isnan(parse_json(b"[NaN]", "x")[0])
    assert parse_json("[" * DEEPEST_JSON + "]" * DEEPEST_JSON, "x")
    assert parse_json('[{"a": 1}, {"a": 1}]', "x") == [{"a": 1}, {"a": 1}]
    assert parse_json(json.dumps(["9" * 400]), "x") == ["9" * 400]


def test_files_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"[" + b" " * 2**20 + b"]")
    for name, named in (
        ("", "is a folder"),
        ("none", "no such file"),
        ("pipe", "is a device"),
        ("a\0b", "no such file"),
    ):
        with pytest.raises(InputError, match=named):
            read_json(tmp_path / name)
    with pytest.raises(InputError, match=r"more than the 1 MiB"):
        read_json(tmp_path / "large", limit=2**20)


@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read_or_told(data: bytes) -> None:
    with contextlib.suppress(InputError):
        parse_json(data, "x")


def _values(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), _values))
def test_what_json_writes_is_read_back(content: object) -> None:
    assert parse_json(json.dumps(content).encode(), "x") == content


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (gzip.compress(b"x"), "unpack it"),
        (b"PK\x03\x04" + bytes(20), "unpack it"),
        (bytes(257) + b"ustar", "unpack it"),
        (b"{}", "is a file; name a folder"),
    ],
    ids=["gzip", "zip", "tar", "JSON"],
)
def test_a_file_in_a_folders_place(tmp_path: Path, content: bytes, remedy: str) -> None:
    (tmp_path / "data").write_bytes(content)
    with pytest.raises(InputError, match=remedy):
        require_folder(tmp_path / "data")
    require_folder(tmp_path)
    require_folder(tmp_path / "none")
