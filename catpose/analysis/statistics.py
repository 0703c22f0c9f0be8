"""Confidence intervals, differences with p-values, and the difference that a study could have detected.

The estimand is a configuration's expected AP over training seeds and over sets of as many images like these. Its two
sources of chance are crossed: all models are evaluated on the same images. With AP of seed s = mean + image part + seed
part + seed-by-image part, the mean over S seeds has the variance

    V = images + max(s²/S - noise, 0)

- images: the bootstrap variance of the mean over seeds (Efron & Tibshirani 1993), times n / (n - 1). It holds the image
  part, which all seeds share, and 1/S of the seed-by-image part.
- s²/S: from the variance between seeds on these images, which holds the seed part and again the seed-by-image part.
- noise: the latter, as the bootstrap shows it (the variance of each seed's AP about their mean): not to count it twice.

Of a difference, `images` is the bootstrap variance of the difference itself, in which the difficulty of the images
cancels out, and both configurations add a seed part. The same seed number in two configurations counts as two seeds:
other settings turn the same random numbers into another training, and where they don't, the interval is too wide rather
than too narrow.

A difference's interval is value ± t·sqrt(V); a configuration's is the same, but for leaning inwards near 0 and 1. t has
Satterthwaite's (1946) degrees of freedom, Welch's (1947) where seeds alone matter, with one change: in their formula
(and nowhere in V itself) each s² is taken (ν + 2) / ν times as large, ν = S - 1. For where three seeds fall close
together by chance, V is small and the plain formula believes in many degrees of freedom, both at once. With normal
data and three seeds, its 95 % intervals cover 92 % to 98 %, depending on where the variance comes from, and these 94 %
to 99 %: the most where it is nearly all seed-by-image, since max(…, 0) errs on the wide side.
`tests/benchmarks/coverage.py` shows what they are worth for AP.

A configuration with one seed shows no seed part. Beside others with several, theirs stands for it: s² - noise pooled
over these, each weighted by its S - 1 degrees of freedom, as the analysis of variance pools them (Searle, Casella &
McCulloch 1992, Variance Components, ch. 3). V is then a weighted sum of all these s², and Satterthwaite's degrees of
freedom are those of that sum. Whether the configuration's own spread is another, one seed can't say. Where each has one
seed, intervals and tests are about these trained models on other images alone.

Of a study over random divisions of a pool of images (`Sample.divisions`), the estimand is the expected AP over these,
too. Each division draws all three, images, training set and seed, so that the means of n
divisions alone say how much they vary, s²; that they are of one pool makes them alike, and

    V = (1/n + n2/n1) s²,  n - 1 degrees of freedom,

with n1 images trained and n2 scored on: Nadeau & Bengio's (2003) corrected resampled t-test, which takes the
correlation of two divisions to be n2 / (n1 + n2). That is right for the images, and on the wide side for the seeds,
which aren't correlated. But the training sets of one pool share most images, so that where another pool would move the
AP as much as another seed does, 8 to 20 % of pairs of equal configurations differ significantly, in the simulation of
`tests/benchmarks/divisions.py`. So the estimand is of divisions of this pool, and no sentence speaks of other pools.
That each training draws seed and division anew, rather than seeds on one split, is what Bouthillier et al. (2021),
Accounting for variance in machine learning benchmarks, MLSys, find to estimate best at a given cost.
`analysis.variance` takes s² apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from catpose.score.full import Division

LEVEL = 0.95  # of confidence intervals
ALPHA = 0.05  # a difference whose p is below it is significant
POWER = 0.8
#: On fewer instances than this a bootstrap says too little: there is a value, and no interval. A difference has none,
#: and no p, on fewer images either.
ENOUGH = 10
NOTHING = 1e-10  # a standard error or a difference of this size is rounding


@dataclass(frozen=True, eq=False)
class Sample:
    """The AP of one configuration's models, all evaluated on the same n images; every configuration's draws are the
    same, in the same order."""

    ap: np.ndarray  # (S,), a model for each seed
    draws: np.ndarray  # (B, S), over bootstrap draws of the images
    n_images: int
    divisions: tuple[Division, ...] = ()  # (S,) on which each was trained and scored; none: all on the same split

    def __post_init__(self) -> None:
        if self.ap.ndim != 1 or not len(self.ap) or self.draws.ndim != 2 or self.draws.shape[1] != len(self.ap):
            raise ValueError(f"AP of shape {self.ap.shape} with draws of shape {self.draws.shape}: (S,) and (B, S)")


@dataclass(frozen=True)
class Estimate:
    """A configuration's AP, its interval (within 0..1), standard error and degrees of freedom."""

    value: float
    low: float
    high: float
    se: float
    df: float
    seeds: int


@dataclass(frozen=True)
class Difference:
    """AP of a configuration minus the reference's, with p for 'there is none', two-sided and uncorrected.

    `detectable` is the smallest true difference that such a study finds significant with 80 % power. On fewer than
    `ENOUGH` images there is the value alone.
    """

    value: float
    low: float
    high: float
    se: float
    df: float
    p: float
    detectable: float

    @property
    def reversed(self) -> Difference:
        """The reference minus the configuration."""
        return replace(self, value=-self.value, low=-self.high, high=-self.low)


def estimate(sample: Sample, fraction: bool = True, others: Sequence[Sample] = ()) -> Estimate:
    """The expected AP of a configuration; with one seed and no `others`, of this model on other images.

    Args:
        others: configurations whose spread between seeds stands for that of a configuration with one.
        fraction: of a metric that is no fraction, a distance in pixels, the interval is value ± t·se, 0 or more.

    The interval is Wilson's (1927) with t for z and value·(1 - value) / se² for the sample size: all AP from which the
    value is at most t standard errors away, these being se·sqrt(AP·(1 - AP) / (value·(1 - value))). At middling AP it
    is value ± t·se, near 0 and 1 it leans inwards as it has to. Of a model that is at 0 in every draw (it learnt
    nothing) or at 1, the sample size is the images; no other model's interval ends nearer to 0 or to 1 than that one's,
    since a few hits in as many images tell no more than none. nan where the AP is unknown, or with a single image.
    """
    value, se, df = _contrast([(1, sample)], others)
    if not fraction:
        reach = float(special.stdtrit(df, (1 + LEVEL) / 2)) * se
        return Estimate(value, max(value - reach, 0.0), value + reach, se, df, len(sample.ap))
    inside, n = NOTHING < value < 1 - NOTHING, sample.n_images
    share = float(special.stdtrit(df, (1 + LEVEL) / 2)) ** 2
    share *= se**2 / (value * (1 - value)) if inside else 1 / n
    centre = (value + share / 2) / (1 + share)
    reach = math.sqrt(share * max(value * (1 - value) + share / 4, 0.0)) / (1 + share)
    least = _unseen(n)
    low, high = np.clip([min(centre - reach, 1 - least), max(centre + reach, least)], 0.0, 1.0)
    return Estimate(value, float(low), float(high), se, df, len(sample.ap))


def difference(
    sample: Sample,
    reference: Sample,
    level: float = LEVEL,
    comparisons: int = 1,
    fraction: bool = True,
    others: Sequence[Sample] = (),
) -> Difference:
    """The expected AP of a configuration minus that of the reference; the numbers of seeds may differ.

    Args:
        level: of the interval, which is this comparison's alone.
        comparisons: how many p-values Holm's correction will be about. `detectable` is for the strictest of its
            steps, a level of (1 - level) / comparisons.
        fraction: whether this is about fractions, whose differences lie within -1..1.
        others: as of `estimate`.
    """
    is_paired = sample.n_images == reference.n_images or sample.divisions
    if not is_paired or len(sample.draws) != len(reference.draws):
        raise ValueError("two configurations are compared on the same draws of the same images")
    value, se, df = _contrast([(1, sample), (-1, reference)], others)
    if sample.n_images < ENOUGH and not sample.divisions:
        se = df = math.nan
    most = 1.0 if fraction else math.inf
    reach = special.stdtrit(df, (1 + level) / 2) * se
    if se == 0 and abs(value) > NOTHING:  # all images say the same: a sign test, and what so many may hide
        n = round(df) + 1
        p, detectable, reach = 2.0 ** (1 - n), 0.0, abs(value) * _unseen(n)
    elif se == 0:
        p, detectable = 1.0, 0.0
    else:
        p = float(2 * special.stdtr(df, -abs(value) / se))
        detectable = float(np.minimum(se * _noncentrality(df, (1 - level) / comparisons), most))
    low, high = np.clip([value - reach, value + reach], -most, most)
    return Difference(value, float(low), float(high), se, df, p, detectable)


def deviation(sample: Sample) -> Difference:
    """A quantity that may be of either sign, within -1..1, with p for 'it is 0': as of `difference`."""
    nothing = Sample(np.zeros(1), np.zeros((len(sample.draws), 1)), sample.n_images)
    return difference(sample, nothing)


def holm(p: np.ndarray) -> np.ndarray:
    """p-values corrected for their number (Holm 1979): (m,) -> (m,), in the same order.

    The k-th smallest of m counts (m - k + 1) times, and never less than a smaller one. Rejecting where the result is
    below 0.05 errs in at most 5 % of families, whatever the dependence. A nan is no test: it stays and isn't counted.
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # nan are sorted to the end
    corrected = np.full(p.shape, np.nan)
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


def against(samples: Sequence[Sample], one: int) -> tuple[dict[int, Difference], dict[int, float]]:
    """One of several configurations against each other: the differences, and their p corrected for all pairs (Holm),
    since it was these very numbers that chose the one. By the other's place."""
    pairs = [(i, j) for j in range(len(samples)) for i in range(j)]
    tested = [difference(samples[i], samples[j], others=samples).p for i, j in pairs]
    corrected = {pair: float(p) for pair, p in zip(pairs, holm(np.array(tested)), strict=True)}
    others = [i for i in range(len(samples)) if i != one]
    differences = {i: difference(samples[one], samples[i], LEVEL, len(pairs), others=samples) for i in others}
    return differences, {i: corrected[min(i, one), max(i, one)] for i in others}


def pareto_front(points: np.ndarray) -> np.ndarray:
    """(N, M) -> (N,) bool: the points that no other equals or exceeds in every coordinate and exceeds in one.

    Coordinates are the better the greater. A point with a nan is not on the front, and keeps no other from it.
    """
    dominated = [bool(((points >= point).all(axis=1) & (points > point).any(axis=1)).any()) for point in points]
    return ~np.isnan(points).any(axis=1) & ~np.array(dominated, dtype=bool)


def _unseen(n: int) -> float:
    """The share of images that may be other than all n are: the upper end of Wilson's interval of none in n."""
    return 1 - 1 / (1 + float(special.stdtrit(max(n - 1, 1), (1 + LEVEL) / 2)) ** 2 / n)


def _seed_variance(sample: Sample) -> tuple[float, float]:
    """The variance between seeds, s², and what of it is seed by image: noise times the number of seeds."""
    draws, n = sample.draws[~np.isnan(sample.draws).any(axis=1)], sample.n_images
    own = (draws - draws.mean(axis=1, keepdims=True)).var(axis=0, ddof=1).sum() / (len(sample.ap) - 1)
    return float(sample.ap.var(ddof=1)), n / (n - 1) * float(own)


def pooled_seed_variance(samples: Sequence[Sample]) -> tuple[float, float, int]:
    """As `_seed_variance`, pooled over configurations of several seeds, each weighted by its S - 1 degrees of freedom.

    Returns:
        s², of it seed by image, and the degrees of freedom together.
    """
    df = np.array([len(sample.ap) - 1 for sample in samples])
    between, noise = df @ np.array([_seed_variance(sample) for sample in samples]) / df.sum()
    return float(between), float(noise), int(df.sum())


def _contrast(terms: list[tuple[int, Sample]], others: Sequence[Sample]) -> tuple[float, float, float]:
    """A signed sum of mean APs with its standard error and degrees of freedom, by the module's formula."""
    if any(sample.divisions for _, sample in terms):
        return _over_divisions(terms)
    value = float(sum(sign * sample.ap.mean() for sign, sample in terms))
    known = np.logical_and.reduce([~np.isnan(sample.draws).any(axis=1) for _, sample in terms])
    draws, n = [sample.draws[known] for _, sample in terms], terms[0][1].n_images  # a draw without an instance is none
    if math.isnan(value) or len(draws[0]) < 2 or n < 2:
        return value, math.nan, math.nan
    larger = n / (n - 1)
    images = larger * float(sum(sign * d.mean(axis=1) for (sign, _), d in zip(terms, draws, strict=True)).var(ddof=1))
    several = [sample for _, sample in terms if len(sample.ap) > 1]
    alone = len(terms) - len(several)
    pool = [sample for sample in others if len(sample.ap) > 1 and not np.isnan(sample.ap).any()] if alone else []
    every = [*several, *(sample for sample in pool if not any(sample is each for each in several))]
    between, noise = np.array([_seed_variance(sample) for sample in every]).reshape(-1, 2).T
    df = np.array([len(sample.ap) - 1.0 for sample in every])
    # How often each s² counts: as its own configuration's, and within that of configurations with one seed.
    own = np.where(np.arange(len(every)) < len(several), 1 / (df + 1), 0.0)
    lent = (
        alone
        * np.where([any(sample is each for each in pool) for sample in every], df, 0.0)
        / max(sum(len(sample.ap) - 1 for sample in pool), 1)
    )

    def part(between: np.ndarray) -> float:
        return float((own * np.maximum(between - noise, 0.0)).sum() + max((lent * (between - noise)).sum(), 0.0))

    variance, inflated = images + part(between), between * (df + 2) / df
    if variance < NOTHING**2:
        return value, 0.0, n - 1.0
    uncertain = images**2 * (1 / (n - 1) + 1 / (len(draws[0]) - 1))  # half the variance of the estimated variance
    uncertain += float((((own + lent) * inflated) ** 2 / df).sum())
    return value, math.sqrt(variance), (images + part(inflated)) ** 2 / uncertain


def _over_divisions(terms: list[tuple[int, Sample]]) -> tuple[float, float, float]:
    """As `_contrast`, a difference over the divisions that both have, whose own difficulty cancels out of it; nan where
    there are fewer than two."""
    numbers = set.intersection(*({each.number for each in sample.divisions} for _, sample in terms))
    value = float(sum(sign * sample.ap.mean() for sign, sample in terms))
    if not numbers or math.isnan(value):
        return value, math.nan, math.nan
    of_each = sum(sign * division_means(sample, sorted(numbers)) for sign, sample in terms)
    value = float(np.mean(of_each)) if len(terms) > 1 else value
    if len(numbers) < 2:
        return value, math.nan, math.nan
    ratio = float(np.mean([each.scored_per_trained for _, sample in terms for each in sample.divisions]))
    variance = (1 / len(numbers) + ratio) * float(np.var(of_each, ddof=1))
    return value, math.sqrt(variance) if variance > NOTHING**2 else 0.0, len(numbers) - 1.0


def division_means(sample: Sample, numbers: Sequence[int]) -> np.ndarray:
    """The mean AP over the seeds of each of some divisions, (n,)."""
    own = np.array([each.number for each in sample.divisions])
    return np.array([sample.ap[own == number].mean() for number in numbers])


def _noncentrality(df: float, alpha: float) -> float:
    """True difference over standard error at which a two-sided t test at level alpha rejects with 80 % power.

    From the noncentral t. The chance of rejecting in the wrong direction, below 1e-4 here, is left out.
    """
    t = float(special.stdtrit(df, 1 - alpha / 2))
    if t > 100:  # by the chi-squared part alone, which is right to 1e-4 there: scipy's search never ends beyond 1e7
        return t * math.sqrt(float(special.chdtri(df, 1 - POWER)) / df)
    return float(special.nctdtrinc(df, 1 - POWER, t))
