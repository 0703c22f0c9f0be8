"""Codecs: keypoints into the heatmaps a model learns, and heatmaps back into keypoints.

Keypoints are in crop px (index coordinates, see `catpose.geometry`), sizes are (width, height). Heatmaps are drawn with
their peak at 1 and cut off outside a patch of 3 sigma around the pixel nearest to the keypoint, as the published
codecs do. A codec is one class: `encode`, `decode`, what it promises of the two (`round_trip_px`) and, where its grid
asks for it, `unflip`; where it is more than heatmaps, the layer behind the head (`readout`) and the `loss`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from catpose.errors import InputError


class Codec(ABC):
    """Keypoints to Gaussian heatmaps and back.

    Args:
        sigma: standard deviation of the Gaussian, heatmap px, above 0. Published pairs: 2 for heatmaps of 64 (crops of
            256), 1 for heatmaps of 32 (crops of 128), 3 for 96 (384).
    """

    def __init__(self, sigma: float = 2.0) -> None:
        if not 0 < sigma <= 100:
            raise InputError(
                f"model.codec.sigma: {sigma} is no width in heatmap px; give a number above 0, at most 100"
            )
        self.sigma = float(sigma)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(sigma={self.sigma:g})"

    def readout(self, stride: int) -> nn.Module:
        """What stands behind the head and makes of its heatmaps what is encoded and decoded; nothing, for heatmaps.

        Args:
            stride: crop px per heatmap px.
        """
        return nn.Identity()

    @abstractmethod
    def encode(
        self,
        keypoints_crop: Float[Tensor, "b k 2"],
        visibility: Int[Tensor, "b k"],
        input_size: tuple[int, int],
        heatmap_size: tuple[int, int],
    ) -> tuple[Float[Tensor, "b k h w"], Float[Tensor, "b k"]]:
        """Heatmaps in [0, 1], float32, and each keypoint's weight in the loss.

        The weight is 1, or 0 (with an empty heatmap) where the visibility is 0 or the patch misses the heatmap.
        """

    @abstractmethod
    def decode(
        self, heatmaps: Float[Tensor, "b k h w"], input_size: tuple[int, int]
    ) -> tuple[Float[Tensor, "b k 2"], Float[Tensor, "b k"]]:
        """Keypoints in crop px and their confidence, the heatmap's maximum; both float32 and finite.

        Half precision is decoded in float32, values that aren't finite count as 0.
        """

    def unflip(self, heatmaps: Float[Tensor, "b k h w"], flip: Sequence[int]) -> Float[Tensor, "b k h w"]:
        """The heatmaps of a mirrored crop, laid over those of the crop itself: mirrored, left and right exchanged.

        Args:
            flip: (k,), a skeleton's `flip`: which keypoint stands where each stood once the picture is mirrored.
        """
        return heatmaps.flip(-1)[:, list(flip)]

    def loss(
        self, outputs: Float[Tensor, "b k h w"], target: Float[Tensor, "b k h w"], weight: Float[Tensor, "b k"]
    ) -> Float[Tensor, ""]:
        """Visibility-weighted mean squared error: the mean over b, k, h and w of weight·(outputs - target)², float32.

        Keypoints of weight 0 count in the mean's denominator, as in MMPose's `KeypointMSELoss(use_target_weight=True)`.
        The official SimpleBaseline and HRNet code halves it (which Adam doesn't notice).

        Args:
            target, weight: as `encode` makes them.
        """
        return (weight[:, :, None, None] * (outputs.float() - target) ** 2).mean()

    @abstractmethod
    def round_trip_px(self, input_size: tuple[int, int], heatmap_size: tuple[int, int]) -> float:
        """The largest error per axis, crop px, of `decode(encode(point))` three sigmas or more inside the border."""


class MSRAHeatmap(Codec):
    """The heatmaps of Microsoft Research Asia's "Simple Baselines for Human Pose Estimation and Tracking" (Xiao et al.,
    ECCV 2018).

    Heatmap pixel i stands for crop pixel i·stride, stride = crop width / heatmap width. The Gaussian is drawn around
    the nearest heatmap pixel; decoding takes the maximum and goes a quarter of a pixel towards its higher neighbour,
    on each axis that has two.
    """

    def encode(
        self,
        keypoints_crop: Float[Tensor, "b k 2"],
        visibility: Int[Tensor, "b k"],
        input_size: tuple[int, int],
        heatmap_size: tuple[int, int],
    ) -> tuple[Float[Tensor, "b k h w"], Float[Tensor, "b k"]]:
        x = keypoints_crop[..., 0].float() * (heatmap_size[0] / input_size[0])
        y = keypoints_crop[..., 1].float() * (heatmap_size[1] / input_size[1])
        return _draw_gaussians(_nearest_pixel(x), _nearest_pixel(y), visibility > 0, heatmap_size, self.sigma)

    def decode(
        self, heatmaps: Float[Tensor, "b k h w"], input_size: tuple[int, int]
    ) -> tuple[Float[Tensor, "b k 2"], Float[Tensor, "b k"]]:
        heatmaps, x, y, confidence = _find_peaks(heatmaps)
        height, width = heatmaps.shape[2:]
        slope_x = _value_at(heatmaps, x + 1, y) - _value_at(heatmaps, x - 1, y)
        slope_y = _value_at(heatmaps, x, y + 1) - _value_at(heatmaps, x, y - 1)
        step_x = 0.25 * slope_x.sign() * ((x > 0) & (x < width - 1))
        step_y = 0.25 * slope_y.sign() * ((y > 0) & (y < height - 1))
        x_crop = (x + step_x) * (input_size[0] / width)
        y_crop = (y + step_y) * (input_size[1] / height)
        return torch.stack([x_crop, y_crop], dim=-1), confidence

    def unflip(self, heatmaps: Float[Tensor, "b k h w"], flip: Sequence[int]) -> Float[Tensor, "b k h w"]:
        """As every codec's, then one pixel to the right.

        Mirroring the crop takes heatmap x to (width - 1/stride) - x, mirroring the heatmap takes it to width - 1 - x:
        at stride 4 they disagree by 3/4 of a pixel, of which the published code gives back one (the first column
        stays).
        """
        heatmaps = super().unflip(heatmaps, flip)
        return torch.cat([heatmaps[..., :1], heatmaps[..., :-1]], dim=-1)

    def round_trip_px(self, input_size: tuple[int, int], heatmap_size: tuple[int, int]) -> float:
        """Half a stride: the target's centre is the nearest pixel, and its neighbours, being equal, don't move it."""
        return max(input_size[0] / heatmap_size[0], input_size[1] / heatmap_size[1]) / 2


class UDPHeatmap(Codec):
    """Heatmaps of unbiased data processing (UDP) with distribution-aware decoding (DARK).

    Heatmap pixel i stands for crop pixel i·(crop width - 1)/(heatmap width - 1), so that mirroring is exact, and the
    Gaussian's centre is the keypoint itself: Huang et al., "The Devil is in the Details: Delving into Unbiased Data
    Processing for Human Pose Estimation", CVPR 2020. Decoding smooths the heatmap with the same Gaussian and goes one
    Newton step from the maximum on its logarithm: Zhang et al., "Distribution-Aware Coordinate Representation for Human
    Pose Estimation" (DARK), CVPR 2020.

    Two guards keep wild heatmaps from throwing a keypoint away: no step where the logarithm has no peak (a Hessian that
    isn't negative definite), and none longer than sigma on an axis.
    """

    def encode(
        self,
        keypoints_crop: Float[Tensor, "b k 2"],
        visibility: Int[Tensor, "b k"],
        input_size: tuple[int, int],
        heatmap_size: tuple[int, int],
    ) -> tuple[Float[Tensor, "b k h w"], Float[Tensor, "b k"]]:
        x = keypoints_crop[..., 0].float() * ((heatmap_size[0] - 1) / (input_size[0] - 1))
        y = keypoints_crop[..., 1].float() * ((heatmap_size[1] - 1) / (input_size[1] - 1))
        return _draw_gaussians(x, y, visibility > 0, heatmap_size, self.sigma)

    def decode(
        self, heatmaps: Float[Tensor, "b k h w"], input_size: tuple[int, int]
    ) -> tuple[Float[Tensor, "b k 2"], Float[Tensor, "b k"]]:
        heatmaps, x, y, confidence = _find_peaks(heatmaps)
        height, width = heatmaps.shape[2:]
        smooth = blur(heatmaps, self.sigma)
        smooth = smooth * (confidence / smooth.amax(dim=(2, 3)).clamp_min(1e-12))[..., None, None]  # the peak as it was
        log = smooth.clamp(1e-3, 50.0).log()  # the floor and the ceiling of UDP's published code

        here = _value_at(log, x, y)
        left, right = _value_at(log, x - 1, y), _value_at(log, x + 1, y)
        above, below = _value_at(log, x, y - 1), _value_at(log, x, y + 1)
        upper_left, lower_right = _value_at(log, x - 1, y - 1), _value_at(log, x + 1, y + 1)
        dx, dy = (right - left) / 2, (below - above) / 2
        dxx, dyy = right - 2 * here + left, below - 2 * here + above
        dxy = (lower_right - right - below + 2 * here - left - above + upper_left) / 2

        determinant = dxx * dyy - dxy**2
        peaked = (determinant > 1e-10) & (dxx < 0)
        determinant = torch.where(peaked, determinant, 1.0)
        step_x = torch.where(peaked, (dxy * dy - dyy * dx) / determinant, 0.0).clamp(-self.sigma, self.sigma)
        step_y = torch.where(peaked, (dxy * dx - dxx * dy) / determinant, 0.0).clamp(-self.sigma, self.sigma)
        x_crop = (x + step_x) * ((input_size[0] - 1) / (width - 1))
        y_crop = (y + step_y) * ((input_size[1] - 1) / (height - 1))
        return torch.stack([x_crop, y_crop], dim=-1), confidence

    def round_trip_px(self, input_size: tuple[int, int], heatmap_size: tuple[int, int]) -> float:
        """0.05: what cut-off Gaussians lack of a parabola in the logarithm. Below sigma 0.75 too few pixels see one."""
        return 0.05 if self.sigma >= 0.75 else max(input_size[0] / heatmap_size[0], input_size[1] / heatmap_size[1]) / 2


def _nearest_pixel(position: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
    """Index of the heatmap pixel nearest to a position in heatmap px; halves go up."""
    return torch.floor(position + 0.5)


def _draw_gaussians(
    x: Float[Tensor, "b k"],
    y: Float[Tensor, "b k"],
    labelled: Bool[Tensor, "b k"],
    heatmap_size: tuple[int, int],
    sigma: float,
) -> tuple[Float[Tensor, "b k h w"], Float[Tensor, "b k"]]:
    """Gaussians of peak 1 around (x, y), heatmap px, 0 more than 3 sigma from the pixel nearest to it; and weights."""
    profiles = []
    for center, length in ((x, heatmap_size[0]), (y, heatmap_size[1])):
        pixel = torch.arange(length, device=center.device, dtype=torch.float32)
        patch = (pixel - _nearest_pixel(center)[..., None]).abs() <= 3 * sigma  # (b, k, length)
        profiles.append(torch.exp(-((pixel - center[..., None]) ** 2) / (2 * sigma**2)) * patch)
        labelled = labelled & patch.any(-1)
    heatmaps = profiles[1][..., :, None] * profiles[0][..., None, :]  # (b, k, h, w): a Gaussian is separable
    return torch.where(labelled[..., None, None], heatmaps, 0.0), labelled.float()


def _find_peaks(
    heatmaps: Float[Tensor, "b k h w"],
) -> tuple[Float[Tensor, "b k h w"], Int[Tensor, "b k"], Int[Tensor, "b k"], Float[Tensor, "b k"]]:
    """The heatmaps in float32 and finite, the column and row of each maximum, and its value."""
    heatmaps = torch.nan_to_num(heatmaps.float(), nan=0.0, posinf=0.0, neginf=0.0)
    confidence, index = heatmaps.flatten(2).max(dim=-1)
    width = heatmaps.shape[-1]
    return heatmaps, index % width, index // width, confidence


def _value_at(heatmaps: Float[Tensor, "b k h w"], x: Int[Tensor, "b k"], y: Int[Tensor, "b k"]) -> Float[Tensor, "b k"]:
    """Each heatmap's value at column x and row y; the border's where that is outside."""
    height, width = heatmaps.shape[2:]
    index = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    return heatmaps.flatten(2).gather(-1, index[..., None])[..., 0]


def blur(heatmaps: Float[Tensor, "b k h w"], sigma: float) -> Float[Tensor, "b k h w"]:
    """Gaussian smoothing, the kernel cut off at ceil(2.5 sigma) px (11 wide for 2, 17 for 3), zeros outside.

    Sums of shifted heatmaps rather than a convolution, which autocast and TF32 would round to ten bits or fewer.
    """
    radius = math.ceil(2.5 * sigma)
    kernel = [math.exp(-((i / sigma) ** 2) / 2) for i in range(-radius, radius + 1)]
    total = sum(kernel)
    for dim, padding in ((-1, (radius, radius)), (-2, (0, 0, radius, radius))):
        padded, length = F.pad(heatmaps, padding), heatmaps.shape[dim]
        heatmaps = torch.zeros_like(heatmaps)
        for i, value in enumerate(kernel):
            heatmaps.add_(padded.narrow(dim, i, length), alpha=value / total)
    return heatmaps
