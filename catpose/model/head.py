"""The head: a backbone's feature map to a heatmap a keypoint, at a quarter of the crop's size."""

from __future__ import annotations

import math

from torch import Tensor, nn

from catpose.errors import InputError
from catpose.skeleton import AP10K

#: Crop px per heatmap px, of every model (Xiao et al., "Simple Baselines", ECCV 2018, and all its successors).
HEATMAP_STRIDE = 4


class DeconvolutionHead(nn.Module):
    """As many deconvolutions 4x4 as lead from the backbone's stride to 4, then 1x1 to the heatmaps.

    Three from stride 32: Xiao et al., "Simple Baselines for Human Pose Estimation and Tracking", ECCV 2018. Two from
    16: the classic decoder of Xu et al., "ViTPose", NeurIPS 2022. None from 4: Sun et al., "Deep High-Resolution
    Representation Learning for Human Pose Estimation", CVPR 2019. All are started as in the first.

    Args:
        in_channels: of the backbone's feature map.
        stride: crop px per feature map px: 4, 8, 16, 32, 64.
        channels: of each deconvolution; 256 in the papers, 64 makes a head that a CPU can train.

    It makes AP-10K's 17 heatmaps; `PoseModel` has it make as many as its skeleton has keypoints (`set_outputs`).
    """

    def __init__(self, in_channels: int, stride: int, channels: int = 256) -> None:
        super().__init__()
        if stride < HEATMAP_STRIDE or not math.log2(stride / HEATMAP_STRIDE).is_integer():
            raise InputError(
                f"a feature map at stride {stride} can't be doubled up to stride {HEATMAP_STRIDE}; the backbone's "
                "stride must be 4, 8, 16, 32 or 64 (a ViT of patch 14 is built with patch_size 16)"
            )
        if not 1 <= channels <= 4096:
            raise InputError(f"model.head_channels: {channels} channels; give 1 or more, at most 4096")
        self.deconv = nn.Sequential()
        for _ in range(int(math.log2(stride / HEATMAP_STRIDE))):
            deconvolution = nn.ConvTranspose2d(in_channels, channels, kernel_size=4, stride=2, padding=1, bias=False)
            self.deconv.extend([deconvolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)])
            in_channels = channels
        self.final = nn.Conv2d(in_channels, len(AP10K), kernel_size=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.001)
        nn.init.zeros_(self.final.bias)  # type: ignore[arg-type]

    def set_outputs(self, n: int) -> None:
        """Make `n` heatmaps; where these are others than before, the last convolution starts anew."""
        if n != self.final.out_channels:
            self.final = nn.Conv2d(self.final.in_channels, n, kernel_size=1)
            nn.init.normal_(self.final.weight, std=0.001)
            nn.init.zeros_(self.final.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_channels, H/stride, W/stride) to (B, K, H/4, W/4)."""
        return self.final(self.deconv(features))
