"""Studies with a known truth, made of keypoints' errors: not the worlds that the estimates were built on.

The distance of each keypoint from its truth is Rayleigh's, in units of what OKS allows it, with a scale that is the
product of a configuration's, an image's, a configuration's on an image, a seed's and a seed's on an image. OKS is the
mean over as many keypoints as the cat has labelled, 3 to 17; some cats are missed, harder ones more often. Nothing is
linear or normal in AP. `tests/simulated.py`, which the estimates were built on, has a normal logit of OKS instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from catpose.analysis.statistics import Sample
from catpose.score.ap import THRESHOLDS, Matches
from catpose.score.bootstrap import bootstrap_ap, image_weights

DRAWS = 150  # of the images, a study


@dataclass(frozen=True)
class World:
    """What a study is drawn from; spreads are standard deviations of a logarithm."""

    seeds: tuple[int, ...]  # trainings of each configuration
    error: float = 0.55  # of a keypoint in the median, in what OKS allows it
    gap: float = 0.0  # of the error from each configuration to the next, as a logarithm
    seed: tuple[float, ...] = (0.2,)  # of each configuration, the last one's for the rest
    image: float = 0.6
    configuration: float = 0.15  # on an image
    both: float = 0.2  # a seed on an image
    shape: Literal["normal", "heavy", "fails"] = "normal"  # of seeds: Student's t with 3 df; some much worse
    fails: float = 0.15  # share of those
    n_images: int = 132
    doubled: bool = False  # half of the images are copies of the others


def study(world: World, rng: np.random.Generator) -> tuple[list[Sample], list[np.ndarray]]:
    """A sample and the seeds' parts (S,) of each configuration."""
    n = world.n_images // 2 if world.doubled else world.n_images
    cats = 1 + rng.binomial(1, 0.2, n) + rng.binomial(1, 0.05, n)
    image = np.repeat(np.arange(n), cats)
    labelled = np.arange(17) < rng.integers(3, 18, len(image))[:, None]
    difficulty = world.image * rng.gumbel(-np.euler_gamma, 1, n)[image] / 1.28
    copies = np.arange(2 if world.doubled else 1)
    images = (image + n * copies[:, None]).ravel()
    weights = image_weights(world.n_images, DRAWS, seed=int(rng.integers(2**31)))
    weights = np.concatenate([np.ones((1, world.n_images), np.int64), weights])
    samples, parts = [], []
    for place, seeds in enumerate(world.seeds):
        part = _parts(world, seeds, rng) * world.seed[min(place, len(world.seed) - 1)]
        common = np.log(world.error) + place * world.gap + difficulty
        common = common + world.configuration * rng.normal(size=n)[image]
        scale = np.exp(common + part[:, None] + world.both * rng.normal(size=(seeds, len(image))))
        values = []
        for each in scale:
            distance = each[:, None] * rng.rayleigh(size=labelled.shape)
            oks = np.exp(-(distance**2) / 2).mean(axis=1, where=labelled)
            oks[rng.random(len(oks)) < 0.05 * np.minimum(each / world.error, 4)] = 0
            score = oks + 0.1 * rng.normal(size=len(oks))
            found = _matches(np.tile(oks, len(copies)), np.tile(score, len(copies)), images, np.tile(cats, len(copies)))
            values.append(bootstrap_ap(found, weights))
        ap = np.stack(values, axis=1)
        samples.append(Sample(ap[0], ap[1:], world.n_images))
        parts.append(part)
    return samples, parts


def _parts(world: World, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n,) of standard deviation 1, but for those that fail: there that of the others is 0.5."""
    if world.shape == "heavy":
        return rng.standard_t(3, n) / 3**0.5
    if world.shape == "fails":
        return 0.5 * rng.normal(size=n) + 5 * (rng.random(n) < world.fails)
    return rng.normal(size=n)


def _matches(oks: np.ndarray, score: np.ndarray, image: np.ndarray, cats: np.ndarray) -> Matches:
    """A detection for every cat; one question, one category."""
    best_first = np.argsort(-score, kind="stable")
    true = oks[best_first] >= THRESHOLDS[:, None]
    zeros = np.zeros(len(oks), dtype=np.int64)
    counted = np.ones_like(true)[None]
    return Matches(("AP",), true[None], counted, image[best_first], zeros, best_first, cats[None, None])
