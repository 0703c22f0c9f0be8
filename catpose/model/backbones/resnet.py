"""ResNet: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016."""

from __future__ import annotations

from typing import Any, Literal

import timm

from catpose.model.head import DeconvolutionHead
from catpose.model.pose import PoseModel


class ResNet(PoseModel):
    """SimpleBaseline: ResNet and three deconvolutions, with torchvision's ImageNet weights as in the paper.

    Args:
        depth: layers of the network.
        head_channels: of each deconvolution.
        **kwargs: as `PoseModel`'s.
    """

    def __init__(self, depth: Literal[50, 101, 152] = 50, head_channels: int = 256, **kwargs: Any) -> None:
        name = f"resnet{depth}.tv_in1k"
        backbone: Any = timm.create_model(name, features_only=True, out_indices=(4,))
        super().__init__(backbone, DeconvolutionHead(backbone.feature_info.channels()[-1], 32, head_channels), **kwargs)
