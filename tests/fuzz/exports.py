"""Exports of labelling tools that never were: sound ones with texts, values, bytes and archive members changed."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import random
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import made_up

from catpose.data.checks import all_findings
from catpose.errors import InputError
from catpose.prepare import main
from catpose.skeleton import AP10K
from fuzz import files

N_PICTURES = 3
Members = dict[str, bytes]
_NAMES = ["../x.png", "/tmp/x", "C:\\x", "..\\..\\x", "a/../../x", "x\0y.png", "", ".", "a" * 300, "images", "~/x"]
_NAMES += ["images/0.png/x.png", "/".join("a" * 900), "con:x", "images//0.png", "\u202ex", "\x1b[2J"]


@functools.cache
def _pictures() -> Members:
    return {f"images/{i}.png": cv2.imencode(".png", made_up.picture(i))[1].tobytes() for i in range(N_PICTURES)}


def _coco() -> dict[str, Any]:
    return made_up.coco(range(N_PICTURES))


def coco(rng: random.Random) -> Members:
    """COCO JSON with values exchanged, as most tools lay it out, or as Label Studio or Roboflow do."""
    name = rng.choice(("annotations/person_keypoints_default.json", "result.json", "train/_annotations.coco.json"))
    return {name: files.value_changed(rng, _coco())}


def _numbers(i: int) -> list[float]:
    return made_up.keypoints([4.0, 6.0, 60.0 + i, 70.0])


def yolo(rng: random.Random) -> Members:
    names = ", ".join(AP10K.names)
    settings = f"path: .\ntrain: images\nkpt_shape: [17, 3]\nnames: {{0: cat}}\nkpt_names: {{0: [{names}]}}\n"
    made = {"data.yaml": settings.encode()}
    for i in range(N_PICTURES):
        points = [f"{value / (96, 80, 1)[k % 3]:.6f}" for k, value in enumerate(_numbers(i))]
        made[f"labels/{i}.txt"] = " ".join(["0 0.5 0.5 0.9 0.9", *points]).encode()
    return made | _text_changed(rng, made)


def deeplabcut(rng: random.Random) -> Members:
    rows = [
        ["scorer", "", "", *["me"] * 34],
        ["bodyparts", "", "", *[name for name in AP10K.names for _ in "xy"]],
        ["coords", "", "", *"xy" * 17],
    ]
    for i in range(N_PICTURES):
        rows.append(["labeled-data", "tom", f"{i}.png", *[str(v) for k, v in enumerate(_numbers(i)) if k % 3 < 2]])
    made = {"labeled-data/tom/CollectedData_me.csv": "\n".join(map(",".join, rows)).encode()}
    return made | _text_changed(rng, made)


def _text_changed(rng: random.Random, made: Members) -> Members:
    name = rng.choice(list(made))
    if rng.random() < 0.5:
        return {name: files.text_changed(rng, made[name].decode())}
    return {name: files.bytes_changed(rng, made[name])}


def packed(members: Callable[[random.Random], Members]) -> Callable[[random.Random], bytes]:
    """A sound archive of changed labels with their pictures."""

    def make(rng: random.Random) -> bytes:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as archive:
            for name, content in (members(rng) | _pictures()).items():
                archive.writestr(name, content)
        return made.getvalue()

    return make


def hostile(rng: random.Random) -> bytes:
    """An archive of sound labels that is damaged, or has members that leave it, are links, encrypted, there twice, that
    unpack to more than they say or than there is room for."""
    made = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, content in ({"result.json": json.dumps(_coco()).encode()} | _pictures()).items():
            archive.writestr(name, content)
        for _ in range(rng.choice((0, 1, 1, 3))):
            member = zipfile.ZipInfo(rng.choice(_NAMES))
            if rng.random() < 0.3:
                member.external_attr = rng.choice((stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFDIR)) << 16
            with contextlib.suppress(ValueError, UnicodeError):
                archive.writestr(
                    member, bytes(rng.choice((0, 9, 2**16))) if rng.random() < 0.9 else b"../../etc/passwd"
                )
        if rng.random() < 0.15:
            archive.writestr("images/big.png", bytes(2**27), zipfile.ZIP_DEFLATED, 1)
        for member in archive.filelist:
            if rng.random() < 0.1:
                member.file_size = rng.choice((0, 16, 2**20, 2**33))
            if rng.random() < 0.05:
                member.flag_bits |= 1
            if rng.random() < 0.05:
                member.compress_type = rng.choice((0, 1, 8, 9, 12, 14, 93, 97))
    return files.bytes_changed(rng, made.getvalue()) if rng.random() < 0.4 else made.getvalue()


def bring_in(source: str) -> Callable[[Path], None]:
    """`prepare SOURCE FILE`, which writes a folder that `check` has no error for, or nothing at all."""

    def read(file: Path) -> None:
        root = file.parent / "new" / "cats"
        before = _below(file.parent)
        try:
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                main.__wrapped__([source, str(file), "--split", "0.4", "0.3", "0.3", "--out", str(root)])  # type: ignore[attr-defined]
        except InputError:
            assert _below(file.parent) == before, "something was written"
            raise
        errors = [finding.message for finding in all_findings(root) if finding.severity == "error"]
        assert errors == []
        shutil.rmtree(root.parent)

    return read


def _below(folder: Path) -> list[str]:
    """What is in a folder and in the one above it, and of what size."""
    places = [*folder.rglob("*"), *folder.parent.glob("*")]
    return sorted(f"{place} {place.lstat().st_size if place.is_file() else ''}" for place in places)
