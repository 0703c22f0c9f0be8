"""Checkpoints that can't be used, strangers' among them, and damaged run directories: one line, nothing executed."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from made_up import data_set
from refused import content, refused, says

from catpose import fit, predict, test

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="session")
def trained(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch on made-up data, which lie beside it."""
    folder = tmp_path_factory.mktemp("trained")
    data_set(folder / "data", (3, 2, 2))
    fit.main([str(word) for word in command(tiny, folder)])
    return folder / "run"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def command(tiny: Path, folder: Path, *options: str) -> list[object]:
    common = ["--data.cache=off", "--wandb.mode=disabled", "--trainer.max_epochs=1", "--out", folder / "run"]
    return ["--config", tiny, "--data.root", folder / "data", *common, *options]


class Hostile:
    """Unpickled, it would make a file."""

    def __reduce__(self) -> tuple[object, ...]:
        return open, ("made by a pickle", "w")


# Files that are no checkpoints.

FILES: dict[str, tuple[Any, ...]] = {
    "missing": (lambda file, _: None, "no such file"),
    "a folder": (lambda file, _: file.mkdir(), "is a folder"),
    "empty": (lambda file, _: file.touch(), "it is empty", "best.ckpt"),
    "text": (lambda file, _: file.write_text("hello\nworld\n"), "no sound file", "best.ckpt"),
    "cut short": (lambda file, whole: file.write_bytes(whole[: len(whole) // 2]), "not a sound file", "best.ckpt"),
    "a hole in it": (lambda file, whole: file.write_bytes(whole[:999] + bytes(999) + whole[1998:]), "not a sound file"),
    "a hostile pickle": (lambda file, _: file.write_bytes(pickle.dumps(Hostile())), "Nothing in it was executed"),
    "hostile settings": (lambda file, _: torch.save({"catpose": Hostile(), "state_dict": {}}, file), "could run code"),
    "a whole model": (lambda file, _: torch.save(torch.nn.Linear(2, 2), file), "could run code"),
    "a list": (lambda file, _: torch.save([1, 2], file), "no checkpoint of catpose.fit", "best.ckpt"),
    "a state dict": (lambda file, _: torch.save({"x": torch.zeros(2)}, file), "no checkpoint of catpose.fit"),
    "another Lightning checkpoint": (
        lambda file, _: torch.save({"state_dict": {"x": torch.zeros(2)}, "epoch": 1, "hyper_parameters": {}}, file),
        "no checkpoint of catpose.fit",
        "best.ckpt",
    ),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("main", [test.main, predict.main], ids=["test", "predict"])
def test_a_file(
    kind: str, main: Callable[..., None], trained: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, *words = FILES[kind]
    make(here / "x.ckpt", (trained / "best.ckpt").read_bytes())
    data = trained.parent / "data"
    source: list[object] = ["--data", data, "--out", "scores"] if main is test.main else [data / "images"]
    line = refused(main, [*source, "--checkpoint", "x.ckpt"], capsys, here)
    says(line, "x.ckpt", *(word.replace("no sound", "not a sound") for word in words))


# Checkpoints of ours that somebody changed.


def settings(change: Change) -> Change:
    """Change the settings in a checkpoint."""

    def edit(checkpoint: dict[str, Any]) -> None:
        content = yaml.safe_load(checkpoint["catpose"])
        change(content)
        checkpoint["catpose"] = yaml.safe_dump(content)

    return edit


def model(**entries: object) -> Change:
    return settings(lambda all_: all_["model"].update(entries))


def argument(**entries: object) -> Change:
    return settings(lambda all_: all_["model"]["init_args"].update(entries))


def size(*value: object) -> Change:
    return settings(lambda all_: all_["data"].update(input_size=list(value)))


def text(value: object) -> Change:
    return lambda checkpoint: checkpoint.update(catpose=value)


def first(change: Callable[[torch.Tensor], object]) -> Change:
    def edit(checkpoint: dict[str, Any]) -> None:
        states = checkpoint["state_dict"]
        name = next(name for name in states if name.endswith("weight"))
        states[name] = change(states[name])

    return edit


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)
CODEC = "catpose.model.codec.MSRAHeatmap"
NAMED = "{class_path: catpose.model.backbones.timm_backbone.TimmBackbone, init_args: {name: *j}}"
NO_SETTINGS = ("none of catpose.fit's", "best.ckpt")
FOREIGN = ("not catpose's", "--import")

CHANGES: dict[str, tuple[Any, ...]] = {
    # classes: importing a module runs it
    "a module that opens a browser": (model(class_path="antigravity.Net"), "antigravity.Net", *FOREIGN),
    "a function": (model(class_path="os.system"), "os.system", *FOREIGN),
    "a path that leaves the package": (model(class_path="catpose.model.../../x.Net"), *FOREIGN),
    "an import of ours": (model(class_path="catpose.model.weights.Path"), "no PoseModel"),
    "a module that ours imports": (model(class_path="catpose.model.weights.sys.exit"), *FOREIGN),
    "a command": (model(class_path="catpose.fit.main"), *FOREIGN),
    "a function of ours": (model(class_path="catpose.model.weights.load_weights"), "no PoseModel"),
    "a codec for a model": (model(class_path="catpose.model.codec.MSRAHeatmap"), "no PoseModel"),
    "the base class": (model(class_path="catpose.model.pose.PoseModel"), "can't be built"),
    "a class that is gone": (model(class_path="catpose.model.backbones.resnet.ResNet3"), "no PoseModel"),
    "a class without module": (model(class_path="HRNet"), "HRNet", *FOREIGN),
    "a number for a class": (model(class_path=3), *NO_SETTINGS),
    "no class": (settings(lambda all_: all_["model"].pop("class_path")), *NO_SETTINGS),
    "a codec from elsewhere": (argument(codec={"class_path": "antigravity.Codec"}), "antigravity.Codec", *FOREIGN),
    "a codec named in a text": (argument(codec="antigravity.Codec"), "can't be built"),
    "a codec in a file": (argument(codec="codec.yaml"), "can't be built"),
    "a model for a codec": (argument(codec={"class_path": "catpose.model.backbones.hrnet.HRNet"}), "no Codec"),
    "no codec": (argument(codec=None), "can't be built"),
    # options by which timm would load a file
    "timm's checkpoint_path": (argument(options={"checkpoint_path": "hostile.pth"}), "checkpoint_path"),
    "timm's pretrained": (argument(options={"pretrained": True}), "pretrained"),
    "timm's pretrained_cfg": (argument(options={"pretrained_cfg": {"file": "hostile.pth"}}), "pretrained_cfg"),
    "timm's cache_dir": (argument(options={"cache_dir": "."}), "cache_dir"),
    "a name on the hub": (argument(name="hf-hub:someone/else"), "timm has no backbone"),
    "a name of a folder": (argument(name="local-dir:."), "timm has no backbone"),
    # values
    "another backbone": (argument(name="resnet18"), "can't be built"),
    "an argument of another version": (argument(channels=3), "can't be built", "channels"),
    "another head": (argument(head_channels=17), "can't be built", "size mismatch"),
    "a negative learning rate": (argument(lr=-1), "model.lr", "above 0"),
    "sigma of nothing": (
        argument(codec={"class_path": CODEC, "init_args": {"sigma": 0}}),
        "sigma",
    ),
    "crops of a billion px": (size(10**9, 64), "data.input_size", "1000000000"),
    "crops of 63 px": (size(63, 63), "data.input_size", "multiples of 32"),
    "crops of nothing": (size(0, 0), "data.input_size", "not 0"),
    "crops of one side": (size(64), *NO_SETTINGS),
    "crops of three": (size(64, 64, 64), *NO_SETTINGS),
    "crops in words": (size("big", "big"), "data.input_size", "'big'"),
    "no crops": (settings(lambda all_: all_["data"].pop("input_size")), *NO_SETTINGS),
    "no data": (settings(lambda all_: all_.pop("data")), *NO_SETTINGS),
    # the text of the settings
    "an alias bomb": (
        text(f"{BOMB}model: {NAMED}\ndata: {{input_size: [64, 64]}}"),
        *NO_SETTINGS,
    ),
    "ten million letters": (text("x" * 10**7), *NO_SETTINGS),
    "lists without end": (text("[" * 2000), *NO_SETTINGS),
    "code": (text("!!python/object/apply:os.mkdir ['made by YAML']"), *NO_SETTINGS),
    "no YAML": (text("model: ["), *NO_SETTINGS),
    "a number": (text(3), *NO_SETTINGS),
    "nothing": (text(""), *NO_SETTINGS),
    "empty groups": (text("model: {}\ndata: {}"), *NO_SETTINGS),
    # weights
    "weights of another shape": (first(lambda tensor: tensor[:1]), "can't be built", "size mismatch"),
    "weights of nothing": (first(lambda tensor: tensor * float("nan")), "NaN", "another checkpoint"),
    "weights without tensors": (first(lambda tensor: 3), "can't be built"),
    "no weights": (lambda checkpoint: checkpoint["state_dict"].clear(), "can't be built", "Missing key"),
    "a list of weights": (lambda checkpoint: checkpoint.update(state_dict=[1]), "can't be built"),
    "weights too many": (lambda checkpoint: checkpoint["state_dict"].update(x=torch.zeros(1)), "can't be built"),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_checkpoint(kind: str, trained: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, *words = CHANGES[kind]
    torch.save({"state_dict": Hostile()}, here / "hostile.pth")
    (here / "codec.yaml").write_text("class_path: antigravity.Codec")
    checkpoint = torch.load(trained / "best.ckpt", weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, here / "x.ckpt")
    command = ["--checkpoint", "x.ckpt", "--data", trained.parent / "data", "--out", "scores"]
    says(refused(test.main, command, capsys, here), "x.ckpt: ", *words)
    assert "antigravity" not in sys.modules


def test_the_same_checkpoint_unchanged_is_taken(trained: Path, here: Path) -> None:
    torch.save(torch.load(trained / "best.ckpt", weights_only=True), here / "x.ckpt")
    test.main(
        ["--checkpoint", "x.ckpt", "--data", str(trained.parent / "data"), "--out", "scores", "--accelerator", "cpu"]
    )
    assert sorted(content(here)) == [
        "scores", *(f"scores/{name}_val.json" for name in ("analysis", "results", "score")), "x.ckpt"
    ]  # fmt: skip


USES: dict[str, tuple[Any, ...]] = {
    "no such module": (lambda data: ["--import=nowhere"], "--import nowhere", "No module"),
    "no name of a module": (lambda data: ["--import="], "--import", "mpty module name"),
    "an unknown accelerator": (lambda data: ["--accelerator=gpuu"], "device gpuu", "cpu"),
    "a broken picture": (lambda data: (os.truncate(data / "images" / "4.png", 2000), [])[1], "4.png", "cut short"),
    "a missing picture": (lambda data: ((data / "images" / "4.png").unlink(), [])[1], "4.png", "restore the file"),
}


@pytest.mark.parametrize("kind", USES)
@pytest.mark.parametrize("main", [test.main, predict.main], ids=["test", "predict"])
def test_a_sound_checkpoint_in_use(
    kind: str, main: Callable[..., None], trained: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What goes wrong on the way leaves neither results nor overlays."""
    make, *words = USES[kind]
    data = data_set(here / "data", (3, 2, 2))
    options = make(data)
    out = ["--data", data, "--out", "scores"]
    if main is predict.main:
        out = [data / "annotations" / "val.json", "--out", "results.json", "--overlays", "drawn"]
    says(refused(main, [*out, "--checkpoint", trained / "best.ckpt", *options], capsys, here), *words)


# Directories of runs.


def damaged(name: str, content: str | bytes) -> Callable[[Path], object]:
    return lambda run: (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def rewritten(change: Change) -> Callable[[Path], object]:
    """Change what is in the last checkpoint."""

    def edit(run: Path) -> None:
        checkpoint = torch.load(run / "last.ckpt", weights_only=True)
        change(checkpoint)
        torch.save(checkpoint, run / "last.ckpt")

    return edit


RESTORE = ("restore it", "--out")
RUNS: dict[str, tuple[Any, ...]] = {
    "no config.yaml": (lambda run: (run / "config.yaml").unlink(), "config.yaml", *RESTORE),
    "config.yaml cut short": (damaged("config.yaml", "model: {"), "config.yaml", *RESTORE),
    "config.yaml of a list": (damaged("config.yaml", "[1, 2]"), "config.yaml", *RESTORE),
    "config.yaml of bytes": (damaged("config.yaml", b"\xff\xfe"), "config.yaml", *RESTORE),
    "run.json cut short": (damaged("run.json", '{"wandb_id": "12'), "run.json", *RESTORE),
    "run.json of a list": (damaged("run.json", "[]"), "run.json", *RESTORE),
    "run.json without id": (damaged("run.json", '{"starts": []}'), "run.json", *RESTORE),
    "no run.json": (lambda run: (run / "run.json").unlink(), "no run.json", "another folder"),
    "metrics.csv of bytes": (damaged("metrics.csv", b"\xff\xfe\x00"), "metrics.csv", "restore it"),
    "metrics.csv of another kind": (damaged("metrics.csv", "a,b\n1,2\n"), "metrics.csv", "restore it"),
    "metrics.csv cut short": (damaged("metrics.csv", "epoch,step,lr\n0,12"), "metrics.csv", "restore it"),
    "last.ckpt empty": (damaged("last.ckpt", ""), "last.ckpt", "it is empty"),
    "last.ckpt of text": (damaged("last.ckpt", "hello\n"), "last.ckpt", "not a sound file"),
    "last.ckpt cut short": (lambda run: os.truncate(run / "last.ckpt", 9999), "last.ckpt", "not a sound file"),
    "last.ckpt hostile": (lambda run: torch.save(Hostile(), run / "last.ckpt"), "last.ckpt", "could run code"),
    "last.ckpt of another program": (
        lambda run: torch.save({"state_dict": {}}, run / "last.ckpt"),
        "last.ckpt",
        "no checkpoint of catpose.fit",
    ),
    "last.ckpt of another model": (rewritten(first(lambda tensor: tensor[:1])), "last.ckpt", *RESTORE),
    "last.ckpt without the optimizer": (rewritten(lambda c: c.pop("optimizer_states")), "last.ckpt", *RESTORE),
    "a file of somebody's": (
        lambda run: [file.unlink() for file in run.iterdir() if file.name != "log.txt"],
        "holds files but no run",
        "another folder",
    ),
}


@pytest.fixture
def run(trained: Path, here: Path) -> Path:
    """A copy of the run, with data of its own beside it."""
    copy = here / "run"
    copy.mkdir()
    for file in trained.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", RUNS)
def test_a_damaged_run(kind: str, run: Path, tiny: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, *words = RUNS[kind]
    damage(run)
    again = [*command(tiny, trained.parent), "--out", run, "--trainer.max_epochs=2"]
    says(refused(fit.main, again, capsys, run.parent), "HERE/run", *words)


PLACES: dict[str, tuple[Any, ...]] = {
    "other settings": ("run", ["--model.lr=1e-5", "--data.batch_size=4"], "model.lr 0.002 → 1e-05", "data.batch_size"),
    "another model": ("run", ["--model=ResNet"], "model.class_path", "ResNet", "another folder"),
    "another seed": ("run", ["--seed_everything=1"], "seed_everything 0 → 1", "another folder"),
    "a file": ("run/log.txt", [], "run/log.txt", "is a file", "name a folder"),
    "below a file": ("run/log.txt/x/y", [], "run/log.txt is a file", "another place"),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", PLACES)
def test_a_place_for_a_run(kind: str, run: Path, tiny: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, options, *words = PLACES[kind]
    again = [*command(tiny, trained.parent), *options, "--out", run.parent / out]
    says(refused(fit.main, again, capsys, run.parent), "--out HERE/run", *words)


@pytest.mark.slow
def test_in_processes_of_their_own(here: Path) -> None:
    before = content(here)
    for words, end in [
        (["test", "--checkpoint", "x.ckpt", "--data", "nowhere"], "or name the folder that holds annotations/"),
        (["predict", "nowhere", "--checkpoint", "x.ckpt"], "one COCO file"),
    ]:
        name, *rest = words
        done = subprocess.run(
            [sys.executable, "-m", f"catpose.{name}", *rest], capture_output=True, text=True, timeout=300
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"catpose.{name}: error: ")
        assert done.stderr.endswith(f"{end}\n")
        assert done.stderr.count("\n") == 1
    assert content(here) == before
