"""A trained model as Python uses it: `catpose.load("best.ckpt").predict("photo.jpg")`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias, overload

import cv2
import numpy as np
from numpy.typing import ArrayLike
from PIL import Image as pillow
from PIL import ImageOps

from catpose.data.boxes import Boxes, require_box, with_boxes
from catpose.data.cache import read_picture
from catpose.data.coco_split import CocoSplit, Image, labelled
from catpose.data.images import EIGHT_BITS, picture_size
from catpose.data.whole_pictures import split_of_images
from catpose.errors import InputError, one_line
from catpose.run.poses import Poses
from catpose.run.prediction import (
    BATCH_SIZE,
    CropModel,
    Read,
    detections_of,
    load_crop_model,
    locate,
    of_skeleton,
    scored_by_box,
    trust_of,
)
from catpose.run.second_pass import second_boxes
from catpose.shipped import find_model
from catpose.skeleton import Skeleton

Picture: TypeAlias = "str | Path | np.ndarray | pillow.Image"


def load(
    checkpoint: str | Path | Sequence[str | Path],
    device: str = "auto",
    trusted: Sequence[str] = (),
    scales: Sequence[float] = (1.0,),
) -> Predictor:
    """The model in a checkpoint of `fit` or a file of `export`, ready to predict.

    Args:
        checkpoint: "cats", which comes with catpose; a `best.ckpt` or `last.ckpt`; or an `.onnx`, which needs no torch.
            Whoever made the file, nothing in it is executed. Of several checkpoints, the mean of their heatmaps.
        device: "auto" (a GPU where there is one), "cpu", "gpu", or torch's own, such as "cuda:1".
        trusted: names of modules, imported here, whose classes the checkpoint may name.
        scales: how many times as wide and high as in training its crops are, 0.1 to 10; of several, the mean of their
            heatmaps, which takes as long as all of them.

    Raises:
        InputError: no such file, a damaged one or one that `fit` didn't write, several that don't go together, a device
            that isn't there, a size that the network can't have.
    """
    names = [checkpoint] if isinstance(checkpoint, str | Path) else checkpoint
    if not names:
        raise InputError("checkpoint: names no model")
    return Predictor(load_crop_model([find_model(name) for name in names], device, tuple(trusted), scales))


class Predictor:
    """A trained model that predicts pictures; `load` makes one.

    Args:
        model: crops → keypoints.
    """

    def __init__(self, model: CropModel) -> None:
        self.model = model

    @property
    def skeleton(self) -> Skeleton:
        """The K keypoints: names, flip pairs, limbs, sigmas."""
        return self.model.skeleton

    @overload
    def predict(  # type: ignore[overload-overlap]  # a text is a sequence, too
        self, pictures: Picture, boxes: ArrayLike | None = None, batch_size: int = BATCH_SIZE
    ) -> Poses: ...
    @overload
    def predict(
        self, pictures: Sequence[Picture], boxes: Sequence[ArrayLike] | None = None, batch_size: int = BATCH_SIZE
    ) -> list[Poses]: ...
    @overload
    def predict(self, pictures: CocoSplit, boxes: None = None, batch_size: int = BATCH_SIZE) -> list[Poses]: ...
    def predict(self, pictures: Any, boxes: Any = None, batch_size: int = BATCH_SIZE) -> Poses | list[Poses]:
        """The poses in a picture, or in each picture of a list: the numbers of `python -m catpose.predict`.

        Args:
            pictures: a file; an array (height, width, 3) uint8 RGB, and no other kind of array; a PIL image, which is
                turned upright as its EXIF says and made RGB (grey becomes three channels, alpha is dropped), as files
                are; or a list of these. Or a split of `read_split`, whose own boxes are predicted, of its labelled
                animals as in `test`.
            boxes: (N, 4) x, y, width, height, image px; of a list of pictures a list of these, (0, 4) for one without
                an animal. They may reach beyond the picture. None: one animal is looked for in the whole picture, and
                once more in the box around its confident keypoints, as `predict` does with bare pictures.
            batch_size: crops at once.

        Returns:
            the poses of a picture, in the order of its boxes: of two boxes with nearly the same pose (OKS above 0.9)
            the surer one alone. A list of these where pictures are a list or a split.

        Raises:
            InputError: in one line: a picture that can't be read or is of another kind, a box outside its picture or
                of no size, a batch too large for the device.
        """
        if not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(f"batch_size: {one_line(batch_size)[:40]} is no whole number from 1")
        if isinstance(pictures, CocoSplit):
            if boxes is not None:
                raise InputError(f"boxes: {pictures.file} has its own; leave them out, or give its pictures' files")
            split = of_skeleton(pictures, self.skeleton)
            return self._found(split, [image.path for image in split.images], None, batch_size)
        several = isinstance(pictures, list | tuple)
        sources = [_source(each, i) for i, each in enumerate(pictures if several else [pictures], start=1)]
        if not sources:
            return []
        arrays = {i: each for i, each in enumerate(sources) if isinstance(each, np.ndarray)}
        split = split_of_images([_image(each, i) for i, each in enumerate(sources, start=1)])
        split = of_skeleton(split, self.skeleton)

        def read(place: int) -> np.ndarray:
            return cv2.cvtColor(arrays[place], cv2.COLOR_RGB2RGBA) if place in arrays else read_picture(split, place)

        if boxes is None:
            located = locate(self.model, split, split.by_id, batch_size, read=read)
            found, _ = second_boxes(split, detections_of(split, located, self.model.input_size))
        else:
            found = _boxes(boxes if several else [boxes], split.images)
        poses = self._found(of_skeleton(with_boxes(split, found), self.skeleton), sources, found, batch_size, read)
        return poses if several else poses[0]

    def _found(
        self,
        split: CocoSplit,
        sources: Sequence[Path | np.ndarray],
        boxes: Boxes | None,
        batch_size: int,
        read: Read | None = None,
    ) -> list[Poses]:
        """The poses in a split's boxes, by picture.

        Args:
            sources: each picture's file or pixels (height, width, 3) RGB, in the order of `split.images`.
            boxes: those that the split was made of; None: the file's own.
        """
        rows = labelled(split) if split.has_keypoints else split.by_id
        located = locate(self.model, split, rows, batch_size, read=read)
        detections = detections_of(split, located, self.model.input_size)
        where = split.boxes[split.rows_of(detections.annotation_id)]
        if boxes is not None:
            detections = scored_by_box(detections, boxes)
        poses, trust = [], trust_of(self.model)
        for image, picture in zip(split.images, sources, strict=True):
            mine = detections.image_id == image.id
            poses.append(Poses(detections.subset(mine), where[mine], self.skeleton, picture, image.id, trust))
        return poses


def _source(picture: Any, number: int) -> Path | np.ndarray:
    """A picture's file, or its pixels (height, width, 3) uint8 RGB, upright; InputError where it is neither."""
    if isinstance(picture, str | Path):
        return Path(picture)
    what = f"picture {number}"
    if isinstance(picture, pillow.Image):
        if picture.mode not in EIGHT_BITS:
            raise InputError(f"{what}: is a PIL image of mode {picture.mode}; give one of 8 bits, such as RGB or L")
        try:
            picture = np.asarray(_turned(picture).convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:  # its file is read only now
            raise InputError(f"{what}: can't be decoded ({one_line(error)[:100]}); restore its file") from None
    if not isinstance(picture, np.ndarray):
        raise InputError(
            f"{what}: is {type(picture).__name__}; give a file, an array or a PIL image, or a list of these"
        )
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise InputError(
            f"{what}: is an array {picture.shape} of {picture.dtype}; give (height, width, 3) of uint8, RGB"
            " (PIL.Image.fromarray takes grey and RGBA)"
        )
    return np.ascontiguousarray(picture)


def _turned(picture: pillow.Image) -> pillow.Image:
    """Upright by its EXIF alone, as files are: where that says nothing, Pillow would go by XMP."""
    picture.load()  # after which a PNG's are known, wherever they stand in the file
    xmp = {"xmp", "XML:com.adobe.xmp", "Raw profile type xmp"} & {*picture.info}
    if xmp and picture.format != "TIFF":  # whose tags a copy would lose
        picture = picture.copy()
        for key in xmp:
            del picture.info[key]
    return ImageOps.exif_transpose(picture)


def _image(picture: Path | np.ndarray, number: int) -> Image:
    if isinstance(picture, Path):
        return Image(number, str(picture), picture, *picture_size(picture))
    return Image(number, f"picture {number}", Path(f"picture {number}"), picture.shape[1], picture.shape[0])


def _boxes(boxes: Any, images: Sequence[Image]) -> Boxes:
    """Each picture's boxes, all sound; InputError where they aren't."""
    if not isinstance(boxes, list | tuple) or len(boxes) != len(images):
        raise InputError(f"boxes: give a list of {len(images)} arrays (N, 4), one for each picture")
    rows = []
    for place, (of_picture, image) in enumerate(zip(boxes, images, strict=True)):
        try:
            each = np.asarray(of_picture, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            each = np.zeros(0)
        each = each.reshape(0, 4) if each.shape == (0,) and np.size(of_picture) == 0 else each
        if each.ndim != 2 or each.shape[1] != 4:
            raise InputError(f"{image.path}: boxes: give (N, 4) numbers: x, y, width, height in px")
        for number, box in enumerate(each.tolist()):
            require_box(box, image, f"{image.path}: box {number}")
            rows.append((place, box, 1.0))
    return Boxes.of(rows)
