"""AP over bootstrap draws: the reference is `average_precision` of each draw's repeated images, on hard cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cases import random_case

from catpose.instances import Instances
from catpose.score import bootstrap as module
from catpose.score.ap import Matches, average_precision, match
from catpose.score.bootstrap import Bootstrap, bootstrap_ap, image_weights
from catpose.score.detections import Detections


def random_matches(seed: int, n_categories: int | None = None) -> Matches:
    coco, results = random_case(seed, n_categories)
    truth = Instances.from_coco(coco)
    return match(truth, Detections.from_results(results, truth))


def drawn(matches: Matches, times: np.ndarray) -> Matches:
    """Those of the data set that holds each image that many times, (I,)."""
    copies = np.repeat(np.arange(len(matches.image)), times[matches.image])
    return replace(
        matches,
        true=matches.true[..., copies],
        counted=matches.counted[..., copies],
        image=matches.image[copies],
        category=matches.category[copies],
        detection=matches.detection[copies],
        instances=matches.instances * times,
    )


def one_by_one(matches: Matches, weights: np.ndarray) -> dict[str, np.ndarray]:
    """`average_precision` of every draw, (draws,) each."""
    each = [average_precision(drawn(matches, times)) for times in weights]
    return {key: np.array([values[key] for values in each]) for key in each[0]}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("n_categories", [1, 2])
def test_equals_average_precision(n_categories: int):
    spread = []
    for seed in range(12):
        matches = random_matches(seed, n_categories)
        weights = image_weights(matches.instances.shape[-1], 12, seed)
        ours = bootstrap_ap(matches, weights)
        np.testing.assert_allclose(ours, one_by_one(matches, weights)["AP"], rtol=0, atol=1e-12)
        spread.append(np.ptp(ours[~np.isnan(ours)]) if not np.isnan(ours).all() else 0.0)
    assert np.mean(np.array(spread) > 0.01) > 0.3  # the draws do differ, or the agreement would mean little


@pytest.mark.slow
@pytest.mark.parametrize("n_categories", [1, 2])
def test_every_question_equals_average_precision(n_categories: int):
    spread: dict[str, int] = {}
    for seed in range(40):
        matches = random_matches(seed, n_categories)
        weights = image_weights(matches.instances.shape[-1], 12, seed).copy()
        weights[5] = 0  # a draw of nothing
        ours, reference = Bootstrap(matches, weights), one_by_one(matches, weights)
        assert set(ours) == set(reference) - {"n", "n_M", "n_L"}
        for key, value in ours.items():
            assert (value.shape, value.dtype) == ((12,), np.float64)
            np.testing.assert_allclose(value, reference[key], rtol=0, atol=1e-12, err_msg=f"{key}, seed {seed}")
            spread[key] = spread.get(key, 0) + len(np.unique(value[~np.isnan(value)]).round(6)) - 1
        np.testing.assert_array_equal(bootstrap_ap(matches, weights), ours["AP"])
    assert min(spread.values()) >= 5, spread


def test_draws_do_not_meet(monkeypatch: pytest.MonkeyPatch):
    matches = random_matches(7)
    weights = image_weights(matches.instances.shape[-1], 31)
    together = Bootstrap(matches, weights)
    monkeypatch.setattr(module, "_STEP", 4)
    monkeypatch.setattr(module, "_CELLS", 0)
    for key, value in Bootstrap(matches, weights).items():
        np.testing.assert_array_equal(value, together[key])


def test_any_whole_weights():
    """Draws of another size than n, an empty one included, and more draws than are reckoned with at once."""
    matches = random_matches(3)
    weights = np.random.default_rng(0).integers(0, 4, size=(300, matches.instances.shape[-1]))
    weights[17] = 0
    ours = bootstrap_ap(matches, weights)
    np.testing.assert_allclose(ours, one_by_one(matches, weights)["AP"], rtol=0, atol=1e-12)
    assert np.isnan(ours[17])


def test_no_draw_and_no_detection():
    matches = random_matches(3)
    assert bootstrap_ap(matches, np.empty((0, matches.instances.shape[-1]), dtype=np.int64)).shape == (0,)
    assert {value.shape for value in Bootstrap(matches, np.empty((0, len(matches.instances[0, 0])), int)).values()} == {
        (0,)
    }
    coco, _ = random_case(3)
    truth = Instances.from_coco(coco)
    nothing = match(truth, Detections.from_results([], truth))
    assert (bootstrap_ap(nothing, image_weights(len(truth.image_ids), 20)) == 0).all()


def test_weights_of_another_kind_are_refused():
    matches = random_matches(3)
    n = matches.instances.shape[-1]
    for weights in (np.ones((2, n)), np.ones(n, dtype=int), np.ones((2, n + 1), dtype=int), np.full((2, n), -1)):
        with pytest.raises(ValueError, match="weights are"):
            bootstrap_ap(matches, weights)
        with pytest.raises(ValueError, match="weights are"):
            Bootstrap(matches, weights)


def test_draws_are_multinomial_and_the_same_for_all_models():
    weights = image_weights(50, 4000)
    assert (weights.shape, weights.dtype) == ((4000, 50), np.int64)
    assert (weights.sum(axis=1) == 50).all()
    assert (weights == image_weights(50, 4000)).all()
    assert (weights[:10] == image_weights(50, 10)).all()  # more draws only add some
    assert (weights != image_weights(50, 4000, seed=1)).any()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=5 * (1 / 4000) ** 0.5)
    np.testing.assert_allclose(weights.var(), 1 - 1 / 50, atol=0.02)
    with pytest.raises(ValueError, match="image"):
        image_weights(0)
