"""Intervals and tests: identities with the classical ones, known answers, and studies whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats
from simulated import LINEAR, World, coverage, linear, linear_studies, still
from simulated import N_IMAGES as N

from catpose.analysis.statistics import ENOUGH, Difference, Estimate, Sample, difference, estimate, holm
from catpose.analysis.statistics import _noncentrality as noncentrality
from catpose.score.bootstrap import image_weights

# Identities


def test_without_image_variance_a_difference_is_welch_s_t_test():
    a, b = np.array([0.41, 0.44, 0.40]), np.array([0.50, 0.52, 0.60])
    found = difference(still(*a), still(*b))
    welch = stats.ttest_ind(a, b, equal_var=False)
    limits = welch.confidence_interval(0.95)
    assert found.value == pytest.approx(a.mean() - b.mean())
    assert (found.p, found.df) == pytest.approx((welch.pvalue, welch.df))
    assert (found.low, found.high) == pytest.approx((limits.low, limits.high))


def test_without_image_variance_an_arm_has_student_s_t_on_wilson_s_scale():
    ap = np.array([0.41, 0.44, 0.40, 0.47])
    found = estimate(still(*ap))
    assert (found.value, found.se, found.df) == pytest.approx((ap.mean(), stats.sem(ap), 3))
    for limit in (found.low, found.high):
        se = found.se * math.sqrt(limit * (1 - limit) / (found.value * (1 - found.value)))
        assert abs(limit - found.value) == pytest.approx(stats.t.ppf(0.975, 3) * se)
    classical = stats.t.interval(0.95, 3, ap.mean(), stats.sem(ap))
    assert (found.low, found.high) == pytest.approx(classical, abs=0.003)  # near one half they are the same


def test_wilson_s_interval_of_a_proportion():
    """AP of either 0 or 1 an image, one seed: the proportion of a binomial, but for t in place of z."""
    hits = np.arange(300) < 60
    found = estimate(linear(hits[None].astype(float), image_weights(300, 10_000)))
    wilson = stats.binomtest(60, 300).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high), abs=0.002)


def test_one_seed_is_images_alone():
    rng = np.random.default_rng(0)
    quality, weights = rng.normal(0.5, 0.1, N), image_weights(N, 20_000)
    found = estimate(linear(quality[None], weights))
    assert found.se == pytest.approx(stats.sem(quality), rel=0.008)
    assert found.df == pytest.approx(N - 1, rel=0.01)
    assert estimate(linear(quality[None], weights[:N])).df == pytest.approx((N - 1) / 2)  # as few draws count too
    other = quality + rng.normal(0.02, 0.05, N)
    paired = difference(linear(other[None], weights), linear(quality[None], weights))
    t = stats.ttest_rel(other, quality)
    assert (paired.value, paired.p) == pytest.approx(((other - quality).mean(), t.pvalue), rel=0.1)


def test_seeds_that_differ_by_images_alone_add_nothing():
    """With seed-by-image noise and no seed part, s²/S is what the bootstrap shows already: it isn't added again."""
    rng = np.random.default_rng(1)
    quality, weights = rng.normal(0.5, 0.003, N) + rng.normal(0, 0.1, (200, N)), image_weights(N, 2000)
    found = estimate(linear(quality, weights))
    assert found.se == pytest.approx(stats.sem(quality.mean(axis=0)), rel=0.1)
    shifted = estimate(linear(quality + rng.normal(0, 0.1, (200, 1)), weights))
    assert shifted.se == pytest.approx(math.hypot(found.se, 0.1 / math.sqrt(200)), rel=0.1)


def test_a_difference_turns_round_and_knows_nothing_of_the_level():
    rng = np.random.default_rng(2)
    weights = image_weights(N, 200)
    a, b = (linear(rng.normal(0.5, 0.1, (seeds, N)), weights) for seeds in (3, 5))
    there, back = difference(a, b), difference(b, a)
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert (there.se, there.df, there.p, there.detectable) == pytest.approx((back.se, back.df, back.p, back.detectable))
    raised = difference(*(Sample(s.ap + 0.1, s.draws + 0.1, N) for s in (a, b)))
    assert (raised.low, raised.high) == pytest.approx((there.low, there.high))
    assert difference(a, b, 1 - there.p).low * difference(a, b, 1 - there.p).high == pytest.approx(0, abs=1e-9)
    assert difference(a, b, comparisons=4).detectable > there.detectable


# Edges


def test_near_nothing_the_upper_end_never_falls_as_ap_rises():
    """Nor does the lower end near 1: a few hits tell no more than none."""
    rng = np.random.default_rng(4)
    weights = image_weights(N, 500)
    quality = np.sort(rng.random(N)) ** 8
    ends = [estimate(linear(scale * quality[None], weights)) for scale in (0, 1e-6, 1e-4, 1e-3, 0.01, 0.1, 0.5)]
    highs = [each.high for each in ends]
    assert highs == sorted(highs)
    assert highs[0] == highs[1] < highs[-1]
    mirrored = [estimate(linear(1 - scale * quality[None], weights)).low for scale in (0, 1e-6, 1e-3, 0.1, 0.5)]
    assert mirrored == sorted(mirrored, reverse=True)


def test_a_model_that_learnt_nothing():
    nothing = still(0.0, 0.0, 0.0)
    found = estimate(nothing)
    assert (found.value, found.low, found.se) == (0, 0, 0)
    assert 3 / N < found.high < 4.5 / N  # 40 images without a hit say no more
    perfect = estimate(still(1.0, 1.0))
    assert (1 - perfect.high, 1 - perfect.low) == pytest.approx((0, found.high))
    assert difference(nothing, nothing) == Difference(0, 0, 0, 0, N - 1, 1, 0)
    better = difference(still(0.2, 0.3, 0.25), nothing)
    assert better.value == pytest.approx(0.25)
    assert better.se == pytest.approx(stats.sem([0.2, 0.3, 0.25]))


@pytest.mark.parametrize("n", [10, 40, 1000])
def test_images_that_all_say_the_same_leave_as_much_open_as_so_many_can_hide(n: int):
    one, other = (Sample(np.array([ap]), np.full((50, 1), ap), n) for ap in (1.0, 0.0))
    found = difference(one, other)
    assert found.p == 2 * 0.5**n  # the sign test's
    assert (found.value, found.low, found.high) == pytest.approx((1, estimate(one).low, 1))
    tenth = difference(Sample(other.ap + 0.1, other.draws + 0.1, n), other)
    assert (tenth.p, tenth.low) == pytest.approx((found.p, 0.1 * found.low))
    assert found.reversed == difference(other, one)


def test_seeds_alike_to_the_last_digit():
    draws = np.random.default_rng(3).normal(0.4, 0.03, (500, 1))
    once = estimate(Sample(np.array([0.4]), draws, N))
    thrice = estimate(Sample(np.full(3, 0.4), np.tile(draws, 3), N))
    assert (thrice.low, thrice.high, thrice.seeds) == (pytest.approx(once.low), pytest.approx(once.high), 3)
    same = difference(Sample(np.full(3, 0.4), np.tile(draws, 3), N), Sample(np.array([0.4]), draws, N))
    assert (same.value, same.se, same.p) == (pytest.approx(0), 0, 1)


def test_one_seed_beside_several():
    """Each arm's part is what its own interval is about: the one with a single seed adds none."""
    found = difference(still(0.5), still(0.40, 0.44, 0.42))
    assert (found.se, found.df) == pytest.approx((stats.sem([0.40, 0.44, 0.42]), 2))


def test_one_seed_is_lent_the_pooled_spread_of_the_others():
    """Without image variance: a linear sum of the others' s², with Satterthwaite's degrees of freedom."""
    a, b, one = still(0.40, 0.44, 0.42), still(0.30, 0.40, 0.36, 0.33), still(0.5)
    s2, df = np.array([a.ap.var(ddof=1), b.ap.var(ddof=1)]), np.array([2, 3])
    pooled = (s2 * df).sum() / df.sum()
    alone = estimate(one, others=[a, b, one])
    assert alone.se == pytest.approx(math.sqrt(pooled))
    found = difference(one, a, others=[a, b, one])
    weights = df / df.sum() + [1 / 3, 0]  # that of a counts as its own, too
    assert found.se == pytest.approx(math.sqrt((weights * s2).sum()))
    inflated = s2 * (df + 2) / df
    assert found.df == pytest.approx((weights * inflated).sum() ** 2 / ((weights * inflated) ** 2 / df).sum())
    two = difference(one, still(0.45), others=[a, b, one])
    assert two.se == pytest.approx(math.sqrt(2 * pooled))
    assert two.df == pytest.approx(alone.df)  # the same number twice knows no more than once
    assert difference(a, b, others=[a, b, one]) == difference(a, b)  # who has several lends and borrows nothing


def test_what_is_unknown_stays_so():
    for sample in (
        Sample(np.array([0.4, np.nan]), np.full((9, 2), 0.4), N),
        Sample(np.array([0.4]), still(0.4).draws, 1),
    ):
        found = estimate(sample)
        assert np.isnan([found.low, found.high, found.se, found.df]).all()
        compared = difference(sample, sample)
        assert np.isnan([compared.low, compared.high, compared.p, compared.detectable]).all()


def test_few_images_tell_no_difference():
    draws = np.random.default_rng(0).normal(0.4, 0.1, (50, 1))
    for n in (2, ENOUGH - 1, ENOUGH):
        one, other = Sample(np.array([0.4]), draws, n), still(0.1)
        found = difference(one, Sample(other.ap, other.draws, n))
        ends = (found.low, found.high, found.se, found.df, found.p, found.detectable)
        assert np.isnan(ends).tolist() == [n < ENOUGH] * 6
        assert found.value == pytest.approx(0.3)


def test_a_draw_without_an_instance_is_left_out():
    draws = np.random.default_rng(4).normal(0.4, 0.03, (101, 2))
    whole = Sample(np.array([0.4, 0.5]), draws[1:], N)
    draws[0] = np.nan
    assert estimate(Sample(np.array([0.4, 0.5]), draws, N)) == estimate(whole)


def test_samples_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="shape"):
        Sample(np.array([0.4, 0.5]), np.zeros((10, 3)), N)
    with pytest.raises(ValueError, match="same draws"):
        difference(still(0.4), Sample(np.array([0.4]), np.zeros((49, 1)), N))


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=5),
    st.lists(st.floats(0, 1), min_size=1, max_size=5),
    st.sampled_from([0.0, 1e-12, 1e-3, 0.1]),
)
def test_any_sample_has_an_interval_with_the_value_in_it(a: list[float], b: list[float], noise: float):
    rng = np.random.default_rng(0)
    samples = [Sample(np.array(ap), np.clip(ap + noise * rng.normal(size=(20, len(ap))), 0, 1), N) for ap in (a, b)]
    found, compared = estimate(samples[0]), difference(*samples, comparisons=3)
    assert -1e-9 <= found.low - 1e-9 <= found.value <= found.high + 1e-9 <= 1 + 1e-9 + 1e-9
    assert -1 <= compared.low <= compared.value <= compared.high <= 1
    assert 0 <= compared.p <= 1
    assert 0 <= compared.detectable <= 1
    assert min(found.df, compared.df) >= 0.99


# Holm


@pytest.mark.parametrize(
    ("p", "corrected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.02], [0.02]),
        ([0.5, 0.6, 0.9], [1, 1, 1]),
        ([0.01, 0.01, 0.01], [0.03, 0.03, 0.03]),
        ([0.04, 0.011], [0.04, 0.022]),
        ([0.03, math.nan, 0.02], [0.04, math.nan, 0.04]),
        ([], []),
    ],
)
def test_holm_by_hand(p: list[float], corrected: list[float]):
    np.testing.assert_allclose(holm(np.array(p)), corrected, rtol=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.999))
def test_holm_rejects_step_by_step(p: list[float], alpha: float):
    """As the procedure is told: the smallest p against alpha/m, the next against alpha/(m-1), until one fails."""
    rejected = set()
    for step, i in enumerate(np.argsort(p, kind="stable")):
        if p[i] * (len(p) - step) >= alpha:
            break
        rejected.add(int(i))
    assert set(np.flatnonzero(holm(np.array(p)) < alpha).tolist()) == rejected


# Known truth


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "comparisons"), [(5, 1), (5, 4), (3, 1), (1, 1)])
def test_the_detectable_difference_is_detected_in_80_of_100_studies(seeds: int, comparisons: int):
    """Against a reference without variance: of the seeds alone, or with one seed of the images alone."""
    rng, sd, studies = np.random.default_rng(5), 0.02, 1000

    def compared(normal: np.ndarray, shift: float, weights: np.ndarray) -> Difference:
        values = 0.4 + shift + sd * normal
        arm = still(*values) if seeds > 1 else linear(values[None], weights)
        reference = Sample(np.array([0.4]), np.full((len(arm.draws), 1), 0.4), N)
        return difference(arm, reference, comparisons=comparisons)

    drawn = rng.normal(size=seeds if seeds > 1 else N)
    exactly_sd = (drawn - drawn.mean()) / drawn.std(ddof=1)
    wanted = compared(exactly_sd, 0.0, image_weights(N, 10_000)).detectable
    weights = image_weights(N, 200)
    p = [compared(rng.normal(size=len(drawn)), wanted, weights).p for _ in range(studies)]
    assert np.mean(np.array(p) < 0.05 / comparisons) == pytest.approx(0.8, abs=3 * math.sqrt(0.16 / studies))


def test_what_small_studies_call_detectable_is_about_right():
    """Two arms of three seeds: the typical study's own word, from its own spread."""
    made = [(arms[0], arms[1]) for arms in linear_studies(LINEAR["mixed"], 3, 2, 300, (1, 1))]
    wanted = float(np.median([difference(*arms).detectable for arms in made]))
    moved = [difference(Sample(a.ap + wanted, a.draws + wanted, a.n_images), b) for a, b in made]
    assert 0.7 < np.mean([d.p < 0.05 for d in moved]) < 0.9


@pytest.mark.slow
def test_three_seeds_cover_where_satterthwaite_s_plain_formula_covers_92_percent():
    """Seven eighths of the variance of seeds, the rest of images: the hardest case for so few."""
    rng, studies, draws = np.random.default_rng(8), 4000, np.random.default_rng(9).normal(size=(300, 1))
    image, seed = 0.01 * math.sqrt(1 / 8), 0.01 * math.sqrt(7 / 8 * 3)
    reference = Sample(np.array([0.4]), np.full((300, 1), 0.4), 1000)
    draws = (draws - draws.mean()) / draws.std(ddof=1)
    covered = 0
    for _ in range(studies):
        ap = 0.4 + image * rng.normal() + seed * rng.normal(size=3)
        found = difference(Sample(ap, ap + image * draws, 1000), reference)
        covered += found.low <= 0 <= found.high
    assert 0.933 < covered / studies < 0.955


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sds", "seeds", "spread"),
    [
        (LINEAR["mixed"], 1, (0, 0, 0, 0)),
        (LINEAR["images"], 3, (1, 1, 1, 1)),
        (LINEAR["seeds"], 3, (1, 3, 1, 3)),
        (LINEAR["seed by image"], 3, (1, 1, 1, 1)),
        (LINEAR["mixed"], 10, (1, 3, 1, 3)),
    ],
)
def test_coverage_and_level_of_a_mean(sds: tuple[float, ...], seeds: int, spread: tuple[float, ...]):
    studies, error = 400, 3 * math.sqrt(0.05 * 0.95 / 400)
    covered, level = [], []
    for samples in linear_studies(sds, seeds, 4, studies, spread):
        pairs = [difference(arm, samples[0]) for arm in samples[1:]]
        covered.append(np.mean([pair.low <= 0 <= pair.high for pair in pairs]))
        level.append((holm(np.array([pair.p for pair in pairs])) < 0.05).any())
    assert 0.935 - error / 2 < np.mean(covered) < (0.975 if seeds != 3 else 0.995)  # three err on the wide side
    assert np.mean(level) < 0.05 + error


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [(3, 3, 1), (1, 3, 3), (1, 1, 5, 5)])
def test_the_level_where_configurations_lost_seeds(seeds: tuple[int, ...]):
    """Equal configurations: with no spread for those of one seed, 6 to 26 of 100 studies had a significant one."""
    studies, err = 400, []
    for samples in linear_studies(LINEAR["seeds"], 5, len(seeds), studies, (1,) * len(seeds)):
        some = [Sample(s.ap[:n], s.draws[:, :n], s.n_images) for s, n in zip(samples, seeds, strict=True)]
        err.append((holm(np.array([difference(arm, some[0], others=some).p for arm in some[1:]])) < 0.05).any())
    assert np.mean(err) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)


WORLDS = {
    "mixed": World(seed=(0.1, 0.1, 0.1)),
    "images": World(seed=(0.02, 0.02, 0.02), arm_image=0.5),
    "unequal seeds": World(seed=(0.4, 0.1, 0.2), seed_image=0.3, n_images=60),
}


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_coverage_and_level_of_ap(world: World):
    studies = 80
    counts = coverage(world, (1, 3, 10), studies, np.random.default_rng(7), draws=100, sets=150)
    for seeds, count in counts.items():
        single, pairs, level = count.rates
        independent = studies * min(3, 10 // seeds)  # sets of seeds; the arms of one share the images
        error = 3 * math.sqrt(0.05 * 0.95 / independent)
        assert 0.94 - error < single < 0.99 + error, seeds
        assert 0.94 - error < pairs <= 1, seeds
        assert level < 0.05 + error, seeds


@given(st.floats(-3, 4), st.integers(1, 1000))
def test_the_detectable_difference_has_its_power_at_any_degrees_of_freedom(log_df: float, comparisons: int) -> None:
    df, alpha = 10**log_df, 0.05 / comparisons
    t = float(stats.t.ppf(1 - alpha / 2, df))
    found = noncentrality(df, alpha)  # which once never came back
    assert found > 0
    if t < 1e5:  # beyond, scipy's distribution is of no use
        assert special.nctdtr(df, found, t) == pytest.approx(0.2, abs=2e-3)


def test_the_types_are_plain_numbers():
    found, compared = estimate(still(0.4, 0.5)), difference(still(0.4, 0.5), still(0.4, 0.6))
    assert all(type(v) is float for v in list(vars(found).values())[:-1] + list(vars(compared).values()))
    assert isinstance(found, Estimate)
