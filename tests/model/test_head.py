"""The head's shapes, layers and start."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from catpose.errors import InputError
from catpose.model.head import DeconvolutionHead


@pytest.mark.parametrize("stride", [4, 8, 16, 32, 64])
def test_the_heatmaps_are_a_quarter_of_the_crop(stride):
    head = DeconvolutionHead(24, stride, channels=8)
    assert head(torch.rand(2, 24, 256 // stride, 192 // stride)).shape == (2, 17, 64, 48)


def test_simple_baselines_layers():
    """Xiao et al., ECCV 2018: three times deconvolution 4x4 (stride 2, no bias), batch norm, ReLU; then 1x1."""
    head = DeconvolutionHead(2048, 32)
    assert [type(layer) for layer in head.deconv] == [nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU] * 3
    for layer, channels in zip(head.deconv[::3], (2048, 256, 256), strict=True):
        assert (layer.in_channels, layer.out_channels, layer.kernel_size) == (channels, 256, (4, 4))
        assert (layer.stride, layer.padding, layer.output_padding, layer.bias) == ((2, 2), (1, 1), (0, 0), None)
    assert head.final.weight.shape == (17, 256, 1, 1)
    assert sum(p.numel() for p in head.parameters()) == (2048 + 256 + 256) * 256 * 16 + 3 * 512 + 17 * 257


def test_at_stride_4_only_the_last_convolution_is_left():
    assert list(DeconvolutionHead(32, 4).state_dict()) == ["final.weight", "final.bias"]


def test_the_start_is_simple_baselines():
    head = DeconvolutionHead(512, 32)
    for layer in (*head.deconv[::3], head.final):
        assert layer.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert (head.final.bias == 0).all()


@pytest.mark.parametrize("stride", [2, 6, 14, 17, 0])
def test_other_strides_are_refused(stride):
    with pytest.raises(InputError, match=f"stride {stride} "):
        DeconvolutionHead(8, stride)


def test_a_head_without_channels_is_refused():
    with pytest.raises(InputError, match=r"model\.head_channels: 0"):
        DeconvolutionHead(8, 32, channels=0)
