"""Predicting a video: one animal, its box looked for in a whole frame and then carried from frame to frame."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from catpose.data.crops import crop_picture
from catpose.data.video import Video, Writer
from catpose.errors import InputError
from catpose.figures.overlay import draw_poses
from catpose.files import atomic_write, require_writable
from catpose.run.prediction import CropModel, poses_in, trust_of
from catpose.run.second_pass import keypoint_box
from catpose.score.oks import MIN_CONFIDENCE, instance_score
from catpose.score.trust import Trust
from catpose.skeleton import Skeleton
from catpose.text import counted

#: Frames that share a box, at most: in so short a time an animal doesn't leave it.
FRAMES_AT_ONCE = 4


class FramePose(NamedTuple):
    """What was found in a frame."""

    number: int  # 0 is the video's first
    time: float  # s, of which frame 0 is at 0
    frame: np.ndarray  # (height, width, 3) uint8 RGB
    box: np.ndarray  # (4,) x, y, width, height, px, that was looked at
    keypoints: np.ndarray  # (K, 2) float64, px
    confidence: np.ndarray  # (K,) float64
    score: float


def follow(model: CropModel, video: Video, batch_size: int) -> Iterator[FramePose]:
    """The animal in each frame of a video, one after the other.

    Some frames at once share the box around the confident keypoints of the frame before them. Where these are too few,
    the animal is looked for in the whole frame, as in a picture without a box.

    Args:
        batch_size: frames at once, no more than `FRAMES_AT_ONCE` of which are taken.
    """
    frames, box = iter(video), None
    while batch := list(islice(frames, min(batch_size, FRAMES_AT_ONCE))):
        if box is None:
            first = batch[0][2]
            whole = np.array([0.0, 0.0, first.shape[1], first.shape[0]])
            box = _box_around(_poses(model, [first], whole)[0])
            box = whole if box is None else box
        poses = _poses(model, [frame for *_, frame in batch], box)
        for (number, time, frame), pose in zip(batch, poses, strict=True):
            points, confidence = pose[:, :2], pose[:, 2]
            yield FramePose(number, time, frame, box, points, confidence, float(instance_score(confidence[None])[0]))
        box = _box_around(poses[-1])


def _box_around(pose: np.ndarray) -> np.ndarray | None:
    """(4,) around the confident keypoints of (K, 3); None where they are too few."""
    return keypoint_box(pose[pose[:, 2] > MIN_CONFIDENCE, :2])


def _poses(model: CropModel, frames: list[np.ndarray], box: np.ndarray) -> np.ndarray:
    """(B, K, 3) float64: x, y in px and confidence in each frame's box, as `poses_in`."""
    crops = [crop_picture(cv2.cvtColor(frame, cv2.COLOR_RGB2RGBA), box[None], model.input_size) for frame in frames]
    affines = np.concatenate([each.crop_to_image for each in crops])
    return poses_in(model, np.concatenate([each.crops for each in crops]), affines)


def predict_video(
    model: CropModel,
    file: Path,
    frames: tuple[int, int | None],
    out: Path,
    overlay: Path | None,
    shown_above: float,
    batch_size: int,
) -> None:
    """Write a video's poses, a frame after the other, and print what was written.

    An interruption keeps what has been found, and says from where to go on.

    Args:
        frames: the first, and the one to end before (None: the end).
        out: a COCO results file whose image ids are the frames' numbers, or, named .csv, a table of a row a frame.
        overlay: an .mp4 with the poses drawn, without sound.
        shown_above: keypoints of more than this confidence are drawn.

    Raises:
        InputError: an output that can't be written; as `Video`.
    """
    done, interrupted = 0, False
    with Video(file, *frames) as video, ExitStack() as stack:
        write = stack.enter_context(_table(out, model.skeleton, trust_of(model)))
        show = stack.enter_context(Writer(overlay, video.fps, video.size)) if overlay else None
        try:
            found = follow(model, video, batch_size)
            for each in tqdm(
                found, file.name, video.n, unit=" frames", mininterval=1, delay=2, leave=False, disable=None
            ):
                write(each)
                if show:
                    drawn = draw_poses(
                        each.frame, each.keypoints[None], each.confidence[None], each.box[None], model.skeleton,
                        shown_above,
                    )  # fmt: skip
                    show.write(drawn)
                done += 1
        except KeyboardInterrupt:
            if not done:  # there is nothing to keep, nor to go on from
                raise
            interrupted = True
        require_new(out, overlay)  # another process may have written it meanwhile
    stated = f" of the {video.n} that it states" if video.n is not None and done < video.n and not interrupted else ""
    print(f"{file}: {counted(done, 'frame')}{stated}: {out}{f', {overlay}' if overlay else ''}")
    if not video.states_fps:
        print(f"{file}: states no sound frame rate; times are for {video.fps:g} frames a second", file=sys.stderr)
    elif overlay and video.varies:
        print(f"{overlay}: has {video.fps:g} frames a second, those of {file} vary, as time_s says", file=sys.stderr)
    if interrupted:
        print(f"catpose.predict: --frames {frames[0] + done}: goes on, with another --out", file=sys.stderr)
        raise KeyboardInterrupt


def require_new(out: Path, overlay: Path | None) -> None:
    """InputError where an output of `predict_video` is there already, can't be written, or is the other, too."""
    if overlay is not None and os.path.abspath(out) == os.path.abspath(overlay):
        raise InputError(f"--out {out}: is the annotated video of --overlays, too; name another file")
    for path, option in ((out, "--out"), (overlay, "--overlays")):
        if path is not None and os.path.lexists(path):
            raise InputError(f"{option} {path}: is there already; remove it, or name another with {option}")
        if path is not None:
            require_writable(path, option)


@contextmanager
def _table(out: Path, skeleton: Skeleton, trust: Trust | None) -> Iterator[Callable[[FramePose], None]]:
    """What writes a frame into a file, which takes its place at the end; nothing is kept in memory."""
    with atomic_write(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        if out.suffix.lower() == ".csv":
            rows = csv.writer(file)
            columns = ["x", "y", "confidence", *(["probability", "radius_px"] if trust else [])]
            of_points = (f"{name}_{column}" for name in skeleton.names for column in columns)
            rows.writerow(["frame", "time_s", "score", "box_x", "box_y", "box_width", "box_height", *of_points])
            yield lambda each: rows.writerow(
                [
                    *(each.number, round(each.time, 4), each.score),
                    *each.box.tolist(),
                    *np.column_stack([each.keypoints, each.confidence, *_worth(each, trust)]).ravel().tolist(),
                ]
            )
            return
        before = "["

        def append(each: FramePose) -> None:
            nonlocal before
            file.write(f"{before}\n{json.dumps(_entry(each, trust), allow_nan=False)}")
            before = ","

        yield append
        file.write(f"{before if before == '[' else ''}\n]\n")


def _worth(each: FramePose, trust: Trust | None) -> list[np.ndarray]:
    """Each keypoint's probability and radius, px, (K,) each, where the model is calibrated."""
    return [] if trust is None else [trust.probabilities(each.confidence), trust.radius_px(each.box[None])[0]]


def _entry(each: FramePose, trust: Trust | None) -> dict[str, Any]:
    return {
        "image_id": each.number,
        "category_id": 1,
        "keypoints": np.column_stack([each.keypoints, each.confidence]).ravel().tolist(),
        "score": each.score,
        "time_s": round(each.time, 4),
        "box": each.box.tolist(),
        **{
            name: worth.tolist() for name, worth in zip(("probability", "radius_px"), _worth(each, trust), strict=False)
        },
    }
