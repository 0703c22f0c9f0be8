"""A report's table, sentences and files, on studies whose outcome is known."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import itertools
import json
import re
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from made_up_study import Trials, study, validation

from catpose.analysis.configurations import SHOWN, Configuration, Design, Training, front, gather, winner
from catpose.analysis.rendering import csv_text, decision, figures, markdown, terminal, trends, write
from catpose.analysis.report import Report, report
from catpose.analysis.sentences import highest_ap, sentences
from catpose.analysis.statistics import ENOUGH, difference, estimate, holm
from catpose.data.coco import read_split
from catpose.data.coco_split import CocoSplit
from catpose.errors import InputError
from catpose.page.results import which_is_better
from catpose.score.bootstrap import image_weights
from catpose.study.file import Study
from catpose.study.results import Truth, design_of, resampled, trainings_of
from catpose.text import p_value, setting, signed

GRID = "space: {model.lr: [1e-5, 1e-4, 5e-4]}\nreference: 1e-5\nseeds: 3\npublished: [0.153, null, 0.228]\n"
SAMPLED = "space: {model.lr: {low: 1e-5, high: 1e-2, log: true}}\ntrials: 14\nseeds: 2\n"
PARETO = "space: {model.lr: [1e-5, 1e-4, 5e-4]}\nseeds: 2\nmetric: {val/AP: maximize, GMACs: minimize}\n"


@pytest.fixture(autouse=True)
def _fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catpose.score.full.image_weights", functools.partial(image_weights, draws=200))


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> CocoSplit:
    return validation(tmp_path_factory.mktemp("data") / "cats")


@pytest.fixture
def grid(tmp_path: Path) -> Study:
    return study(tmp_path, GRID)


def trials_of(study: Study, truth: CocoSplit, noise: list[float]) -> Trials:
    sampled = [
        each or study.space.configuration({"model.lr": n}) for each, n in zip(study.configurations, noise, strict=True)
    ]
    return Trials([truth], sampled, study.seeds, noise)


def made(study: Study, truth: CocoSplit, trials: Trials) -> Report:
    return report(design_of(study), configurations(study, truth, trials))


def configurations(study: Study, truth: CocoSplit, trials: Trials) -> list[Configuration]:
    return resampled(design_of(study), trials.trials, trials.results, [Truth(truth)])


def test_a_grid_of_a_number_and_something_else_has_lines(tmp_path: Path, truth: CocoSplit) -> None:
    space = "space: {model.weights: [null, imagenet], data.train_images: [100, 25, 50]}\nseeds: 2\n"
    lines = study(tmp_path, space)
    out = made(lines, truth, trials_of(lines, truth, [9.0, 8.0, 7.0, 6.0, 5.0, 4.0]))
    axis, found = trends(out)
    assert axis == "train_images"
    assert [(label, [x for x, _ in line]) for label, line in found.items()] == [
        ("none", [25, 50, 100]),
        ("imagenet", [25, 50, 100]),
    ]
    by_params = {(setting(weights), n): row.configuration.mean for row in out.rows
                 for weights, n in [row.configuration.params.values()]}  # fmt: skip
    assert {(label, x): mark.value for label, line in found.items() for x, mark in line} == by_params
    assert b">train_images<" in figures(out)["svg"]


@pytest.mark.parametrize(
    "space",
    [
        "{model.lr: [1e-5, 1e-4, 5e-4]}",
        "{model.weights: [null, imagenet], data.train_images: [100, 25]}",
        "{model.weights: [null, imagenet], data.train_images: [100, 25, null]}",
        "{model.weights: [null, imagenet], model.lr: [1e-5, 1e-4, 5e-4], model.optimizer: [adam, adamw]}",
        "{model.warmup_iterations: [1, 2, 3, 4, 5, 6, 7], data.train_images: [100, 25, 50, 75, 80, 90, 95]}",
    ],
)
def test_other_grids_have_none(space: str, tmp_path: Path, truth: CocoSplit) -> None:
    other = study(tmp_path, f"space: {space}\nseeds: 1\n")
    assert trends(made(other, truth, trials_of(other, truth, [4.0] * len(other.configurations)))) == ("", {})


def records(report: Report) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(report))))


def text(report: Report) -> str:
    return " ".join(sentences(report))


def test_a_clear_difference_is_significant_and_an_absent_one_is_not(grid: Study, truth: CocoSplit) -> None:
    trials = trials_of(grid, truth, [4.0, 12.0, 4.0])
    out = made(grid, truth, trials)
    assert [row.is_reference for row in out.rows] == [True, False, False]
    worse, alike = out.rows[1:]
    assert worse.difference is not None
    assert worse.difference.value < 0
    assert worse.p is not None
    assert worse.p < 0.05
    assert "lr 0.0001 is worse than the reference lr 1e-05" in text(out)
    assert alike.p is not None
    assert alike.p > 0.05
    assert "lr 0.0005 is not significantly different from the reference lr 1e-05: " in text(out)
    assert out.detectable is not None
    assert 0 < out.detectable.low < out.detectable.value < out.detectable.high < 1
    assert text(out).count("with 80 % power") == 1  # once a study
    assert f"and with 3 seeds each, a difference of about {out.detectable.value:.3f} (between" in text(out)
    assert "over training seeds and over images" in text(out)
    assert "one seed" not in text(out)


def test_the_table_holds_what_the_statistics_say(grid: Study, truth: CocoSplit) -> None:
    trials = trials_of(grid, truth, [6.0, 7.0, 9.0])
    results = configurations(grid, truth, trials)
    out = report(design_of(grid), results)
    by_hand = [difference(each.sample, results[0].sample, 0.95, 2) for each in results[1:]]
    for row, found, p in zip(out.rows[1:], by_hand, holm(np.array([d.p for d in by_hand])), strict=True):
        assert row.difference == found
        assert row.p == pytest.approx(p)
    for record, each in zip(records(out), results, strict=True):
        assert float(record["AP"]) == pytest.approx(np.mean(each.ap), abs=1e-6)
        assert float(record["seed_sd"]) == pytest.approx(np.std(each.ap, ddof=1), rel=1e-4)
        assert float(record["best_epoch_AP"]) == pytest.approx(np.mean(each.ap) + 0.01, abs=1e-6)
        assert float(record["minutes"]) == 1.5
        assert float(record["AP_low"]) < float(record["AP"]) < float(record["AP_high"])


def test_the_winner_has_the_highest_mean_of_the_complete_ones(grid: Study, truth: CocoSplit) -> None:
    trials = trials_of(grid, truth, [9.0, 4.0, 6.0])
    out = made(grid, truth, trials)
    assert out.winner is not None
    assert out.winner.label == "0.0001"
    assert decision(out).winner == "0.0001"
    decided = decision(out)
    assert decided.winner_AP_low is not None
    assert decided.winner_AP is not None
    assert decided.winner_AP_high is not None
    assert decided.winner_AP_low < decided.winner_AP < decided.winner_AP_high
    trials.change(1, 2, state="running", outcome=None)
    out = made(grid, truth, trials)
    assert out.winner is not None
    assert out.winner.label == "0.0005"
    assert "Higher, but not complete in all its seeds: lr 0.0001." in text(out)
    for point in (0, 2):
        trials.change(point, 0, state="failed", outcome={"reason": "CUDA out of memory"})
    out = made(grid, truth, trials)
    assert out.winner is None
    assert out.pairs == {}
    assert "no winner; the highest so far is lr 0.0001, 0." in text(out)


def test_the_winner_against_the_reference_is_the_tables_comparison(grid: Study, truth: CocoSplit) -> None:
    out = made(grid, truth, trials_of(grid, truth, [9.0, 4.0, 4.5]))
    assert out.pairs[0].p == out.rows[1].p
    assert set(out.pairs) == {0, 2}
    assert "these very numbers chose the winner" in text(out)
    out = made(grid, truth, trials_of(grid, truth, [4.0, 5.0, 9.0]))
    assert {i: pair.p for i, pair in out.pairs.items()} == {1: out.rows[1].p, 2: out.rows[2].p}
    assert all(pair.difference.value > 0 for pair in out.pairs.values())
    assert "these very numbers chose the winner" not in text(out)


def test_the_winner_is_told_against_each_other_with_sign_size_interval_and_p(grid: Study, truth: CocoSplit) -> None:
    out = made(grid, truth, trials_of(grid, truth, [9.0, 4.0, 4.5]))
    pair = out.pairs[2]
    ends = f"[{signed(pair.difference.low)}, {signed(pair.difference.high)}]"
    assert f"lr 0.0005 ({signed(pair.difference.value)} {ends}, p {p_value(pair.p)})" in text(out)
    assert re.search(r"It is .*better than lr 1e-05 \(\+0\.\d{3} \[\+0\.\d{3}, \+0\.\d{3}\], p [<0]", text(out))
    ahead = trials_of(grid, truth, [9.0, 12.0, 4.0])
    for point in (1, 2):  # the highest isn't complete, so it is no winner, and the winner is worse
        ahead.change(point, 0, state="failed", outcome={"reason": "no memory"})
    out = made(dataclasses.replace(grid, reference="0.0001"), truth, ahead)
    assert out.winner is not None
    assert out.winner.label == "1e-05"
    assert re.search(r"It is .*(worse than|different from) .*lr 0\.0005 \(2 of 3 seeds\) \(-0\.\d{3} \[-", text(out))


def test_ties_and_nothing_learnt_are_named(grid: Study, truth: CocoSplit) -> None:
    trials = trials_of(grid, truth, [5.0, 5.0, 9.0])
    for seed in grid.seeds:  # the same detections
        trials.compressed[1, seed] = trials.compressed[0, seed]
        first = next(trial for trial in trials.trials if trial.key == (0, seed))
        trials.change(1, seed, outcome=dict(first.outcome))
    out = made(grid, truth, trials)
    assert "lr 1e-05 and lr 0.0001 tie for the highest mean AP: 0." in text(out)
    assert "Nothing was learnt" not in text(out)
    assert out.corrected is None  # neither is the highest
    assert "corrected for its" not in text(out) + str(which_is_better(out))
    assert "next of 3 is lr 0.0005" in which_is_better(out).detail
    nothing = made(grid, truth, trials_of(grid, truth, [2000.0] * 3))
    assert text(nothing).startswith("Nothing was learnt: no configuration reaches an AP of 0.01")
    assert decision(nothing).conclusion.startswith("Nothing was learnt")


def test_each_of_a_tie_has_its_own_interval(grid: Study, truth: CocoSplit) -> None:
    out = made(grid, truth, trials_of(grid, truth, [5.0, 5.0, 9.0]))
    twice = [dataclasses.replace(out.rows[0], configuration=row.configuration) for row in out.rows[:2]]
    for row in twice:
        row.configuration.__dict__["ap"] = np.full(3, 0.9)
    assert row.estimate is not None
    low, high = (dataclasses.replace(row.estimate, low=end, high=0.95) for end in (0.1, 0.2))
    said = {"0.900 [0.100, 0.950] and [0.200, 0.950]": (low, high), "0.900 [0.100, 0.950]": (low, low)}
    for ap, estimates in said.items():
        rows = [dataclasses.replace(row, estimate=each) for row, each in zip(twice, estimates, strict=True)]
        for ordered in (rows, rows[::-1]):  # as a cost may sort them
            tie = dataclasses.replace(out, rows=(*ordered, out.rows[2]), corrected=None)
            assert highest_ap(tie) == ap
            assert f"lr 1e-05 and lr 0.0001 tie for the highest mean AP: {ap}" in text(tie)
            assert f"AP {ap}, 3 seeds" in which_is_better(tie).detail


def test_partial_failed_and_pruned_trials_are_said_and_nothing_is_invented(grid: Study, truth: CocoSplit) -> None:
    trials = trials_of(grid, truth, [5.0, 6.0, 7.0])
    trials.change(0, 1, state="waiting", outcome=None)
    trials.change(1, 2, state="pruned", outcome={"reason": "pruned in epoch 4"})
    for seed in grid.seeds:
        trials.change(2, seed, state="failed", outcome={"reason": "the training loss is nan\nin epoch 0"})
    out = made(grid, truth, trials)
    first, second, third = records(out)
    assert (first["seeds"], second["seeds"], third["seeds"]) == ("2", "2", "0")
    assert all(
        third[key] == "" for key in ("AP", "AP_low", "seed_sd", "best_epoch_AP", "difference", "p_holm", "minutes")
    )
    assert third["published_elsewhere"] == "0.228"
    assert "1 of 9 trials still to come." in text(out)
    assert "lr 0.0001, seed 2 pruned: pruned in epoch 4." in text(out)
    assert "lr 0.0005, seed 1 failed: the training loss is nan in epoch 0." in text(out)
    assert "lr 1e-05 (2 of 3 seeds) and lr 0.0001 (2 of 3 seeds)" in text(out)
    assert "nan" not in csv_text(out).replace("loss is nan", "")
    assert "nan" not in terminal(out).replace("loss is nan", "")


def test_a_trial_that_ended_early_is_said_and_counted_nowhere(grid: Study, truth: CocoSplit) -> None:
    trials = trials_of(grid, truth, [5.0, 3.0, 7.0])
    whole = made(grid, truth, trials)
    assert whole.winner is not None
    assert whole.winner.label == "0.0001"
    trials.change(1, 2, state="early", outcome={"reason": "2 of 30 epochs"})
    trials.change(2, 0, state="early", outcome={"reason": "2 of 30 epochs"})
    out = made(grid, truth, trials)
    assert out.winner is not None
    assert out.winner.label == "1e-05"
    assert [row.configuration.seeds for row in out.rows] == [(0, 1, 2), (0, 1), (1, 2)]
    assert [record["seeds"] for record in records(out)] == ["3", "2", "2"]
    assert records(out)[1]["notes"] == "seed 2 ended early: 2 of 30 epochs"
    assert "lr 0.0001, seed 2 ended early: 2 of 30 epochs." in text(out)
    assert "failed, ended early or were pruned" in text(out)
    for seed in grid.seeds:
        trials.change(2, seed, state="early", outcome={"reason": "2 of 30 epochs"})
    out = made(grid, truth, trials)
    assert [row.p is None for row in out.rows] == [True, False, True]


def test_restrictions_stand_in_the_conclusion_itself(grid: Study, truth: CocoSplit, tmp_path: Path) -> None:
    """Which is all that W&B gets."""
    trials = trials_of(grid, truth, [9.0, 5.0, 6.0])
    for seed in (1, 2):
        trials.change(0, seed, state="failed", outcome={"reason": "no memory"})
    said = decision(made(grid, truth, trials)).conclusion
    assert re.search(r"lr 0\.0001 is (better than|not .* different from) the reference lr 1e-05 \(1 of 3 seeds\)", said)
    assert re.search(r"It is .* lr 1e-05 \(1 of 3 seeds\) \(\+0\.", said)
    assert (
        "(p corrected for all pairs of configurations, since these very numbers chose the winner; that to the" in said
    )
    assert "of those complete" not in said
    trials.change(1, 2, state="failed", outcome={"reason": "no memory"})
    said = decision(made(grid, truth, trials)).conclusion
    assert said.startswith("lr 0.0005 is the only configuration complete in all its seeds")
    trials = trials_of(grid, truth, [9.0, 5.0, 6.0])
    trials.change(1, 2, state="failed", outcome={"reason": "no memory"})
    said = decision(made(grid, truth, trials)).conclusion
    assert said.startswith("lr 0.0005 has the highest mean AP of those complete in all their seeds: 0.")
    sampled = study(tmp_path, SAMPLED.replace("14", "3"))
    said = decision(made(sampled, truth, trials_of(sampled, truth, [10.0, 4.0, 9.0]))).conclusion
    assert re.match(r"lr 4 has .*: 0\.\d{3} \[.*\], picked as the best of 3 sampled configurations and biased", said)


def test_few_images_tell_nothing_apart(grid: Study, tmp_path: Path) -> None:
    validation(tmp_path)
    content = json.loads((tmp_path / "annotations" / "val.json").read_text())
    content["images"] = content["images"][:9]
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] <= 9]
    assert len(content["annotations"]) > ENOUGH
    (tmp_path / "annotations" / "val.json").write_text(json.dumps(content))
    few = read_split(tmp_path, "val")
    out = made(grid, few, trials_of(grid, few, [2000.0, 1e-6, 1000.0]))
    assert np.isnan([each.p for each in out.pairs.values()]).all()
    assert out.detectable is out.corrected is None
    assert re.search(
        r"lr 0\.0001 is on too few images to be told from the reference lr 1e-05: \+\d\.\d{3}\.", text(out)
    )
    assert not re.search(r"\bp [\d<]|p \)|Holm|is better|significantly", text(out))


def test_mixed_versions_are_said(grid: Study, truth: CocoSplit) -> None:
    trials = trials_of(grid, truth, [5.0, 6.0, 7.0])
    assert "mixed versions" not in text(made(grid, truth, trials))  # of 0.1.0, which wrote none down
    for trial in list(trials.trials):
        versions = {"catpose": "0.2.0", "torch": "2.9.1"}
        trials.change(trial.configuration_index, trial.seed, outcome={"versions": versions})
    assert "mixed versions" not in text(made(grid, truth, trials))
    trials.change(1, 0, outcome={"versions": {"catpose": "0.2.0", "torch": "2.7.0"}})
    said = text(made(grid, truth, trials))
    assert "trained with mixed versions" in said
    assert "torch 2.9.1 (8 trials) and 2.7.0 (1 trial)." in said
    assert "catpose 0.2.0" not in said
    trials.change(1, 0, outcome={"versions": {}})
    assert "torch 2.9.1 (8 trials) and an unknown one (1 trial)." in text(made(grid, truth, trials))
    for trial in list(trials.trials):  # each was taken over by a worker of another version
        trials.change(trial.configuration_index, trial.seed, outcome={"versions": {"catpose": "0.2.0, 0.3.0"}})
    assert "catpose 0.2.0, 0.3.0 (9 trials)." in text(made(grid, truth, trials))


def test_one_seed_speaks_of_these_models(tmp_path: Path, truth: CocoSplit) -> None:
    one = study(tmp_path, GRID.replace("seeds: 3", "seeds: 1"))
    out = made(one, truth, trials_of(one, truth, [5.0, 6.0, 7.0]))
    assert "these trained models on other images" in text(out)
    assert "over training seeds" not in text(out)
    assert "The one model trained with lr 1e-05 has the highest AP: 0." in text(out)
    assert re.search(
        "The one model trained with lr 0.0005 is (worse|not significantly different)"
        r"[^:]* the one model trained with lr 1e-05 \(the reference\): -0\.",
        text(out),
    )
    assert "The one model trained with" in decision(out).conclusion
    assert all(np.isnan(row.sd) for row in out.rows)
    assert all(row.estimate is not None for row in out.rows)
    assert "seed sd" not in terminal(out)


def test_configurations_of_different_numbers_of_seeds_say_whose_interval_is_narrower_in_meaning(
    grid: Study, truth: CocoSplit
) -> None:
    trials = trials_of(grid, truth, [5.0, 6.0, 7.0])
    for seed in (1, 2):
        trials.change(2, seed, state="waiting", outcome=None)
    out = made(grid, truth, trials)
    assert "With one seed, lr 0.0005 can't show a spread between seeds: that of the others is taken for it" in text(out)
    assert "pooled (4 degrees of freedom)" in text(out)
    assert "over training seeds" in text(out)
    assert "the one model" not in text(out)
    samples = [row.configuration.sample for row in out.rows]
    assert out.rows[2].difference == difference(samples[2], samples[0], comparisons=2, others=samples)
    assert out.rows[2].estimate == estimate(samples[2], others=samples)


def test_before_the_first_trial_is_complete_there_is_a_report_all_the_same(
    grid: Study, truth: CocoSplit, tmp_path: Path
) -> None:
    trials = trials_of(grid, truth, [5.0, 6.0, 7.0])
    for trial in list(trials.trials):
        trials.change(trial.configuration_index, trial.seed, state="waiting", outcome=None)
    trials.change(0, 0, state="running")
    out = made(grid, truth, trials)
    assert out.winner is None
    assert sentences(out) == [
        "No trial is complete yet, so nothing can be said.",
        "9 of 9 trials still to come (1 running).",
    ]
    assert len(write(out, tmp_path / "out")) == 4


def test_configurations_stand_in_the_files_order_whatever_their_points_and_say_what_is_left_out(
    grid: Study, truth: CocoSplit
) -> None:
    made = Trials([truth], grid.configurations, [0], [3.0, 2.0, 1.0][: len(grid.configurations)])
    last = len(grid.configurations) - 1
    made.trials = [
        dataclasses.replace(trial, configuration_index=last - trial.configuration_index) for trial in made.trials
    ]
    gathered = gather(design_of(grid), trainings_of(made.trials))
    assert [each.label for each in gathered] == [*grid.labels]
    assert [each.published for each in gathered] == [*grid.published]
    assert "lr x is left out" in markdown(report(design_of(grid), gathered, ["lr x is left out"]))


def test_a_reference_without_trials_leaves_differences_blank(grid: Study, truth: CocoSplit) -> None:
    trials = trials_of(grid, truth, [5.0, 6.0, 7.0])
    for seed in grid.seeds:
        trials.change(0, seed, state="failed", outcome={"reason": "no memory"})
    out = made(grid, truth, trials)
    assert all(row.difference is None and row.p is None for row in out.rows)
    assert "The reference lr 1e-05 has no complete trial" in text(out)
    assert set(out.pairs) == {1 if out.winner is out.rows[2].configuration else 2}


def test_published_numbers_stand_beside_and_change_nothing(grid: Study, truth: CocoSplit) -> None:
    trials = trials_of(grid, truth, [5.0, 6.0, 7.0])
    out = made(grid, truth, trials)
    other = made(dataclasses.replace(grid, published=(None, None, None)), truth, trials)
    assert "published*" in terminal(out)
    assert "*Published elsewhere" in text(out)
    assert "ublished" not in terminal(other)
    strip = [{k: v for k, v in record.items() if k != "published_elsewhere"} for record in records(out)]
    assert strip == [{k: v for k, v in record.items() if k != "published_elsewhere"} for record in records(other)]


@pytest.mark.parametrize(("key", "value"), [("split_hash", "f" * 64), ("flip_test", False), ("sigmas", [0.1] * 17)])
def test_trials_of_two_contracts_are_never_compared(grid: Study, truth: CocoSplit, key: str, value: object) -> None:
    trials = trials_of(grid, truth, [5.0, 6.0, 7.0])
    protocol = trials.trials[4].outcome.protocol | {key: value}
    trials.change(1, 1, outcome={"protocol": protocol})
    with pytest.raises(InputError, match=rf"0.0001, seed 1 and 1e-05, seed 0 were scored .*\({key} ") as caught:
        gather(design_of(grid), trainings_of(trials.trials))
    assert "\n" not in str(caught.value)


def test_another_split_than_the_scored_one_is_refused(grid: Study, truth: CocoSplit, tmp_path: Path) -> None:
    trials = trials_of(grid, truth, [5.0, 6.0, 7.0])
    validation(tmp_path / "other")
    content = json.loads((tmp_path / "other" / "annotations" / "val.json").read_text())
    content["annotations"][0]["bbox"][2] += 1
    (tmp_path / "other" / "annotations" / "val.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "other"))):
        made(grid, read_split(tmp_path / "other", "val"), trials)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("damage", ["missing", "cut", "no JSON", "another's", "a bomb", "deep"])
def test_damaged_detections_are_refused(grid: Study, truth: CocoSplit, damage: str) -> None:
    trials = trials_of(grid, truth, [5.0, 6.0, 9.0])
    whole = trials.compressed[0, 1]
    if damage == "missing":
        del trials.compressed[0, 1]
    else:
        other = {"cut": whole[:100], "no JSON": zlib.compress(b"{"), "another's": trials.compressed[2, 1]}
        other |= {"a bomb": zlib.compress(bytes(2**28)), "deep": zlib.compress(b"[" * 10**5)}
        trials.compressed[0, 1] = other[damage]
    if damage in ("a bomb", "deep"):
        tracemalloc.start()
    with pytest.raises(InputError, match="1e-05, seed 1: its detections"):
        made(grid, truth, trials)
    assert tracemalloc.get_traced_memory()[1] < 2**27
    tracemalloc.stop()


def test_a_sampled_study_shows_its_best_and_hunts_no_p_values(tmp_path: Path, truth: CocoSplit) -> None:
    sampled = study(tmp_path, SAMPLED)
    noise = [10.0, 4.0, 9.0, 5.0, 8.0, 11.0, 4.5, 12.0, 7.0, 6.0, 13.0, 14.0, 5.5, 9.5]
    trials = trials_of(sampled, truth, noise)
    trials.change(1, 1, state="pruned", outcome={"reason": "pruned in epoch 1"})
    trials.change(11, 0, state="waiting", configuration=None, outcome=None)
    trials.change(11, 1, state="waiting", configuration=None, outcome=None)
    out = made(sampled, truth, trials)
    values = [row.configuration.mean for row in out.rows if row.configuration.is_complete]
    assert len(out.rows) == SHOWN
    assert values == sorted(values, reverse=True)
    assert out.winner is out.rows[0].configuration
    assert out.winner.mean == max(each.mean for each in out.configurations if each.is_complete)
    assert all(row.p is None and row.difference is None for row in out.rows)
    assert all(row.estimate is not None for row in out.rows)
    assert out.pairs == {}
    assert "p (Holm)" not in terminal(out)
    assert "The AP of the best of 13 sampled configurations is biased upwards" in text(out)
    assert "The table shows the best 10." in text(out)
    assert len(records(out)) == 14
    shown = {(row.configuration.index, seed) for row in out.rows for seed in row.configuration.seeds}
    assert trials.asked == shown  # the others' detections need not be read


def with_costs(study: Study, truth: CocoSplit, noise: list[float], gmacs: list[float]) -> Trials:
    trials = trials_of(study, truth, noise)
    for trial in list(trials.trials):
        values = {**trial.outcome.values, "GMACs": gmacs[trial.configuration_index]}
        trials.change(trial.configuration_index, trial.seed, outcome={"values": values})
    return trials


def test_a_study_of_cost_is_sorted_by_it_and_marks_the_front(tmp_path: Path, truth: CocoSplit) -> None:
    pareto = study(tmp_path, PARETO)
    out = made(pareto, truth, with_costs(pareto, truth, [5.0, 9.0, 4.0], [3.0, 2.0, 10.0]))
    assert [row.configuration.label for row in out.rows] == ["0.0001", "1e-05", "0.0005"]
    assert all(row.is_front for row in out.rows)
    out = made(pareto, truth, with_costs(pareto, truth, [4.0, 9.0, 5.0], [3.0, 4.0, 10.0]))
    assert [row.is_front for row in out.rows] == [True, False, False]
    assert "On the Pareto front of AP and GMACs, by the means: lr 1e-05 (AP 0." in text(out)
    assert "1e-05 (front)" in terminal(out)
    assert [record["GMACs"] for record in records(out)] == ["3", "4", "10"]


def test_the_front_is_who_is_not_beaten(tmp_path: Path) -> None:
    pareto = study(tmp_path, PARETO)
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = rng.integers(0, 5, (12, 2)).astype(float)  # many are equal
        cases = [case(i, ap, cost) for i, (ap, cost) in enumerate(values)]
        expected = [
            each.label
            for each, (ap, cost) in zip(cases, values, strict=True)
            if not any(a >= ap and c <= cost and (a > ap or c < cost) for a, c in values)
        ]
        assert [each.label for each in front(design_of(pareto), cases)] == expected


def case(index: int, ap: float, gmacs: float = np.nan, planned: int = 1) -> Configuration:
    """A configuration with one complete trial of those that are planned."""
    values = {"val/AP": ap, "GMACs": gmacs}
    trials = [Training(index, seed, "waiting" if seed else "complete", values=values) for seed in range(planned)]
    return Configuration(f"{index}", tuple(trials), index=index)


def test_a_configuration_without_its_cost_or_not_complete_is_on_no_front(tmp_path: Path) -> None:
    pareto = study(tmp_path, PARETO)
    cases = [case(0, 0.5), case(1, 0.4, 1.0), case(2, 0.9, 0.5, planned=2)]
    assert [each.label for each in front(design_of(pareto), cases)] == ["1"]


def test_of_equal_configurations_the_first_wins() -> None:
    cases = [case(0, 0.4), case(1, 0.5), case(2, 0.5), case(3, 0.9, planned=2)]
    won = winner(cases)
    assert won is cases[1]
    assert winner([]) is None


def test_the_same_aps_tie_in_any_order_of_seeds() -> None:
    orders = itertools.permutations((0.1, 0.2, 0.3))
    each = [
        Configuration(
            f"{i}", tuple(Training(i, s, "complete", values={"val/AP": ap}) for s, ap in enumerate(order)), {}, i
        )
        for i, order in enumerate(orders)
    ]
    assert len({one.ap.mean() for one in each}) > 1  # as floats add up
    assert report(Design("order"), each).tied == each


def test_markdown_is_a_table_whatever_the_labels(grid: Study, truth: CocoSplit) -> None:
    trials = trials_of(grid, truth, [5.0, 6.0, 7.0])
    for trial in list(trials.trials):
        label = f"a|b_*<{trial.configuration_index}>" if trial.configuration_index else "1e-05"
        trials.change(
            trial.configuration_index, trial.seed, configuration=dataclasses.replace(trial.configuration, label=label)
        )
    text = markdown(made(grid, truth, trials))
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert len(table) == 5
    assert text.startswith("# lr\n\n")
    assert "which learning rate?" in text
    assert "python -m catpose.fit" in text
    assert "![The configurations](report.png)" in text
    assert "report.png" not in markdown(made(grid, truth, trials), figure=None)


@pytest.mark.slow
def test_the_same_study_writes_the_same_files(grid: Study, truth: CocoSplit, tmp_path: Path) -> None:
    trials = trials_of(grid, truth, [5.0, 6.0, 7.0])
    first = write(made(grid, truth, trials), tmp_path / "a")
    again = write(made(grid, truth, trials), tmp_path / "b")
    assert [file.name for file in first] == ["report.md", "report.csv", "report.png", "report.svg"]
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == sorted(file.name for file in first)
    for one, two in zip(first, again, strict=True):
        assert one.read_bytes() == two.read_bytes()


def test_a_folder_that_is_a_file_is_refused(grid: Study, truth: CocoSplit, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="taken"):
        write(made(grid, truth, trials_of(grid, truth, [5.0, 6.0, 7.0])), tmp_path / "taken")


def test_a_large_study_is_summed_up_in_counts(tmp_path: Path, truth: CocoSplit) -> None:
    large = study(tmp_path, f"space: {{model.lr: {[i / 1000 for i in range(1, 18)]}}}\nseeds: 2\n")
    trials = trials_of(large, truth, [4.0] * 9 + [12.0] * 8)
    for point in range(15):
        trials.change(point, 1, state="failed", outcome={"reason": "CUDA out of memory"})
    out = made(large, truth, trials)
    assert "15 of 34 trials failed. Failed, 15 times: CUDA out of memory." in text(out)
    assert len(sentences(out)) < 16
    assert re.search(r"Of 16 configurations, \d+ differ significantly from the reference lr 0.001", text(out))
