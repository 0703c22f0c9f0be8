"""MobileNetV2: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018."""

from __future__ import annotations

from typing import Any, Literal

import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import register_model
from timm.models.efficientnet import _gen_mobilenet_v2

from catpose.model.head import DeconvolutionHead
from catpose.model.pose import PoseModel

#: timm's name of each width's network and weights; timm has no weights of the widest (MoveNet Thunder's has them).
NAMES = {
    50: "mobilenetv2_050.lamb_in1k",
    100: "mobilenetv2_100.ra_in1k",
    140: "mobilenetv2_140.ra_in1k",
    175: "mobilenetv2_175",
}


@register_model
def mobilenetv2_175(**options: Any) -> Any:
    """MobileNetV2 of width 1.75, for which timm has the parts but no name; scaled by ImageNet's mean and std."""
    config = {"architecture": "mobilenetv2_175", "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
    return _gen_mobilenet_v2("mobilenetv2_100", 1.75, **options | {"pretrained_cfg": config})


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
        backbone: Any = timm.create_model(NAMES[width_percent], features_only=True, out_indices=(4,))
        head = DeconvolutionHead(backbone.feature_info.channels()[-1], 32, head_channels)
        super().__init__(backbone, head, **kwargs)
