"""Checkpoints keep the scale of pictures that their model was trained with; those of 0.1.0, which don't, ImageNet's."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from refused import exit_code
from skeletons import LEGS

from catpose.errors import InputError
from catpose.fit import main
from catpose.model.backbones.hrnet import HRNet
from catpose.model.backbones.timm_backbone import TimmBackbone
from catpose.model.pose import PoseModel
from catpose.run.checkpoint import load_model, read_checkpoint, require_resumable
from catpose.skeleton import AP10K

fit = functools.partial(exit_code, main)
IMAGENET = torch.tensor([[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]])
HALVES = torch.full((2, 3), 127.5)  # of the backbone in `tiny`


def as_0_1_0(path: Path) -> Path:
    """The checkpoint without the scale of its pictures."""
    return changed(path, lambda state: [state.pop(name) for name in ("mean", "std")])


def changed(path: Path, change: Any) -> Path:
    checkpoint = read_checkpoint(path)
    change(checkpoint["state_dict"])
    torch.save(checkpoint, path)
    return path


def scale_of(model: Any) -> torch.Tensor:
    return torch.stack([model.mean.flatten(), model.std.flatten()])


def numbers(run: Path) -> list[dict[str, str]]:
    head, *rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    return [{k: v for k, v in zip(head, row, strict=True) if "second" not in k} for row in rows]


@pytest.fixture(scope="module")
def epoch(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("epoch") / "run"
    assert fit("--config", tiny, "--out", out, "--trainer.max_epochs=1", "--wandb.mode=disabled") == 0
    return out


@pytest.fixture
def run(epoch: Path, tmp_path: Path) -> Path:
    """A run of one epoch, to be changed."""
    return Path(shutil.copytree(epoch, tmp_path / "run"))


@pytest.mark.slow
def test_lightnings_way_builds_the_model_that_was_trained_and_fetches_nothing(run: Path) -> None:
    model, _ = load_model(run / "best.ckpt")
    for cls in (PoseModel, TimmBackbone):
        again = cls.load_from_checkpoint(run / "best.ckpt")
        assert type(again) is TimmBackbone
        assert repr(again.codec) == repr(model.codec)
        assert not again.training
        assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    with pytest.raises(InputError, match=r"name .*TimmBackbone, which is no HRNet"):
        HRNet.load_from_checkpoint(str(run / "best.ckpt"))


def test_a_run_and_its_checkpoint_have_the_backbones(run: Path) -> None:
    model, _ = load_model(run / "best.ckpt")
    torch.testing.assert_close(scale_of(model), HALVES)
    assert "pictures are scaled by mean 127.5 127.5 127.5, std 127.5 127.5 127.5" in (run / "log.txt").read_text()


def test_a_checkpoint_of_0_1_0_has_imagenets(run: Path) -> None:
    model, _ = load_model(as_0_1_0(run / "best.ckpt"))
    torch.testing.assert_close(scale_of(model), IMAGENET)
    assert require_resumable(as_0_1_0(run / "last.ckpt"), model) == 1


def test_a_checkpoint_holds_its_skeleton_and_that_of_0_1_0_has_ap10ks(run: Path) -> None:
    checkpoint = read_checkpoint(run / "last.ckpt")
    assert checkpoint["skeleton"] == AP10K.to_plain()
    del checkpoint["skeleton"]
    torch.save(checkpoint, run / "last.ckpt")
    model, _ = load_model(run / "last.ckpt")
    assert model.skeleton == AP10K
    assert require_resumable(run / "last.ckpt", model) == 1


def test_a_run_of_other_keypoints_is_none_to_go_on_from(run: Path) -> None:
    model, _ = load_model(run / "last.ckpt")
    model.skeleton = LEGS
    with pytest.raises(InputError, match=r"other keypoints: the data have 12 keypoints, not 17, without left_eye"):
        require_resumable(run / "last.ckpt", model)


@pytest.mark.parametrize("skeleton", [7, {}, {"names": []}, AP10K.to_plain() | {"sigmas": [0] * 17}, LEGS.to_plain()])
def test_a_checkpoint_with_a_skeleton_that_is_none_is_one_line(run: Path, skeleton: object) -> None:
    torch.save(read_checkpoint(run / "best.ckpt") | {"skeleton": skeleton}, run / "best.ckpt")
    with pytest.raises(InputError, match=r"best\.ckpt") as caught:
        load_model(run / "best.ckpt")
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_within_an_epoch_is_none_to_go_on_from(run: Path) -> None:
    model, _ = load_model(run / "last.ckpt")
    checkpoint = read_checkpoint(run / "last.ckpt")
    checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] -= 1
    torch.save(checkpoint, run / "last.ckpt")
    with pytest.raises(InputError, match=r"last\.ckpt: was made within an epoch; restore"):
        require_resumable(run / "last.ckpt", model)


@pytest.mark.parametrize("std", [0.0, -57.0])
def test_a_deviation_that_cannot_be_is_one_line(run: Path, std: float) -> None:
    changed(run / "best.ckpt", lambda state: state["std"].fill_(std))
    with pytest.raises(InputError, match="std of pictures isn't above 0") as caught:
        load_model(run / "best.ckpt")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_run_of_0_1_0_goes_on_with_the_scale_that_it_began_with(run: Path, tiny: Path, tmp_path: Path) -> None:
    """Its numbers are those of a run that has ImageNet's scale from its first epoch to its last."""
    start = as_0_1_0(run / "last.ckpt")
    options = ("--config", tiny, "--wandb.mode=disabled", "--model.weights", start)
    assert fit(*options, "--out", tmp_path / "whole", "--trainer.max_epochs=2") == 0
    assert fit(*options, "--out", tmp_path / "old", "--trainer.max_epochs=1") == 0
    torch.testing.assert_close(scale_of(load_model(tmp_path / "old" / "last.ckpt")[0]), IMAGENET)
    as_0_1_0(tmp_path / "old" / "last.ckpt")
    assert fit(*options, "--out", tmp_path / "old", "--trainer.max_epochs=2") == 0
    assert numbers(tmp_path / "old") == numbers(tmp_path / "whole")
    torch.testing.assert_close(scale_of(load_model(tmp_path / "old" / "last.ckpt")[0]), IMAGENET)
    assert yaml.safe_load((tmp_path / "old" / "config.yaml").read_text())["model"]["init_args"]["name"] == "test_resnet"
