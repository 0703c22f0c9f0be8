"""Slices against the rest of the animals: confounding is taken out, intervals hold, and few animals say nothing."""

from __future__ import annotations

import numpy as np
import pytest
from made_up import coco, shaken

from catpose.analysis.slices import SliceDifference, compare_slices, recalled
from catpose.analysis.statistics import ENOUGH
from catpose.instances import Instances
from catpose.score.ap import average_precision, match
from catpose.score.bootstrap import image_weights

N = 120


def confounded(rng: np.random.Generator, effect: float = 0.0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Animals of two sources, the one harder, whose colour depends on the source; and their values in two runs."""
    web = rng.random(N) < 0.4
    apart = rng.random(N) < np.where(web, 0.8, 0.1)
    attributes = {"source": np.where(web, "web", "VOC"), "colour": np.where(apart, "apart", "alike")}
    own = 0.7 - 0.3 * web + effect * apart + 0.2 * rng.normal(size=N)
    return attributes, own + 0.1 * rng.normal(size=(2, N)) + 0.01 * rng.normal(size=(2, 1))


def compared(
    attributes: dict[str, np.ndarray], values: np.ndarray, draws: int = 200
) -> dict[str, dict[str, SliceDifference]]:
    return compare_slices(values, attributes, np.arange(values.shape[1]), image_weights(values.shape[1], draws))


def test_a_confounded_slice_shows_no_difference_once_stratified_and_its_source_does() -> None:
    attributes, values = confounded(np.random.default_rng(0))
    alone = compared({"colour": attributes["colour"]}, values)["colour"]["apart"]
    assert alone.difference is not None
    assert alone.p < 0.05
    together = compared(attributes, values)
    colour, source = together["colour"]["apart"], together["source"]["web"]
    assert colour.difference is not None
    assert source.difference is not None
    assert colour.p > 0.05
    assert source.p < 0.001
    assert source.difference.low < -0.3 < source.difference.high


def test_the_stratified_interval_holds_the_true_difference() -> None:
    rng = np.random.default_rng(1)
    held = []
    for _ in range(150):
        found = compared(*confounded(rng, effect=0.1), draws=100)["colour"]["apart"].difference
        assert found is not None
        held.append(found.low <= 0.1 <= found.high)
    assert np.mean(held) > 0.95 - 3 * (0.05 * 0.95 / len(held)) ** 0.5


def test_within_strata_that_are_all_attributes_it_is_the_weighted_mean_of_their_differences() -> None:
    attributes, values = confounded(np.random.default_rng(2))
    found = compared(attributes, values)["colour"]["apart"].difference
    inside, web = attributes["colour"] == "apart", attributes["source"] == "web"
    by_hand, weight = 0.0, 0.0
    for stratum in (web, ~web):
        one, other = stratum & inside, stratum & ~inside
        each = one.sum() * other.sum() / stratum.sum()
        by_hand += each * (values[:, one].mean() - values[:, other].mean())
        weight += each
    assert found is not None
    assert found.value == pytest.approx(by_hand / weight, abs=1e-6)


def test_the_other_of_two_slices_is_the_same_difference_and_counts_once() -> None:
    attributes, values = confounded(np.random.default_rng(3))
    found = compared(attributes, values)
    apart, alike = found["colour"]["apart"], found["colour"]["alike"]
    assert apart.difference == (alike.difference and alike.difference.reversed)
    assert apart.p == alike.p
    assert apart.n + alike.n == N
    single = apart.difference
    assert single is not None
    assert apart.p <= min(2 * single.p, 1)  # two tests, not four


def test_few_animals_or_none_that_others_do_not_share_are_not_enough_to_say() -> None:
    attributes, values = confounded(np.random.default_rng(4))
    rare = np.where(np.arange(N) < ENOUGH - 1, "yes", "no")
    same = np.where(attributes["source"] == "web", "far", "near")
    found = compared({**attributes, "rare": rare, "same": same}, values)
    for attribute in ("rare", "same", "source"):
        for each in found[attribute].values():
            assert each.difference is None
            assert np.isnan(each.p)
            assert each.cells == ("", "not enough animals to say", "")
    assert found["colour"]["apart"].difference is not None


def test_animals_in_no_slice_are_in_none() -> None:
    attributes, values = confounded(np.random.default_rng(5))
    colour = np.where(np.arange(N) % 7 == 0, "", attributes["colour"])
    found = compared({**attributes, "colour": colour}, values)["colour"]
    assert set(found) == {"apart", "alike"}
    assert sum(each.n for each in found.values()) == np.count_nonzero(colour)


def test_the_mean_of_what_is_recalled_is_ar() -> None:
    truth = Instances.from_coco(coco(range(1, 11)))
    found = shaken(truth, 0.05, 0)
    assert recalled(truth, found).mean() == pytest.approx(average_precision(match(truth, found))["AR"], abs=0.05)
    none = found.subset(np.array([], int))
    assert (recalled(truth, none) == 0).all()
