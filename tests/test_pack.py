"""A packed model is the trained one, but for the rounding; by itself it starts, predicts and is scored."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import torch
from refused import exit_code, refused, says
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from catpose import pack, predict, shipped
from catpose import test as score_model
from catpose.errors import InputError
from catpose.model.backbones.pyramid import FeaturePyramid
from catpose.model.backbones.timm_backbone import TimmBackbone
from catpose.model.weights import load_weights
from catpose.model.weights_file import KEYS
from catpose.plain_yaml import dump_yaml, parse_yaml
from catpose.run.checkpoint import load_model, read_checkpoint
from catpose.score.protocol import Score
from catpose.shipped import shipped_models
from catpose.skeleton import AP10K, skeleton_of
from catpose.version import __version__

call = functools.partial(exit_code, pack.main)


@pytest.fixture(scope="module")
def packed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "small.safetensors"
    assert call(trained / "last.ckpt", "--out", out) == 0
    return out


@pytest.fixture
def ships(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The packed model as one that comes with catpose, under the name "felines"."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "felines.safetensors").write_bytes(packed.read_bytes())
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path / "weights")
    return tmp_path


def start(**more: object) -> FeaturePyramid:
    return FeaturePyramid("test_resnet", head_channels=16, **{"weights": None, **more})  # type: ignore[arg-type]


def test_the_numbers_are_rounded_and_nothing_else(trained: Path, packed: Path) -> None:
    before = read_checkpoint(trained / "last.ckpt")["state_dict"]
    stored = load_file(packed)
    assert stored.keys() == before.keys()
    for name, tensor in stored.items():
        is_kernel = name.endswith("weight") and tensor.dim() > 1
        assert tensor.dtype == (torch.float16 if is_kernel else before[name].dtype), name
        assert torch.equal(tensor, before[name].to(tensor.dtype)), name
    model, settings = load_model(packed)
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    assert torch.equal(model.state_dict()["head.final.weight"], stored["head.final.weight"].float())
    assert settings["data"]["input_size"] == [64, 64]
    assert packed.stat().st_size < 0.4 * (trained / "last.ckpt").stat().st_size


def test_it_says_what_it_is_and_holds_no_place(trained: Path, packed: Path, drawn: Path) -> None:
    with safe_open(packed, "pt") as file:
        texts = file.metadata()
    assert texts.keys() == {*KEYS}
    described = parse_yaml(texts["catpose"])
    assert described["model"]["class_path"].endswith("FeaturePyramid")
    assert described["model"]["init_args"]["weights"] is None
    assert described["model"]["init_args"]["codec"]["class_path"].endswith("UDPHeatmap")
    assert json.loads(texts["skeleton"])["names"] == list(AP10K.names)
    assert texts["network"] == "FeaturePyramid on test_resnet.r160_in1k"
    assert texts["trained_on"] == "26 cat, in 3 epochs from random weights"
    assert texts["version"] == __version__
    assert not [text for text in texts.values() if str(drawn.parent) in text or str(trained.parent) in text]


def test_the_difference_is_told(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(trained / "last.ckpt", "--out", tmp_path / "a.safetensors", "--trained-on", "eight\ncats") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3] == "FeaturePyramid on test_resnet.r160_in1k, trained on eight cats"
    ap = Score.read(trained / "val_score.json").values["AP"]
    assert f"{ap:.4f} as trained" in lines[-2]
    assert " MB" in lines[-1]


def test_averaged_weights_are_taken(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lightning puts the average in the place of the weights, and these beside it."""
    checkpoint = read_checkpoint(trained / "last.ckpt")
    checkpoint["current_model_state"] = {name: tensor + 1 for name, tensor in checkpoint["state_dict"].items()}
    checkpoint["averaging_state"] = {"n_averaged": torch.tensor(3)}
    torch.save(checkpoint, tmp_path / "ema.ckpt")
    assert call(tmp_path / "ema.ckpt", "--out", tmp_path / "ema.safetensors") == 0
    assert "; averaged weights" in capsys.readouterr().out
    average = checkpoint["state_dict"]["head.final.bias"]
    assert torch.equal(load_file(tmp_path / "ema.safetensors")["head.final.bias"], average)


def test_a_model_starts_from_it_by_name(ships: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, published = start(weights="felines"), load_file(shipped_models()["felines"])
    for name, tensor in model.state_dict().items():
        if "num_batches" not in name:
            assert torch.equal(tensor, published[name].float()), name
    report = capsys.readouterr().out
    assert "trained on 26 cat, in 3 epochs" in report
    assert "(the checkpoint's own)" in report


def test_its_heatmaps_go_to_keypoints_of_their_name(ships: Path) -> None:
    names = ("left_eye", "right_eye", "chin", "nose")
    torch.manual_seed(0)
    before = start(skeleton=skeleton_of(names)).state_dict()["head.final.weight"]
    torch.manual_seed(0)
    weight = start(skeleton=skeleton_of(names), weights="felines").state_dict()["head.final.weight"]
    published = load_file(shipped_models()["felines"])["head.final.weight"].float()
    assert torch.equal(weight[[0, 1, 3]], published[AP10K.indices("left_eye", "right_eye", "nose")])
    assert torch.equal(weight[2], before[2])


def test_another_network_of_the_same_backbone_takes_that(ships: Path) -> None:
    model = TimmBackbone("test_resnet", head_channels=8, weights="felines")
    name = "backbone.conv1.0.weight"
    assert torch.equal(model.state_dict()[name], load_file(shipped_models()["felines"])[name].float())


def test_another_backbone_is_refused_in_a_line(ships: Path) -> None:
    with pytest.raises(InputError, match=r"another network \(FeaturePyramid on test_resnet\.r160_in1k\)"):
        FeaturePyramid("mobilenetv2_050", head_channels=8, weights="felines")


def test_a_wrong_name_is_told_the_right_ones(ships: Path) -> None:
    with pytest.raises(InputError, match=r"weights=felinez: no such file, .* with catpose \(felines\)"):
        start(weights="felinez")


def test_it_predicts(packed: Path, drawn: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    argv = [drawn / "annotations" / "test.json", "--checkpoint", packed, "--out", out, "--accelerator", "cpu"]
    assert exit_code(predict.main, *argv) == 0
    assert len(json.loads(out.read_text())) == 8


def test_one_that_ships_is_not_calibrated(ships: Path, drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = shipped_models()["felines"].read_bytes()
    argv = ["--checkpoint", "felines", "--data", drawn, "--calibrate", "--accelerator", "cpu", "--draws", "20"]
    assert exit_code(score_model.main, *argv) == 2
    assert "felines.safetensors: comes with catpose" in capsys.readouterr().err
    assert shipped_models()["felines"].read_bytes() == before


def test_what_ships_is_small_and_can_be_built() -> None:
    for name, file in shipped_models().items():
        assert file.stat().st_size <= 8e6, name
        model, _ = load_model(file)
        load_weights(model, name)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["{run}/last.ckpt", "--out", "{tmp}/x.ckpt"], ["--out", "let its name end in .safetensors"]),
        (["{run}/none.ckpt", "--out", "{tmp}/x.safetensors"], ["none.ckpt", "no such file"]),
        (["{packed}", "--out", "{tmp}/x.safetensors"], ["is packed already", "last.ckpt"]),
        (["{run}/last.ckpt", "--out", "{tmp}/x.safetensors", "--data", "{tmp}/none"], ["none", "prepare"]),
    ],
)
def test_bad_input(
    argv: list[str], words: list[str], trained: Path, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(
        pack.main, [part.format(run=trained, packed=packed, tmp=tmp_path) for part in argv], capsys, tmp_path
    )
    says(line, *words)


def test_numbers_beyond_half_precision_are_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = read_checkpoint(trained / "last.ckpt")
    checkpoint["state_dict"]["head.final.weight"][0, 0] = 1e6
    torch.save(checkpoint, tmp_path / "large.ckpt")
    argv: list[object] = [tmp_path / "large.ckpt", "--out", tmp_path / "x.safetensors"]
    says(refused(pack.main, argv, capsys, tmp_path), "head.final.weight", "half precision")


def test_a_strangers_file_is_data(packed: Path, tmp_path: Path) -> None:
    """A text that is none of ours, a class that isn't catpose's: one line each."""
    with safe_open(packed, "pt") as file:
        texts = file.metadata()
    for change, words in (
        ({"skeleton": "["}, "skeleton"),
        ({"skeleton": "[" * 100_000}, "skeleton"),
        ({"catpose": texts["catpose"].replace("catpose.model.backbones.pyramid.FeaturePyramid", "os.system")}, "class"),
    ):
        save_file(load_file(packed), tmp_path / "x.safetensors", {**texts, **change})
        with pytest.raises(InputError, match=words):
            load_model(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "change",
    [{"root": None}, {"root": 5}, {"also": ["x"]}, {"also": {5: 1}}, {"also": 3}, {"area": "x"}, {"area": []},
     {"weights": 5}, {"weights": ["x"]}, {"epoch": "x"}, {"epoch": None}],
)  # fmt: skip
def test_a_strangers_run_is_data(
    change: dict[str, object], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model could be built of it, and that is all."""
    checkpoint = read_checkpoint(trained / "last.ckpt")
    settings = parse_yaml(checkpoint["catpose"])
    for key, value in change.items():
        place = {"epoch": checkpoint, "weights": settings["model"]["init_args"]}.get(key, settings["data"])
        place[key] = value
    torch.save(checkpoint | {"catpose": dump_yaml(settings)}, tmp_path / "x.ckpt")
    line = refused(pack.main, [tmp_path / "x.ckpt", "--out", tmp_path / "x.safetensors"], capsys, tmp_path)
    says(line, "x.ckpt", "none of catpose.fit's", "last.ckpt")
