"""ResNeSt: Zhang et al., "ResNeSt: Split-Attention Networks", CVPR workshops 2022."""

from __future__ import annotations

from typing import Any, Literal

import timm

from catpose.model.head import DeconvolutionHead
from catpose.model.pose import PoseModel


class ResNeSt(PoseModel):
    """ResNeSt and three deconvolutions.

    Args:
        depth: layers of the network (timm's `resnest50d` and `resnest101e`, the paper's).
        head_channels: of each deconvolution.
        **kwargs: as `PoseModel`'s.
    """

    def __init__(self, depth: Literal[50, 101] = 50, head_channels: int = 256, **kwargs: Any) -> None:
        name = {50: "resnest50d.in1k", 101: "resnest101e.in1k"}[depth]
        backbone: Any = timm.create_model(name, features_only=True, out_indices=(4,))
        super().__init__(backbone, DeconvolutionHead(backbone.feature_info.channels()[-1], 32, head_channels), **kwargs)
