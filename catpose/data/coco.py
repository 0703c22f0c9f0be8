"""Reading the one data format: COCO keypoint JSON beside a folder of images.

ROOT/annotations/{train,val,test}.json and ROOT/images/; a `test_info.json` holds images and boxes without keypoints
and serves prediction only.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from catpose.errors import InputError
from catpose.skeleton import KEYPOINTS, N_KEYPOINTS

DEFAULT_ROOT = "data/cats"


@dataclass(frozen=True)
class Image:
    """One picture: its id and size as the JSON states them, and where its file is."""

    id: int
    file_name: str
    path: Path
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class CocoSplit:
    """One annotation file, checked and as arrays; instances in the order of (image id, annotation id).

    N instances; `image_index` (N,) points into `images`, which are in the order of their ids.
    """

    file: Path
    coco: dict[str, Any]  # the file as it was read, for those who speak COCO (pycocotools, the score)
    images: tuple[Image, ...]
    annotation_ids: np.ndarray  # (N,) int64
    image_index: np.ndarray  # (N,) int64
    category_ids: np.ndarray  # (N,) int64
    boxes: np.ndarray  # (N, 4) float64: x, y, width, height, image px
    areas: np.ndarray  # (N,) float64, px²; nan where the file has none
    crowd: np.ndarray  # (N,) bool
    keypoints: np.ndarray  # (N, 17, 2) float64, image px; nan where not labelled
    visibility: np.ndarray  # (N, 17) int64: 0 not labelled, 1 labelled but hidden, 2 visible
    has_keypoints: bool  # False for a file of boxes only

    def __len__(self) -> int:
        return len(self.annotation_ids)
