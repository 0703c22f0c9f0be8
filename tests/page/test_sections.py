"""The report's sections: what they claim follows from the numbers, and what was published is quoted as it was."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from catpose.analysis import report as reports
from catpose.analysis.configurations import Configuration, Design, evaluate_runs
from catpose.analysis.diagnosis import diagnose
from catpose.analysis.power import Detectable
from catpose.analysis.report import Report, report
from catpose.analysis.rules import scored_by_rules
from catpose.analysis.statistics import Difference
from catpose.cost.complexity import complexity
from catpose.cost.record import Cost, Profile, Timing
from catpose.cost.runtime import RunTime, Spread
from catpose.data.coco import read_split
from catpose.data.coco_split import CocoSplit
from catpose.errors import InputError
from catpose.instances import Instances
from catpose.model.backbones.resnet import ResNet
from catpose.model.backbones.timm_backbone import TimmBackbone
from catpose.page.cost import Price, price, what_does_it_cost
from catpose.page.failures import where_does_it_fail
from catpose.page.html import Beside, Figure, Fold, Listing, Section, Table, Text
from catpose.page.results import is_it_real, ours, published, read_published, results
from catpose.page.run_folder import Run
from catpose.page.runs import Found, read_runs
from catpose.page.training import training
from catpose.score.detections import Detections
from catpose.score.rules import RULES
from catpose.text import fraction


@pytest.fixture(scope="module")
def truth(drawn: Path) -> CocoSplit:
    return read_split(drawn, "val")


@pytest.fixture(scope="module")
def found(finished: Path) -> Found:
    return read_runs([finished])


@pytest.fixture(scope="module")
def run(found: Found) -> Run:
    (run,) = found.runs.values()
    return run


def test_what_fit_counted_and_what_is_counted_here_are_the_same(run: Run, truth: CocoSplit, tmp_path: Path) -> None:
    shutil.copyfile(run.path / "config.yaml", tmp_path / "config.yaml")  # as of 0.1.0, without complexity.json
    written = price([run], truth.skeleton, ()).complexity
    assert written is not None
    assert written.macs > 0
    assert price([dataclasses.replace(run, path=tmp_path, history=[])], truth.skeleton, ()).complexity == written


def configuration(found: Found, truth: Instances, label: str, off_px: float = 0.0, index: int = 0) -> Configuration:
    """The run's detections, moved by some pixels."""
    (training,) = found.trainings
    assert training.detections is not None
    moved = dataclasses.replace(training.detections, keypoints=training.detections.keypoints + off_px)
    evaluated = evaluate_runs(label, [moved], truth, draws=50)
    trainings = tuple(dataclasses.replace(each, run=training.run) for each in evaluated.trainings)
    return dataclasses.replace(evaluated, trainings=trainings, index=index)


@pytest.fixture(scope="module")
def two(found: Found, truth: Instances) -> Report:
    """A run beside one whose detections lie a little off."""
    return report(
        Design("two"), [configuration(found, truth, "good"), configuration(found, truth, "bad", 9.0, index=1)]
    )


def test_configurations_of_a_number_and_a_name_are_drawn_as_lines(found: Found, truth: CocoSplit) -> None:
    grid = [(start, n) for start in ("random", "animals") for n in (25, 50, 100)]
    each = [configuration(found, truth, f"{start} {n}", index=i) for i, (start, n) in enumerate(grid)]
    varied = [
        dataclasses.replace(one, params={"images": n, "start": s}) for one, (s, n) in zip(each, grid, strict=True)
    ]
    section = results(report(Design("curve"), varied), truth)
    beside = next(block for block in section.blocks if isinstance(block, Beside))
    figure = next(block for block in beside.blocks if isinstance(block, Figure))
    svg = figure.files["svg"]
    assert all(text in svg for text in (b">images<", b">random<", b">animals<", b">25<"))


def told(two: Report, p: float, seeds: int = 1, **changed: float) -> str:
    made = dataclasses.replace(Difference(0.1, -0.1, 0.3, 0.1, 30.0, p, 0.28), **changed)
    rows = tuple(
        dataclasses.replace(
            row, configuration=dataclasses.replace(row.configuration, trainings=row.configuration.trainings * seeds)
        )
        for row in two.rows
    )
    winner = rows[0].configuration
    answer = is_it_real(dataclasses.replace(two, rows=rows, winner=winner, pairs={1: reports.Tested(made, p)}))
    return f"{answer.answer}: {answer.detail}"


def test_what_one_seed_cannot_tell_is_said(two: Report) -> None:
    assert told(two, 0.01) == "Yes: +0.100 [-0.100, +0.300] to bad, p 0.010; of these trainings, not of training again"
    assert "trainings" not in told(two, 0.01, seeds=3)


def test_what_would_have_been_seen_is_said_where_it_is_known(two: Report) -> None:
    of = Detectable(0.28, 0.2, 0.4, 1)
    assert "a true one of about 0.280 would be seen 4 times in 5" in told(dataclasses.replace(two, detectable=of), 0.3)
    assert "4 times in 5" not in told(dataclasses.replace(two, detectable=None), 1.0)  # the same detections twice


def test_nothing_is_claimed_of_one_image(two: Report) -> None:
    assert told(two, np.nan, low=np.nan, high=np.nan) == "Can't be told: +0.100 to bad, on too few images to tell"


def test_a_model_that_errs_nowhere_is_not_said_to_err(truth: Instances) -> None:
    n = len(truth)
    found = Detections(
        truth.image_id, truth.category_id, truth.keypoints, np.full((n, 17), 0.9), np.full(n, 0.9), truth.ids
    )
    answer = where_does_it_fail(diagnose(evaluate_runs("perfect", [found], truth, 20), truth, {}, 20))
    assert answer.answer == "Nowhere"


def test_the_published_ap_are_those_that_the_studies_quote() -> None:
    """sweeps/*.yaml quote them too, one number an arm."""
    sweeps = Path(__file__).parents[2] / "sweeps"
    for table in read_published():
        if "study" in table and table["study"] not in ("input_size", "batch_size"):
            text = (sweeps / f"{table['study']}.yaml").read_text()
            for row in table["rows"]:
                assert f"{float(row['cells'][-1]):.3f}" in text


def test_every_published_ap_says_whose_rule_it_is_of() -> None:
    """One of `test --rules`, and one a table: numbers of different rules never stand in one column."""
    names = tuple(rule.name for rule in RULES)
    for table in read_published():
        assert ("rule" in table) == (not table.get("complexity"))
        assert table.get("rule", names[0]).startswith(names)


def test_only_tables_that_contradict_something_are_counted(two: Report, found: Found) -> None:
    *seen, fold = published(two, found.runs).blocks
    assert isinstance(fold, Fold)
    count, listing, *tables = fold.blocks
    assert isinstance(count, Text)
    assert isinstance(listing, Listing)
    assert count.text.startswith(f"{len(listing.items)} of these tables contradict")
    assert not any(item.startswith("Batch size") for item in listing.items)
    (batch,) = (b for b in tables if isinstance(b, Table) and b.caption.startswith("Batch size"))
    assert "no order follows" in batch.note
    assert [row[-1] for row in batch.rows] == ["not run"] * 3
    assert not any(isinstance(block, Table) for block in seen)


def test_only_published_rows_with_a_run_of_ours_are_unfolded(two: Report, run: Run) -> None:
    mine = dataclasses.replace(run, study=Path("learning_rate"), settings=run.settings | {"model.lr": 1e-4})
    alone = dataclasses.replace(two, rows=two.rows[:1])
    (table,) = (block for block in published(alone, {str(run.path): mine}).blocks if isinstance(block, Table))
    assert table.caption.startswith("Learning rate")
    assert [row[:2] for row in table.rows] == [("1e-4", "0.488")]


def test_the_rules_of_other_programs_stand_on_the_page(two: Report, truth: CocoSplit) -> None:
    (fold,) = (b for b in results(two, truth).blocks if isinstance(b, Fold) and "other programs" in b.summary)
    table, notes = fold.blocks
    assert isinstance(table, Table)
    assert isinstance(notes, Listing)
    detections = two.rows[0].configuration.detections[0]
    expected = [(rule.name, ap) for rule, ap in scored_by_rules(truth, detections, RULES)]
    assert [(row[0], row[1]) for row in table.rows[1:]] == [(name, fraction(ap)) for name, ap in expected]
    assert len(expected) == len(RULES) == len(notes.items)
    assert table.rows[0][1] == fraction(two.rows[0].configuration.mean)


@pytest.mark.parametrize(
    ("title", "study", "settings", "rows"),
    [
        ("Learning rate", "learning_rate-mobilenet", {"model.lr": 1e-4}, [1]),
        ("Depth", "depthwise", {"model.class_path": "x.ResNeSt", "model.depth": 50}, []),
        ("Warm-up", "warmup", {"model.warmup_iterations": 10, "model.milestones": [170, 200]}, []),
        ("Warm-up", "warmup", {"model.warmup_iterations": 10, "model.milestones": [10, 15]}, [0]),
        ("Input size", "input_size", {"data.input_size": [192, 256]}, [0]),
        ("Input size", "depth", {"model.class_path": "catpose.model.backbones.resnet.ResNet", "model.depth": 152}, [2]),
        ("Augmentation", "augmentation", {"data.augment.rotation_factor": 10, "data.augment.scale_factor": 0.2,
         "data.augment.half_body_probability": 0.3, "data.augment.translation_factor": 0.0,
         "data.augment.photometric_probability": 0.0}, []),
    ],
)  # fmt: skip
def test_a_model_stands_beside_the_rows_that_have_its_settings(
    title: str, study: str, settings: dict[str, object], rows: list[int], two: Report, run: Run
) -> None:
    mine = dataclasses.replace(run, study=Path(study), settings=run.settings | settings)
    alone = dataclasses.replace(two, rows=two.rows[:1])
    (table,) = (table for table in read_published() if table["title"] == title)
    beside = [i for i, row in enumerate(table["rows"]) if ours(alone, {str(run.path): mine}, table, row) != "not run"]
    assert beside == rows


def test_an_unknown_ap_is_not_the_best_and_captions_keep_their_capitals(two: Report, run: Run) -> None:
    mine = [two.rows[0].configuration]
    history = [{"epoch": str(i), "val/AP": ap, "lr": "1e-3"} for i, ap in enumerate(("0.3", "nan", "0.2", ""))]
    aps = [(0, 0.3), (2, 0.2)]
    section = training(mine, {str(run.path): dataclasses.replace(run, history=history, validations=aps)})
    assert "Validation AP" in [block.caption for block in section.blocks if isinstance(block, Figure)]
    table = last_epochs(section)
    assert table.rows[0][-2:] == ("0.200", "0.300 (0)")
    assert "catpose.test was given" not in table.note
    other = last_epochs(training(mine, {str(run.path): dataclasses.replace(run, results=Path("results_val.json"))}))
    assert "Of good, it is about the checkpoint that catpose.test was given" in other.note


def last_epochs(section: Section) -> Table:
    (table,) = (inside for fold in section.blocks if isinstance(fold, Fold) for inside in fold.blocks
                if isinstance(inside, Table))  # fmt: skip
    return table


@pytest.mark.slow
def test_the_time_of_a_crop_is_that_of_the_same_network(two: Report, run: Run) -> None:
    here = complexity(TimmBackbone("test_resnet", head_channels=16, weights=None), (64, 64))
    timings = tuple(Timing("keypoints", n, "float32", False, 0.25 * n, 1.0, 5, 10.0, None) for n in (2, 1))
    name = run.settings["model.class_path"].rsplit(".", 1)[-1]
    made = Cost(name, {}, "cpu", 2, here, timings, None, None, None, ())
    prices, runs = {0: Price(here, {}), 1: Price(None, {})}, {str(run.path): run}
    answer = what_does_it_cost(two, runs, prices, [Profile({}, None, ()), Profile({}, made, ())])
    assert answer.answer == "0.25 ms a crop"
    assert answer.detail.startswith("without flip test (cpu, 2 threads); ")
    larger = dataclasses.replace(made, complexity=complexity(ResNet(50, weights=None), (64, 64)))
    assert what_does_it_cost(two, runs, prices, [Profile({}, larger, ())]).answer == "Not known"


def test_a_cost_begins_with_minutes_and_milliseconds(two: Report, run: Run) -> None:
    spread = Spread(60.0, None, 60.0, 1, 60.0, 1)
    time = RunTime("run", 1, 20, (0,), (80.0,), spread, None, 0.9, 35.0, 1220.0)
    n = two.rows[0].configuration.n_images
    answer = what_does_it_cost(two, {str(run.path): run}, {0: Price(None, {0: time}), 1: Price(None, {})}, [])
    assert answer.answer == f"20 min a training, {1000 * 6 / n:.0f} ms an image"


def test_the_cheapest_of_those_that_do_not_differ_from_the_best_is_named(two: Report, run: Run) -> None:
    sizes = {0: 64, 1: 16}
    prices = {
        i: Price(complexity(TimmBackbone("test_resnet", head_channels=n, weights=None), (64, 64)), {})
        for i, n in sizes.items()
    }
    for p, said in ((0.4, True), (0.01, False)):
        made = dataclasses.replace(two, pairs={1: reports.Tested(two.pairs[1].difference, p)})
        detail = what_does_it_cost(made, {str(run.path): run}, prices, []).detail
        assert ("not significantly different: bad" in detail) == said


def test_no_memory_holds_any_number_of_draws(two: Report, truth: Instances) -> None:
    with pytest.raises(InputError, match=r"--draws 10000000000.*at most"):
        evaluate_runs("mine", two.rows[0].configuration.detections, truth, 10**20)
