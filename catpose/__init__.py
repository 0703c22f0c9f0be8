"""catpose: is this change to the cat pose model really better?

    from catpose import load

    poses = load("best.ckpt").predict("photo.jpg")
    poses.keypoints  # (N, K, 2), image px

What is named here is all that other programs may rely on. Each is imported when it is first used, so that
`import catpose` is quick and needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from catpose.version import __version__ as __version__

if TYPE_CHECKING:
    from catpose.compare import compare as compare
    from catpose.data.coco import read_split as read_split
    from catpose.errors import InputError as InputError
    from catpose.fit import train as train
    from catpose.model.codec import Codec as Codec
    from catpose.model.head import DeconvolutionHead as DeconvolutionHead
    from catpose.model.pose import PoseModel as PoseModel
    from catpose.run.poses import Poses as Poses
    from catpose.run.predictor import load as load
    from catpose.test import evaluate as evaluate

_MODULES = {
    "Codec": "catpose.model.codec",
    "DeconvolutionHead": "catpose.model.head",
    "InputError": "catpose.errors",
    "PoseModel": "catpose.model.pose",
    "Poses": "catpose.run.poses",
    "compare": "catpose.compare",
    "evaluate": "catpose.test",
    "load": "catpose.run.predictor",
    "read_split": "catpose.data.coco",
    "train": "catpose.fit",
}
__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
