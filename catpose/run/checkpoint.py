"""Reading a checkpoint of our own: the model as it was trained, and what a run needs to go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from catpose.errors import InputError
from catpose.model.normalisation import with_normalisation
from catpose.model.pose import PoseModel
from catpose.model.stored import read_checkpoint, skeleton_in, stored_model
from catpose.run.options import import_modules
from catpose.score.trust import Trust

#: What Lightning needs to go on.
RESUMED = ("epoch", "global_step", "loops", "callbacks", "optimizer_states", "lr_schedulers")


def load_model(path: Path, trusted: tuple[str, ...] = ()) -> tuple[PoseModel, dict[str, Any]]:
    """The model in a checkpoint of `fit`, as `stored_model` reads it; modules that are trusted are imported here.

    Raises:
        InputError: one of these can't be imported, or as `stored_model`.
    """
    import_modules(trusted)
    model, settings = stored_model(path, PoseModel, trusted)
    try:
        if model.calibration is not None:
            Trust.from_plain(model.calibration, len(model.skeleton))
    except InputError as error:
        raise InputError(f"{path}: {error}; calibrate it again, with test --calibrate") from None
    return model, settings


def require_resumable(path: Path, model: PoseModel) -> int:
    """How many epochs a run's last checkpoint has finished.

    Raises:
        InputError: it is damaged, isn't one of this model, or was made within an epoch.
    """
    try:
        checkpoint = read_checkpoint(path)
    except InputError as error:
        raise InputError(f"{error}; or delete it, and the run begins again with its first epoch") from None
    difference = model.skeleton.difference(skeleton_in(checkpoint))
    if difference:
        raise InputError(f"{path}: was trained on other keypoints: the data have {difference}; name another folder")
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    states = with_normalisation(checkpoint["state_dict"])
    stored = {name: value.shape for name, value in states.items() if isinstance(value, Tensor)}
    if stored != shapes or not checkpoint.keys() >= set(RESUMED):
        raise InputError(f"{path}: is not this run's last checkpoint; restore it or name another folder with --out")
    try:
        epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        begun, finished = int(epochs["ready"]), int(epochs["processed"])
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{path}: doesn't say which epochs it has finished; restore it or name another folder"
        ) from None
    if begun != finished:
        raise InputError(f"{path}: was made within an epoch; restore the run's last.ckpt or name another folder")
    return finished
