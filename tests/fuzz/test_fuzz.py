"""Every kind of file that can come from a stranger, made up by the thousand: each is taken, or refused in one line."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from made_up import annotation, category, keypoints, picture
from torch import Tensor

from catpose.cost.record import FORMAT, read_profile
from catpose.data.coco import examine_file
from catpose.data.images import read_image
from catpose.errors import InputError
from catpose.instances import Instances
from catpose.model import onnx_file
from catpose.model.backbones.pyramid import FeaturePyramid
from catpose.model.tensor_file import read_content
from catpose.model.weights import load_weights
from catpose.plain_yaml import read_yaml
from catpose.run.checkpoint import load_model
from catpose.run.directory import RunDirectory
from catpose.run.scoring import read_results
from catpose.score.protocol import EvaluationProtocol, Score
from fuzz import exports, files, pickles
from fuzz.harness import Target, fuzz

#: Of each kind, in `.ci/run`; `make long` takes CATPOSE_FUZZ_SECONDS, ten minutes where that isn't set.
SECONDS = 4.0
LONG_SECONDS = float(os.environ.get("CATPOSE_FUZZ_SECONDS", 600))
EXPERIMENTS = sorted((Path(__file__).parents[2] / "experiments").glob("*.yaml"))
SWEEPS = sorted((Path(__file__).parents[2] / "sweeps").glob("*.yaml"))


def read_tensors_whole(file: Path) -> None:
    """As `load_weights` and checkpoints are read, every number looked at."""
    content = read_content(file)
    values = list(content.values()) if isinstance(content, dict) else [content]
    for value in values:
        for tensor in value.values() if isinstance(value, dict) else [value]:
            if isinstance(tensor, Tensor):
                float(tensor.real.double().sum())


def coco() -> dict[str, Any]:
    images = [{"id": i, "file_name": f"{i}.png", "width": 96, "height": 80} for i in (1, 2)]
    boxes = [annotation(i, i, [10.0, 10.0, 60.0, 50.0]) for i in (1, 2)]
    return {"images": images, "annotations": boxes, "categories": [category()]}


@functools.cache
def truth() -> Instances:
    return Instances.from_coco(coco())


def results() -> list[dict[str, Any]]:
    found = keypoints([9.0, 9.0, 60.0, 50.0])
    return [{"image_id": i, "category_id": 1, "score": 0.5, "keypoints": found} for i in (1, 2)]


def score() -> dict[str, Any]:
    protocol = EvaluationProtocol("val", "0" * 64, "box", "ground truth", True, "mean")
    values, ends = {"AP": 0.5, "AR": 0.6, "AP50": None}, {"AP": [0.4, 0.6]}
    return {"score": values, "protocol": {**protocol.__dict__, "sigmas": [*protocol.sigmas]}, "intervals_95": ends}


def record() -> dict[str, Any]:
    return {"wandb_id": "0a1b", "starts": [{"time": "x", "command": ["fit"]}]}


def profile() -> dict[str, Any]:
    return {"provenance": {"catpose": "0.1.0"}, "cost": None, "runs": [], "format": FORMAT}


def metrics(rng: random.Random) -> bytes:
    rows = ["epoch,step,lr,val/AP", *(f"{i},{10 * i},0.001,0.{i}" for i in range(5))]
    text = "\n".join(rows)
    return files.text_changed(rng, text) if rng.random() < 0.5 else files.bytes_changed(rng, text.encode())


def a_picture(rng: random.Random) -> bytes:
    suffix = rng.choice((".png", ".jpg"))
    return files.bytes_changed(rng, cv2.imencode(suffix, picture(rng.randrange(9)))[1].tobytes())


def of_json(value: Callable[[], object]) -> Callable[[random.Random], bytes]:
    return lambda rng: files.value_changed(rng, value())


def a_yaml(rng: random.Random) -> bytes:
    text = rng.choice([*EXPERIMENTS, *SWEEPS]).read_text()
    return files.text_changed(rng, text) if rng.random() < 0.8 else files.bytes_changed(rng, text.encode())


def a_pickle(rng: random.Random) -> bytes:
    old = rng.random() < 0.3
    sound = rng.random() < 0.6
    content = pickles.changed(rng, pickles.pickle_of(pickles.sound(rng), old)) if sound else pickles.by_grammar(rng)
    return pickles.legacy(content) if old else pickles.zipped(content)


def run_record(file: Path) -> None:
    _ = RunDirectory(file.parent).wandb_id


def start_and_build(file: Path) -> None:
    """As `--checkpoint` and `--model.weights` read a weights file."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        load_weights(FeaturePyramid("test_resnet", head_channels=8, weights=None), str(file))
    load_model(file)


def run_onnx(file: Path) -> None:
    """An exported file's graph, on two crops; that it wanted more memory than onnxruntime may have is bad input."""
    onnx_file.MOST_MEMORY = 2**28
    try:
        model = onnx_file.OnnxModel(file, threads=1)
        model(np.zeros((2, model.input_size[1], model.input_size[0], 3), np.uint8))
        return
    except InputError as error:
        line = str(error)
    raise InputError(line)


TARGETS = {
    "pickles": Target(a_pickle, read_tensors_whole, "w.pth"),
    "weights": Target(files.weights, read_tensors_whole, "w.bin"),
    "safetensors": Target(files.safetensors, read_tensors_whole, "w.safetensors"),
    "npz": Target(files.npz, read_tensors_whole, "w.npz"),
    "bombs": Target(files.bomb, read_tensors_whole, "w.pth"),
    "weights files": Target(files.packed, start_and_build, "w.safetensors"),
    "ONNX files": Target(files.onnx_file, run_onnx, "w.onnx"),
    "yaml": Target(a_yaml, lambda file: read_yaml(file, "take another"), "x.yaml"),
    "annotations": Target(of_json(coco), lambda file: examine_file(file, file.parent), "val.json"),
    "results": Target(of_json(results), lambda file: read_results(file, truth()), "val_results.json"),
    "score": Target(of_json(score), Score.read, "val_score.json"),
    "metrics": Target(metrics, lambda file: RunDirectory(file.parent).history(), "metrics.csv"),
    "run record": Target(of_json(record), run_record, "run.json"),
    "profile": Target(of_json(profile), read_profile, "profile.json"),
    "pictures": Target(a_picture, read_image, "x.png"),
    "label archives": Target(exports.hostile, exports.bring_in("coco"), "labels.zip"),
    "COCO exports": Target(exports.packed(exports.coco), exports.bring_in("coco"), "labels.zip"),
    "YOLO exports": Target(exports.packed(exports.yolo), exports.bring_in("yolo"), "labels.zip"),
    "DeepLabCut exports": Target(exports.packed(exports.deeplabcut), exports.bring_in("deeplabcut"), "labels.zip"),
}  # fmt: skip


def run(kind: str, folder: Path, seconds: float, capsys: pytest.CaptureFixture[str]) -> None:
    tried, taken, findings = fuzz(kind, TARGETS[kind], folder, seconds)
    with capsys.disabled():
        print(f"\nfuzz {kind}: {tried} inputs, {taken} of them sound, {len(findings)} findings")
    assert not findings, "\n".join(findings)
    assert tried


@pytest.mark.slow
@pytest.mark.parametrize("kind", TARGETS)
def test_a_strangers_file(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(kind, tmp_path, SECONDS, capsys)


@pytest.mark.long
@pytest.mark.parametrize("kind", TARGETS)
def test_a_strangers_file_for_long(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(kind, tmp_path, LONG_SECONDS, capsys)


def crash(file: Path) -> None:
    os.kill(os.getpid(), 11)


def grow(file: Path) -> None:
    np.empty(2**31, np.uint8)


def run_out(file: Path) -> None:
    try:
        raise MemoryError
    except MemoryError:
        raise InputError(f"{file}: is bad") from None


def spin(file: Path) -> None:
    while True:
        pass


@pytest.mark.one_in(5)
@pytest.mark.parametrize(
    ("read", "named"),
    [
        (crash, "SIGSEGV"),
        (grow, "GiB"),
        (run_out, "ran out of memory"),
        (spin, "SIGPROF"),
        (lambda file: json.loads(file.read_text()), "JSONDecodeError"),
        (lambda file: (_ for _ in ()).throw(InputError("a\nb")), "not one clear line"),
    ],
)
def test_what_a_file_may_not_do_is_found(
    read: Callable[[Path], object], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuzz.harness.MOST_SECONDS", 0.3)
    monkeypatch.setattr("fuzz.harness.BATCH", 3)
    _, _, findings = fuzz("x", Target(lambda rng: b"x", read, "x"), tmp_path, 1.0)
    assert findings
    assert named in findings[0]
    assert findings[0].startswith("x 0: ")
