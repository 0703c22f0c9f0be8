"""Any backbone that timm has, by its name, and one that timm has but the parts of."""

from __future__ import annotations

from typing import Any

import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import register_model
from timm.models.efficientnet import _gen_mobilenet_v2
from torch import Tensor

from catpose.errors import InputError, nearest, one_line
from catpose.model.head import DeconvolutionHead
from catpose.model.pose import PoseModel

#: Options of `timm.create_model` that read a file or fetch one.
LOADING = {"checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}


# Here, where names are looked up, so that whoever builds a network by its name has it.
@register_model
def mobilenetv2_175(**options: Any) -> Any:
    """MobileNetV2 of width 1.75, for which timm has the parts but no name; scaled by ImageNet's mean and std."""
    config = {"architecture": "mobilenetv2_175", "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
    return _gen_mobilenet_v2("mobilenetv2_100", 1.75, **options | {"pretrained_cfg": config})


class TimmBackbone(PoseModel):
    """The last feature map of a timm backbone, and as many deconvolutions as lead to stride 4.

    Args:
        name: timm's name, with or without a tag of weights, such as `convnext_tiny.dinov3_lvd1689m`
            (`timm.list_models()` has them all).
        options: passed to `timm.create_model`, such as `{img_size: [128, 128]}` for a transformer of fixed input size.
        head_channels: of each deconvolution.
        **kwargs: as `PoseModel`'s.
    """

    def __init__(
        self, name: str, options: dict[str, Any] | None = None, head_channels: int = 256, **kwargs: Any
    ) -> None:
        backbone = create(name, **{"features_only": True, "out_indices": (-1,), **(options or {})})
        info = backbone.feature_info
        head = DeconvolutionHead(info.channels()[-1], info.reduction()[-1], head_channels)
        super().__init__(backbone, head, **kwargs)

    def features(self, picture: Tensor) -> Tensor:
        try:
            return super().features(picture)
        except AssertionError as error:  # timm's own check of the input's size
            raise InputError(f"data.input_size, or model.options.img_size: {one_line(error)}") from error


def create(name: str, **options: Any) -> Any:
    """`timm.create_model` without weights; a name or an option that timm refuses is an `InputError`."""
    if not timm.is_model(name):
        raise InputError(f"model.name: timm has no backbone {name!r}.{nearest(name.split('.')[0], timm.list_models())}")
    loading = sorted(LOADING & options.keys())
    if loading:  # timm would unpickle whatever the file holds
        raise InputError(f"model.options: {', '.join(loading)} would have timm load a file; use model.weights for that")
    try:
        return timm.create_model(name, pretrained=False, **options)
    except (TypeError, ValueError, RuntimeError, AssertionError, AttributeError, IndexError) as error:
        raise InputError(f"model.name: timm can't build {name} as a backbone: {one_line(error)}") from error
