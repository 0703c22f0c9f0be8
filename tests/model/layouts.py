"""Pose networks as other people publish them, wired here anew from the papers: parameter names are the published ones.

`PoseHighResolutionNet`: Sun et al., "Deep High-Resolution Representation Learning for Human Pose Estimation", CVPR
2019, names as in `pose_hrnet_w32_256x256.pth`. `PoseResNet`: Xiao et al., "Simple Baselines for Human Pose Estimation
and Tracking", ECCV 2018, names as in `pose_resnet_50_256x256.pth.tar`; its trunk is torchvision's.
"""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Convolution (0), batch normalisation (1), rectifier (2)."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), *([nn.ReLU()] if relu else []))


class Residual(nn.Module):
    """A residual block of two 3x3 convolutions, or, with `squeeze`, of 1x1, 3x3 and 1x1 with four times the width."""

    def __init__(self, inputs: int, width: int, squeeze: bool = False) -> None:
        super().__init__()
        outputs = 4 * width if squeeze else width
        steps = [(inputs, width, 1), (width, width, 3), (width, outputs, 1)] if squeeze else [(inputs, width, 3)]
        steps = steps if squeeze else [*steps, (width, width, 3)]
        self.depth = len(steps)
        for i, (a, b, kernel) in enumerate(steps, start=1):
            self.add_module(f"conv{i}", nn.Conv2d(a, b, kernel, padding=kernel // 2, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(b))
        if inputs != outputs:
            self.downsample = conv_bn(inputs, outputs, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.depth + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = y.relu() if i < self.depth else y
        return (y + (self.downsample(x) if hasattr(self, "downsample") else x)).relu()


class Exchange(nn.Module):
    """A module of a stage: four blocks at each resolution, then every resolution receives from every other."""

    def __init__(self, widths: list[int], outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*[Residual(w, w) for _ in range(4)]) for w in widths)
        self.fuse_layers = nn.ModuleList()
        for to in range(outputs):
            row: dict[str, nn.Module] = {}
            for source in range(len(widths)):
                if source > to:  # coarser: 1x1, then enlarged by repetition
                    row[str(source)] = conv_bn(widths[source], widths[to], 1, relu=False)
                elif source < to:  # finer: halved step by step; the last step changes the width and has no rectifier
                    steps = [conv_bn(widths[source], widths[source], 3, 2) for _ in range(to - source - 1)]
                    steps.append(conv_bn(widths[source], widths[to], 3, 2, relu=False))
                    row[str(source)] = nn.Sequential(*steps)
            self.fuse_layers.append(nn.ModuleDict(row))

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        xs = [branch(x) for branch, x in zip(self.branches, xs, strict=True)]
        outputs = []
        for to, row in enumerate(self.fuse_layers):
            total = xs[to]
            for source in (int(key) for key in row):
                y = row[str(source)](xs[source])
                for _ in range(source - to):
                    y = y.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
                total = total + y
            outputs.append(total.relu())
        return outputs


class PoseHighResolutionNet(nn.Module):
    """HRNet for human pose, `pose_hrnet_w32`; (B, 3, H, W) to (B, keypoints, H/4, W/4)."""

    def __init__(self, width: int = 32, keypoints: int = 17) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, 2, padding=1, bias=False), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = nn.Conv2d(64, 64, 3, 2, padding=1, bias=False), nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(*[Residual(64 if i == 0 else 256, 64, squeeze=True) for i in range(4)])
        w = [width * 2**i for i in range(4)]
        fork = conv_bn(256, w[0], 3), nn.Sequential(conv_bn(256, w[1], 3, 2))
        self.transition1 = nn.ModuleList(fork)
        self.stage2 = nn.ModuleList([Exchange(w[:2], 2)])
        self.transition2 = nn.ModuleDict({"2": nn.Sequential(conv_bn(w[1], w[2], 3, 2))})
        self.stage3 = nn.ModuleList([Exchange(w[:3], 3) for _ in range(4)])
        self.transition3 = nn.ModuleDict({"3": nn.Sequential(conv_bn(w[2], w[3], 3, 2))})
        self.stage4 = nn.ModuleList([Exchange(w, outputs) for outputs in (4, 4, 1)])
        self.final_layer = nn.Conv2d(width, keypoints, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
        x = self.layer1(x)
        xs = [fork(x) for fork in self.transition1]
        for module in self.stage2:
            xs = module(xs)
        xs = [*xs, self.transition2["2"](xs[-1])]
        for module in self.stage3:
            xs = module(xs)
        xs = [*xs, self.transition3["3"](xs[-1])]
        for module in self.stage4:
            xs = module(xs)
        return self.final_layer(xs[0])


class PoseResNet(torchvision.models.ResNet):
    """SimpleBaseline, `pose_resnet_50`; (B, 3, H, W) to (B, keypoints, H/4, W/4)."""

    def __init__(self, keypoints: int = 17) -> None:
        super().__init__(torchvision.models.resnet.Bottleneck, [3, 4, 6, 3])
        del self.fc, self.avgpool
        layers: list[nn.Module] = []
        for inputs in (2048, 256, 256):
            layers += [nn.ConvTranspose2d(inputs, 256, 4, 2, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU()]
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(256, keypoints, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.final_layer(self.deconv_layers(x))


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """`network` with every parameter and running statistic drawn at random, in evaluation mode.

    Fresh normalisations are identities, under which a tensor in the wrong place might go unnoticed.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("num_batches_tracked") or name in ("mean", "std"):  # the pictures' scale is no weight
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            fan_in = tensor[0].numel() if tensor.ndim > 1 else 0
            if tensor.ndim > 1:
                tensor.copy_(noise * fan_in**-0.5)
            elif name.endswith(("weight", "running_var")):
                tensor.copy_(0.75 + 0.25 * torch.tanh(noise))
            else:
                tensor.copy_(0.1 * noise)
    return network.eval()


def as_mmpose(state: dict[str, Tensor], head: str) -> dict[str, Tensor]:
    """Official names to MMPose's: `head` is `keypoint_head` in 0.x, `head` in 1.x."""
    prefixes = {name: head if name.split(".")[0] in ("deconv_layers", "final_layer") else "backbone" for name in state}
    return {f"{prefixes[name]}.{name}": tensor for name, tensor in state.items()}
