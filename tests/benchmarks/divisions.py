"""What a study over random divisions is worth: `python tests/benchmarks/divisions.py [STUDIES]`.

A minute of one core for 2,000 studies a row. First the parts of the variance, estimated over the truth, with the
standard error of that, in studies of independent divisions (tests/analysis/divided.py). Then the level and the coverage
of the corrected resampled t-test, where divisions are drawn from one pool: a model's quality on an image is learnt from
the training images, so that training sets that share images are alike. Printed as Markdown.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1] / "analysis"))

from divided import PARTS, study

from catpose.analysis.statistics import Sample, difference
from catpose.analysis.variance import components
from catpose.score.full import Division


def parts(studies: int) -> None:
    print("| divisions | seeds each | part | estimate / truth | standard error |\n| ---: | ---: | --- | ---: | ---: |")
    rng = np.random.default_rng(0)
    for n, m in ((3, 2), (5, 2), (5, 4), (10, 2)):
        found = [components([study(rng, n, m, draws=200)]) for _ in range(studies)]
        for name, truth in PARTS.items():
            ratio = np.array([getattr(each, name) for each in found]) / truth
            print(f"| {n} | {m} | {name} | {ratio.mean():.3f} | {stats.sem(ratio):.3f} |")


def pooled(rng: np.random.Generator, n: int, m: int, of_seed: float, of_training: float) -> tuple[Sample, Sample]:
    """Two equal configurations on n divisions, 8 to 1, of a pool of 180 images, m seeds on each.

    Quality on an image: its own, what the configuration makes of it, what its training images have taught (the mean of
    a value that each image has for each configuration), and the seed's part.
    """
    size, n_val = 180, 20
    own = rng.normal(0.5, 0.15, size)
    made = own + rng.normal(0, 0.1, (2, size))
    taught = rng.normal(0, of_training * np.sqrt(size), (2, size))
    ap = np.empty((2, n, m))
    for i in range(n):
        order = rng.permutation(size)
        val, train = order[:n_val], order[n_val:]
        ap[:, i] = (made[:, val].mean(axis=1) + taught[:, train].mean(axis=1))[:, None]
    ap += rng.normal(0, of_seed, ap.shape)
    divisions = tuple(Division(i, n_val / (size - n_val)) for i in range(n) for _ in range(m))
    first, second = (Sample(each.ravel(), np.tile(each.ravel(), (2, 1)), n_val, divisions) for each in ap)
    return first, second


def level(studies: int) -> None:
    """How often two configurations that are equal in expectation differ significantly, or their interval misses 0."""
    print(
        "\n| divisions | seeds each | sd of seed | of training set | level, % |\n| ---: | ---: | ---: | ---: | ---: |"
    )
    rng = np.random.default_rng(1)
    for n, m in ((3, 1), (5, 1), (5, 2), (10, 1)):
        for of_seed, of_training in ((0.02, 0.0), (0.02, 0.02), (0.0, 0.02)):
            p = [difference(*pooled(rng, n, m, of_seed, of_training)).p for _ in range(studies)]
            print(f"| {n} | {m} | {of_seed} | {of_training} | {100 * np.mean(np.array(p) < 0.05):.1f} |")


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    parts(number)
    level(number)
