"""What a study's sentences are worth: `python tests/benchmarks/claims.py [STUDIES [CELL …]]`.

Minutes of one core for 300 studies a cell. In simulated worlds with known truth (tests/simulated.py), all
configurations being equal:

- level: in how many studies any difference from the first configuration has a corrected (Holm) p below 0.05, where
  configurations lost seeds; with one seed each, the truth is these models', which differ, so there is no level;
- winner: how often its 95 % interval, raw and corrected for its being the highest, holds its expected AP, and by how
  much either value is above that on average;
- power: how often the difference that a study is said to detect is found in the next study, and how often the range
  given with it holds the one that 80 of 100 studies find.

Printed as Markdown.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from simulated import World, expected_ap, study

from catpose.analysis.power import detectable
from catpose.analysis.selection import corrected
from catpose.analysis.statistics import Sample, difference, estimate, holm
from catpose.score.bootstrap import image_weights

#: A world, and the number of seeds of each of its configurations.
CELLS = {
    "seeds 3,3,1": (World((0.3,) * 3), (3, 3, 1)),
    "seeds 1,3,3": (World((0.3,) * 3), (1, 3, 3)),
    "seeds 1,3,3, little spread": (World((0.05,) * 3), (1, 3, 3)),
    "seeds 5,5,1,1": (World((0.3,) * 4), (5, 5, 1, 1)),
    "two of two": (World((0.3,) * 2), (2, 2)),
    "three of three": (World((0.3,) * 3), (3, 3, 3)),
    "nine of three": (World((0.3,) * 9), (3,) * 9),
    "nine of five": (World((0.3,) * 9), (5,) * 9),
    "nine of three, images above all": (World((0.05,) * 9, arm_image=0.5), (3,) * 9),
    "three of three, heavy tails": (World((0.3,) * 3, heavy=True), (3, 3, 3)),
    "three of three, 30 images": (World((0.3,) * 3, n_images=30), (3, 3, 3)),
    "three of three, unequal spreads": (World((0.05, 0.2, 0.5)), (3, 3, 3)),
}
DRAWS = 150


def main() -> None:
    studies = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    columns = ("level", "winner raw", "corrected", "above raw", "corrected ", "power", "in range", "detectable")
    print("| cell | " + " | ".join(columns) + " |\n|---|" + "---:|" * len(columns))
    for name in sys.argv[2:] or CELLS:
        world, seeds = CELLS[name]
        print("| " + " | ".join([name, *measured(world, seeds, studies, np.random.default_rng(len(name)))]) + " |",
              flush=True)  # fmt: skip
    print(f"\n{studies} studies a cell; one standard error of 5 %: {100 * (0.05 * 0.95 / studies) ** 0.5:.1f} %.")


def measured(world: World, seeds: Sequence[int], studies: int, rng: np.random.Generator) -> list[str]:
    """The cells of one row."""
    truth = expected_ap(world, 300, rng)
    spread = rng.standard_t(3, 100_000) / 3**0.5 if world.heavy else rng.normal(size=100_000)
    over_seeds = [float(truth(sd * spread).mean()) for sd in world.seed]
    made = [one_study(world, seeds, rng) for _ in range(studies)]
    differ = [
        Sample(s.ap - true, s.draws - true, s.n_images)
        for samples in made
        for s, true in zip(samples, over_seeds, strict=True)
    ]
    centred = [differ[i : i + len(seeds)] for i in range(0, len(differ), len(seeds))]
    level = np.mean([(holm(np.array([_p(arms, i) for i in range(1, len(arms))])) < 0.05).any() for arms in centred])
    found = []
    for samples in made:
        best = max(range(len(samples)), key=lambda i: samples[i].ap.mean())
        raw, fair = estimate(samples[best], others=samples), corrected(samples)
        assert fair is not None
        true = over_seeds[best]
        found.append((raw.low <= true <= raw.high, fair.low <= true <= fair.high, raw.value - true, fair.value - true))
    pairs = [(0, i) for i in range(1, len(seeds))]
    said = [each for each in (detectable(samples, pairs, 1) for samples in centred) if each]
    power = np.mean(
        [_p(arms, 1, each.value) < 0.05 for each, arms in zip(said, centred[1:] + centred[:1], strict=True)]
    )
    low, high = 0.0, 1.0
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (middle, high) if np.mean([_p(arms, 1, middle) < 0.05 for arms in centred]) < 0.8 else (low, middle)
    inside = np.mean([each.low <= high <= each.high for each in said])
    raw, fair, above, above_fair = np.mean(found, axis=0)
    shares = [f"{100 * each:.1f} %" for each in (level, raw, fair)]
    return [
        *shares,
        f"{above:+.4f}",
        f"{above_fair:+.4f}",
        f"{100 * power:.0f} %",
        f"{100 * inside:.0f} %",
        f"{high:.3f}",
    ]


def one_study(world: World, seeds: Sequence[int], rng: np.random.Generator) -> list[Sample]:
    """A sample of each configuration, of as many seeds as it has left."""
    weights = image_weights(world.n_images, DRAWS, seed=int(rng.integers(2**31)))
    weights = np.concatenate([np.ones((1, world.n_images), dtype=np.int64), weights])
    samples, _ = study(world, max(seeds), weights, rng)
    return [Sample(s.ap[:n], s.draws[:, :n], s.n_images) for s, n in zip(samples, seeds, strict=True)]


def _p(arms: Sequence[Sample], i: int, shift: float = 0.0) -> float:
    moved = Sample(arms[i].ap + shift, arms[i].draws + shift, arms[i].n_images)
    rest = [moved if j == i else arm for j, arm in enumerate(arms)]
    return difference(moved, arms[0], others=rest).p


if __name__ == "__main__":
    main()
