"""Studies with a known truth: models whose OKS has a part of the images, of the seeds, and of both together.

The logit of an instance's OKS is: the arm's level + image + arm-by-image + seed + seed-by-image, all normal. Its
detection's score is the OKS with noise. AP is then what it always is, no linear statistic: ranks, thresholds, an
interpolated curve.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from catpose.analysis.statistics import Sample, difference, estimate, holm
from catpose.score.ap import THRESHOLDS, Matches
from catpose.score.bootstrap import bootstrap_ap, image_weights

SECOND_CAT = 0.2  # of the images have two
N_IMAGES = 40
#: Studies of means over images in AP's place.
LINEAR = {  # standard deviations of an image, an arm on an image, a seed, a seed on an image
    "images": (0.3, 0.1, 0.0, 0.1),
    "seeds": (0.1, 0.0, 0.05, 0.05),
    "mixed": (0.2, 0.1, 0.02, 0.1),
    "seed by image": (0.1, 0.0, 0.01, 0.3),
}


@dataclass(frozen=True)
class World:
    """Standard deviations on the logit scale; all arms have the same level."""

    seed: tuple[float, ...]  # of each arm
    image: float = 1.0
    arm_image: float = 0.0
    seed_image: float = 0.6
    level: float = 1.2
    n_images: int = 132
    heavy: bool = False  # seeds' parts are of Student's t with 3 degrees of freedom, not normal


@dataclass
class Counts:
    """Of many studies: how many intervals were made and hold the truth; how many families have a p below 0.05."""

    single: int = 0
    single_covers: int = 0
    pairs: int = 0
    pairs_cover: int = 0
    families: int = 0
    families_err: int = 0
    width: float = 0.0  # sum over the pairs of half of the interval

    @property
    def rates(self) -> tuple[float, float, float]:
        """Coverage of single arms and of differences, and the level of a family of tests."""
        return self.single_covers / self.single, self.pairs_cover / self.pairs, self.families_err / self.families


def study(world: World, seeds: int, weights: np.ndarray, rng: np.random.Generator) -> tuple[list[Sample], np.ndarray]:
    """A sample for each arm, and the seed parts (A, S). The first row of the weights is left out of the draws."""
    instances = 1 + (rng.random(world.n_images) < SECOND_CAT)
    image = np.repeat(np.arange(world.n_images), instances)
    difficulty = world.image * rng.normal(size=world.n_images)[image]
    size = (len(world.seed), seeds)
    parts = rng.standard_t(3, size) / 3**0.5 if world.heavy else rng.normal(size=size)
    parts *= np.array(world.seed)[:, None]
    samples = []
    for a in range(len(world.seed)):
        common = world.level + difficulty + world.arm_image * rng.normal(size=world.n_images)[image]
        values = []
        for s in range(seeds):
            logit = common + parts[a, s] + world.seed_image * rng.normal(size=len(image))
            values.append(bootstrap_ap(matches(1 / (1 + np.exp(-logit)), image, instances, rng), weights))
        ap = np.stack(values, axis=1)
        samples.append(Sample(ap[0], ap[1:], world.n_images))
    return samples, parts


def matches(oks: np.ndarray, image: np.ndarray, instances: np.ndarray, rng: np.random.Generator) -> Matches:
    """A detection for every instance; one question, one category."""
    best_first = np.argsort(-(oks + 0.1 * rng.normal(size=len(oks))))
    true = oks[best_first] >= THRESHOLDS[:, None]
    zeros = np.zeros(len(oks), dtype=np.int64)
    counted = np.ones_like(true)[None]
    return Matches(("AP",), true[None], counted, image[best_first], zeros, best_first, instances[None, None])


def expected_ap(world: World, sets: int, rng: np.random.Generator) -> np.poly1d:
    """The AP a model is expected to have on new images, as a function of its seed's part; a fit through 15 places."""
    reach = 3.5 * max(*world.seed, 0.02)
    places, once = np.linspace(-reach, reach, 15), np.ones((1, world.n_images), dtype=np.int64)
    alone = World((0.0,), world.image, world.arm_image, world.seed_image, world.level, world.n_images)
    means = []
    for place in places:
        moved = World(**{**vars(alone), "level": world.level + place})
        means.append(np.mean([study(moved, 1, once, rng)[0][0].ap[0] for _ in range(sets)]))
    return np.poly1d(np.polyfit(places, means, 4))


def coverage(
    world: World, seeds: Sequence[int], studies: int, rng: np.random.Generator, draws: int = 150, sets: int = 500
) -> dict[int, Counts]:
    """Simulate studies and count, for each number of seeds per arm. Arms are compared with the first one.

    The largest number of seeds is simulated, and the smaller studies are made of its seeds, up to three of each.
    """
    truth = expected_ap(world, sets, rng)
    over_seeds = [float(truth(sd * rng.normal(size=100_000)).mean()) for sd in world.seed]
    counts = {n: Counts() for n in seeds}
    for _ in range(studies):
        weights = image_weights(world.n_images, draws, seed=int(rng.integers(2**31)))
        weights = np.concatenate([np.ones((1, world.n_images), dtype=np.int64), weights])
        samples, parts = study(world, max(seeds), weights, rng)
        for n in seeds:
            for first in range(0, min(max(seeds) - n, 2 * n) + 1, n):
                some = slice(first, first + n)
                true = [truth(parts[a, first]) if n == 1 else over_seeds[a] for a in range(len(samples))]
                _count(counts[n], [Sample(s.ap[some], s.draws[:, some], s.n_images) for s in samples], true)
    return counts


def typical(world: World, rng: np.random.Generator, studies: int = 20) -> tuple[float, float, float, float]:
    """AP, its standard error over images, its standard deviation between seeds, and what of this is seed by image."""
    found = []
    for _ in range(studies):
        once = np.ones((1, world.n_images), dtype=np.int64)
        weights = np.concatenate([once, image_weights(world.n_images, 100, seed=int(rng.integers(2**31)))])
        for sample in study(world, 10, weights, rng)[0]:
            own = sample.draws - sample.draws.mean(axis=1, keepdims=True)
            found.append(
                (sample.ap.mean(), sample.draws.var(axis=0).mean(), sample.ap.var(ddof=1), own.var(axis=0).sum() / 9)
            )
    ap, image, seed, both = np.mean(found, axis=0)
    return float(ap), float(image**0.5), float(seed**0.5), float(both**0.5)


def _count(counts: Counts, samples: list[Sample], truth: Sequence[float]) -> None:
    for sample, true in zip(samples, truth, strict=True):
        found = estimate(sample)
        counts.single += 1
        counts.single_covers += found.low <= true <= found.high
    centred = [Sample(s.ap - true, s.draws - true, s.n_images) for s, true in zip(samples, truth, strict=True)]
    pairs = [difference(arm, centred[0]) for arm in centred[1:]]
    counts.pairs += len(pairs)
    counts.pairs_cover += sum(pair.low <= 0 <= pair.high for pair in pairs)
    counts.width += sum((pair.high - pair.low) / 2 for pair in pairs)
    counts.families += 1
    counts.families_err += bool((holm(np.array([pair.p for pair in pairs])) < 0.05).any())


def still(*ap: float) -> Sample:
    """Models that every draw of the images finds as good as the images themselves."""
    return Sample(np.array(ap), np.tile(ap, (50, 1)), N_IMAGES)


def linear(quality: np.ndarray, weights: np.ndarray) -> Sample:
    """The mean over images in AP's place: quality is (S, n)."""
    return Sample(quality.mean(axis=1), weights @ quality.T / quality.shape[1], quality.shape[1])


def linear_studies(
    sds: tuple[float, ...], seeds: int, arms: int, studies: int, spread: tuple[float, ...]
) -> Iterator[list[Sample]]:
    rng = np.random.default_rng(6)
    image, arm_image, seed, seed_image = sds
    draws = [image_weights(60, 100, number) for number in range(20)]
    for number in range(studies):
        weights, difficulty = draws[number % 20], image * rng.normal(size=60)
        yield [
            linear(
                0.5
                + difficulty
                + arm_image * rng.normal(size=60)
                + factor * seed * rng.normal(size=(seeds, 1))
                + seed_image * rng.normal(size=(seeds, 60)),
                weights,
            )
            for _, factor in zip(range(arms), spread, strict=True)
        ]
