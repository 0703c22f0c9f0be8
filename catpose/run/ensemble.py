"""Several checkpoints as one model of crops: the mean of their heatmaps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from catpose.errors import InputError
from catpose.model.codec import UDPHeatmap
from catpose.run.network import Network, within_memory


class Ensemble:
    """Networks whose heatmaps are averaged, a `CropModel`; it costs what all of them cost.

    Each gets the crop at its own size, and its heatmaps (with the flip test, the mean of these and their mirror
    images') are brought to the largest size by bilinear interpolation, corners onto corners, as UDP's geometry has it;
    the codec of the largest decodes their mean. What confidences are worth isn't known of it: `calibration` is None.

    Args:
        networks: two or more, by file.

    Raises:
        InputError: they don't go together: other keypoints, crops of other proportions, other heatmaps than UDP's, some
            with and some without the flip test.
    """

    calibration: dict[str, Any] | None = None

    def __init__(self, networks: Sequence[tuple[Path, Network]]) -> None:
        (first_file, first), *_ = networks
        for file, network in networks:
            _require_alike(file, network, first_file, first)
        self._networks = [network for _, network in networks]
        self._largest = max(self._networks, key=lambda network: network.input_size)
        self.skeleton, self.flip_test, self.n_threads = first.skeleton, first.flip_test, first.n_threads
        self.input_size = self._largest.input_size

    def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Network`."""
        with within_memory(len(crops)):
            crop = torch.from_numpy(crops).to(self._largest.device)
            heatmaps = [_heatmaps(network, crop) for network in self._networks]
            size = heatmaps[self._networks.index(self._largest)].shape[2:]
            mean = torch.stack([resized(each, size) for each in heatmaps]).mean(dim=0)
            keypoints, confidence = self._largest.model.codec.decode(mean, self.input_size)
            return keypoints.float().cpu().numpy(), confidence.float().cpu().numpy()


def load_networks(paths: Sequence[Path], device: str, trusted: tuple[str, ...]) -> Network | Ensemble:
    """The network of a checkpoint, or the mean of several. Raises as `Network.load` and `Ensemble`."""
    networks = [(path, Network.load(path, device, trusted)) for path in paths]
    return networks[0][1] if len(networks) == 1 else Ensemble(networks)


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
