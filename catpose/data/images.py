"""Reading pictures as they are meant to be looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from catpose.data.coco import CocoSplit, Image
from catpose.errors import InputError
from catpose.skeleton import N_KEYPOINTS

# A picture that can't be read is reported by us, in one line. (OpenCV 4's function moved in 5.)
(getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel)(0)

_AT_ONCE = 64  # pictures decoded ahead of the one that is asked for


def read_image(path: str | Path) -> np.ndarray:
    """A picture as RGB uint8 of shape (height, width, 3), turned upright as its EXIF data say.

    Grey pictures get three equal channels, an alpha channel is dropped, 16 bits become 8.

    Raises:
        InputError: missing, unreadable, cut short, or no picture that OpenCV knows.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); restore the file or drop its entry") from None
    if _is_cut_short(data):
        raise InputError(f"{path}: the picture is cut short; copy or download it again")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        picture = None
    if picture is None:
        raise InputError(f"{path}: is no picture that can be decoded; restore the file or drop its entry")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=picture)


def _is_cut_short(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end; some releases of OpenCV fill the missing part with grey, silently."""
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    if not data.startswith(b"\xff\xd8"):
        return not data
    at = 2  # go on to the scan itself: a thumbnail before it has an end of its own
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.rfind(b"\xff\xd9", at) < 0


def read_images(paths: Sequence[Path]) -> Iterator[np.ndarray]:
    """`read_image` of each path, in order, decoded a block at a time on all cores.

    Says how far it is where it takes longer than two seconds.
    """
    progress = tqdm(total=len(paths), desc="decoding pictures", unit="", delay=2, mininterval=1, leave=False)
    with progress, ThreadPoolExecutor(min(8, usable_cores())) as threads:
        for start in range(0, len(paths), _AT_ONCE):
            for picture in threads.map(read_image, paths[start : start + _AT_ONCE]):
                progress.update()
                yield picture


def usable_cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def split_of_images(paths: Sequence[str | Path]) -> CocoSplit:
    """A split without annotations: each picture is one instance, whose box is the whole picture.

    Images and annotations are numbered from 1, in the order given.

    Raises:
        InputError: no paths, or as `read_image`.
    """
    if not paths:
        raise InputError("no pictures given; name image files, or a folder that holds some")
    files = [Path(path) for path in paths]
    n = len(files)
    images = tuple(
        Image(id=i, file_name=str(file), path=file, width=picture.shape[1], height=picture.shape[0])
        for i, (file, picture) in enumerate(zip(files, read_images(files), strict=True), start=1)
    )
    sizes = np.array([(image.width, image.height) for image in images], dtype=np.float64)
    coco = {
        "images": [{"id": i.id, "file_name": i.file_name, "width": i.width, "height": i.height} for i in images],
        "annotations": [
            {"id": i.id, "image_id": i.id, "category_id": 1, "bbox": [0, 0, i.width, i.height], "iscrowd": 0}
            for i in images
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    return CocoSplit(
        file=files[0],
        coco=coco,
        images=images,
        annotation_ids=np.arange(1, n + 1, dtype=np.int64),
        image_index=np.arange(n, dtype=np.int64),
        category_ids=np.ones(n, dtype=np.int64),
        boxes=np.hstack([np.zeros((n, 2)), sizes]),
        areas=sizes.prod(axis=1),
        crowd=np.zeros(n, dtype=bool),
        keypoints=np.full((n, N_KEYPOINTS, 2), np.nan),
        visibility=np.zeros((n, N_KEYPOINTS), dtype=np.int64),
        has_keypoints=False,
    )
