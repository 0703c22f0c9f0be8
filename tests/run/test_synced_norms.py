"""Norms synchronised over processes leave a network the function that it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from catpose.data.coco import read_split
from catpose.model.backbones.pyramid import FeaturePyramid
from catpose.model.backbones.timm_backbone import TimmBackbone
from catpose.run.cli import FitCLI
from catpose.run.directory import RunDirectory
from catpose.run.synced_norms import SyncedNorms


@pytest.mark.parametrize(
    "make",
    [
        lambda: FeaturePyramid("mobilenetv2_050", head_channels=8, weights=None),  # norms that hold activations
        lambda: TimmBackbone("test_resnet", head_channels=8, weights=None),
    ],
)
def test_the_function_stays(make) -> None:  # type: ignore[no-untyped-def]
    model = make().eval()
    crops = torch.randint(0, 256, (2, 64, 64, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    names = [*model.state_dict()]
    with torch.inference_mode():
        before = model(crops)
        synced = SyncedNorms().apply(model)
        assert torch.equal(synced(crops), before)
        assert torch.equal(SyncedNorms().revert(synced)(crops), before)
    assert [*synced.state_dict()] == names
    assert all(
        isinstance(each, nn.SyncBatchNorm)
        for each in synced.modules()
        if isinstance(each, nn.modules.batchnorm._BatchNorm)
    )


def test_fit_takes_it(tiny: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FitCLI, "_device_type", lambda self: "cuda")  # where torch has it
    options = [
        "--trainer.sync_batchnorm=true",
        "--trainer.devices=2",
        "--trainer.strategy=ddp",
        "--wandb.mode=disabled",
    ]
    cli = FitCLI(["--config", str(tiny), *options])
    cli.splits = {name: read_split(drawn, name) for name in ("train", "val")}
    cli.build(RunDirectory(tmp_path / "run"), [], resume=False)
    assert isinstance(cli.trainer.strategy._layer_sync, SyncedNorms)
