"""Plain vision transformers: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from catpose.model.backbones.timm_backbone import create
from catpose.model.head import DeconvolutionHead
from catpose.model.pose import PoseModel


class ViT(PoseModel):
    """A plain vision transformer and two deconvolutions: Xu et al., "ViTPose", NeurIPS 2022, classic decoder.

    Args:
        name: timm's name, with or without a tag of weights, such as `vit_small_patch14_dinov2.lvd142m`,
            `vit_base_patch16_dinov3.lvd1689m`, `vit_base_patch16_224.mae`. All are built with patches of 16 px.
        drop_path_rate: stochastic depth in training, 0 to 1; ViTPose has 0.1 for S and 0.3 for B.
        head_channels: of each deconvolution.
        **kwargs: as `PoseModel`'s.
    """

    def __init__(
        self,
        name: str = "vit_small_patch14_dinov2.lvd142m",
        drop_path_rate: float = 0.1,
        head_channels: int = 256,
        **kwargs: Any,
    ) -> None:
        # Positions are those of crops of 256 px, and are resampled for others.
        backbone = create(
            name,
            num_classes=0,
            global_pool="",
            patch_size=16,
            img_size=256,
            dynamic_img_size=True,
            drop_path_rate=drop_path_rate,
        )
        head = DeconvolutionHead(backbone.num_features, 16, head_channels)
        super().__init__(backbone, head, **kwargs)

    def features(self, picture: Tensor) -> Tensor:
        """(B, 3, H, W) to the last block's tokens, normalised and laid out as a map (B, C, H/16, W/16)."""
        return self.backbone.forward_intermediates(  # type: ignore[operator]
            picture, indices=1, norm=True, intermediates_only=True
        )[-1]
