"""Which parameters learn at which rate, on every backbone."""

from __future__ import annotations

import pytest
import timm
import torch
from test_backbones import batch, build, every_backbone
from torch import nn

from catpose.errors import InputError
from catpose.model.layers import is_shift_or_scale, layers_of, parameter_groups


def layout(backbone, **arguments):
    """The model without memory for its parameters, which are told apart but not read."""
    with torch.device("meta"):
        return build(backbone, **arguments)


@every_backbone
def test_rates_fall_from_the_head_to_the_stem(backbone, arguments):
    model = layout(backbone, **arguments)
    if arguments.get("name") == "regnety_002":  # its blocks are called s1.b1
        with pytest.raises(InputError, match=r"^model\.layer_decay: "):
            parameter_groups(model, 1.0, 0.0, 0.5, True)
        return
    layers = layers_of(model.backbone)
    assert {*layers.values()} == {*range(max(layers.values()) + 1)} - ({0} - {*layers.values()})
    assert list(layers.values()) == sorted(layers.values())  # in the order in which they are passed
    rate = {id(each): group["lr"] for group in parameter_groups(model, 1.0, 0.0, 0.5, True) for each in group["params"]}
    for name, parameter in model.named_parameters():
        depth = max(layers.values()) + 1 - layers.get(name.removeprefix("backbone."), max(layers.values()) + 1)
        assert rate[id(parameter)] == 0.5**depth
    assert all(rate[id(parameter)] == 1 for parameter in model.head.parameters())


@every_backbone
def test_each_parameter_is_in_one_group_and_what_shifts_or_scales_has_no_decay(backbone, arguments):
    model = layout(backbone, **arguments)
    for decay_all in (True, False):
        groups = parameter_groups(model, 1.0, 0.1, 1.0, decay_all)
        together = [id(parameter) for group in groups for parameter in group["params"]]
        assert sorted(together) == sorted(id(parameter) for parameter in model.parameters())
        spared = {id(each) for group in groups if group["weight_decay"] == 0 for each in group["params"]}
        norms = [each for each in model.modules() if isinstance(each, nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm)]
        shifts = {id(each) for norm in norms for each in norm.parameters()}
        shifts |= {
            id(each) for name, each in model.named_parameters() if name.endswith((".bias", "cls_token", "embed"))
        }
        assert spared >= shifts if not decay_all else not spared
        kernels = {id(each.weight) for each in model.modules() if isinstance(each, nn.Conv2d | nn.Linear)}
        assert not spared & kernels


#: Of networks of timm's that have parameters of other names and shapes than most.
SPARING = (
    *("coat_tiny", "crossvit_9_240", "efficientformerv2_s0", "fastvit_t8", "levit_128s", "mvitv2_tiny"),
    *("samvit_base_patch16", "swin_tiny_patch4_window7_224", "tiny_vit_5m_224", "xcit_nano_12_p16_224"),
)


@pytest.mark.parametrize("name", SPARING)
def test_what_timm_spares_of_decay_is_spared(name):
    """And what scales channels or heads, whatever shape it has."""
    with torch.device("meta"):
        network = timm.create_model(name)
    for parameter_name, parameter in network.named_parameters():
        last = parameter_name.rsplit(".", 1)[-1]
        spared = {parameter_name, last} & {*network.no_weight_decay()} if hasattr(network, "no_weight_decay") else ()
        if spared or (parameter.numel() == max(parameter.shape, default=1) and last != "weight"):
            assert is_shift_or_scale(parameter_name, parameter), parameter_name
        if last == "weight" and parameter.ndim > 1:
            assert not is_shift_or_scale(parameter_name, parameter), parameter_name


def test_vit_has_vitposes_layers():
    from catpose.model.backbones.vit import ViT

    model = build(ViT, name="vit_tiny_patch16_224")
    layers = layers_of(model.backbone)
    assert max(layers.values()) == 12
    assert layers["pos_embed"] == layers["cls_token"] == layers["patch_embed.proj.weight"] == 0
    assert layers["blocks.0.norm1.weight"] == 1
    assert layers["blocks.11.mlp.fc2.bias"] == 12
    assert is_shift_or_scale("backbone.pos_embed", model.backbone.pos_embed)


def test_the_defaults_are_one_group_in_the_order_of_the_parameters():
    from catpose.model.backbones.timm_backbone import TimmBackbone

    model = build(TimmBackbone, name="test_resnet")
    (group,) = parameter_groups(model, 1e-3, 0.02, 1.0, True)
    assert [id(each) for each in group["params"]] == [id(each) for each in model.parameters()]
    assert group["lr"] == 1e-3
    assert group["weight_decay"] == 0.02


def test_a_step_moves_layers_by_their_rates():
    from catpose.model.backbones.timm_backbone import TimmBackbone

    model = build(TimmBackbone, name="test_resnet")
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.Adam(parameter_groups(model, 1e-3, 0.0, 0.5, True))  # whose first step is the rate itself
    made = batch(2, 64)
    model.loss(model(made["crop"]), made).backward()
    optimizer.step()
    layers = layers_of(model.backbone)
    top = max(layers.values()) + 1
    for name, parameter in model.named_parameters():
        moved = (parameter - before[name]).abs().max().item()
        assert moved <= 1e-3 * 0.5 ** (top - layers.get(name.removeprefix("backbone."), top)) * 1.01 + 1e-7
