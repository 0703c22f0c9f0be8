"""The winner and the reference on the test split: with their last checkpoints, scored as `test` scores, and once."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import pytest
import torch
from made_up_study import made, study

from catpose.analysis.configurations import Configuration, Training, gather
from catpose.analysis.report import report
from catpose.data.coco import read_split
from catpose.data.coco_split import split_hash
from catpose.errors import InputError
from catpose.score.detections import Detections
from catpose.score.full import evaluate
from catpose.score.protocol import Score
from catpose.study.file import Study
from catpose.study.final import Final
from catpose.study.final import final as final_of
from catpose.study.final_record import Models
from catpose.study.results import design_of, trainings_of
from catpose.study.stored import Outcome
from catpose.study.trial import Trial
from catpose.test import main as score_command

GRID = "space: {model.lr: [1e-5, 1e-4]}\nseeds: 2\n"


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study(tmp_path_factory.mktemp("study"), GRID)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture(scope="module")
def trials(grid: Study, trained: Path, drawn: Path) -> list[Trial]:
    """Four complete ones; the second configuration is better, and all runs are the one that was trained."""
    truth = read_split(drawn, "val")
    made_trials = []
    for index, configuration in enumerate(grid.configurations):
        for seed in grid.seeds:
            own = {"run": str(trained), "values": {"val/AP": 0.4 + 0.1 * index}}
            outcome = made(truth, 1.0, seed)[1].model_copy(update=own)
            made_trials.append(Trial(index, seed, configuration, "complete", token=1, outcome=outcome))
    return made_trials


def final(grid: Study, trials: list[Trial], out: Path, root: Path) -> Final:
    """As `sweep --final`, but for the detections, which aren't there to be evaluated: APs are the logged ones."""
    design = design_of(grid)
    return final_of(grid, trials, report(design, gather(design, trainings_of(trials))), out, root)


@pytest.fixture(scope="module")
def scored(grid: Study, trials: list[Trial], drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Final:
    """What came out, and the study's folder afterwards."""
    return final(grid, trials, tmp_path_factory.mktemp("scored"), drawn)


@pytest.fixture
def after(scored: Final, out: Path) -> Path:
    """A copy of that folder."""
    return Path(shutil.copytree(scored.file.parent.parent, out, dirs_exist_ok=True))


def outcome_with(trial: Trial, **fields: object) -> Outcome:
    """A trial's outcome with other fields."""
    return (trial.outcome or Outcome()).model_copy(update=fields)


def changed(trials: list[Trial], i: int, values: float | None = None, **fields: object) -> list[Trial]:
    if values is not None:
        fields["outcome"] = outcome_with(trials[i], values={"val/AP": values})
    return [dataclasses.replace(trial, **fields) if i == j else trial for j, trial in enumerate(trials)]  # type: ignore[arg-type]


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_each_seed_of_the_winner_is_scored_as_test_scores_it(
    scored: Final, drawn: Path, trained: Path, tmp_path: Path
) -> None:
    done, out = scored, scored.file.parent.parent
    assert not done.before
    argv = ["--checkpoint", trained / "last.ckpt", "--data", drawn, "--split", "test", "--out", tmp_path / "test"]
    score_command([str(word) for word in argv])
    expected = Score.read(tmp_path / "test" / "score_test.json")
    for seed in (0, 1):
        ours = Score.read(out / "final" / f"score_seed{seed}.json")
        assert ours.protocol == expected.protocol
        assert ours.values["AP"] == pytest.approx(expected.values["AP"], abs=1e-12)
        results = json.loads((out / "final" / f"results_seed{seed}.json").read_text())
        assert results == json.loads((tmp_path / "test" / "results_test.json").read_text())
    assert done.record.configuration == "0.0001"
    assert done.record.seeds == [0, 1]
    assert done.record.AP is not None
    assert done.record.AP.mean == pytest.approx(expected.values["AP"], abs=1e-12)
    assert done.record.AP.low is done.record.AP.high is None  # the eight cats of the test split are too few
    assert (done.record.protocol or {})["split"] == "test"
    assert json.loads(done.file.read_text()) == done.record.model_dump(mode="json")
    assert "The winner 0.0001 (2 seeds) and the reference 1e-05 (2 seeds) predicted the test split" in done.text()
    assert "AP on the test split, on which nothing was chosen: lr 0.0001 0." in done.text()
    assert "No test picture is a copy of a training or validation picture." in done.text()


@pytest.mark.slow
def test_the_winner_is_compared_with_the_reference(
    grid: Study, trials: list[Trial], out: Path, drawn: Path, trained: Path, tmp_path: Path
) -> None:
    """All of whose runs are a network without what it has learnt."""
    content = torch.load(trained / "last.ckpt", weights_only=True)
    rng = torch.Generator().manual_seed(0)
    content["state_dict"] = {
        key: torch.rand(value.shape, generator=rng) if value.is_floating_point() else value
        for key, value in content["state_dict"].items()
    }
    (tmp_path / "noise").mkdir()
    torch.save(content, tmp_path / "noise" / "last.ckpt")
    noise = str(tmp_path / "noise")
    trials = [
        dataclasses.replace(trial, outcome=outcome_with(trial, run=noise)) if trial.configuration_index == 0 else trial
        for trial in trials
    ]
    record = final(grid, trials, out, drawn).record
    of_reference, difference = record.reference, record.difference
    assert of_reference is not None
    assert of_reference.AP is not None
    assert difference is not None
    assert record.AP is not None
    assert (of_reference.configuration, of_reference.seeds, of_reference.runs) == ("1e-05", [0, 1], [noise] * 2)
    assert difference.value == pytest.approx(record.AP.mean - of_reference.AP.mean, abs=1e-12)
    for seed in (0, 1):
        assert Score.read(out / "final" / "reference" / f"score_seed{seed}.json").values["AP"] == of_reference.AP.mean
    assert any("the reference lr 1e-05" in sentence for sentence in record.sentences)


def test_where_the_reference_has_won_nothing_is_compared(
    grid: Study, trials: list[Trial], out: Path, drawn: Path
) -> None:
    done = final(dataclasses.replace(grid, reference="0.0001"), trials, out, drawn)
    assert done.record.reference is done.record.difference is None
    assert "The winner is the reference itself" in done.text()
    assert not (out / "final" / "reference").exists()


@pytest.mark.slow
def test_a_winner_of_a_tie_is_not_said_to_have_won(
    grid: Study, trials: list[Trial], scored: Final, out: Path, drawn: Path
) -> None:
    tie = trials
    for i in range(len(trials)):
        tie = changed(tie, i, 0.5)
    said = "lr 1e-05 and lr 0.0001 tie on validation, of which lr 1e-05 is the first."
    assert said in final(grid, tie, out, drawn).text()
    assert said in final(grid, tie, out, drawn).text()  # as it is written down
    assert "tie on validation" not in scored.text()


@pytest.mark.slow
def test_a_reference_without_a_trial_is_named(grid: Study, trials: list[Trial], out: Path, drawn: Path) -> None:
    failed = changed(changed(trials, 0, state="failed"), 1, state="failed")
    done = final(grid, failed, out, drawn)
    assert done.record.reference is None
    assert "The reference 1e-05 has no complete trial" in done.text()


def test_another_reference_may_not_look_at_the_test_split(
    grid: Study, trials: list[Trial], after: Path, drawn: Path
) -> None:
    with pytest.raises(InputError, match=r"predicted with 1e-05 \(seeds 0, 1\), and the reference is now none"):
        final(dataclasses.replace(grid, reference="0.0001"), trials, after, drawn)


@pytest.fixture
def leaking(drawn: Path, tmp_path: Path) -> Path:
    """Drawn cats of which a test picture is a training picture under another name, and of another size."""
    root = tmp_path / "leaking"
    shutil.copytree(drawn, root)
    picture = json.loads((root / "annotations" / "train.json").read_text())["images"][0]["file_name"]
    leak = json.loads((root / "annotations" / "test.json").read_text())["images"][0]
    pixels = cv2.imread(str(root / "images" / picture))
    (root / "images" / leak["file_name"]).unlink()  # a link, perhaps
    cv2.imwrite(str(root / "images" / leak["file_name"]), cv2.resize(pixels, (leak["width"], leak["height"])))
    return root


@pytest.mark.slow
def test_copies_of_training_pictures_are_reported(grid: Study, trials: list[Trial], out: Path, leaking: Path) -> None:
    done = final(grid, trials, out, leaking)
    assert done.record.copies is not None
    assert len(done.record.copies.file_names) == 1
    assert not done.record.copies.left_out
    assert Score.read(out / "final" / "score_seed0.json").protocol.copies_left_out == 0
    assert "1 of 8 test pictures is a copy of training or validation pictures and scored" in done.text()
    with pytest.raises(InputError, match="scored with its copies of training pictures, and test_copies is now drop"):
        final(dataclasses.replace(grid, test_copies="drop"), trials, out, leaking)


@pytest.mark.slow
def test_copies_of_training_pictures_are_left_out(grid: Study, trials: list[Trial], out: Path, leaking: Path) -> None:
    done = final(dataclasses.replace(grid, test_copies="drop"), trials, out, leaking)
    split = read_split(leaking, "test")
    left = split.without_images([split.images[0].id])
    protocol = Score.read(out / "final" / "score_seed0.json").protocol
    assert (protocol.copies_left_out, protocol.split_hash) == (1, split_hash(left))
    assert json.loads(done.file.read_text())["protocol"] == json.loads(json.dumps(dataclasses.asdict(protocol)))
    results = json.loads((out / "final" / "results_seed0.json").read_text())
    assert {entry["image_id"] for entry in results} == set(split.image_ids.tolist())  # all of them are predicted
    on_others = [entry for entry in results if entry["image_id"] != split.images[0].id]
    expected = evaluate(left, Detections.from_results(on_others, left), draws=0)
    assert done.record.values[0]["AP"] == pytest.approx(expected.values["AP"], abs=1e-12)
    assert "left out of the scores" in done.text()


def test_a_second_call_reads_what_the_first_wrote(
    grid: Study, trials: list[Trial], scored: Final, after: Path, drawn: Path
) -> None:
    before = content(after)
    gone = [changed(trials, i, outcome=outcome_with(t, run="gone"))[i] for i, t in enumerate(trials)]
    again = final(grid, gone, after, drawn / "not there")  # neither data nor checkpoints are needed
    assert again.before
    assert again.record.model_dump(mode="json") == scored.record.model_dump(mode="json")
    assert content(after) == before
    assert "once; it isn't done again" in again.text()


def test_a_record_of_the_first_release_is_read(
    grid: Study, trials: list[Trial], scored: Final, after: Path, drawn: Path
) -> None:
    file = after / "final" / "final.json"
    former = {"configuration": "arm", "protocol": "contract"}
    new = ("reference", "difference", "copies", "sentences")
    record = {former.get(k, k): value for k, value in json.loads(file.read_text()).items() if k not in new}
    file.write_text(json.dumps(record))
    again = final(grid, trials, after, drawn)
    assert again.record == scored.record.model_validate(record)
    assert "Test AP of the configuration: 0." in again.text()


def test_another_winner_may_not_look_at_the_test_split(
    grid: Study, trials: list[Trial], after: Path, drawn: Path
) -> None:
    before = content(after)
    for other in (changed(trials, 0, values=0.9), changed(trials, 3, values=0.51)):
        with pytest.raises(InputError, match=r"predicted with 0\.0001 \(seeds 0, 1\), and the winner is now") as caught:
            final(grid, other, after, drawn)
        assert "\n" not in str(caught.value)
        assert content(after) == before


def test_models_with_other_aps_are_others() -> None:
    trainings = tuple(Training(0, seed, "complete", "a", values={"val/AP": 0.5}) for seed in (0, 1))
    models = Models(configuration="a", params={}, seeds=[0, 1], runs=[None] * 2, AP=None, values=[],
                    validation_AP=[0.5, 0.5])  # fmt: skip
    assert models.are_those_of(Configuration("a", trainings))
    for aps in ([0.5], [0.5, 0.6], [0.5, 0.5, 0.5]):  # some of them by hand
        assert not models.model_copy(update={"validation_AP": aps}).are_those_of(Configuration("a", trainings))


@pytest.mark.parametrize("state", ["waiting", "running"])
def test_a_study_that_goes_on_has_no_winner(
    grid: Study, trials: list[Trial], out: Path, drawn: Path, state: str
) -> None:
    with pytest.raises(InputError, match="1 of 4 trials are still to come"):
        final(grid, changed(trials, 0, state=state, outcome=None), out, drawn)
    assert list(out.iterdir()) == []


@pytest.mark.slow
def test_what_a_time_limit_left_waiting_is_not_waited_for(
    grid: Study, trials: list[Trial], out: Path, drawn: Path
) -> None:
    limited = dataclasses.replace(grid, time_limit=60.0)
    waiting = changed(trials, 0, state="waiting", outcome=None)
    assert final(limited, waiting, out, drawn).record.configuration == "0.0001"


def test_without_a_complete_arm_there_is_no_winner(grid: Study, trials: list[Trial], out: Path, drawn: Path) -> None:
    failed = changed(changed(trials, 0, state="failed"), 2, state="pruned")
    with pytest.raises(InputError, match="no configuration is complete in all its seeds"):
        final(grid, failed, out, drawn)


def test_a_missing_checkpoint_is_named_before_anything_is_predicted(
    grid: Study, trials: list[Trial], out: Path, drawn: Path
) -> None:
    gone = changed(trials, 3, outcome=outcome_with(trials[3], run="runs/lr-seed1"))
    with pytest.raises(InputError, match=r"runs/lr-seed1/last.ckpt: no such checkpoint of lr 0\.0001"):
        final(grid, gone, out, drawn)
    assert list(out.iterdir()) == []


@pytest.mark.slow
def test_a_studys_folder_may_have_moved(
    grid: Study, trials: list[Trial], out: Path, drawn: Path, trained: Path
) -> None:
    (out / "trials" / "lr-seed1").mkdir(parents=True)
    shutil.copy(trained / "last.ckpt", out / "trials" / "lr-seed1" / "last.ckpt")
    moved = changed(trials, 3, outcome=outcome_with(trials[3], run="/elsewhere/trials/lr-seed1"))
    assert len(final(grid, moved, out, drawn).record.values) == 2


@pytest.mark.slow
def test_a_moved_study_has_its_own_checkpoints_though_another_stands_where_it_was(
    grid: Study, trials: list[Trial], out: Path, drawn: Path, trained: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there" / "trials" / "lr-seed1"
    for folder in (there, out / "trials" / "lr-seed1"):
        folder.mkdir(parents=True)
    shutil.copy(trained / "last.ckpt", out / "trials" / "lr-seed1" / "last.ckpt")
    (there / "last.ckpt").write_bytes(b"another study's")
    moved = changed(trials, 3, outcome=outcome_with(trials[3], run=str(there)))
    assert len(final(grid, moved, out, drawn).record.values) == 2


@pytest.mark.slow
def test_without_labels_there_are_predictions_and_no_score(
    grid: Study, trials: list[Trial], out: Path, drawn: Path, tmp_path: Path
) -> None:
    cats = tmp_path / "cats"
    (cats / "annotations").mkdir(parents=True)
    (cats / "images").symlink_to(drawn / "images")
    for name in ("train", "val"):
        shutil.copy(drawn / "annotations" / f"{name}.json", cats / "annotations")
    held_back = json.loads((drawn / "annotations" / "test.json").read_text())
    for entry in held_back["annotations"]:
        del entry["keypoints"], entry["num_keypoints"]
    (cats / "annotations" / "test_info.json").write_text(json.dumps(held_back))
    done = final(grid, trials, out, cats)
    assert sorted(content(out / "final")) == ["final.json", "results_seed0.json", "results_seed1.json"]
    assert done.record.AP is None
    assert done.record.values == []
    assert "no labels" in done.text()
    assert len(json.loads((out / "final" / "results_seed0.json").read_text())) == len(held_back["annotations"])
    assert final(grid, trials, out, cats).before


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"arm": "0.0001"}'])
def test_a_damaged_record_is_never_written_over(
    grid: Study, trials: list[Trial], out: Path, drawn: Path, text: str
) -> None:
    (out / "final").mkdir()
    (out / "final" / "final.json").write_text(text)
    with pytest.raises(InputError, match=r"final\.json: is damaged"):
        final(grid, trials, out, drawn)
    assert content(out / "final") == {"final.json": text.encode()}
