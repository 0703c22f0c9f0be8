"""Corrected poses as one COCO file, which `prepare coco FILE --onto DATA` brings back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from catpose.data.sources import category_entry, make_annotation
from catpose.errors import InputError
from catpose.files import write_json
from catpose.score.box_ap import overlap
from catpose.skeleton import Skeleton

#: Boxes that overlap more are of one animal, which is then saved anew.
SAME = 0.5


class CorrectionsFile:
    """The poses saved so far; the file is written whole with each of them.

    Args:
        file: that isn't there yet.
        skeleton: of the K keypoints.

    Raises:
        InputError: the file is there already.
    """

    def __init__(self, file: Path, skeleton: Skeleton) -> None:
        if file.exists():
            raise InputError(
                f"{file}: holds corrections of an earlier demo; bring them back (prepare coco {file} --onto DATA) and"
                " move the file away, or name another folder with --out"
            )
        self.file = file
        self._skeleton = skeleton
        self._animals: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}  # by picture: box (4,), points (K, 3)
        self._sizes: dict[str, tuple[int, int]] = {}
        self._digests: dict[str, str] = {}
        self._written: bytes | None = None  # what stands in the file, as far as is known here

    def add(self, name: str, digest: str, size: tuple[int, int], box: np.ndarray, points: np.ndarray) -> int:
        """Save an animal, in place of one whose box is nearly the same.

        Args:
            name: of the picture's file. digest: of its content. size: its width and height, px.
            box: (4,) x, y, width, height, px. points: (K, 3) x, y, v; v = 0 where there is no keypoint.

        Returns:
            how many animals of this picture are saved.

        Raises:
            InputError: another picture of this name, a box without size or outside, no keypoint, the file can't be
                written, or somebody else has written it.
        """
        if self._digests.get(name, digest) != digest:
            raise InputError(f"{name}: another picture of this name is saved already; rename one of them")
        x, y = box[:2].clip(0, size)
        right, bottom = (box[:2] + box[2:]).clip(0, size)
        if right - x < 1 or bottom - y < 1:
            raise InputError(f"{name}: the box lies outside of the picture, or has no size")
        seen = (points[:, 2] > 0) & (points[:, :2] >= -0.5).all(axis=1) & (points[:, :2] < np.array(size) - 0.5).all(1)
        if not seen.any():
            raise InputError(f"{name}: no keypoint lies in the picture; keep one at least")
        animal = (np.array([x, y, right - x, bottom - y]), np.where(seen[:, None], points, 0))
        others = [each for each in self._animals.get(name, []) if overlap(each[0], animal[0], np.array(False)) <= SAME]
        try:
            if self.file.exists() and self.file.read_bytes() != self._written:
                raise InputError(
                    f"{self.file}: was changed, or belongs to another demo; move it away, or start this one with"
                    " another --out"
                )
            self._sizes[name], self._digests[name], self._animals[name] = size, digest, [*others, animal]
            write_json(self.file, self._coco())
            self._written = self.file.read_bytes()
        except OSError as error:
            raise InputError(
                f"{self.file}: can't be written ({error.strerror}); name another folder by --out"
            ) from None
        return len(self._animals[name])

    def _coco(self) -> dict[str, Any]:
        images = [
            {"id": i, "file_name": name, "width": width, "height": height}
            for i, (name, (width, height)) in enumerate(self._sizes.items(), start=1)
        ]
        annotations: list[dict[str, Any]] = []
        for image_id, animals in enumerate(self._animals.values(), start=1):
            for box, points in animals:
                triples = [(round(x, 2), round(y, 2), int(v)) for x, y, v in points.tolist()]
                annotations.append(make_annotation(len(annotations) + 1, image_id, 1, box.round(2).tolist(), triples))
        return {"images": images, "annotations": annotations, "categories": [category_entry(1, "cat", self._skeleton)]}
