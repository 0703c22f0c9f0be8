"""`test` as its user sees it: the score of `fit` again, from a checkpoint and from the results that it wrote."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_up import shaken
from refused import exit_code, refused, says
from skeletons import SIGMAS

from catpose import check
from catpose.data.coco import read_split
from catpose.data.coco_split import split_hash
from catpose.errors import InputError
from catpose.score.protocol import Score
from catpose.score.rules import RULES
from catpose.test import evaluate, main

score = functools.partial(exit_code, main)


@pytest.fixture(scope="module")
def scored(trained: Path, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `test --out` wrote of the best checkpoint on the validation split."""
    out = tmp_path_factory.mktemp("scored")
    assert score("--checkpoint", trained / "best.ckpt", "--data", drawn, "--out", out) == 0
    return out


def epoch(run: Path, best: bool) -> dict[str, str]:
    """The validation's figures of the best epoch, or of the last one, as metrics.csv has them."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    row = max(rows, key=lambda row: float(row["val/AP"])) if best else rows[-1]
    return {name.removeprefix("val/"): value for name, value in row.items() if name.startswith("val/")}


@pytest.mark.parametrize(("name", "batch_size"), [("best", 5), pytest.param("last", 32, marks=pytest.mark.slow)])
def test_a_checkpoints_score_is_that_of_fit(
    name: str, batch_size: int, trained: Path, drawn: Path, tmp_path: Path
) -> None:
    checkpoint = trained / f"{name}.ckpt"
    assert score("--checkpoint", checkpoint, "--data", drawn, "--out", tmp_path, "--batch-size", batch_size) == 0
    ours = Score.read(tmp_path / "score_val.json").values
    fits = {key: float(value) for key, value in epoch(trained, name == "best").items() if key != "loss"}
    assert len(fits) >= 28
    assert {key: ours[key] for key in fits} == pytest.approx(fits, rel=1e-6)  # metrics.csv has float32


@pytest.mark.slow
def test_known_copies_are_scored_with_and_without(
    trained: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "cats"
    shutil.copytree(drawn, root)
    val = read_split(root, "val")
    perfect = shaken(val, 0.0, 0)
    perfect.keypoints[val.image_id == val.images[0].id] += 50
    results = tmp_path / "results.json"
    results.write_text(json.dumps(perfect.to_results()))
    assert score("--predictions", results, "--data", root, "--draws", 20) == 0
    assert "copy in another split" not in capsys.readouterr().out
    record = json.loads((root / "split.json").read_text())
    record["copies"] = [{"val": [val.images[0].file_name], "train": [read_split(root, "train").images[0].file_name]}]
    (root / "split.json").write_text(json.dumps(record))
    assert score("--predictions", results, "--data", root, "--draws", 20) == 0
    out = capsys.readouterr().out
    on_first = int((val.image_index == 0).sum())
    assert f"{on_first} of them are on pictures with a copy in another split (split.json): AP " in out
    line = next(line for line in out.splitlines() if "with a copy in another split" in line)
    with_them, without = re.findall(r"AP (\S+) with them, (\S+) without", line)[0]
    assert float(with_them) < float(without) == 1


def test_the_protocol_is_written_beside_the_numbers(scored: Path, drawn: Path) -> None:
    protocol = Score.read(scored / "score_val.json").protocol
    assert protocol.split == "val"
    assert protocol.split_hash == split_hash(read_split(drawn, "val"))
    assert protocol.flip_test is True
    assert protocol.box_source == "ground truth"
    assert protocol.sigmas == SIGMAS
    assert "box width x height" in protocol.area_rule
    assert "0.2" in protocol.score_rule
    assert "0.9" in protocol.score_rule


def test_the_written_results_score_the_same(scored: Path, drawn: Path, tmp_path: Path) -> None:
    results = scored / "results_val.json"
    before = results.read_bytes()
    assert score("--predictions", results, "--data", drawn, "--out", tmp_path) == 0
    first, again = (Score.read(folder / "score_val.json") for folder in (scored, tmp_path))
    np.testing.assert_equal(dict(again.values), dict(first.values))
    assert again.protocol.flip_test is None
    assert results.read_bytes() == before
    assert json.loads((tmp_path / "results_val.json").read_text()) == json.loads(before)


@pytest.mark.slow
def test_a_results_file_is_scored_without_torch(scored: Path, drawn: Path) -> None:
    code = "import sys; from catpose.test import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    args = ("--predictions", scored / "results_val.json", "--data", drawn, "--draws", "20")
    subprocess.run([sys.executable, "-c", code, *map(str, args)], check=True, capture_output=True)


def test_what_is_printed_is_what_is_written(
    scored: Path, drawn: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert score("--predictions", scored / "results_val.json", "--data", drawn) == 0
    output = capsys.readouterr().out
    printed = {line.split()[0]: line.split()[1:] for line in output.splitlines() if len(line.split()) in (2, 4)}
    written = Score.read(scored / "score_val.json")
    for name, words in printed.items():
        if name in written.values:
            numbers = [float(word.strip("[],")) for word in words]
            expected = [written.values[name], *written.intervals.get(name, ())]
            assert numbers == pytest.approx(expected, rel=6e-4, abs=5.1e-5), name
    assert {"AP", "AP50", "AR", "PCK@0.1", "EPE", "NME", "AUC"} <= printed.keys()
    assert "left front paw" in output
    assert "inversion" in output
    assert "pycocotools agrees" in output
    assert list(tmp_path.iterdir()) == []


def test_the_truth_itself_scores_1(drawn: Path, tmp_path: Path) -> None:
    truth = json.loads((drawn / "annotations" / "val.json").read_text())
    perfect = [
        {key: entry[key] for key in ("image_id", "category_id", "keypoints")} | {"score": 1.0}
        for entry in truth["annotations"]
    ]
    (tmp_path / "perfect.json").write_text(json.dumps(perfect))
    assert score("--predictions", tmp_path / "perfect.json", "--data", drawn, "--out", tmp_path) == 0
    values = Score.read(tmp_path / "score_val.json").values
    assert values["AP"] == values["AR"] == 1


@pytest.mark.slow
def test_the_test_split_is_scored_where_it_has_labels(trained: Path, drawn: Path, tmp_path: Path) -> None:
    assert score("--checkpoint", trained / "best.ckpt", "--data", drawn, "--split", "test", "--out", tmp_path) == 0
    scored = Score.read(tmp_path / "score_test.json")
    assert scored.protocol.split == "test"
    assert scored.protocol.split_hash == split_hash(read_split(drawn, "test"))
    results = json.loads((tmp_path / "results_test.json").read_text())
    images = json.loads((drawn / "annotations" / "test.json").read_text())["images"]
    assert {entry["image_id"] for entry in results} <= {image["id"] for image in images}


def test_a_split_without_labels_is_refused(
    trained: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cats" / "annotations").mkdir(parents=True)
    (tmp_path / "cats" / "images").symlink_to(drawn / "images")
    content = json.loads((drawn / "annotations" / "test.json").read_text())
    for entry in content["annotations"]:
        del entry["keypoints"], entry["num_keypoints"]
    (tmp_path / "cats" / "annotations" / "test_info.json").write_text(json.dumps(content))
    argv = ("--checkpoint", trained / "best.ckpt", "--data", tmp_path / "cats", "--split", "test")
    assert score(*argv, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "test_info.json: holds no keypoints" in error
    assert "catpose.predict" in error
    assert not (tmp_path / "out").exists()


def test_the_mean_of_a_model_and_itself_is_scored_as_it_and_never_calibrated(
    trained: Path, drawn: Path, scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", drawn, "--draws", "20"] + 2 * ["--checkpoint", trained / "best.ckpt"]
    assert score(*words, "--out", tmp_path / "twice") == 0
    one, twice = (Score.read(folder / "score_val.json").values for folder in (scored, tmp_path / "twice"))
    assert [twice[name] for name in ("AP", "EPE")] == pytest.approx([one[name] for name in ("AP", "EPE")], rel=1e-5)
    capsys.readouterr()
    says(refused(main, [*words, "--calibrate"], capsys, tmp_path / "twice"), "--calibrate", "give --checkpoint once")
    sized = [*words[:-2], "--scales", "1,1.5"]
    says(refused(main, [*sized, "--calibrate"], capsys, tmp_path / "twice"), "--calibrate", "no --scales")
    named = ["--data", drawn, "--predictions", scored / "results_val.json", "--scales", "1,2"]
    says(refused(main, named, capsys, tmp_path / "twice"), "--scales", "give --checkpoint")


def test_either_a_checkpoint_or_predictions(drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score("--data", drawn) == 2
    assert score("--data", drawn, "--checkpoint", "a.ckpt", "--predictions", "b.json") == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "--checkpoint --predictions is required" in first
    assert "not allowed with" in second


@pytest.mark.parametrize("wrong", ["annotations", "places"])
def test_results_of_another_truth_with_the_same_ids_are_refused(
    wrong: str, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    val = read_split(drawn, "val")
    right, theirs = (tmp_path / name for name in ("right.json", "theirs.json"))
    right.write_text(json.dumps(shaken(val, 0, 0).to_results()))
    other = shaken(val, 0, 0)
    if wrong == "annotations":
        other = dataclasses.replace(other, annotation_id=np.roll(val.ids, len(val) // 2))
    else:
        other = dataclasses.replace(other, keypoints=other.keypoints + 5000)
    theirs.write_text(json.dumps(other.to_results()))
    said = ["theirs.json", "val.json", {"annotations": "of another truth", "places": "outside of the pictures"}[wrong]]
    says(refused(main, ["--predictions", theirs, "--data", drawn], capsys, tmp_path), *said)
    says(refused(main, ["--predictions", right, "--against", theirs, "--data", drawn], capsys, tmp_path), *said)
    report = ["--data", drawn, "--report", tmp_path / "page", "--split", "val", "--predictions", theirs]
    says(refused(check.main, report, capsys, tmp_path), *said)
    with pytest.raises(InputError, match=said[-1]):
        evaluate(other.to_results(), val)


def test_a_folder_in_the_way_of_a_file_is_one_line(
    scored: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "score_val.json").mkdir()
    results = scored / "results_val.json"
    assert score("--predictions", results, "--data", drawn, "--out", tmp_path, "--draws", 20) == 2
    assert "score_val.json: cannot be written" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_other_boxes_have_a_score_and_a_protocol_of_their_own(
    trained: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The annotations' own boxes, given as a detector's, come to the score that they have as ground truth."""
    truth = json.loads((drawn / "annotations" / "val.json").read_text())
    found = [{key: entry[key] for key in ("image_id", "category_id", "bbox")} for entry in truth["annotations"]]
    (tmp_path / "same.json").write_text(json.dumps([entry | {"score": 1.0} for entry in found]))
    (tmp_path / "few.json").write_text(json.dumps([entry | {"score": 0.5} for entry in found[:3]]))
    common = ["--checkpoint", str(trained / "best.ckpt"), "--data", str(drawn), "--draws", "20", "--out", str(tmp_path)]
    main([*common, "--boxes", str(tmp_path / "same.json")])
    own, other = (Score.read(tmp_path / f"score_val{suffix}.json") for suffix in ("", "_boxes"))
    ours, theirs = ({key: score.values[key] for key in ("AP", "AP50", "AP75", "AR", "n")} for score in (own, other))
    assert theirs == pytest.approx(ours, nan_ok=True)  # distances go by annotation, which a detector's boxes don't know
    differing = own.protocol.differences(other.protocol)
    assert differing.startswith("box_source ground truth against same.json (sha256 ")
    assert "score_rule" in differing
    assert "split" not in differing
    capsys.readouterr()
    main([*common, "--boxes", str(tmp_path / "few.json")])
    captured = capsys.readouterr()
    assert "This is another protocol" in captured.out
    assert "pictures with no animal" in captured.err
    few = Score.read(tmp_path / "score_val_boxes.json")
    assert few.values["n"] == own.values["n"]  # what has no box is missed
    assert few.values["AR"] <= 3 / own.values["n"]
    results = json.loads((tmp_path / "results_val_boxes.json").read_text())
    assert {entry["image_id"] for entry in results} <= {entry["image_id"] for entry in found[:3]}


@pytest.mark.parametrize(("option", "name"), [("--against", "results_val.json"), ("--boxes", "results_val_boxes.json")])
def test_results_keep_what_they_are_compared_with(
    option: str, name: str, trained: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of an earlier training, say, scored into the same folder."""
    truth = json.loads((drawn / "annotations" / "val.json").read_text())
    keys = ("image_id", "category_id", "bbox", "keypoints")
    results = [{key: entry[key] for key in keys} | {"score": 1.0} for entry in truth["annotations"]]
    (tmp_path / name).write_text(json.dumps(results))
    words = ["--checkpoint", trained / "best.ckpt", "--data", drawn, option, tmp_path / name, "--out", tmp_path]
    says(refused(main, words, capsys, tmp_path), option, name, "another folder")


def test_other_boxes_need_a_model(drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.json").write_text("[]")
    words = ["--predictions", tmp_path / "r.json", "--boxes", tmp_path / "r.json", "--data", drawn]
    says(refused(main, words, capsys, tmp_path), "--boxes", "give --checkpoint")


def test_rules_of_other_programs_stand_beside_the_score(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = read_split(drawn, "val")
    results = tmp_path / "results.json"
    results.write_text(json.dumps(shaken(truth, 0.05, 0).to_results()))
    (tmp_path / "skeleton.yaml").write_text("sigmas: {nose: 0.2}\n")
    what = ("--predictions", results, "--data", drawn, "--draws", 10)
    assert score(*what, "--rules", "all", "--rules", tmp_path / "skeleton.yaml", "--out", tmp_path) == 0
    printed = capsys.readouterr().out
    written = {each["rule"]: each for each in json.loads((tmp_path / "rules_val.json").read_text())}
    assert [*written] == [*(rule.name for rule in RULES), "skeleton.yaml"]
    for name, each in written.items():
        assert f"{name}  " in printed
        assert f"Source: {each['source']}\n" in printed
        assert 0 <= each["AP"] <= 1
    assert written["skeleton.yaml"]["sigmas"][2] == 0.2
    assert written["AP-10K (MMPose)"]["AP"] < written["skeleton.yaml"]["AP"] < written["FiftyOne, kappa 1"]["AP"]


def test_where_an_area_is_missing_rules_say_whose_they_took(drawn: Path, tmp_path: Path) -> None:
    results, content = tmp_path / "results.json", json.loads((drawn / "annotations" / "val.json").read_text())
    results.write_text(json.dumps(shaken(read_split(drawn, "val"), 0.05, 0).to_results()))
    (tmp_path / "annotations").mkdir()
    taken = []
    for areas in ("all", "all but one"):
        (tmp_path / "annotations" / "val.json").write_text(json.dumps(content))
        what = ("--predictions", results, "--data", tmp_path, "--draws", 10, "--rules", "all")
        assert score(*what, "--out", tmp_path / areas) == 0
        taken.append({each["rule"]: each for each in json.loads((tmp_path / areas / "rules_val.json").read_text())})
        content["annotations"][-1].pop("area", None)
    for name, stated in taken[0].items():
        took_it = stated["area"] == "the file's"
        assert (taken[1][name]["area"] == "the box's, for want of the file's") == took_it, name
        assert took_it or taken[1][name] == stated, name


def test_a_rule_that_is_none_is_one_line(drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results.json"
    results.write_text("[]")
    (tmp_path / "other.yaml").write_text("sigmas: {whiskers: 0.2}\n")
    what = ["--predictions", results, "--data", drawn, "--rules"]
    says(refused(main, [*what, "everything"], capsys, tmp_path), "--rules everything", "all")
    says(refused(main, [*what, tmp_path / "other.yaml"], capsys, tmp_path), "--rules", "other.yaml", "whiskers")


def test_the_same_keypoints_are_equal_with_and_without_the_names_of_their_annotations(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = shaken(read_split(drawn, "val"), 0.2, 0).to_results()
    for name, kept in (("named", results), ("nameless", [{**each} for each in results])):
        if name == "nameless":
            for each in kept:
                del each["annotation_id"]
        (tmp_path / f"{name}.json").write_text(json.dumps(kept))
    files = ("--predictions", tmp_path / "named.json", "--against", tmp_path / "nameless.json")
    assert score(*files, "--data", drawn, "--draws", 20) == 0
    printed = capsys.readouterr().out.partition("nameless.json:\n\n")[2]
    assert "distances may differ from those above" in printed
    for key in ("AP", "PCK@0.1", "NME", "EPE"):
        (line,) = (line.split() for line in printed.splitlines() if line.split()[:1] == [key])
        assert line[1] == line[2]
        assert float(line[3]) == 0
