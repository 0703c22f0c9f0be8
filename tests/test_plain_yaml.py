"""YAML of anybody's: plain values, or one line, at a bounded price."""

from __future__ import annotations

import math
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from catpose.errors import InputError
from catpose.plain_yaml import LARGEST_YAML, MOST_VALUES, dump_yaml, parse_yaml, read_yaml, what_is_wrong

VALUES: dict[str, object] = {
    "1e-5": 1e-5,
    "-2.5E+3": -2500.0,
    "1.": 1.0,
    ".5": 0.5,
    ".inf": math.inf,
    "0x1f": 31,
    "1_000": 1000,
    "true": True,
    "~": None,
    "": None,
    "1:30:00": "1:30:00",
    "12:30": "12:30",
    "2026-01-01": "2026-01-01",
    "'1e-5'": "1e-5",
    "1e": "1e",
    "!!str 3": "3",
    "=": "=",
    "\ufeffa: 1": {"a": 1},
    "{a: &x [1, 2], b: *x}": {"a": [1, 2], "b": [1, 2]},
    "{base: &x {lr: 1, wd: 2}, more: {<<: *x, lr: 3}}": {"base": {"lr": 1, "wd": 2}, "more": {"lr": 3, "wd": 2}},
}


@pytest.mark.parametrize("text", VALUES)
def test_a_value(text: str) -> None:
    assert parse_yaml(text) == VALUES[text]
    assert type(parse_yaml(text)) is type(VALUES[text])


def doubled(times: int, form: str) -> str:
    """A line each: every one is the one before, twice."""
    lines = [f"a0: &a0 {form.format('1', '2')}"]
    return "\n".join([*lines, *(f"a{i}: &a{i} {form.format(f'*a{i - 1}', f'*a{i - 1}')}" for i in range(1, times))])


BAD: dict[str, tuple[str, str]] = {
    "an alias bomb of lists": (doubled(60, "[{}, {}]"), "its aliases written out"),
    "an alias bomb of mappings": (doubled(60, "{{x: {}, y: {}}}"), "its aliases written out"),
    "a bomb of merges": ("a0: &a0 {x: 1}\n" + doubled(60, "{{<<: [{}, {}]}}").split("\n", 1)[1], "aliases written out"),
    "itself": ("a: &a [*a]", "holds itself"),
    "itself, further down": ("a: &a {b: {c: [*a]}}", "holds itself"),
    "a million digits": ("lr: " + "9" * 100_000, "line 1: a number of 100000 characters"),
    "a million hexadecimal digits": ("0x" + "f" * 100_000, "a number of 100002"),
    "a million binary digits": ("a: 1\nb: 0b" + "1" * 100_000, "line 2: a number"),
    "a number beyond any": ("1e9999999", "beyond what a number can be"),
    "sexagesimals": ("!!int " + ":".join("1" * 5000), "a number of"),
    "a key twice": ("a: 1\nb: {c: 1, d: 2, c: 3}", "line 2: has c twice"),
    "a list as a key": ("? [1, 2]\n: 3", "as a key"),
    "a mapping as a key": ("{{a: 1}: 2}", "as a key"),
    "code": ("a: !!python/object/apply:os.getcwd []", "!!python/object/apply:os.getcwd"),
    "a tag of one's own": ("!mine 3", "!mine"),
    "binary data": ("!!binary aGVsbG8=", "!!binary"),
    "an impossible date": ("!!timestamp 2026-99-99", "!!timestamp"),
    "an empty number": ("!!int ''", "can't be read"),
    "no truth": ("!!bool perhaps", "can't be read"),
    "deep lists": ("[" * 100_000, "nested too deeply"),
    "deep mappings": ("{a: " * 5_000, "nested too deeply"),
    "deep blocks": ("- " * 50_000, "nested too deeply"),
    "many values": ("- a\n" * (MOST_VALUES + 1), "more than"),
    "long": ("x" * (LARGEST_YAML + 1), "characters"),
    "open": ("{a: [", "is no YAML"),
    "a tab": ("a:\n\tb: 1", "line 2"),
    "two documents": ("a: 1\n---\na: 2", "line 2"),
    "bytes": ("\x00\x01", "is no YAML"),
    "an alias of nothing": ("*a", "undefined alias"),
    "a merge of nothing": ("<<: 3", "merging"),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] if kind == "many values" else []) for kind in BAD]
)
def test_what_is_refused_is_refused_soon_and_in_one_line(kind: str) -> None:
    text, named = BAD[kind]
    tracemalloc.start()
    begun = time.process_time()
    with pytest.raises(yaml.YAMLError) as caught:
        parse_yaml(text)
    spent, (_, most) = time.process_time() - begun, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    line = what_is_wrong(caught.value)
    assert named in line
    assert "\n" not in line
    assert len(line) < 250
    assert most < 300 * 2**20
    assert spent < 60


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=12)
    | st.sampled_from(["1e-5", "1e5", "1_0", "1:30", "0x1", "2026-01-01", "yes", "null", "=", "<<", "08", ".inf", "-"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@given(PLAIN)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert parse_yaml(dump_yaml(value)) == value


def test_a_value_in_two_places_is_written_twice() -> None:
    both = [1, 2]
    assert "&" not in dump_yaml({"a": both, "b": both})


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda file: None, "there is no such file"),
    "a folder": (lambda file: file.mkdir(), "is a folder"),
    "a pipe that nobody writes": (lambda file: os.mkfifo(file), "is no file"),
    "a link to nothing": (lambda file: file.symlink_to("nowhere"), "there is no such file"),
    "a link to a device": (lambda file: file.symlink_to("/dev/zero"), "is no file"),
    "below a file": (lambda file: file.parent.rmdir() or file.parent.touch(), "there is no such file"),
    "large": (lambda file: file.write_bytes(b"#" * (LARGEST_YAML + 1)), "larger than the 200 kB"),
    "Latin 1": (lambda file: file.write_bytes("größe: 3".encode("latin-1")), "is no text in UTF-8 (byte 3)"),
    "UTF-16": (lambda file: file.write_bytes("a: 3".encode("utf-16")), "is no text in UTF-8 (byte 1)"),
    "no YAML": (lambda file: file.write_text("a: 1\nb: ["), "is no YAML of plain values (line 2: "),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_cannot_be_read(kind: str, tmp_path: Path) -> None:
    make, named = FILES[kind]
    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder" / "x.yaml"
    make(file)
    with pytest.raises(InputError) as caught:
        read_yaml(file, "take another")
    assert str(caught.value).startswith(f"{file}: ")
    assert named in str(caught.value)
    assert str(caught.value).endswith("; take another")


def test_a_file_of_windows_notepad(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: [2]\r\n")
    assert read_yaml(tmp_path / "x.yaml", "") == {"a": 1, "b": [2]}


@pytest.mark.parametrize("file", ["hrnet", "mobilenet", "pyramid", "resnest", "resnet", "timm_backbone", "vit"])
def test_a_backbone_of_0_1_0_is_found_where_it_is_now(file: str) -> None:
    """Settings and checkpoints of 0.1.0 name their classes by where these were."""
    before, now = f"catpose.model.{file}.Net", f"catpose.model.backbones.{file}.Net"
    assert parse_yaml(f"model: {{class_path: {before}}}") == {"model": {"class_path": now}}
    assert parse_yaml(now) == parse_yaml(before) == now
    for other in (
        f"{before} too",
        f"my.{before}",
        "Classic",
        "catpose.model.codec.MSRAHeatmap",
        f"catpose.model.{file}.name",
    ):
        assert parse_yaml(other) == other


@pytest.mark.parametrize(("before", "now"), [("Classic", "MSRAHeatmap"), ("Unbiased", "UDPHeatmap")])
def test_a_codec_of_0_1_0_has_its_name_of_now(before: str, now: str) -> None:
    for key in ("codec", "class_path", "model.codec", "model.codec.class_path"):
        assert parse_yaml(f"{key}: {before}") == {key: now}
        assert parse_yaml(f"{key}: catpose.model.codec.{before}") == {key: f"catpose.model.codec.{now}"}
    assert parse_yaml(f"catpose.model.codec.{before}") == f"catpose.model.codec.{now}"
    for other in (before, f"name: {before}", f"model.codec: [{before}, true]", f"{before}: 1", f"codec: my.{before}"):
        assert parse_yaml(other) == yaml.safe_load(other)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("model", ["catpose.model.resnet.ResNet", "ResNet"])
@pytest.mark.parametrize("codec", ["catpose.model.codec.Unbiased", "Unbiased"])
@pytest.mark.parametrize("by", [" ", "="])
def test_arguments_of_0_1_0_name_the_same_classes(model: str, codec: str, by: str) -> None:
    from catpose.run.cli import FitCLI

    now = FitCLI(["--model=ResNet", "--model.codec=UDPHeatmap", "--wandb.name=Unbiased"]).resolved()
    args = [f"--model{by}{model}", f"--model.codec{by}{codec}", f"--wandb.name{by}Unbiased"]
    assert FitCLI([part for arg in args for part in arg.split(" ")]).resolved() == now
    assert now["model"]["init_args"]["codec"]["class_path"] == "catpose.model.codec.UDPHeatmap"
    assert now["wandb"]["name"] == "Unbiased"
