"""A split as a value: the instances of an annotation file, the pictures they are on, and the hash of what it says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from catpose.instances import Instances
from catpose.skeleton import AP10K, Skeleton
from catpose.text import counted


@dataclass(frozen=True)
class Image:
    """One picture: its id and size as the JSON states them, and where its file is."""

    id: int
    file_name: str
    path: Path
    width: int
    height: int


@dataclass(frozen=True, eq=False, kw_only=True)
class CocoSplit(Instances):
    """The instances of one annotation file, checked, with the file and the pictures they are on."""

    file: Path
    coco: dict[str, Any]  # its sound entries, for those who speak COCO (pycocotools)
    images: tuple[Image, ...]  # (I,)
    stated_areas: np.ndarray  # (N,) float64, px²: the file's `area`; nan where it has none
    has_keypoints: bool  # False for a file of boxes only, and where only its boxes were asked for

    @property
    def used(self) -> np.ndarray:
        """(N,) bool: what the split is about: instances that aren't ignored, of a file of boxes all but crowds."""
        return ~self.ignored if self.has_keypoints else ~self.crowd

    def with_skeleton(self, skeleton: Skeleton) -> CocoSplit:
        """The same boxes as those of another skeleton's animals, nothing of which is labelled."""
        keypoints = np.full((len(self), len(skeleton), 2), np.nan)
        visibility = np.zeros(keypoints.shape[:2], dtype=np.int64)
        return replace(self, skeleton=skeleton, keypoints=keypoints, visibility=visibility)

    def without_images(self, ids: Collection[int]) -> CocoSplit:
        """The same without some images, by their ids, and without what is on them."""
        keep = ~np.isin(self.image_ids, [*ids])
        rows = keep[self.image_index]
        place = np.cumsum(keep) - 1
        part = vars(self.subset(rows)) | {
            "image_ids": self.image_ids[keep],
            "image_index": place[self.image_index[rows]],
        }
        images, annotations = self.coco["images"], self.coco["annotations"]
        coco = self.coco | {
            "images": [entry for entry in images if entry["id"] not in ids],
            "annotations": [entry for entry in annotations if entry["image_id"] not in ids],
        }
        images_left = tuple(image for image in self.images if image.id not in ids)
        return replace(self, **part, coco=coco, images=images_left, stated_areas=self.stated_areas[rows])

    def with_stated_areas(self) -> CocoSplit:
        """The same with the file's areas, as other programs take them; itself where an instance has none."""
        stated = self.stated_areas
        return self if np.isnan(stated).any() else replace(self, areas=stated, area_rule="file")

    def count(self) -> str:
        """What is used for training and scores, and what is left out and why, in words."""
        n_used = len(np.unique(self.image_index))
        left_out = [
            f"{n} {what}"
            for n, what in (
                (len(self.images) - n_used, "images without an instance"),
                (int((~self.crowd & ~self.used).sum()), "instances without a labelled keypoint"),
                (int(self.crowd.sum()), "crowds"),
            )
            if n
        ]
        count = f"{counted(n_used, 'image')}, {counted(int(self.used.sum()), 'instance')}"
        return f"{count}; left out: {', '.join(left_out)}" if left_out else count


def labelled(split: CocoSplit) -> np.ndarray:
    """(N,) places of the instances to learn from or be scored on: not a crowd, at least one keypoint labelled.

    They come by image and annotation id, so that files of one `split_hash` train alike.
    """
    return split.by_id[~split.ignored[split.by_id]]


def split_hash(split: CocoSplit) -> str:
    """SHA-256 (hex) of what a split says: images' ids, names and sizes; instances' ids, boxes, areas and keypoints;
    and the keypoints' names, where these aren't AP-10K's.

    Equal for files that differ in layout, in the order of their entries or in `info` only.
    """
    images = json.dumps([[image.id, image.file_name, image.width, image.height] for image in split.images])
    digest = hashlib.sha256(images.encode())
    if split.skeleton.names != AP10K.names:  # else the hash is 0.1.0's
        digest.update(json.dumps(split.skeleton.names).encode())
    order = split.by_id
    for array in (split.ids, split.image_index, split.category_id, split.crowd, split.visibility):
        digest.update(np.ascontiguousarray(array[order], dtype="<i8").tobytes())
    for array in (split.boxes, split.stated_areas, split.keypoints):
        values = np.asarray(array[order], dtype="<f8")
        # + 0.0: no negative zeros; and one nan of the many.
        digest.update(np.where(np.isnan(values), np.nan, values + 0.0).astype("<f8").tobytes())
    return digest.hexdigest()
