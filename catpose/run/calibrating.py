"""A model's calibration in its own file: learnt from its detections on a labelled split, and read again."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from catpose import shipped
from catpose.data.coco_split import CocoSplit
from catpose.errors import InputError
from catpose.model.stored import read_checkpoint
from catpose.model.weights_file import SUFFIX, add_text
from catpose.run.checkpoint_io import AtomicCheckpointIO
from catpose.run.directory import RunDirectory
from catpose.run.lock import locked
from catpose.score.detections import Detections
from catpose.score.trust import HELD, Learnt, learn


def require_calibratable(checkpoint: Path, split: CocoSplit) -> None:
    """Refuse before predictions are made, which may take minutes, what `calibrate` must not write.

    Raises:
        InputError: a model that comes with catpose, the training split, a training at work in the run's folder.
    """
    if checkpoint.parent == shipped.WEIGHTS:
        raise InputError(f"{checkpoint}: comes with catpose and stays as it is; calibrate a copy of it")
    if split.file.stem == "train":
        raise InputError(
            f"--calibrate: {split.file} are pictures that it was trained on, where it is surer than elsewhere; give"
            " --split val"
        )
    with _no_training_beside(checkpoint):
        return


def calibrate(checkpoint: Path, split: CocoSplit, detections: Detections) -> Learnt:
    """Learn what a model's confidences are worth, and write it into its file; nothing else there changes.

    Args:
        checkpoint: a `.ckpt` of `fit` or a weights file that `require_calibratable` has let pass.
        split: labelled pictures that it wasn't trained on.
        detections: the model's there.

    Raises:
        InputError: too few labels, a file that can't be written, a training at work in the run's folder.
    """
    learnt = learn(split, detections)
    plain = learnt.trust.to_plain()
    with _no_training_beside(checkpoint):
        if checkpoint.suffix == SUFFIX:
            add_text(checkpoint, "calibration", json.dumps(plain))
        else:
            content: dict[str, Any] = read_checkpoint(checkpoint) | {"calibration": plain}
            AtomicCheckpointIO().save_checkpoint(content, checkpoint)
    return learnt


def _no_training_beside(checkpoint: Path) -> AbstractContextManager[None]:
    """Keep trainings from the folder of a run's checkpoint: a newer one of theirs would be put back."""
    folder = checkpoint.parent
    return locked(folder) if RunDirectory(folder).record.exists() else nullcontext()


def calibration_text(checkpoint: Path, split: CocoSplit, learnt: Learnt) -> str:
    """What was learnt, in lines."""
    names = split.skeleton.names
    radii = sorted(zip(learnt.trust.radius, names, strict=True))
    (low, surest), (high, least) = radii[0], radii[-1]
    return (
        f"calibrated on {learnt.n} keypoints of {split.file}, written into {checkpoint}\n"
        f"  ECE of confidences {learnt.error_before:.3f}, of probabilities {learnt.error_after:.3f} (cross-fitted by"
        " picture)\n"
        f"  {HELD:.0%} of a keypoint's errors are below {low:.3f} ({surest}) to {high:.3f} ({least}) of the box's"
        f" longer side; on other pictures {learnt.held:.1%} were"
    )
