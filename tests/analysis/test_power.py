"""What a study is said to detect is what it detects, in studies whose spread is known."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import LINEAR, linear_studies, still

from catpose.analysis.power import Detectable, detectable
from catpose.analysis.statistics import Sample, difference


def is_found(arms: list[Sample], shift: float) -> bool:
    moved = Sample(arms[1].ap + shift, arms[1].draws + shift, arms[1].n_images)
    return difference(moved, arms[0]).p < 0.05


def true_value(studies: list[list[Sample]]) -> float:
    """The difference that 80 of 100 of these studies find."""
    low, high = 0.0, 1.0
    for _ in range(9):
        middle = (low + high) / 2
        low, high = (middle, high) if np.mean([is_found(arms, middle) for arms in studies]) < 0.8 else (low, middle)
    return high


@pytest.mark.slow
@pytest.mark.parametrize(("world", "seeds", "arms"), [("seeds", 2, 3), ("mixed", 3, 3), ("seeds", 5, 2)])
def test_the_detectable_difference_is_detected_by_80_of_100_studies_and_lies_in_its_range(
    world: str, seeds: int, arms: int
) -> None:
    studies = list(linear_studies(LINEAR[world], seeds, arms, 150, (1,) * arms))
    pairs = [(0, i) for i in range(1, arms)]
    said = [each for each in (detectable(study, pairs, 1) for study in studies) if each]
    assert len(said) == len(studies)
    next_ones = zip(said, [*studies[1:], studies[0]], strict=True)  # not the one whose spread it is from
    power = np.mean([is_found(study, each.value) for each, study in next_ones])
    error = 3 * (0.8 * 0.2 / len(studies)) ** 0.5
    assert 0.75 - error < power < 0.85 + error
    true = true_value(studies)
    assert np.mean([each.low <= true <= each.high for each in said]) > 0.8 - error - 0.05
    assert np.median([each.value for each in said]) == pytest.approx(true, rel=0.3)


def test_more_comparisons_fewer_seeds_and_fewer_configurations_make_it_larger_or_less_sure() -> None:
    (study,) = linear_studies(LINEAR["mixed"], 5, 4, 1, (1,) * 4)

    def of(arms: list[Sample], comparisons: int = 1) -> Detectable:
        found = detectable(arms, [(0, 1)], comparisons)
        assert found is not None
        return found

    fewer = [Sample(arm.ap[:3], arm.draws[:, :3], arm.n_images) for arm in study]
    assert of(study, 6).value > of(study).value
    assert (of(study).seeds, of(fewer).seeds) == (5, 3)
    assert of(fewer[:2]).high / of(fewer[:2]).low > of(fewer).high / of(fewer).low


def test_nothing_that_varies_is_nothing_to_detect() -> None:
    assert detectable([still(0.0, 0.0), still(0.0, 0.0)], [(0, 1)], 1) is None
    assert detectable([still(0.4)], [], 1) is None
    rounded = still(0.3, 0.1 + 0.2, 0.3)  # 5e-17 apart
    assert rounded.ap.std() > 0
    assert detectable([rounded, rounded], [(0, 1)], 1) is None
