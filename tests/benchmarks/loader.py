"""How long a training sample takes beside reading its JPEG alone, and how many samples a second the loader gives.

    python tests/benchmarks/loader.py [--image FILE] [--cache disk]

The ratio's two sides are measured by turns in one run and one thread, the decoded picture being warm. A field with a
photograph's spectrum stands in for one where no --image is given. The disk cache reads and checks each picture, which
the memory's needn't.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from catpose.data.augment import Augmentation
from catpose.data.cache import Cache
from catpose.data.datamodule import CatDataModule
from catpose.skeleton import AP10K

WIDTH, HEIGHT, QUALITY = 640, 480, 90
N_IMAGES = 128
BATCH = 32
REPEATS = 1000

PUBLISHED = {"rotation_factor": 40, "scale_factor": 0.5, "half_body_probability": 0.3, "translation_factor": 0.15}
AUGMENTATIONS = {
    "flip, rotation, scale, half body, translation": Augmentation(**PUBLISHED),
    "the same and photometric": Augmentation(**PUBLISHED, photometric_probability=1.0),
    "the same, photometric and color, each in half of the samples": Augmentation(
        **PUBLISHED, photometric_probability=0.5, color_probability=0.5
    ),
}


def picture_like_a_photograph() -> np.ndarray:
    """BGR, 480 × 640: a random field as smooth as photographs are; its JPEG has 80 kB, theirs mostly 60 to 120."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None] * HEIGHT, np.fft.rfftfreq(WIDTH)[None] * WIDTH)
    fields = []
    for _ in range(3):
        spectrum = np.fft.rfft2(rng.standard_normal((HEIGHT, WIDTH))) / np.maximum(frequency, 1) ** 1.5
        field = np.fft.irfft2(spectrum, (HEIGHT, WIDTH))
        fields.append(field / field.std())
    luminance, *chroma = fields
    picture = np.stack([luminance + 0.25 * chroma[0], luminance, luminance + 0.25 * chroma[1]], axis=2)
    return np.clip(110 + 55 * picture, 0, 255).astype(np.uint8)


def write_data(root: Path, picture: np.ndarray) -> Path:
    """A data folder of N_IMAGES copies of a picture, each with one animal; the path of one JPEG."""
    (root / "annotations").mkdir(parents=True)
    (root / "images").mkdir()
    ok, jpeg = cv2.imencode(".jpg", cv2.resize(picture, (WIDTH, HEIGHT)), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert ok
    rng = np.random.default_rng(1)
    images, annotations = [], []
    for i in range(1, N_IMAGES + 1):
        (root / "images" / f"{i}.jpg").write_bytes(jpeg.tobytes())
        images.append({"id": i, "file_name": f"{i}.jpg", "width": WIDTH, "height": HEIGHT})
        points = np.column_stack([rng.uniform([120, 80], [520, 400], (len(AP10K), 2)), np.full(len(AP10K), 2)])
        annotation = {"id": i, "image_id": i, "category_id": 1, "bbox": [100, 60, 440, 360], "area": 440 * 360}
        keypoints = {"keypoints": points.round(1).ravel().tolist(), "num_keypoints": len(AP10K), "iscrowd": 0}
        annotations.append(annotation | keypoints)
    category = {"id": 1, "name": "cat", "keypoints": list(AP10K.names), "skeleton": []}
    coco = json.dumps({"images": images, "annotations": annotations, "categories": [category]})
    for split in ("train", "val"):
        (root / "annotations" / f"{split}.json").write_text(coco)
    return root / "images" / "1.jpg"


def by_turns(*functions: Callable[[int], object]) -> list[float]:
    """The median time of each function in µs."""
    times: list[list[float]] = [[] for _ in functions]
    for i in range(-20, REPEATS):
        for function, own in zip(functions, times, strict=True):
            start = time.perf_counter()
            function(i)
            if i >= 0:
                own.append(time.perf_counter() - start)
    return [1e6 * statistics.median(own) for own in times]


def data_module(root: Path, augmentation: Augmentation, workers: int, cache: Cache) -> CatDataModule:
    data = CatDataModule(
        str(root), (256, 256), BATCH, workers, cache, cache_dir=str(root.parent / "cache"), augment=augmentation
    )
    data.setup("fit")
    return data


def samples_a_second(data: CatDataModule) -> float:
    loader = data.train_dataloader()
    sum(1 for _ in loader)  # starts the workers
    n, start = 0, time.perf_counter()
    for _ in range(6):
        n += sum(len(batch["crop"]) for batch in loader)
    return n / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", help="a photograph to take in place of the made-up one; it is scaled to 640 × 480")
    parser.add_argument("--cache", choices=["disk", "memory"], default="memory", help="data.cache (%(default)s)")
    image, cache = vars(parser.parse_args()).values()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        jpeg = write_data(root, cv2.imread(image) if image else picture_like_a_photograph())
        print(f"{WIDTH} × {HEIGHT} JPEG of {jpeg.stat().st_size // 1000} kB; crops of 256 × 256")
        for name, augmentation in AUGMENTATIONS.items():
            crops = data_module(root, augmentation, 0, cache).train_dataloader().dataset
            read, made = by_turns(lambda i: cv2.imread(str(jpeg)), lambda i, crops=crops: crops[max(i, 0), 0])
            print(f"{name}: {made:.0f} µs a sample, imread {read:.0f} µs: ratio {made / read:.3f}")
        for workers in (0, 1, 2):
            for name, augmentation in AUGMENTATIONS.items():
                speed = samples_a_second(data_module(root, augmentation, workers, cache))
                print(f"{workers} workers, {name}: {speed:.0f} samples/s")


if __name__ == "__main__":
    main()
