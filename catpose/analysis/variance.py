"""What one training's AP varies with: the images it is scored on, the training seed, the random division of the pool.

By the method of moments, as in a nested analysis of variance (Searle, Casella & McCulloch 1992, Variance Components,
ch. 3). With AP of division i and seed j = mean + division_i + images_i + seed_ij + (seed by image)_ij, m seeds in each
of n divisions,

- seed, with seed by image: the variance between seeds of one division, pooled;
- images: the bootstrap variance of a division's mean over its seeds, times N / (N - 1), less 1/m of the seed by image
  part, which the bootstrap shows as the variance of each seed's AP about their mean;
- division, which is the training set: the variance between divisions' means, less the images part and 1/m of the seed
  part.

Each is unbiased where divisions are independent, and so may be negative; divisions of one pool share images, so that
the last is that of other divisions of this pool, less than that of other pools.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from catpose.analysis.statistics import Sample, division_means


@dataclass(frozen=True)
class Components:
    """Parts of the variance of one training's AP; negative where chance has it so."""

    images: float
    seed: float | None  # with seed by image; None with one seed a division: it is in `division` then
    division: float

    @property
    def shares(self) -> dict[str, float]:
        """Of their sum, negative ones as 0: by name; empty where nothing varies."""
        parts = {"images": self.images, "seed": self.seed, "division": self.division}
        known = {name: max(part, 0.0) for name, part in parts.items() if part is not None}
        total = sum(known.values())
        return {name: part / total for name, part in known.items()} if total > 0 else {}


def components(samples: Sequence[Sample]) -> Components | None:
    """The parts, each the mean over configurations; None without divisions, or of fewer than two.

    Args:
        samples: configurations of several divisions with as many seeds each.
    """
    each = [found for found in map(_of_one, samples) if found is not None]
    if not each:
        return None
    seeds = [found.seed for found in each if found.seed is not None]
    return Components(
        images=float(np.mean([found.images for found in each])),
        seed=float(np.mean(seeds)) if len(seeds) == len(each) else None,
        division=float(np.mean([found.division for found in each])),
    )


def _of_one(sample: Sample) -> Components | None:
    numbers = sorted({each.number for each in sample.divisions})
    own = np.array([each.number for each in sample.divisions])
    groups = [np.flatnonzero(own == number) for number in numbers]
    m, n = min(map(len, groups), default=0), sample.n_images
    if len(groups) < 2 or any(len(group) != m for group in groups) or n < 2:
        return None
    draws = sample.draws[~np.isnan(sample.draws).any(axis=1)]
    if len(draws) < 2 or np.isnan(sample.ap).any():
        return None
    images = noise = within = 0.0  # means over divisions
    for group in groups:
        of_group = draws[:, group]
        images += n / (n - 1) * float(of_group.mean(axis=1).var(ddof=1)) / len(groups)
        if m > 1:
            about = of_group - of_group.mean(axis=1, keepdims=True)
            noise += n / (n - 1) * float(about.var(axis=0, ddof=1).sum()) / (m - 1) / len(groups)
            within += float(sample.ap[group].var(ddof=1)) / len(groups)
    own_images = images - noise / m
    division = float(division_means(sample, numbers).var(ddof=1)) - own_images - within / m
    return Components(own_images, within if m > 1 else None, division)
