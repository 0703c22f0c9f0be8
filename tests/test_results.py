"""RESULTS.md says what the files in results/ do; what is kept of a run is enough to make its numbers again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks import results
from made_up import data_set, shaken

from catpose.analysis.configurations import Design
from catpose.data.coco import read_split
from catpose.data.coco_split import CocoSplit, split_hash
from catpose.errors import InputError
from catpose.score.ap import average_precision, match
from catpose.score.bootstrap import Bootstrap, image_weights
from catpose.score.detections import Detections
from catpose.score.protocol import EvaluationProtocol, Score
from catpose.study.directory import StudyDirectory
from catpose.study.record import write_record
from catpose.study.space import Configuration
from catpose.study.stored import Outcome
from catpose.study.trial import Trial

SECTIONS = results.read_sections(results.REPOSITORY / "RESULTS.md")


def test_results_md_says_what_its_files_say() -> None:
    for source, texts in results.remade(results.RESULTS):
        for text in texts:
            assert results.standing(text, SECTIONS), f"{source} says: {text}"


def test_every_other_number_has_its_command() -> None:
    made = results.remade(results.RESULTS)
    for heading, text in SECTIONS.items():
        told = [*results.told(heading, text, made)]
        assert results.commands(text) or not any("other numbers" in line and line[0] != "0" for line in told), heading


def test_what_is_kept_is_small() -> None:
    folders = [each.parent for each in results.RESULTS.rglob("matches.npz")]
    kept = [file for each in folders for file in each.iterdir() if file.name != "test_predictions.json"]
    assert sum(file.stat().st_size for file in kept) < 5e6
    assert all(file.stat().st_size < 5e5 for file in results.RESULTS.rglob("test_predictions.json"))


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> CocoSplit:
    return read_split(data_set(tmp_path_factory.mktemp("data"), (1, 30, 1)), "val")


def write_run(folder: Path, split: CocoSplit, detections: Detections, seed: int = 0) -> Path:
    """A run's folder as `fit` leaves it, as far as it is looked at."""
    folder.mkdir(parents=True)
    protocol = EvaluationProtocol.of(
        split, detections, split="val", split_hash=split_hash(split), box_source="ground truth", flip_test=True
    )
    score = Score(average_precision(match(split, detections)) | {"PCK@0.1": 0.5}, protocol)
    score.write(folder / "val_score.json")
    (folder / "val_results.json").write_text(json.dumps(detections.to_results()))
    (folder / "config.yaml").write_text(
        f"seed_everything: {seed}\ndata: {{root: {split.file.parent.parent}, area: box}}\n"
        "model: {init_args: {weights: /elsewhere/net.safetensors}}\n"
    )
    (folder / "run.json").write_text(
        '{"wandb_id": "x", "starts": [{"catpose": "0.2.0", "packages": {"torch": "2.14.1"}}]}'
    )
    (folder / "metrics.csv").write_text(
        f"epoch,step,val/AP,epoch_seconds\n0,5,0.991,90\n1,9,,\n1,10,,120\n2,15,{score.values['AP']},120\n"
    )
    return folder


def test_a_run_that_is_kept_gives_its_numbers_again_to_the_last_digit(split: CocoSplit, tmp_path: Path) -> None:
    detections = shaken(split, 0.06, 0)
    run = write_run(tmp_path / "run", split, detections)
    results.keep(run, split.file.parent.parent, tmp_path / "results" / "one")
    kept = results.kept(tmp_path / "results" / "one")
    ours, matches = results.evaluation(kept.matches), match(split, detections)
    values, draws = average_precision(matches), Bootstrap(matches, image_weights(len(split.image_ids)))
    assert 0 < values["AP"] < 1
    for key in ours.draws:
        np.testing.assert_array_equal(ours.draws[key], draws[key])
        np.testing.assert_array_equal(ours.values[key], values[key])
    assert average_precision(kept.matches)["AP/nose"] == values["AP/nose"]
    assert ours.rests_on["AR50"] == values["n"]
    assert ours.rests_on["AP_M"] == values["n_M"]
    text = "".join(file.read_text() for file in kept.folder.iterdir() if file.suffix != ".npz")
    assert "net.safetensors" in text
    assert "elsewhere" not in text
    assert str(tmp_path) not in text
    assert sum(file.stat().st_size for file in kept.folder.iterdir()) < 50_000


def test_runs_of_one_protocol_are_one_table_with_seeds_differences_and_p(split: CocoSplit, tmp_path: Path) -> None:
    root, out = split.file.parent.parent, tmp_path / "results"
    for name, spread, seeds in (("good", 0.03, 2), ("bad", 0.12, 2)):
        for seed in range(seeds):
            run = write_run(tmp_path / f"{name}{seed}", split, shaken(split, spread, seed), seed)
            results.keep(run, root, out / name / str(seed))
    alone = write_run(tmp_path / "alone", split, shaken(split, 0.06, 5))
    score = Score.read(alone / "val_score.json")
    results.keep(alone, root, out / "other")
    (out / "other" / "val_score.json").unlink()
    replace(score, protocol=replace(score.protocol, flip_test=False)).write(out / "other" / "val_score.json")
    tables = dict(results.tables(out))
    assert sorted(tables) == ["bad, good", "other"]
    caption, header, _, best, other = tables["bad, good"]
    assert "differences are the winner's" in caption
    assert [*map(str.strip, header.split("|")[1:6])] == ["model", "seeds", "AP", "95 % interval", "seed sd"]
    assert best.startswith("| good | 2 |")
    assert "| winner |" in best
    assert other.startswith("| bad | 2 |")
    assert other.endswith("| 0.991 | 6 | 2.14.1 |")
    assert len(tables["other"]) == 4
    assert tables["other"][-1].endswith("| 0.991 (epoch 0) | 6 | 2.14.1 |")


def test_a_study_is_kept_whole_and_compared_with_its_reference(split: CocoSplit, tmp_path: Path) -> None:
    study, out, data = StudyDirectory(tmp_path / "study"), tmp_path / "results", split.file.parent.parent
    trials = []
    for index, (label, spread) in enumerate({"10/0.2": 0.066, "middling": 0.08, "best": 0.06}.items()):
        for seed in range(4):
            run = write_run(study.trials / f"{index}-{seed}", split, shaken(split, spread, seed), seed)
            state = "complete" if seed < 3 else "failed"
            outcome = Outcome(values={}, seconds=1.0, run=str(run))
            trials.append(Trial(index, seed, Configuration(label, {}, ()), state, outcome=outcome))
    write_record(study.summary, Design("", labels=("10/0.2", "middling", "best"), reference="10/0.2"), trials, [])
    (study.path / "report.png").write_bytes(b"a figure")
    results.main(["--keep", str(out / "study"), str(study.path), "--data", str(data)])
    kept = {str(file.parent.relative_to(out)) for file in out.rglob("matches.npz")}
    assert kept == {f"study/{name}/{seed}" for name in ("10-0.2", "middling", "best") for seed in range(3)}
    assert (out / "study" / "report.png").read_bytes() == b"a figure"
    ((_, table),) = results.tables(out)
    (out / "study" / "study.json").unlink()
    ((_, without),) = results.tables(out)
    p, p_without = (
        {row.split("|")[1].strip(): row.split("|")[8].strip() for row in rows[3:]} for rows in (table, without)
    )
    assert p["middling"] == p_without["middling"]  # of all pairs
    assert p["10-0.2"] != p_without["10-0.2"]  # of those with the reference, which were planned


def test_another_data_folder_is_refused(split: CocoSplit, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", split, shaken(split, 0.06, 0))
    other = data_set(tmp_path / "other", (1, 31, 1))
    with pytest.raises(InputError, match=r"validated on another split.*--data"):
        results.keep(run, other, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_line_that_results_md_lacks_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "RESULTS.md").write_text(
        "# Results\n\n## One\n\nAP 0.5 of 3\ncats, by `python -m\ncatpose.test`.\n\n"
        "```sh\npython tests/a.py \\\n    b\n```\n"
    )
    monkeypatch.setattr(results, "REPOSITORY", tmp_path)
    monkeypatch.setattr(results, "remade", lambda folder: [("results/x", ["0.5 of 3 cats", "0.7"])])
    with pytest.raises(SystemExit):
        results.main([])
    said = capsys.readouterr().out
    assert (
        "results/x:\n    0.5 of 3 cats\n0 other numbers, by\n    python -m catpose.test\n    python tests/a.py b"
        in said
    )
    assert "results/x: 0.7" in said
