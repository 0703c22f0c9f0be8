"""Made-up studies whose outcome is known: sweep, page, W&B and --final say the same of each, to the letter."""

from __future__ import annotations

import json
import re
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import made_up
import pytest
import yaml
from made_up_study import Trials, study, validation

import catpose.study.final
from catpose.analysis.comparison import comparison, latex, markdown
from catpose.analysis.rendering import csv_text, decision, terminal
from catpose.analysis.report import Report, report
from catpose.analysis.sentences import conclusion, has_learnt, picked, scope_of, sentences
from catpose.data.coco_split import CocoSplit, split_hash
from catpose.data.resplit import resplit
from catpose.errors import InputError
from catpose.page.html import Beside, Listing, Table
from catpose.page.report import compared
from catpose.page.report import report as page_of
from catpose.page.results import is_it_real, results, what_does_it_vary_with, which_is_better
from catpose.page.runs import read_runs
from catpose.plain_yaml import dump_yaml
from catpose.score.bootstrap import image_weights
from catpose.score.detections import Detections
from catpose.score.protocol import EvaluationProtocol, Score
from catpose.study.directory import StudyDirectory
from catpose.study.file import Study
from catpose.study.final import final
from catpose.study.record import write_record
from catpose.study.results import Truth, design_of, resampled, truths_of
from catpose.text import interval, signed

GRID = "space: {model.lr: [1e-5, 1e-4, 5e-4]}\nseeds: 3\n"
PARETO = "space: {model.lr: [1e-5, 1e-4, 5e-4]}\nseeds: 3\nmetric: {val/AP: maximize, GMACs: minimize}\n"
SAMPLED = "space: {model.lr: {low: 1e-5, high: 1e-2, log: true}}\ntrials: 4\nseeds: 2\n"

Change = Callable[[Trials], None]


def ended(*keys: tuple[int, int], state: str = "failed", reason: str = "CUDA out of memory") -> Change:
    def change(trials: Trials) -> None:
        for index, seed in keys:
            trials.change(index, seed, state=state, outcome={"reason": reason, "values": {}})

    return change


def to_come(*keys: tuple[int, int]) -> Change:
    def change(trials: Trials) -> None:
        for index, seed in keys:
            trials.change(index, seed, state="waiting", outcome=None)

    return change


def costs(*gmacs: float) -> Change:
    def change(trials: Trials) -> None:
        for trial in list(trials.trials):
            values = trial.outcome.values | {"GMACs": gmacs[trial.configuration_index]}
            trials.change(*trial.key, outcome={"values": values})

    return change


def as_is(trials: Trials) -> None:
    """Every trial complete."""


@dataclass(frozen=True)
class Case:
    """A study, px of noise of each configuration, what became of its trials, the winner's name, and what is said."""

    text: str
    noise: Sequence[float]
    change: Change
    winner: str | None
    said: tuple[str, ...]
    unsaid: tuple[str, ...] = ()


CASES = {
    "one is better": Case(
        GRID, [6, 3, 6], as_is, "lr 0.0001",
        ("lr 0.0001 has the highest mean AP", "lr 0.0001 is better than the reference lr 1e-05"),
    ),
    "one is worse": Case(
        GRID, [4, 4, 12], as_is, None,
        ("lr 0.0005 is worse than the reference lr 1e-05 on this training set and split: -0.",),
    ),
    "equal": Case(
        GRID, [5, 5, 5], as_is, None,
        ("not significantly different from the reference",), ("is better than", "is worse than"),
    ),
    "the reference is best": Case(
        GRID, [3, 7, 9], as_is, "lr 1e-05", ("lr 1e-05 has the highest mean AP",), ("is better than",),
    ),
    "the best lost a seed": Case(
        GRID, [6, 3, 5], ended((1, 2)), "lr 0.0005",
        ("Higher, but not complete in all its seeds: lr 0.0001", "lr 0.0001, seed 2 failed: CUDA out of memory",
         "lr 0.0001 (2 of 3 seeds)"),
    ),
    "seeds were pruned and ended early": Case(
        GRID, [4, 6, 6],
        lambda trials: (ended((1, 0), state="pruned", reason="pruned after epoch 3")(trials),
                        ended((2, 1), state="early", reason="2 of 30 epochs")(trials))[0],
        "lr 1e-05", ("lr 0.0001, seed 0 pruned: pruned after epoch 3", "lr 0.0005, seed 1 ended early: 2 of 30 epochs"),
    ),
    "not at its end": Case(
        GRID, [4, 6, 6], to_come((1, 2), (2, 2)), "lr 1e-05",
        ("2 of 9 trials still to come", "So far lr 1e-05 is the only configuration complete"),
    ),
    "none is complete": Case(
        GRID, [4, 6, 6], ended((0, 0), (1, 1), (2, 2)), None, ("there is no winner; the highest so far is lr 1e-05",),
    ),
    "one seed": Case(
        GRID.replace("seeds: 3", "seeds: 1"), [6, 3, 6], as_is, "lr 0.0001",
        ("The one model trained with lr 0.0001 is better than the one model trained with lr 1e-05 (the reference)",),
        ("over training seeds",),
    ),
    "unequal numbers of seeds": Case(
        GRID, [6, 3, 6], to_come((2, 0), (2, 1)), "lr 0.0001",
        ("With one seed, lr 0.0005 can't show a spread between seeds", "pooled (4 degrees of freedom)"),
        ("the one model",),
    ),
    "a sampler chose": Case(
        SAMPLED, [6, 4, 5, 7], as_is, None,
        ("The AP of the best of 4 sampled configurations is biased upwards",), (", p 0", "p <", "significantly"),
    ),
    "accuracy and cost": Case(
        PARETO, [6, 3, 4], costs(1.0, 3.0, 9.0), "lr 0.0001",
        ("On the Pareto front of AP and GMACs, by the means: lr 1e-05 (AP 0.", "and lr 0.0001 (AP 0."),
    ),
    "nothing learnt": Case(
        GRID, [2000, 2000, 2000], as_is, None, ("Nothing was learnt",), ("is better than", "is worse than"),
    ),
}  # fmt: skip


#: Resamples of the images, for all who say something.
DRAWS = 200


@pytest.fixture(autouse=True)
def _fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catpose.score.full.image_weights", lambda images, *_: image_weights(images, DRAWS))


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> CocoSplit:
    """Also the test split's, and the training split's, which is looked at for copies alone."""
    root = tmp_path_factory.mktemp("one truth") / "cats"
    split = validation(root)
    for name in ("train", "test"):
        shutil.copy(split.file, root / "annotations" / f"{name}.json")
    return split


def trials_of(case: Case, study: Study, truth: CocoSplit) -> Trials:
    configurations = [
        each or study.space.configuration({"model.lr": n * 1e-4})
        for each, n in zip(study.configurations, case.noise, strict=True)
    ]
    trials = Trials([truth], configurations, study.seeds, case.noise)
    case.change(trials)
    return trials


def write_runs(trials: Trials, out: Path, labelled: bool = True) -> None:
    """The folders of complete trials, as far as `report` reads them.

    Args:
        labelled: with what they tell W&B of themselves, as 0.1.0's didn't.
    """
    for trial in list(trials.trials):
        if trial.state != "complete":
            continue
        folder = out / "trials" / f"{trial.configuration_index:03d}-seed{trial.seed}"
        folder.mkdir(parents=True)
        trials.change(*trial.key, outcome={"run": f"/elsewhere/{folder.name}"})
        truth = trials.truths[trial.seed % len(trials.truths)]
        config = {
            "seed_everything": trial.seed,
            "data": {"root": str(truth.file.parent.parent), "input_size": [64, 64]},
            "trainer": {"max_epochs": 1},
        }
        if trial.configuration is not None and labelled:
            about = {"configuration_index": trial.configuration_index}
            config["wandb"] = {"job_type": trial.configuration.label, "config": about}
        (folder / "config.yaml").write_text(dump_yaml(config))
        (folder / "run.json").write_text('{"wandb_id": "x", "starts": [{}]}')
        columns = "epoch,step,val/AP,epoch_seconds,train_seconds,images_per_second"
        (folder / "metrics.csv").write_text(f"{columns}\n0,5,0.1,90.0,80.0,9.0\n")
        (folder / "val_results.json").write_bytes(zlib.decompress(trials.compressed[trial.key]))
        protocol = trial.outcome.protocol | {"sigmas": tuple(trial.outcome.protocol["sigmas"])}
        Score({}, EvaluationProtocol(**protocol)).write(folder / "val_score.json")
        (folder / "last.ckpt").touch()


#: One of each kind of answer; a case takes seconds.
QUICK = ("one is better", "the best lost a seed", "none is complete", "a sampler chose")
EACH_CASE = [
    pytest.param(case, id=name, marks=[] if name in QUICK else pytest.mark.slow) for name, case in CASES.items()
]


@pytest.mark.parametrize("how", ["names are swapped", "a folder is renamed", "choices are left out", "two studies"])
def test_a_page_has_the_runs_that_the_study_has(truth: CocoSplit, tmp_path: Path, how: str) -> None:
    grid, out = study(tmp_path, GRID), tmp_path / "out"
    trials = trials_of(CASES["one is better"], grid, truth)
    write_runs(trials, out)
    first, other = (out / "trials" / name for name in ("000-seed0", "001-seed0"))
    match how:
        case "names are swapped":
            first.rename(out / "x")
            other.rename(first)
            (out / "x").rename(other)
        case "a folder is renamed":
            first.rename(first.with_name("first"))
        case "choices are left out":
            grid = study(tmp_path, GRID.replace("5e-4", "5e-3").replace("seeds: 3", "seeds: 2"))
            trials.trials = [each for each in trials.trials if each.configuration_index < 2 and each.seed < 2]
        case "two studies":
            shutil.copytree(first, first.with_name("000-other-seed0"))
            config = yaml.safe_load((first / "config.yaml").read_text())
            config["wandb"]["job_type"] = "other"
            (first.with_name("000-other-seed0") / "config.yaml").write_text(dump_yaml(config))
    design = design_of(grid)
    sweep = report(design, resampled(design, trials.trials, trials.results, [Truth(truth)]))
    write_record(StudyDirectory(out).summary, design, trials.trials, [])
    page = compared(read_runs([out]), draws=DRAWS)
    assert terminal(page) == terminal(sweep)


@pytest.mark.parametrize("case", EACH_CASE)
def test_sweep_page_and_wandb_say_the_same(case: Case, truth: CocoSplit, tmp_path: Path) -> None:
    grid, out = study(tmp_path, case.text), tmp_path / "out"
    trials, design = trials_of(case, grid, truth), design_of(grid)
    write_runs(trials, out, labelled=case is not CASES["one is better"])
    sweep = report(design, resampled(design, trials.trials, trials.results, [Truth(truth)]))
    write_record(StudyDirectory(out).summary, design, trials.trials, [])
    page = compared(read_runs([out]), draws=DRAWS)

    said = sentences(sweep)
    assert sentences(page) == said
    assert terminal(page) == terminal(sweep)
    listing = next(block for block in results(page, truth).blocks if isinstance(block, Listing))
    assert list(listing.items) == said
    assert decision(page) == decision(sweep)
    assert decision(sweep).conclusion == " ".join(conclusion(sweep))  # what W&B's summary gets
    for sentence in case.said:
        assert sentence in " ".join(said)
    for sentence in case.unsaid:
        assert sentence not in " ".join(said)
    if case.winner:
        assert sweep.winner is not None
        assert sweep.winner.name == case.winner
    require_answers(page, truth)
    require_final(grid, trials, sweep, out, truth)


def require_answers(page: Report, truth: CocoSplit) -> None:
    """The page's first answers are the winner's, and the p that stands in its table and in those to paste."""
    better, real = which_is_better(page), is_it_real(page)
    if not has_learnt(page):
        assert better.answer == "None has learnt"
    else:
        assert better.answer == (page.winner.name if page.winner else "Not decided")
        assert picked(page) in better.detail
    blocks = results(page, truth).blocks
    table = next(inside for block in blocks if isinstance(block, Beside) for inside in block.blocks)
    assert isinstance(table, Table)
    if page.pairs:
        assert f"{scope_of(page)}, p " in real.detail
        if real.answer.startswith("Yes"):
            assert (real.answer == "Yes") == real.detail.startswith("+")
        assert [row[-1] for row in table.rows[1:2]] == [real.detail.split(", p ")[1].split(";")[0]]
    else:
        assert real.answer == "Not tested"
        assert not table.header[-1].startswith("p")
    assert comparison(page) == (table.header, table.rows)
    for pasted in (latex(page, "val"), markdown(page, "val")):
        assert all(cell.strip("<[]+-").split(",")[0] in pasted for row in table.rows for cell in row[1:])


def require_final(study: Study, trials: Trials, sweep: Report, out: Path, truth: CocoSplit) -> None:
    """`--final` predicts with the winner and the reference of the others, and says of them what these do."""

    def predict(checkpoint: Path, *_: object) -> tuple[Detections, bool]:
        key = next(t.key for t in trials.trials if Path(t.outcome.run or "").name == checkpoint.parent.name)
        return Detections.from_results(json.loads(zlib.decompress(trials.compressed[key])), truth), True

    patch = pytest.MonkeyPatch()
    patch.setattr(catpose.study.final, "_predict", predict)
    patch.setattr(catpose.study.final, "copies_of", lambda *_: [])
    try:
        if sweep.winner is None or any(trial.state == "waiting" for trial in trials.trials):
            with pytest.raises(InputError, match=r"no winner|still to come"):
                final(study, trials.trials, sweep, out, truth.file.parent.parent)
            return
        record = final(study, trials.trials, sweep, out, truth.file.parent.parent).record
    finally:
        patch.undo()
    assert (record.configuration, record.validation_AP) == (sweep.winner.label, sweep.winner.ap.tolist())
    winner = next(row for row in sweep.rows if row.configuration is sweep.winner)
    assert record.AP is not None
    assert record.AP.seeds == pytest.approx(sweep.winner.ap.tolist(), abs=1e-5)
    assert (record.AP.low, record.AP.high) == pytest.approx((winner.estimate.low, winner.estimate.high), abs=1e-5)
    assert (record.difference is None) == (winner.difference is None)
    if winner.difference is not None:
        of = winner.difference
        assert record.difference is not None
        values = (record.difference.value, record.difference.low, record.difference.high, record.difference.p)
        assert values == pytest.approx((of.value, of.low, of.high, of.p), abs=1e-5)  # p of one comparison
        assert any("the reference" in sentence for sentence in record.sentences)


def written_study(case: Case, folder: Path, truth: CocoSplit) -> Path:
    """The folder of a study as `sweep` leaves it."""
    made, out = study(folder, case.text), folder / "out"
    trials = trials_of(case, made, truth)
    write_runs(trials, out)
    write_record(StudyDirectory(out).summary, design_of(made), trials.trials, [])
    return out


#: Studies over three random splits: how many seeds, and which trials failed.
OVER_SPLITS = {
    "two seeds of each": (6, ()),
    "one seed of each": (3, ()),
    "seeds were lost": (6, ((0, 1), (1, 4), (2, 0))),
    "no seed of a split is left": (3, ((1, 2),)),
}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder to be divided."""
    return made_up.data_set(tmp_path_factory.mktemp("pool") / "cats", (24, 12, 1))


def over_splits(pool: Path, folder: Path, seeds: int, failed: Sequence[tuple[int, int]]) -> tuple[Path, Report]:
    """The folder of a study over random splits as `sweep` leaves it, and what it has printed."""
    made, out = study(folder, f"{GRID.replace('seeds: 3', f'seeds: {seeds}')}splits: 3\n"), folder / "out"
    truths = truths_of(resplit(pool, 3, StudyDirectory(out).divisions), "box")
    trials = Trials([truth.split for truth in truths], made.configurations, made.seeds, (6.0, 3.0, 5.0))
    ended(*failed)(trials)
    write_runs(trials, out)
    design = design_of(made)
    write_record(StudyDirectory(out).summary, design, trials.trials, [])
    return out, report(design, resampled(design, trials.trials, trials.results, truths))


@pytest.mark.parametrize("case", OVER_SPLITS)
def test_sweep_and_page_say_the_same_over_random_splits(case: str, pool: Path, tmp_path: Path) -> None:
    out, sweep = over_splits(pool, tmp_path, *OVER_SPLITS[case])
    page = compared(read_runs([out]), draws=DRAWS)
    assert sentences(page) == sentences(sweep)
    assert "over training seeds and random splits" in " ".join(sentences(page))
    assert (terminal(page), csv_text(page)) == (terminal(sweep), csv_text(sweep))
    assert (decision(page), page.components) == (decision(sweep), sweep.components)
    require_answers(page, read_runs([out]).truths[0].split)
    assert "training sd" in comparison(page)[0]
    apart = [sentence for sentence in sentences(sweep) if sentence.startswith("Of the variance")]
    answer = what_does_it_vary_with(page)
    for share, part in re.findall(r"(\d+ %) (?:comes )?with the (\w+)", " ".join(apart)):
        assert f"{share} {part}" in answer.answer
    assert bool(apart) == ("%" in answer.answer)


def test_a_page_over_random_splits_has_nothing_of_one_set_of_images(pool: Path, tmp_path: Path) -> None:
    out, sweep = over_splits(pool, tmp_path, *OVER_SPLITS["two seeds of each"])
    shutil.rmtree(out / "divisions")  # as where a study was copied without them
    with pytest.raises(InputError, match=r"divisions: isn't there; name .* with --data"):
        read_runs([out])
    page = page_of([out], pool, [], "Splits", DRAWS, [])
    assert [section.id for section in page.sections] == ["results", "cost", "training", "published", "reproduce"]
    assert {figure.name for figure in page.figures()} == {"models", "val_AP"}
    assert "18 trained networks, scored on 3 random splits of the training" in page.subtitle
    html = page.html()
    assert "by the rules of other programs" not in html
    for truth in read_runs([out]).truths:
        assert split_hash(truth.split) in html
    difference = next(each for each in sweep.pairs.values()).difference
    assert interval(difference, signed) in html


def test_runs_of_one_random_split_are_a_page_of_that_split(pool: Path, tmp_path: Path) -> None:
    out, _ = over_splits(pool, tmp_path, *OVER_SPLITS["two seeds of each"])
    found = read_runs([out / "trials" / f"00{index}-seed{seed}" for index in range(3) for seed in (1, 4)])
    assert [truth.split.file.parent.parent for truth in found.truths] == [out / "divisions" / "1"]
    said = " ".join(sentences(compared(found, DRAWS)))
    assert "random splits" not in said
    assert "on this training set and split" in said


def test_runs_of_several_random_splits_are_no_page_without_their_study(pool: Path, tmp_path: Path) -> None:
    out, _ = over_splits(pool, tmp_path, *OVER_SPLITS["two seeds of each"])
    trials = out / "trials"
    with pytest.raises(InputError, match=r"000-seed1: was scored on a random split of its study's, .*; name"):
        read_runs([trials / "000-seed0", trials / "000-seed1"])
    for paths in ([out, trials / "000-seed0"], [trials / "000-seed0", out]):
        with pytest.raises(InputError, match=r"out: is a study over random splits, .*; name it alone"):
            read_runs(paths)


def test_a_random_split_that_was_changed_is_refused(pool: Path, tmp_path: Path) -> None:
    out, _ = over_splits(pool, tmp_path, *OVER_SPLITS["two seeds of each"])
    (out / "divisions" / "0").rename(out / "divisions" / "x")
    (out / "divisions" / "2").rename(out / "divisions" / "0")
    (out / "divisions" / "x").rename(out / "divisions" / "2")
    with pytest.raises(
        InputError, match=r"divisions/0/annotations/val\.json: sha256 .* is not what .*-seed0 was scored"
    ):
        read_runs([out])


def test_one_of_several_studies_that_a_sampler_chose_leaves_no_p(truth: CocoSplit, tmp_path: Path) -> None:
    paths = []
    for name, case in (("grid", CASES["equal"]), ("sampled", CASES["a sampler chose"])):
        (tmp_path / name).mkdir()
        paths.append(written_study(case, tmp_path / name, truth))
    both = compared(read_runs(paths), draws=DRAWS)
    assert len(both.rows) == 7
    assert both.pairs == {}
    assert "biased upwards" in " ".join(sentences(both))


def test_a_trial_whose_run_is_elsewhere_is_missed(truth: CocoSplit, tmp_path: Path) -> None:
    out = written_study(CASES["equal"], tmp_path, truth)
    shutil.rmtree(out / "trials" / "001-seed2")
    page = compared(read_runs([out]), draws=DRAWS)
    assert page.rows[1].configuration.seed_count == "2 of 3"
    assert "lr 0.0001, seed 2 isn't here: it is complete, but" in " ".join(sentences(page))


def test_a_study_given_twice_or_beside_its_trial_is_the_same_study(truth: CocoSplit, tmp_path: Path) -> None:
    out = written_study(CASES["equal"], tmp_path, truth)
    (tmp_path / "link").symlink_to(out)
    trainings = read_runs([out, tmp_path / "link", out / "trials" / "000-seed0"]).trainings
    assert [each.state for each in trainings] == ["complete"] * 9
    assert len(read_runs([out / "trials" / "000-seed0", out]).trainings) == 9


def test_a_damaged_record_is_one_line(truth: CocoSplit, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text('{"name": 5}')
    with pytest.raises(InputError, match=r"study\.json: .*; write it again with sweep --report"):
        read_runs([tmp_path])
