"""SimCC: each coordinate as a choice among bins along its axis, rather than a peak in a heatmap.

Li et al., "SimCC: A Simple Coordinate Classification Perspective for Human Pose Estimation", ECCV 2022. Sub-pixel bins
make small crops worth more; the price is a linear layer from each keypoint's map to its bins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from catpose.errors import InputError
from catpose.model.codec import Codec

#: A logit that no softmax gives anything, finite in half precision.
_NEVER = -1e4


class SimCC(Codec):
    """Two rows of logits a keypoint, (B, K, 2, N): over the bins of x and over those of y; the shorter row is padded.

    Bin i stands for crop px i / `bins_per_px`. The target is a Gaussian over the bins that sums to 1, the loss its
    Kullback-Leibler divergence from the softmax of the logits. The confidence is the geometric mean of both axes'
    highest probability over that of a target, at most 1.

    Args:
        sigma: standard deviation of the target, bins; 6 in the paper for crops of 192 x 256.
        input_size: width and height of the crops, px, on which the layer's size depends: `data.input_size`.
        bins_per_px: the paper's splitting factor.
    """

    def __init__(self, sigma: float = 6.0, input_size: tuple[int, int] = (256, 256), bins_per_px: int = 2) -> None:
        super().__init__(sigma)
        if not 1 <= bins_per_px <= 16:
            raise InputError(f"model.codec.bins_per_px: {bins_per_px} can't be used; give 1 to 16, such as 2")
        if not all(16 <= side <= 4096 for side in input_size):
            raise InputError(f"model.codec.input_size: {input_size} is no crop's; give data.input_size")
        self.input_size = (int(input_size[0]), int(input_size[1]))
        self.bins_per_px = int(bins_per_px)

    def __repr__(self) -> str:
        return f"SimCC(sigma={self.sigma:g}, input_size={self.input_size}, bins_per_px={self.bins_per_px})"

    def readout(self, stride: int) -> nn.Module:
        return _Bins(self.input_size, stride, self.bins_per_px)

    def encode(
        self,
        keypoints_crop: Float[Tensor, "b k 2"],
        visibility: Int[Tensor, "b k"],
        input_size: tuple[int, int],
        heatmap_size: tuple[int, int],
    ) -> tuple[Float[Tensor, "b k h w"], Float[Tensor, "b k"]]:
        position = keypoints_crop.float() * self.bins_per_px  # (b, k, 2)
        bins = torch.tensor(input_size, device=position.device) * self.bins_per_px
        labelled = (visibility > 0) & ((position > -0.5) & (position < bins - 0.5)).all(-1)
        place = torch.arange(max(input_size) * self.bins_per_px, device=position.device)
        target = torch.exp(-((place - position[..., None]) ** 2) / (2 * self.sigma**2))  # (b, k, 2, n)
        target = target * (place < bins[:, None]) * labelled[..., None, None]
        return target / target.sum(-1, keepdim=True).clamp_min(1e-12), labelled.float()

    def loss(
        self, outputs: Float[Tensor, "b k h w"], target: Float[Tensor, "b k h w"], weight: Float[Tensor, "b k"]
    ) -> Float[Tensor, ""]:
        log = outputs.float().log_softmax(-1)
        divergence = (torch.xlogy(target, target) - target * log).sum(-1).mean(-1)  # (b, k)
        return (weight * divergence).mean()

    def decode(
        self, heatmaps: Float[Tensor, "b k h w"], input_size: tuple[int, int]
    ) -> tuple[Float[Tensor, "b k 2"], Float[Tensor, "b k"]]:
        logits = torch.nan_to_num(heatmaps.float(), nan=_NEVER, posinf=_NEVER, neginf=_NEVER)
        bins = torch.tensor(input_size, device=logits.device) * self.bins_per_px
        inside = torch.arange(logits.shape[-1], device=logits.device) < bins[:, None]  # (2, n)
        probability, bin_ = torch.where(inside, logits, _NEVER).softmax(-1).max(-1)  # (b, k, 2)
        highest = 1 / max(1.0, self.sigma * math.sqrt(2 * math.pi))
        confidence = (probability.prod(-1).sqrt() / highest).clamp(0, 1)
        return bin_ / self.bins_per_px, confidence

    def unflip(self, heatmaps: Float[Tensor, "b k h w"], flip: Sequence[int]) -> Float[Tensor, "b k h w"]:
        """Bin i of x becomes bin (width - 1)·`bins_per_px` - i, where the mirrored place stands; the last have none."""
        x, y = heatmaps[:, list(flip)].unbind(2)  # (b, k, n)
        source = (self.input_size[0] - 1) * self.bins_per_px - torch.arange(x.shape[-1], device=x.device)
        mirrored = torch.where(source >= 0, x[..., source.clamp_min(0)], x.amin(-1, keepdim=True))
        return torch.stack([mirrored, y], dim=2)

    def round_trip_px(self, input_size: tuple[int, int], heatmap_size: tuple[int, int]) -> float:
        """Half a bin."""
        return 0.5 / self.bins_per_px


class _Bins(nn.Module):
    """From heatmaps (B, K, h, w) to logits (B, K, 2, N): a linear layer an axis, shared by the keypoints."""

    def __init__(self, input_size: tuple[int, int], stride: int, bins_per_px: int) -> None:
        super().__init__()
        self.input_size, self.stride = input_size, stride
        places = (input_size[0] // stride) * (input_size[1] // stride)
        self.x = nn.Linear(places, input_size[0] * bins_per_px)
        self.y = nn.Linear(places, input_size[1] * bins_per_px)
        for layer in (self.x, self.y):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, heatmaps: Tensor) -> Tensor:
        height, width = heatmaps.shape[2] * self.stride, heatmaps.shape[3] * self.stride
        if (width, height) != self.input_size:
            raise InputError(
                f"model.codec.input_size: {self.input_size[0]} x {self.input_size[1]} px, but data.input_size is"
                f" {width} x {height}; make them the same"
            )
        flat = heatmaps.flatten(2)
        x, y = self.x(flat), self.y(flat)  # (B, K, bins)
        n = max(x.shape[-1], y.shape[-1])
        rows = [nn.functional.pad(row, (0, n - row.shape[-1]), value=_NEVER) for row in (x, y)]
        return torch.stack(rows, dim=2)
