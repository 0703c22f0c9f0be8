"""Several checkpoints, or one at several sizes of its crops, as one model of crops: the mean of their heatmaps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from catpose.errors import InputError, one_line
from catpose.model.codec import UDPHeatmap
from catpose.model.head import HEATMAP_STRIDE
from catpose.run.network import Network, within_memory


class Ensemble:
    """Networks whose heatmaps are averaged, a `CropModel`; it costs what all of them cost.

    Each gets the crop at its own size, or at that times each of the scales. Its heatmaps (with the flip test, the mean
    of these and their mirror images') are brought to the size that those of the network of the largest crops have, by
    bilinear interpolation, corners onto corners, as UDP's geometry has it; that network's codec decodes their mean.
    What confidences are worth isn't known of it: `calibration` is None.

    Args:
        networks: one or more, by file.
        scales: how many times as wide and high as in its training each one's crops are.

    Raises:
        InputError: they don't go together: other keypoints, crops of other proportions, other heatmaps than UDP's, some
            with and some without the flip test; as `Network.at`.
    """

    calibration: dict[str, Any] | None = None

    def __init__(self, networks: Sequence[tuple[Path, Network]], scales: Sequence[float] = (1.0,)) -> None:
        (first_file, first), *_ = networks
        for file, network in networks:
            _require_alike(file, network, first_file, first)
        self._largest = max((network for _, network in networks), key=lambda network: network.input_size)
        self._networks = [_at(file, network, scale) for file, network in networks for scale in scales]
        self.skeleton, self.flip_test, self.n_threads = first.skeleton, first.flip_test, first.n_threads
        self.input_size = max(network.input_size for network in self._networks)

    def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Network`."""
        with within_memory(len(crops)):
            crop = torch.from_numpy(crops).to(self._largest.device)
            width, height = self._largest.input_size
            size = (height // HEATMAP_STRIDE, width // HEATMAP_STRIDE)  # that its codec's sigma belongs to
            mean = torch.stack([resized(_heatmaps(each, crop), size) for each in self._networks]).mean(dim=0)
            keypoints, confidence = self._largest.model.codec.decode(mean, self.input_size)
            return keypoints.float().cpu().numpy(), confidence.float().cpu().numpy()


def load_networks(
    paths: Sequence[Path], device: str, trusted: tuple[str, ...], scales: Sequence[float]
) -> Network | Ensemble:
    """The network of a checkpoint, or the mean of several, or of some at crops of several sizes.

    Raises:
        InputError: as `Network.load` and `Ensemble`; scales that aren't numbers from 0.1 to 10, or more than 16.
    """
    if not isinstance(scales, Sequence) or not 1 <= len(scales) <= 16 or not all(map(_is_scale, scales)):
        raise InputError(
            f"scales: {one_line(scales)[:60]}: give up to 16 numbers from 0.1 to 10, such as 0.875, 1, 1.125"
        )
    networks = [(path, Network.load(path, device, trusted)) for path in paths]
    return networks[0][1] if len(networks) == 1 and tuple(scales) == (1,) else Ensemble(networks, scales)


def _is_scale(scale: object) -> bool:
    return isinstance(scale, int | float) and 0.1 <= scale <= 10


def _at(path: Path, network: Network, scale: float) -> Network:
    try:
        return network.at(scale)
    except InputError as error:
        raise InputError(f"{path}: --scales {scale:g}: {error}; leave this scale out") from None


def _heatmaps(network: Network, crop: torch.Tensor) -> torch.Tensor:
    """(B, K, h, w), float32, of crops (B, H, W, 3) uint8 RGB of any size."""
    width, height = network.input_size
    if crop.shape[1:3] != (height, width):
        crop = resized(crop.permute(0, 3, 1, 2).float(), (height, width)).permute(0, 2, 3, 1)
    return network.model.averaged(network.model(crop), crop).float()


def resized(maps: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Maps (B, C, h, w) at another height and width, the centres of their corner pixels onto each other."""
    return interpolate(maps, tuple(size), mode="bilinear", align_corners=True)


def _require_alike(file: Path, network: Network, first_file: Path, first: Network) -> None:
    if not isinstance(network.model.codec, UDPHeatmap):
        raise InputError(f"{file}: its codec is {network.model.codec}; heatmaps of UDPHeatmap alone are averaged")
    if difference := network.skeleton.difference(first.skeleton):
        raise InputError(f"{file}: its keypoints are others than those of {first_file}: {difference}")
    (width, height), (first_width, first_height) = network.input_size, first.input_size
    if width * first_height != height * first_width:
        raise InputError(
            f"{file}: its crops are {width} x {height} px and those of {first_file} {first_width} x {first_height} px;"
            " models of the same proportions alone are averaged"
        )
    if network.flip_test != first.flip_test:
        raise InputError(f"{file}: of it and {first_file}, one alone has the flip test; give models with the same")
