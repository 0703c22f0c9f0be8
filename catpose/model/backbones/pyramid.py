"""A feature pyramid on any timm backbone: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from catpose.errors import InputError
from catpose.model.backbones.timm_backbone import create
from catpose.model.head import HEATMAP_STRIDE, DeconvolutionHead
from catpose.model.pose import PoseModel


class PyramidHead(DeconvolutionHead):
    """Maps of falling resolution, each brought to `channels`, doubled up and added to the next; then 1x1 to heatmaps.

    Args:
        in_channels: of each map, finest (stride 4) first.
        channels: of the pyramid.
    """

    def __init__(self, in_channels: list[int], channels: int) -> None:
        super().__init__(channels, HEATMAP_STRIDE, channels)
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(n, channels, kernel_size=1, bias=False), nn.BatchNorm2d(channels))
            for n in in_channels
        )
        self.smooth = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(inplace=True),
                nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            )
            for _ in in_channels
        )

    def forward(self, maps: list[Tensor]) -> Tensor:  # type: ignore[override]
        """[(B, C_i, H/s_i, W/s_i)], finest first, to (B, K, H/4, W/4)."""
        fused = self.smooth[-1](self.laterals[-1](maps[-1]))
        for lateral, smooth, finer in zip(
            reversed(self.laterals[:-1]), reversed(self.smooth[:-1]), reversed(maps[:-1]), strict=True
        ):
            fused = smooth(lateral(finer) + F.interpolate(fused, size=finer.shape[-2:], mode="nearest"))
        return super().forward(fused)


class FeaturePyramid(PoseModel):
    """The maps of a timm backbone at strides 4 to 32, fused from coarse to fine, and a 1x1 convolution.

    Detail comes straight from the early layers instead of out of the deepest map, so that few channels are enough: the
    model for small machines.

    Args:
        name: timm's name of a backbone with maps at strides 4, 8, 16 and 32, with or without a tag of weights.
        head_channels: of the pyramid.
        **kwargs: as `PoseModel`'s.
    """

    def __init__(self, name: str = "mobilenetv2_100.ra_in1k", head_channels: int = 64, **kwargs: Any) -> None:
        backbone = create(name, features_only=True)
        levels = [i for i, stride in enumerate(backbone.feature_info.reduction()) if stride >= HEATMAP_STRIDE]
        if not levels or backbone.feature_info.reduction()[levels[0]] != HEATMAP_STRIDE:
            raise InputError(f"model.name: {name} has no map at stride {HEATMAP_STRIDE}; use TimmBackbone for it")
        backbone = create(name, features_only=True, out_indices=tuple(levels))
        super().__init__(backbone, PyramidHead(backbone.feature_info.channels(), head_channels), **kwargs)

    def features(self, picture: Tensor) -> list[Tensor]:  # type: ignore[override]
        return self.backbone(picture)
