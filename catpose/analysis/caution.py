"""What makes a study's intervals hold less often than they say, as far as its own numbers show it.

In simulations (tests/benchmarks/claims.py) there are three such things. Where there are two seeds, their spread is
hardly known. Where one training in some fails, the spread isn't normal: a seed far off the others is found as an
outlier of the one-way layout, by its externally studentised residual (Cook & Weisberg 1982, Residuals and Influence in
Regression, section 2.2), with Bonferroni's correction; where none has failed yet, nothing shows. Where images are
copies of one another, the bootstrap takes each for one of its own: pixel for pixel the same, in the same box, they get
the same keypoints of every model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special

from catpose.analysis.configurations import Configuration
from catpose.analysis.statistics import ALPHA, Sample
from catpose.text import counted, fraction, listed, p_value

#: Of the pooled spread between seeds: with fewer, it is hardly known. Two configurations of three seeds have as many.
FEWEST_DF = 4
_ROUNDING = 1e-6


def caution(configurations: Sequence[Configuration]) -> str:
    """The end of a sentence with an interval, why that holds less often than it says; empty where nothing is known."""
    able = [each for each in configurations if each.sample]
    samples = [each.sample for each in able if each.sample]
    reasons = []
    if seeds_are_few(samples):
        most = max(len(each.ap) for each in samples)
        reasons.append(f"{'two' if most == 2 else 'so few'} seeds hardly show their spread")
    if found := stray(samples):
        which, place, p = found
        value, seed = able[which].ap[place], able[which].seeds[place]
        reasons.append(
            f"seed {seed} of {able[which].name}, AP {fraction(value)}, lies far off the others (outlier test: p"
            f" {p_value(p)}), as where trainings now and then fail"
        )
    if n := n_copies(able):
        reasons.append(f"{counted(n, 'image')} of {able[0].n_images} got another's very keypoints, as copies do")
    if not reasons:
        return ""
    return f"; with less confidence than 95 %, since {listed(reasons)}"


def stray(samples: Sequence[Sample]) -> tuple[int, int, float] | None:
    """The seed farthest off its configuration's others: the configuration's place, the seed's in it, and p; None where
    p isn't below 0.05 or too few seeds are known."""
    several = [(i, sample.ap) for i, sample in enumerate(samples) if len(sample.ap) > 1]
    df = sum(len(ap) - 1 for _, ap in several)
    if df < 2:
        return None
    own = [(i, place) for i, ap in several for place in range(len(ap))]
    share = np.concatenate([np.full(len(ap), 1 - 1 / len(ap)) for _, ap in several])
    squares = np.concatenate([(ap - ap.mean()) ** 2 for _, ap in several]) / share
    rest = (np.concatenate([(ap - ap.mean()) ** 2 for _, ap in several]).sum() - squares) / (df - 1)
    farthest = int(squares.argmax())
    if not squares[farthest] > _ROUNDING**2:
        return None
    t = np.sqrt(squares[farthest] / max(rest[farthest], _ROUNDING**2))
    p = min(float(2 * special.stdtr(df - 1, -t)) * len(own), 1.0)
    return (*own[farthest], p) if p < ALPHA else None


def n_copies(configurations: Sequence[Configuration]) -> int:
    """How many images have, in every run, the detections of one before them; 0 where runs have other images."""
    runs = [each.first_alike for configuration in configurations for each in configuration.evaluations]
    known = [run for run in runs if run is not None]
    if not known or len(known) < len(runs) or len({len(run) for run in known}) > 1:
        return 0
    first = np.stack(known)
    return int(((first == first[0]).all(axis=0) & (first[0] != np.arange(first.shape[1]))).sum())


def seeds_are_few(samples: Sequence[Sample]) -> bool:
    """Whether there is a spread between seeds, and hardly known."""
    seeds = [len(sample.ap) for sample in samples]
    return max(seeds, default=1) == 2 or 0 < sum(n - 1 for n in seeds) < FEWEST_DF
