"""HRNet: Sun et al., "Deep High-Resolution Representation Learning for Human Pose Estimation", CVPR 2019."""

from __future__ import annotations

from typing import Any, Literal

import timm

from catpose.model.head import DeconvolutionHead
from catpose.model.pose import PoseModel


class HRNet(PoseModel):
    """HRNet's branch at stride 4 and one 1x1 convolution, as in the paper.

    Args:
        width: channels of that branch.
        **kwargs: as `PoseModel`'s.
    """

    def __init__(self, width: Literal[18, 32, 48] = 32, **kwargs: Any) -> None:
        name = f"hrnet_w{width}.ms_in1k"
        backbone: Any = timm.create_model(name, features_only=True, feature_location="", out_indices=(1,))
        # The last fusion makes the other branches' outputs too; nobody reads them, and DDP waits for their gradients.
        backbone.stage4[-1].fuse_layers = backbone.stage4[-1].fuse_layers[:1]
        super().__init__(backbone, DeconvolutionHead(width, 4), **kwargs)
