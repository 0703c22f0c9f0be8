"""What a data set is like, in numbers: colours of its pictures and crops, sizes, labels, the mean pose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np

from catpose.data.coco_split import CocoSplit
from catpose.data.images import read_images
from catpose.errors import InputError
from catpose.geometry import apply, box_to_center_size, image_to_crop, invert
from catpose.skeleton import Skeleton

#: Mean and standard deviation of R, G, B in 0..1: ImageNet's, by which most backbones scale their input (timm's
#: constants, held against timm's own by a test, since timm takes seconds to import), ...
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
#: ... and those published for these cats (train and validation), which are means over images of each image's values.
PUBLISHED = ((0.489, 0.446, 0.402), (0.235, 0.235, 0.237))

_LEVELS = np.arange(256)


@dataclass(frozen=True, eq=False)
class Channels:
    """R, G, B of a set of pictures, 0..1, reckoned in two ways that are often confused."""

    means: np.ndarray  # (P, 3): of each picture
    stds: np.ndarray  # (P, 3)
    histogram: np.ndarray  # (3, 256) int64: how many pixels of all pictures have each value

    @property
    def per_picture(self) -> tuple[np.ndarray, np.ndarray]:
        """(3,) and (3,): the mean over pictures of each picture's mean, and of each picture's standard deviation.
        Every picture counts the same; how pictures differ from one another is not in the deviation."""
        return _mean(self.means), _mean(self.stds)

    @property
    def pooled(self) -> tuple[np.ndarray, np.ndarray]:
        """(3,) and (3,): mean and standard deviation of all pixels taken together, so large pictures count more."""
        mean, std = _mean_std(self.histogram)
        return mean, std

    @property
    def n(self) -> int:
        return len(self.means)

    @property
    def n_pixels(self) -> int:
        return int(self.histogram[0].sum())


@dataclass(frozen=True, eq=False)
class Statistics:
    """What was measured of the I images and N instances that count (no crowds; of a labelled split: those labelled)."""

    image_sizes: np.ndarray  # (I, 2) int64: width, height, px, as the file states them
    per_image: np.ndarray  # (I,) int64: instances in each image
    boxes: np.ndarray  # (N, 4) float64: x, y, width, height, px
    box_share: np.ndarray  # (N,) float64: of the image's area that its box takes
    labelled: np.ndarray  # (N, K) bool
    poses: np.ndarray  # (N, K, 2) float64: see `_pose`; nan where not labelled
    mirrored: np.ndarray  # (N,) bool: whether `poses` was mirrored to face left
    skeleton: Skeleton  # of the K keypoints
    images: Channels
    crops: Channels  # as the model sees them: what lies beyond the image is black, and counts
    crops_inside: Channels  # the same without what lies beyond

    @property
    def n_labelled(self) -> np.ndarray:
        """(K + 1,) instances with 0, 1, … K keypoints labelled."""
        return np.bincount(self.labelled.sum(axis=1), minlength=len(self.skeleton) + 1)

    @property
    def beyond(self) -> float:
        """Share of the crops' pixels that lie beyond the image; nan where there is no crop."""
        return 1 - self.crops_inside.n_pixels / self.crops.n_pixels if self.crops.n else math.nan

    def mean_pose(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean (K, 2), covariance (K, 2, 2) and number (K,) of `poses`; nan where there are fewer than 1 and 2.

        Each keypoint's are those of the instances that have it labelled, which are others from keypoint to keypoint.
        """
        labelled = ~np.isnan(self.poses[..., 0])  # as mirrored
        n = len(self.skeleton)
        mean, covariance = np.full((n, 2), np.nan), np.full((n, 2, 2), np.nan)
        for k in range(n):
            points = self.poses[labelled[:, k], k]
            if len(points):
                mean[k] = points.mean(axis=0)
            if len(points) > 1:
                covariance[k] = np.cov(points.T)
        return mean, covariance, labelled.sum(axis=0)

    def summary(self) -> dict[str, Any]:
        """All of it as plain numbers for JSON; None where there is no number."""
        mean, covariance, n = self.mean_pose()
        labelled = self.labelled.sum(axis=1)
        return {
            "images": len(self.image_sizes),
            "instances": len(self.boxes),
            "instances_per_image": _counts(self.per_image),
            "image_width_px": _spread(self.image_sizes[:, 0]),
            "image_height_px": _spread(self.image_sizes[:, 1]),
            "box_width_px": _spread(self.boxes[:, 2]),
            "box_height_px": _spread(self.boxes[:, 3]),
            "box_long_side_px": _spread(self.boxes[:, 2:].max(axis=1, initial=0)),
            "box_share_of_image": _spread(self.box_share),
            "keypoints_labelled_per_instance": _spread(labelled),
            "instances_by_keypoints_labelled": self.n_labelled.tolist(),
            "instances_with_keypoint_labelled": dict(
                zip(self.skeleton.names, self.labelled.sum(axis=0).tolist(), strict=True)
            ),
            "channels": {
                name: {
                    "pictures": channels.n,
                    "pixels": channels.n_pixels,
                    "per_picture": _plain(channels.per_picture),
                    "pooled": _plain(channels.pooled),
                }
                for name, channels in self.channels().items()
            },
            "crop_pixels_beyond_the_image": None if math.isnan(self.beyond) else self.beyond,
            "mean_pose": {
                name: {"n": int(n[k]), "mean": _plain(mean[k]), "covariance": _plain(covariance[k])}
                for k, name in enumerate(self.skeleton.names)
            },
        }

    def channels(self) -> dict[str, Channels]:
        """Those of whole images, of crops, and of the pixels of crops that lie within their image."""
        return {"images": self.images, "crops": self.crops, "crops within the image": self.crops_inside}


@dataclass(frozen=True, eq=False)
class DataStatistics:
    """Some splits, each and all together."""

    splits: dict[str, Statistics]  # by the annotation file's name without ".json"
    input_size: tuple[int, int]  # of the crops, px

    @property
    def name(self) -> str:
        return " + ".join(self.splits)

    @property
    def together(self) -> Statistics:
        """Those of all splits as of one."""
        parts = list(self.splits.values())
        return parts[0] if len(parts) == 1 else _joined(parts)

    def summary(self) -> dict[str, Any]:
        """All of it for JSON, each split's and that of all, beside ImageNet's and the published values."""
        names = {name: statistics.summary() for name, statistics in self.splits.items()}
        references = {"imagenet": _plain(IMAGENET), "published": _plain(PUBLISHED)}
        size = list(self.input_size)
        return {"input_size": size, "references": references, "splits": names, "together": self.together.summary()}


def measure(
    splits: Sequence[CocoSplit], input_size: tuple[int, int] = (256, 256), pictures: bool = True
) -> DataStatistics:
    """Every picture of some splits is read once, one after the other; whole numbers are summed, so nothing is rounded.

    Args:
        splits: one or more, with different names.
        input_size: width and height of the crops, px.
        pictures: read them, for the colours; those are of no picture otherwise.

    Raises:
        InputError: a picture that can't be read, splits of different skeletons.
    """
    for split in splits[1:]:
        difference = split.skeleton.difference(splits[0].skeleton)
        if difference:
            raise InputError(f"{split.file}: its keypoints are others than {splits[0].file.name}'s: {difference}")
    return DataStatistics({split.file.stem: _measured(split, input_size, pictures) for split in splits}, input_size)


def _measured(split: CocoSplit, input_size: tuple[int, int], pictures: bool) -> Statistics:
    counted = split.used
    sizes = np.array([(image.width, image.height) for image in split.images], dtype=np.int64).reshape(-1, 2)
    images, crops, inside = _Tally(), _Tally(), _Tally()
    used = set(split.image_index.tolist())  # a picture that nobody uses may be missing
    present = [i for i, image in enumerate(split.images) if pictures and (i in used or image.path.is_file())]
    for index, picture in zip(present, read_images([split.images[i].path for i in present]), strict=True):
        images.add(picture)
        for i in np.flatnonzero(counted & (split.image_index == index)):
            crop, seen = _crop(picture, split.boxes[i], input_size)
            crops.add(crop)
            inside.add(crop[seen])
    boxes, labelled = split.boxes[counted], split.labelled[counted]
    poses = [_pose(box, points, split.skeleton) for box, points in zip(boxes, split.keypoints[counted], strict=True)]
    return Statistics(
        image_sizes=sizes,
        per_image=np.bincount(split.image_index[counted], minlength=len(sizes)),
        boxes=boxes,
        box_share=boxes[:, 2:].prod(axis=1) / sizes[split.image_index[counted]].prod(axis=1),
        labelled=labelled,
        poses=np.array([pose for pose, _ in poses]).reshape(-1, len(split.skeleton), 2),
        skeleton=split.skeleton,
        mirrored=np.array([mirrored for _, mirrored in poses], dtype=bool),
        images=images.channels(),
        crops=crops.channels(),
        crops_inside=inside.channels(),
    )


class _Tally:
    """Channels while they are counted."""

    def __init__(self) -> None:
        self.moments: list[tuple[np.ndarray, np.ndarray]] = []
        self.histogram = np.zeros((3, 256), np.int64)

    def add(self, picture: np.ndarray) -> None:
        if picture.size:
            histogram = _histogram(picture)
            self.moments.append(_mean_std(histogram))
            self.histogram += histogram

    def channels(self) -> Channels:
        """Of all pictures so far."""
        moments = np.array(self.moments).reshape(-1, 2, 3)
        return Channels(moments[:, 0], moments[:, 1], self.histogram)


def _crop(picture: np.ndarray, box: np.ndarray, input_size: tuple[int, int]) -> tuple[np.ndarray, tuple[slice, slice]]:
    """A box as the model sees it without augmentation, and the rows and columns of it that lie within the picture."""
    affine = image_to_crop(*box_to_center_size(box, input_size), input_size)
    crop = cv2.warpAffine(picture, affine, input_size, flags=cv2.INTER_LINEAR)
    back = invert(affine)
    at = apply(back, np.stack([np.arange(max(input_size))] * 2, axis=1))  # no turn: x and y by themselves
    last = np.array([picture.shape[1] - 1, picture.shape[0] - 1])
    within = (at >= 0) & (at <= last)
    rows, columns = np.flatnonzero(within[: input_size[1], 1]), np.flatnonzero(within[: input_size[0], 0])
    if not len(rows) or not len(columns):
        return crop, (slice(0, 0), slice(0, 0))
    return crop, (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))


def _pose(box: np.ndarray, keypoints: np.ndarray, skeleton: Skeleton) -> tuple[np.ndarray, bool]:
    """(K, 2) keypoints relative to the box's centre in long sides of the box, and whether they were mirrored.

    Poses face left: where the mean of the labelled eyes and nose is to the right of that of all other labelled
    keypoints, the pose is mirrored, left and right exchanged. With one of the two missing it stays as it is.
    """
    pose = (keypoints - box[:2] - box[2:] / 2) / box[2:].max()
    labelled = ~np.isnan(pose[:, 0])
    face = skeleton.indices("left_eye", "right_eye", "nose")
    rest = [k for k in range(len(skeleton)) if k not in face]
    face, rest = ([k for k in group if labelled[k]] for group in (face, rest))
    if face and rest and pose[face, 0].mean() > pose[rest, 0].mean():
        return pose[list(skeleton.flip)] * (-1, 1), True
    return pose, False


def _histogram(picture: np.ndarray) -> np.ndarray:
    """(3, 256) int64 of a (height, width, 3) uint8 picture."""
    counts = np.zeros((3, 256), np.int64)
    for part in np.array_split(picture, -(-picture.size // 2**24)):  # OpenCV counts in float32
        for channel in range(3):
            counts[channel] += cv2.calcHist([part], [channel], None, [256], [0, 256]).ravel().astype(np.int64)
    return counts


def _mean_std(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(3,) and (3,) in 0..1; the sums are Python's whole numbers, so that equal values have no deviation at all."""
    mean, std = np.full(3, np.nan), np.full(3, np.nan)
    for channel, counts in enumerate(histogram):
        n, total, squares = int(counts.sum()), int(counts @ _LEVELS), int(counts @ _LEVELS**2)
        if n:
            mean[channel] = total / n / 255
            std[channel] = math.sqrt(n * squares - total**2) / n / 255
    return mean, std


def _mean(values: np.ndarray) -> np.ndarray:
    """(3,) of (P, 3), the same in whatever order; nan of nothing."""
    return np.array([math.fsum(column) / len(values) if len(values) else math.nan for column in values.T])


def _joined(parts: Sequence[Any]) -> Any:
    """Statistics or channels of several splits as of one."""
    kind, values = type(parts[0]), dict[str, Any]()
    for field in fields(kind):
        each = [getattr(part, field.name) for part in parts]
        if isinstance(each[0], Skeleton):
            values[field.name] = each[0]
        elif isinstance(each[0], Channels):
            values[field.name] = _joined(each)
        else:
            values[field.name] = sum(each) if field.name == "histogram" else np.concatenate(each)
    return kind(**values)


def _spread(values: np.ndarray) -> dict[str, float] | None:
    if not len(values):
        return None
    marks = np.percentile(values, [0, 5, 25, 50, 75, 95, 100]).tolist()
    names = ("smallest", "p5", "p25", "median", "p75", "p95", "largest")
    return {"mean": float(values.mean()), **dict(zip(names, marks, strict=True))}


def _counts(values: np.ndarray) -> dict[str, int]:
    return {str(value): int(n) for value, n in enumerate(np.bincount(values)) if n}


def _plain(values: Any) -> Any:
    """An array as lists, nan as None."""
    if isinstance(values, tuple):
        return dict(zip(("mean", "std"), (_plain(np.array(v)) for v in values), strict=True))
    return [_plain(v) for v in values] if values.ndim else None if math.isnan(values) else float(values)
