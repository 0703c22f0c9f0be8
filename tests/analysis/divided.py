"""Made-up studies over independent divisions, whose variance has parts that are known."""

from __future__ import annotations

import numpy as np

from catpose.analysis.statistics import Sample
from catpose.score.bootstrap import image_weights
from catpose.score.full import Division

N_IMAGES = 50
#: Standard deviations of the parts, and between images: in all, and of a seed's own.
DIVISION, SEED, IMAGE, SEED_BY_IMAGE = 0.03, 0.02, 0.15, 0.1
#: What `analysis.variance.components` is to find.
PARTS = {
    "division": DIVISION**2,
    "seed": SEED**2 + SEED_BY_IMAGE**2 / N_IMAGES,
    "images": IMAGE**2 / N_IMAGES,
}


def study(rng: np.random.Generator, n: int, m: int, draws: int, mean: float = 0.5) -> Sample:
    """A configuration with m seeds on each of n divisions, AP being the mean over images."""
    shape = (n, m, N_IMAGES)
    quality = (
        mean
        + rng.normal(0, DIVISION, (n, 1, 1))
        + rng.normal(0, SEED, (n, m, 1))
        + rng.normal(0, IMAGE, (n, 1, N_IMAGES))
        + rng.normal(0, SEED_BY_IMAGE, shape)
    ).reshape(n * m, N_IMAGES)
    weights = image_weights(N_IMAGES, draws)
    divisions = tuple(Division(i, 1 / 8) for i in range(n) for _ in range(m))
    return Sample(quality.mean(axis=1), weights @ quality.T / N_IMAGES, N_IMAGES, divisions)
