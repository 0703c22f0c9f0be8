"""MobileNetV2: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018."""

from __future__ import annotations

from typing import Any, Literal

from catpose.model.backbones.timm_backbone import create
from catpose.model.head import DeconvolutionHead
from catpose.model.pose import PoseModel

#: timm's name of each width's network and weights; timm has no weights of the widest (MoveNet Thunder's has them).
NAMES = {
    50: "mobilenetv2_050.lamb_in1k",
    100: "mobilenetv2_100.ra_in1k",
    140: "mobilenetv2_140.ra_in1k",
    175: "mobilenetv2_175",
}


class MobileNetV2(PoseModel):
    """MobileNetV2's last block (before the 1x1 convolution to its classifier) and three deconvolutions.

    Args:
        width_percent: channels over those of the paper's network.
        head_channels: of each deconvolution; with 256 the head costs more than the backbone.
        **kwargs: as `PoseModel`'s.
    """

    def __init__(
        self, width_percent: Literal[50, 100, 140, 175] = 100, head_channels: int = 256, **kwargs: Any
    ) -> None:
        backbone: Any = create(NAMES[width_percent], features_only=True, out_indices=(4,))
        head = DeconvolutionHead(backbone.feature_info.channels()[-1], 32, head_channels)
        super().__init__(backbone, head, **kwargs)
