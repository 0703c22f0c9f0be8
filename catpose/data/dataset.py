"""Crops around annotated animals, one sample each."""

from __future__ import annotations

import random
from typing import TypedDict

import numpy as np
import torch
from torch.utils.data import Dataset

from catpose.data.augment import Augmentation
from catpose.data.cache import Pictures
from catpose.data.coco_split import CocoSplit
from catpose.data.crops import warped
from catpose.geometry import apply, box_to_center_size, image_to_crop, invert

#: The epoch of a sample that was asked for without one, and is the same in all of them.
ANY_EPOCH = -1


class Sample(TypedDict):
    """One crop and what is known of it; px are indices (see `catpose.geometry`), images' or the crop's."""

    crop: np.ndarray  # (height, width, 3) uint8 RGB
    keypoints_crop: np.ndarray  # (K, 2) float32, crop px; 0 where not labelled; may lie outside the crop
    visibility: np.ndarray  # (K,) int64: 0 not labelled, 1 labelled but hidden, 2 visible
    crop_to_image: np.ndarray  # (2, 3) float32
    annotation_id: int
    image_id: int
    category_id: int
    box: np.ndarray  # (4,) float32: x, y, width, height, image px
    epoch: int  # that order and augmentation were drawn for, or ANY_EPOCH
    area: np.float32  # image px², by the split's rule


class CropDataset(Dataset[Sample]):
    """Instances of a split as crops: box, padded to the crop's aspect, through one affine to the input size.

    Args:
        split: images and annotations.
        instances: (N,) places in the split's arrays, in the order of the samples.
        pictures: the decoded images by their place in `split.images`, see `catpose.data.cache.open_pictures`.
        input_size: width and height of the crop, px.
        augmentation: None: each crop is exactly the box's.
        seed: of the augmentation, which is drawn from (seed, epoch, number of the draw) and nothing else.
    """

    def __init__(
        self,
        split: CocoSplit,
        instances: np.ndarray,
        pictures: Pictures,
        input_size: tuple[int, int],
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.split = split
        self.instances = np.asarray(instances)
        self.pictures = pictures
        self.input_size = (int(input_size[0]), int(input_size[1]))
        self.augmentation = augmentation
        self.seed = seed
        self._flip = np.array(split.skeleton.flip)
        self._pixel_changes = augmentation.pixel_changes() if augmentation else None

    def __len__(self) -> int:
        return len(self.instances)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """The sample at a place, or that of (epoch, place); the epoch matters to augmentation only."""
        epoch, place = key if isinstance(key, tuple) else (ANY_EPOCH, key)
        return self.sample(place, epoch, place)

    def sample(self, place: int, epoch: int, draw: int) -> Sample:
        """The sample at a place, its changes drawn from (seed, epoch, draw)."""
        i = int(self.instances[place])
        split = self.split
        box, visibility = split.boxes[i], split.visibility[i]
        if self.augmentation:
            rng = random.Random(
                self.seed << 64 | max(epoch, 0) << 32 | draw
            )  # Python's own: numpy's takes longer to seed
            region = self.augmentation.region(rng, box, split.keypoints[i], visibility, split.skeleton, self.input_size)
            affine, flip = image_to_crop(region.center, region.size, self.input_size, *region[2:]), region.flip
        else:
            affine, flip = image_to_crop(*box_to_center_size(box, self.input_size), self.input_size), False
        crop = warped(self.pictures[int(split.image_index[i])], affine, self.input_size)
        if self._pixel_changes:
            crop = self._pixel_changes(crop, rng)
        keypoints = apply(affine, split.keypoints[i])
        if flip:
            keypoints, visibility = keypoints[self._flip], visibility[self._flip]
        return Sample(
            crop=crop,
            keypoints_crop=np.where(visibility[:, None] > 0, keypoints, 0).astype(np.float32),
            visibility=visibility,
            crop_to_image=invert(affine).astype(np.float32),
            annotation_id=int(split.ids[i]),
            image_id=int(split.image_ids[split.image_index[i]]),
            category_id=int(split.category_ids[split.category_index[i]]),
            box=box.astype(np.float32),
            epoch=epoch,
            area=np.float32(split.areas[i]),
        )


def collate(samples: list[Sample]) -> dict[str, torch.Tensor]:
    """B samples as one batch: every entry gets a first dimension (B,), the numbers of ids and areas included."""
    return {key: torch.from_numpy(np.stack([sample[key] for sample in samples])) for key in Sample.__annotations__}  # type: ignore[literal-required]
