"""The report's sections: what they claim follows from the numbers, and what was published is quoted as it was."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from catpose.analysis.compare import Comparison, compare, evaluate_runs
from catpose.analysis.diagnosis import diagnose
from catpose.analysis.models import Model, Run, read_models
from catpose.analysis.statistics import Difference
from catpose.cost.complexity import complexity
from catpose.cost.profiling import Cost, Profile
from catpose.cost.timing import Timing
from catpose.data.coco import read_split
from catpose.errors import InputError
from catpose.instances import Instances
from catpose.model.backbones.resnet import ResNet
from catpose.model.backbones.timm_backbone import TimmBackbone
from catpose.page.cost import Price, what_does_it_cost
from catpose.page.failures import where_does_it_fail
from catpose.page.html import Figure, Listing, Table, Text
from catpose.page.results import is_it_real, ours, published, read_published
from catpose.page.training import training
from catpose.score.detections import Detections


@pytest.fixture(scope="module")
def truth(drawn: Path) -> Instances:
    return read_split(drawn, "val")


@pytest.fixture(scope="module")
def run(finished: Path) -> Run:
    (model,), _ = read_models([finished])
    return model.runs[0]


@pytest.fixture(scope="module")
def two(run: Run, truth: Instances) -> Comparison:
    """A run beside one whose detections lie a little off."""
    found = run.detections
    off = dataclasses.replace(run, detections=dataclasses.replace(found, keypoints=found.keypoints + 9.0))
    return compare([Model("good", (run,)), Model("bad", (off,))], truth, draws=50)


def told(two: Comparison, p: float, **changed: float) -> str:
    made = Difference(0.1, -0.1, 0.3, 0.1, 30.0, p, 0.28)
    answer = is_it_real(dataclasses.replace(two, differences={1: dataclasses.replace(made, **changed)}, p={1: p}))
    return f"{answer.answer}: {answer.detail}"


def test_what_one_seed_cannot_tell_is_said(two: Comparison) -> None:
    assert told(two, 0.01) == "Yes: +0.100 [-0.100, +0.300] to bad, p 0.010; of these trainings, not of training again"
    seeds = tuple(dataclasses.replace(each, trainings=each.trainings * 3) for each in two.evaluated)
    assert "trainings" not in told(dataclasses.replace(two, evaluated=seeds), 0.01)


def test_what_would_have_been_seen_is_said_where_it_is_known(two: Comparison) -> None:
    assert "a true one of 0.280 would be seen 4 times in 5" in told(two, 0.3)
    assert "4 times in 5" not in told(two, 1.0, se=0.0, detectable=0.0)  # the same detections twice


def test_nothing_is_claimed_of_one_image(two: Comparison) -> None:
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


def test_only_tables_that_contradict_something_are_counted(two: Comparison) -> None:
    section = published(two)
    (listing,) = (block for block in section.blocks if isinstance(block, Listing))
    count = section.blocks[list(section.blocks).index(listing) - 1]
    assert isinstance(count, Text)
    assert count.text.startswith(f"{len(listing.items)} of these tables contradict")
    assert not any(item.startswith("Batch size") for item in listing.items)
    (batch,) = (b for b in section.blocks if isinstance(b, Table) and b.caption.startswith("Batch size"))
    assert "no order follows" in batch.note
    assert [row[-1] for row in batch.rows] == ["not run"] * 3


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
    title: str, study: str, settings: dict[str, object], rows: list[int], run: Run, truth: Instances
) -> None:
    mine = dataclasses.replace(run, study=study, settings=run.settings | settings)
    alone = compare([Model("mine", (mine,))], truth, draws=20)
    (table,) = (table for table in read_published() if table["title"] == title)
    beside = [i for i, row in enumerate(table["rows"]) if ours(alone, table, row) != "not run"]
    assert beside == rows


def test_an_unknown_ap_is_not_the_best_and_captions_keep_their_capitals(run: Run) -> None:
    history = [{"epoch": str(i), "val/AP": ap, "lr": "1e-3"} for i, ap in enumerate(("0.3", "nan", "0.2", ""))]
    section = training([Model("mine", (dataclasses.replace(run, history=history),))])
    assert "Validation AP" in [block.caption for block in section.blocks if isinstance(block, Figure)]
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    assert table.rows[0][-2:] == ("0.200", "0.300 (0)")
    assert "catpose.test was given" not in table.note
    (other,) = (
        block
        for block in training([Model("mine", (dataclasses.replace(run, results=Path("results_val.json")),))]).blocks
        if isinstance(block, Table)
    )
    assert "Of mine, it is about the checkpoint that catpose.test was given" in other.note


def test_the_time_of_a_crop_is_that_of_the_same_network(two: Comparison) -> None:
    here = complexity(TimmBackbone("test_resnet", head_channels=16, weights=None), (64, 64))
    timings = tuple(Timing("keypoints", n, "float32", False, 0.25 * n, 1.0, 5, 10.0, None) for n in (2, 1))
    name = two.models[0].settings["model.class_path"].rsplit(".", 1)[-1]
    made = Cost(name, {}, "cpu", 2, here, timings, None, None, None, ())
    prices = [Price(here, {}), Price(None, {})]
    answer = what_does_it_cost(two, prices, [Profile({}, None, ()), Profile({}, made, ())])
    assert "0.25 ms a crop without flip test (cpu, 2 threads)" in answer.detail
    larger = dataclasses.replace(made, complexity=complexity(ResNet(50, weights=None), (64, 64)))
    assert "ms" not in what_does_it_cost(two, prices, [Profile({}, larger, ())]).detail


def test_the_cheapest_of_those_that_do_not_differ_from_the_best_is_named(two: Comparison) -> None:
    small = complexity(TimmBackbone("test_resnet", head_channels=16, weights=None), (64, 64))
    large = complexity(TimmBackbone("test_resnet", head_channels=64, weights=None), (64, 64))
    alike = dataclasses.replace(two, p={1: 0.4})
    assert (
        "not significantly different: bad" in what_does_it_cost(alike, [Price(large, {}), Price(small, {})], []).detail
    )
    apart = dataclasses.replace(two, p={1: 0.01})
    assert "significantly" not in what_does_it_cost(apart, [Price(large, {}), Price(small, {})], []).detail


def test_no_memory_holds_any_number_of_draws(run: Run, truth: Instances) -> None:
    with pytest.raises(InputError, match=r"--draws 10000000000.*at most"):
        evaluate_runs("mine", [run.detections], truth, 10**20)
