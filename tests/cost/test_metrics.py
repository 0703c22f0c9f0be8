from __future__ import annotations

import logging
import math
import time
import warnings

import pytest
import torch

from catpose.cost.complexity import complexity
from catpose.cost.metrics import WARM_UP_PASSES, gmacs, latency_ms, params_m, times_ms
from catpose.errors import InputError
from catpose.model.backbones.hrnet import HRNet
from catpose.model.backbones.pyramid import FeaturePyramid
from catpose.model.backbones.resnest import ResNeSt
from catpose.model.backbones.resnet import ResNet
from catpose.model.backbones.vit import ViT


@pytest.fixture
def small() -> FeaturePyramid:
    return FeaturePyramid("test_resnet", head_channels=16, weights=None)


@pytest.mark.parametrize(
    ("backbone", "arguments", "expected_gmacs", "expected_m"),
    [
        (ResNet, {"depth": 50}, 7.27, 34.00),  # the published report's baseline: 7.28 with ReLU, pooling and bias
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (ResNet, {"depth": 101}, 12.13, 52.99),
                (ResNet, {"depth": 152}, 16.99, 68.64),
                (ResNeSt, {"depth": 50}, 8.95, 35.93),
                (ResNeSt, {"depth": 101}, 15.28, 56.72),
                (HRNet, {"width": 32}, 10.25, 28.54),
                (HRNet, {"width": 48}, 20.99, 63.60),
            )
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_published_networks_cost_what_is_published(backbone, arguments, expected_gmacs, expected_m) -> None:
    model = backbone(**arguments, weights=None)
    assert gmacs(model, (256, 256)) == pytest.approx(expected_gmacs, abs=0.005)
    assert params_m(model) == pytest.approx(expected_m, abs=0.005)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "width", "published_gmacs", "expected_m"),
    [
        ("vit_small_patch16_224", 384, 7.04, 24.32),
        ("vit_small_patch14_dinov2", 384, 7.04, 24.32),
        ("vit_base_patch16_224.mae", 768, 23.90, 90.04),
    ],
)
def test_a_transformer_costs_what_is_published_and_its_attention(name, width, published_gmacs, expected_m) -> None:
    """fvcore, which ViTPose's figures are by, passes over the two products of fused attention; here they count."""
    model, tokens, blocks = ViT(name, weights=None), 16 * 16 + 1, 12
    attention = blocks * 2 * tokens**2 * width / 1e9
    assert gmacs(model, (256, 256)) == pytest.approx(published_gmacs + attention, abs=0.005)
    assert params_m(model) == pytest.approx(expected_m, abs=0.005)


@pytest.mark.slow
def test_the_head_costs_what_its_paper_s_arithmetic_says() -> None:
    """The difference that head channels make, multiplied out: three deconvolutions of 4x4, a norm each, 1x1 to 17."""

    def head(channels: int) -> int:  # each of an output's pixels takes in 2x2 of the input's
        maps, pixels = (2048, channels, channels), (8**2, 16**2, 32**2)
        deconvolutions = sum(16 * n * channels * p for n, p in zip(maps, (4**2, *pixels[:2]), strict=True))
        return deconvolutions + 2 * channels * sum(pixels) + 17 * channels * pixels[-1]  # 2: a norm, as fvcore has it

    wide, narrow = (gmacs(ResNet(50, head_channels=n, weights=None), (128, 128)) for n in (256, 64))
    assert wide - narrow == pytest.approx((head(256) - head(64)) / 1e9, rel=1e-9)


def test_cost_grows_with_the_area_of_the_crop(small: FeaturePyramid) -> None:
    assert gmacs(small, (128, 64)) == pytest.approx(2 * gmacs(small, (64, 64)), rel=1e-9)
    assert gmacs(small, (128, 64)) == gmacs(small, (64, 128))


def test_fused_attention_counts_as_attention_written_out_does() -> None:
    model = ViT("vit_tiny_patch16_224", weights=None)
    fused = gmacs(model, (128, 96))
    attentions = [module for module in model.modules() if hasattr(module, "fused_attn")]
    for module in attentions:
        assert module.fused_attn
        module.fused_attn = False  # matrix products and a softmax
    assert attentions
    assert fused == pytest.approx(gmacs(model, (128, 96)), rel=1e-12)


@pytest.mark.parametrize("measure", [gmacs, latency_ms, complexity])
def test_nothing_about_the_model_changes(measure, small: FeaturePyramid) -> None:
    small.train()
    small.backbone.eval()  # as where a part is frozen
    flags = {name: module.training for name, module in small.named_modules()}
    state = {name: value.clone() for name, value in small.state_dict().items()}
    kept = {name: id(parameter) for name, parameter in small.named_parameters()}
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in small.modules())
    draws = torch.get_rng_state()
    measure(small, (64, 64))
    assert {name: module.training for name, module in small.named_modules()} == flags
    assert all(torch.equal(value, state[name]) for name, value in small.state_dict().items())
    assert {name: id(parameter) for name, parameter in small.named_parameters()} == kept
    assert all(parameter.grad is None and parameter.requires_grad for parameter in small.parameters())
    assert sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in small.modules()) == hooks
    assert torch.equal(torch.get_rng_state(), draws)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("measure", [gmacs, latency_ms, complexity])
def test_a_size_that_the_model_refuses_leaves_it_as_it_was(measure, small: FeaturePyramid) -> None:
    small.train()
    with pytest.raises(InputError, match=r"data\.input_size"):
        measure(small, (100, 64))
    assert all(module.training for module in small.modules())


def test_counting_says_nothing(small: FeaturePyramid, caplog: pytest.LogCaptureFixture, capfd) -> None:
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings():
        warnings.simplefilter("error")
        gmacs(small, (64, 64))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert capfd.readouterr() == ("", "")


def test_a_pass_takes_some_time(small: FeaturePyramid) -> None:
    assert 0 < latency_ms(small, (64, 64), "cpu") < math.inf


@pytest.mark.parametrize(
    ("limits", "timed"),
    [({"least": 4}, 4), ({"least": 1, "most": 6, "seconds": math.inf}, 6), ({"least": 5, "most": 2}, 5)],
)
def test_passes_are_timed_after_some_that_are_not(limits: dict, timed: int) -> None:
    calls: list[int] = []
    times = times_ms(lambda: calls.append(0), torch.device("cpu"), **limits)
    assert (len(times), len(calls)) == (timed, WARM_UP_PASSES + timed)
    assert min(times) > 0


def test_a_budget_ends_the_timing() -> None:
    times = times_ms(lambda: time.sleep(0.02), torch.device("cpu"), least=1, most=1000, seconds=0.1)
    assert 1 <= len(times) <= 5
    assert sum(times[:-1]) < 100 <= sum(times)
