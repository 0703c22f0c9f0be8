"""The annotated animals of a split as arrays: one type for crops, scores, figures and checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from catpose.skeleton import AP10K, Skeleton

#: Where an instance's area comes from: its box's width × height, or the file's `area`.
AreaRule = Literal["box", "file"]
#: What a score's protocol says of either.
AREA_RULES: dict[AreaRule, str] = {"box": "box width x height", "file": "the annotation's area"}

_PER_INSTANCE = (
    "ids", "image_index", "category_index", "boxes", "areas", "crowd", "keypoints", "visibility", "ignored",
)  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class Instances:
    """N instances on I images; images ascending by id, within an image in the order of the file.

    The file's order decides between equally similar instances, as it does in pycocotools.
    """

    image_ids: np.ndarray  # (I,) int64, ascending, images without instances included
    category_ids: np.ndarray  # (K,) int64, ascending
    ids: np.ndarray  # (N,) int64, no two alike: the annotations' ids
    image_index: np.ndarray  # (N,) int64, into image_ids
    category_index: np.ndarray  # (N,) int64, into category_ids
    boxes: np.ndarray  # (N, 4) float64: x, y, width, height, image px
    areas: np.ndarray  # (N,) float64, px², by `area_rule`
    crowd: np.ndarray  # (N,) bool: may be matched any number of times
    keypoints: np.ndarray  # (N, K, 2) float64, image px; nan where not labelled
    visibility: np.ndarray  # (N, K) int64: 0 not labelled, 1 labelled but hidden, 2 visible
    ignored: np.ndarray  # (N,) bool: neither trained on nor scored: crowds, and those without a labelled keypoint
    area_rule: AreaRule = "box"
    skeleton: Skeleton = AP10K  # the K keypoints

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def image_id(self) -> np.ndarray:
        """(N,) int64: the id of each instance's image."""
        return self.image_ids[self.image_index]

    @property
    def category_id(self) -> np.ndarray:
        """(N,) int64: the id of each instance's category."""
        return self.category_ids[self.category_index]

    @property
    def sigmas(self) -> np.ndarray:
        """(K,) float64: OKS falloff per keypoint."""
        return np.array(self.skeleton.sigmas)

    @property
    def labelled(self) -> np.ndarray:
        """(N, K) bool: keypoints that are labelled, hidden ones included."""
        return self.visibility > 0

    @property
    def by_id(self) -> np.ndarray:
        """(N,) int64: the rows by (image id, annotation id), an order that doesn't depend on the file's."""
        return np.lexsort((self.ids, self.image_index))

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """(M,) int64: the row of each of some annotation ids, -1 where there is none."""
        return np.array([self._row_of.get(id_, -1) for id_ in ids.tolist()], dtype=np.int64)

    @cached_property
    def _row_of(self) -> dict[int, int]:
        return {id_: row for row, id_ in enumerate(self.ids.tolist())}

    def subset(self, rows: np.ndarray) -> Instances:
        """The instances of some rows, indices (M,) or a mask (N,); all images stay."""
        whole = {name: getattr(self, name) for name in ("image_ids", "category_ids", "area_rule", "skeleton")}
        return Instances(**whole, **{name: getattr(self, name)[rows] for name in _PER_INSTANCE})  # type: ignore[arg-type]

    @classmethod
    def from_coco(cls, coco: Mapping[str, Any], area: AreaRule = "box", skeleton: Skeleton = AP10K) -> Instances:
        """The instances of a COCO keypoint file's content, which is sound (`catpose.data.structure` checks it).

        As in pycocotools but for what follows from other entries: whether an instance has a labelled keypoint is
        counted, whatever its `num_keypoints`. An absent `iscrowd` is 0, absent `keypoints` are not labelled.

        Args:
            coco: the file's lists of images, annotations, categories.
            area: where an instance's area comes from.
            skeleton: of the file's keypoints.
        """
        annotations = sorted(coco["annotations"], key=lambda entry: entry["image_id"])  # stable
        n = len(annotations)
        image_ids, category_ids = (
            np.unique(np.array([entry["id"] for entry in coco[key]], dtype=np.int64))
            for key in ("images", "categories")
        )
        image_id, category_id = (
            np.array([entry[key] for entry in annotations], dtype=np.int64) for key in ("image_id", "category_id")
        )
        blank = [0] * (3 * len(skeleton))
        triples = np.array([entry.get("keypoints", blank) for entry in annotations], dtype=np.float64)
        triples = triples.reshape(n, len(skeleton), 3)
        visibility = triples[..., 2].astype(np.int64)
        boxes = np.array([entry["bbox"] for entry in annotations], dtype=np.float64).reshape(n, 4)
        stated = (entry["area"] for entry in annotations) if area == "file" else ()
        crowd = np.array([bool(entry.get("iscrowd")) for entry in annotations], dtype=bool)
        return cls(
            image_ids=image_ids,
            category_ids=category_ids,
            ids=np.array([entry["id"] for entry in annotations], dtype=np.int64),
            image_index=image_ids.searchsorted(image_id),
            category_index=category_ids.searchsorted(category_id),
            boxes=boxes,
            areas=np.array([*stated], dtype=np.float64) if area == "file" else boxes[:, 2] * boxes[:, 3],
            crowd=crowd,
            keypoints=np.where(visibility[..., None] > 0, triples[..., :2], np.nan),
            visibility=visibility,
            ignored=crowd | ~(visibility > 0).any(axis=1),
            area_rule=area,
            skeleton=skeleton,
        )
