"""What makes a study's intervals hold less often than they say, as far as its own numbers show it.

In simulations (tests/benchmarks/claims.py) there are four such things. Where there are two seeds, their spread is
hardly known. Where one training in some fails, the spread isn't normal: seeds far off the others are found as outliers
of the one-way layout, one by its externally studentised residual, or two, which hide each other from that, by F (Cook &
Weisberg 1982, Residuals and Influence in Regression, section 2.2), with Bonferroni's correction. Where configurations'
spreads are unequal, which what is pooled over them takes them not to be, Bartlett's (1937) test says so. Where images
are copies of one another, the bootstrap takes each for one of its own: pixel for pixel the same, in the same box, they
get the same keypoints of every model.

Where none has failed yet, nothing shows. If all n trainings of a configuration went well, 1 - 0.05^(1/n) of all such
trainings may still fail (Clopper & Pearson's 1934 upper 95 % limit, "the rule of three"), and the sentence says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from catpose.analysis.configurations import Configuration
from catpose.analysis.statistics import ALPHA, Sample
from catpose.text import counted, fraction, listed, p_value

#: Of the pooled spread between seeds: with fewer, it is hardly known. Two configurations of three seeds have as many.
FEWEST_DF = 4
#: Of a configuration: from here on a recipe that fails now and then either shows or moves the mean by little. Of 150
#: simulated studies where 5, 15 or 30 % of trainings fail, intervals missed without a warning in at most 5.1 % with 15
#: seeds, 6.2 % with 10, by the test of one stray seed alone; tests/benchmarks/warned.py does it with all of them.
MANY_SEEDS = 15
#: Levels of the tests: in simulated studies of 2 to 30 configurations with 2 to 10 normal seeds, p of one of them is
#: below its own in 2 to 4.9 %.
STRAY, UNEQUAL = 0.02, 0.025
_ROUNDING = 1e-6


def caution(configurations: Sequence[Configuration], is_pooled: bool) -> str:
    """The end of a sentence with an interval, why that holds less often than it says; empty where nothing is known.

    Args:
        is_pooled: whether one of the intervals takes the spread for the same in all of them.
    """
    able = [each for each in configurations if each.sample]
    samples = [each.sample for each in able if each.sample]
    reasons = []
    if seeds_are_few(samples):
        most = max(len(each.ap) for each in samples)
        reasons.append(f"{'two' if most == 2 else 'so few'} seeds hardly show their spread")
    found, spreads = stray(samples), unequal(samples) if is_pooled else None
    if found:
        places, p = found
        seeds = [
            f"seed {able[i].seeds[place]} of {able[i].name}, AP {fraction(able[i].ap[place])}" for i, place in places
        ]
        lie = "lies" if len(seeds) == 1 else "lie"
        reasons.append(
            f"{listed(seeds)}, {lie} far off the others (outlier test: p {p_value(p)}), as where trainings now and then"
            " fail"
        )
    elif spreads:
        least, most, p = spreads
        low, high = (f"{fraction(able[i].ap.std(ddof=1))} of {able[i].name}" for i in (least, most))
        reasons.append(f"seeds spread unequally, with an sd from {low} to {high} (Bartlett's test: p {p_value(p)})")
    if n := n_copies(able):
        reasons.append(f"{counted(n, 'image')} of {able[0].n_images} got another's very keypoints, as copies do")
    known = f"; with less confidence than 95 %, since {listed(reasons)}" if reasons else ""
    return known + ("" if found else _unseen(samples, is_pooled and len(samples) > 1 and not spreads))


def _unseen(samples: Sequence[Sample], is_alike: bool) -> str:
    """What is taken for granted of seeds, since so few can't show it; empty of many, and of single ones throughout.

    Args:
        is_alike: whether this is also that configurations spread alike.
    """
    seeds = sorted(len(each.ap) for each in samples)
    if not seeds or seeds[-1] == 1 or seeds[0] >= MANY_SEEDS:
        return ""
    normally = "normally and alike" if is_alike else "normally"
    n = f"{seeds[0]}" if seeds[0] == seeds[-1] else f"{seeds[0]} to {seeds[-1]}"
    share = 100 * (1 - ALPHA ** (1 / seeds[0]))
    return (
        f"; intervals assume that seeds spread {normally}, which {n} can't show: up to {share:.0f} % of trainings could"
        " fail unseen"
    )


def stray(samples: Sequence[Sample]) -> tuple[list[tuple[int, int]], float] | None:
    """The seed, or the two, farthest off the others of their configurations, and p; None where that isn't significant
    or too few seeds are known.

    Returns:
        of each seed the configuration's place and its own within it.
    """
    several = [(i, sample.ap) for i, sample in enumerate(samples) if len(sample.ap) > 1]
    own = [(i, place) for i, ap in several for place in range(len(ap))]
    df, ap = len(own) - len(several), np.array([value for _, values in several for value in values])
    which, inliers = np.array([i for i, _ in own], int), np.ones(len(own), bool)
    squares, less = _around_means(ap, which, inliers)
    whole, found = squares.sum(), None
    for n in range(1, min(3, df)):
        if not less.max() > _ROUNDING**2:
            break
        inliers[less.argmax()] = False
        squares, less = _around_means(ap, which, inliers)
        rest = max(squares.sum() / (df - n), _ROUNDING**2)
        p = min(float(special.fdtrc(n, df - n, (whole - squares.sum()) / n / rest)) * math.comb(len(own), n), 1.0)
        if p < (found[1] if found else STRAY):
            found = [each for each, is_in in zip(own, inliers, strict=True) if not is_in], p
    return found


def _around_means(ap: np.ndarray, which: np.ndarray, inliers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squares about the mean of the inliers of the same configuration, and by how much their sum is less without each;
    both (N,), 0 of the outliers."""
    members = np.bincount(which, inliers)
    means = np.bincount(which, inliers * ap) / np.maximum(members, 1)
    squares = inliers * (ap - means[which]) ** 2
    return squares, squares * (members / np.maximum(members - 1, 1))[which]


def unequal(samples: Sequence[Sample]) -> tuple[int, int, float] | None:
    """The places of the configurations whose seeds spread least and most, and p; None where that isn't significant."""
    several = [(i, sample.ap) for i, sample in enumerate(samples) if len(sample.ap) > 1]
    variance = np.array([ap.var(ddof=1) for _, ap in several])
    if len(several) < 2 or not variance.max() > _ROUNDING**2:
        return None
    df = np.array([len(ap) - 1.0 for _, ap in several])
    log = np.log(np.maximum(variance, _ROUNDING**2))
    share = 1 + ((1 / df).sum() - 1 / df.sum()) / (3 * (len(df) - 1))
    p = float(special.chdtrc(len(df) - 1, (df.sum() * np.log(df @ variance / df.sum()) - df @ log) / share))
    return (several[variance.argmin()][0], several[variance.argmax()][0], p) if p < UNEQUAL else None


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
