"""Overlays of a whole split's detections, as picture files."""

from __future__ import annotations

from pathlib import Path

import cv2

from catpose.data.coco import CocoSplit
from catpose.data.images import read_image
from catpose.errors import InputError
from catpose.score.instances import Detections
from catpose.show.overlay import draw_box, draw_pose


def write_overlays(split: CocoSplit, detections: Detections, folder: Path, shown_above: float) -> int:
    """Draw every detection on its picture, one JPEG an image under the image's own name; how many were written.

    Args:
        shown_above: keypoints of more than this confidence are drawn.

    Raises:
        InputError: the folder can't be made or written.
    """
    boxes = dict(zip(split.annotation_ids.tolist(), split.boxes, strict=True))
    stems = [Path(image.file_name).stem for image in split.images]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--overlays {folder}: can't be made ({error.strerror}); name another folder") from None
    for image, stem in zip(split.images, stems, strict=True):
        picture = read_image(image.path)
        for i in (detections.image_id == image.id).nonzero()[0]:
            if split.has_keypoints or split.file.suffix == ".json":
                picture = draw_box(picture, boxes[int(detections.annotation_id[i])])
            picture = draw_pose(picture, detections.keypoints[i], detections.confidence[i] > shown_above)
        name = stem if stems.count(stem) == 1 else f"{image.id}_{stem}"
        if not cv2.imwrite(str(folder / f"{name}.jpg"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
            raise InputError(f"--overlays {folder}: can't be written; name another folder")
    return len(split.images)
