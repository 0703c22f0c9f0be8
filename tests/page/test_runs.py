"""Finished runs as configurations: what is read, how runs are put together, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from catpose.analysis.configurations import Configuration, gather
from catpose.errors import InputError
from catpose.page.run_folder import runs_of
from catpose.page.runs import Found, read_runs
from catpose.plain_yaml import dump_yaml

Copy = Callable[..., Path]


def configurations(paths: list[Path]) -> list[Configuration]:
    return together(read_runs(paths))


def together(found: Found) -> list[Configuration]:
    return gather(found.design, found.trainings)


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Copy:
    """Copies of a run, with other settings."""

    def copied(name: str, **settings: object) -> Path:
        run = tmp_path / name
        run.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(finished, run, ignore=shutil.ignore_patterns("*.ckpt", "wandb"))
        config = yaml.safe_load((run / "config.yaml").read_text())
        for key, value in settings.items():
            part, _, name = key.rpartition("__")
            (config[part] if part else config)[name] = value
        (run / "config.yaml").write_text(dump_yaml(config))
        return run

    return copied


def test_a_run_is_read_as_fit_wrote_it(trained: Path, drawn: Path) -> None:
    found = read_runs([trained])
    (configuration,) = together(found)
    (run,) = runs_of(configuration, found.runs)
    (training,) = configuration.trainings
    assert configuration.label == "trained"
    assert (run.seed, run.study, run.lacks, len(run.history)) == (0, None, None, 3)
    assert run.starts[0].command[:1] == ["--config"]
    assert [truth.split.file for truth in found.truths] == [drawn / "annotations" / "val.json"]
    results = json.loads((trained / "val_results.json").read_text())
    assert training.detections is not None
    assert training.detections.score.tolist() == [entry["score"] for entry in results]
    assert training.values["val/AP"] == float(run.history[-1]["val/AP"])
    assert training.seconds == pytest.approx(sum(float(row["epoch_seconds"]) for row in run.history))


def test_runs_that_differ_in_seed_and_place_alone_are_one_model(copy: Copy) -> None:
    paths = [
        copy("a", seed_everything=3),
        copy("b", seed_everything=1, data__cache_dir="elsewhere"),
        copy("c", data__batch_size=4),
    ]
    assert [(each.label, each.seeds) for each in configurations(paths)] == [("a", (1, 3)), ("c", (0,))]


def test_a_study_is_its_finished_trials(copy: Copy, tmp_path: Path) -> None:
    for seed in (0, 1):
        copy(f"study/trials/000-x-seed{seed}", seed_everything=seed, wandb={"job_type": "1e-3", "mode": "disabled"})
    copy("study/trials/001-y-seed0", trainer__max_epochs=4, wandb={"job_type": "2e-3"})  # one epoch is missing
    found = read_runs([tmp_path / "study"])
    assert found.notes == ("1 trial is left out of study, not finished, or gone on under other settings.",)
    assert [(each.label, each.seeds) for each in together(found)] == [("1e-3", (0, 1))]
    both = configurations([tmp_path / "study", copy("other")])
    assert [each.label for each in both] == ["study 1e-3", "other"]


def test_a_run_that_ended_early_is_named_and_compared_with_none(copy: Copy) -> None:
    whole, early, other = copy("whole"), copy("early", trainer__max_epochs=30), copy("other", trainer__max_epochs=40)
    short, long = configurations([early, whole])
    assert (short.seeds, [str(loss) for loss in short.losses]) == ((), ["seed 0 ended early: 3 of 30 epochs"])
    assert (long.seeds, long.losses) == ((0,), [])
    (alone,) = configurations([early])  # it may still be training
    assert (alone.label, alone.seeds) == ("early", (0,))
    with pytest.raises(InputError, match=r"3 of 30 epochs.*other has 3 of 40.*can't be compared"):
        read_runs([early, other])


def test_a_seed_that_ended_early_keeps_its_configuration_from_being_complete(copy: Copy) -> None:
    paths = [copy(f"run-seed{seed}", seed_everything=seed) for seed in range(3)]
    lines = (paths[1] / "metrics.csv").read_text().splitlines()
    (paths[1] / "metrics.csv").write_text("\n".join(lines[:-1]) + "\n")
    (made,) = configurations(paths)
    assert (made.label, made.seeds, made.is_complete, made.seed_count) == ("run", (0, 2), False, "2 of 3")
    assert [str(loss) for loss in made.losses] == ["seed 1 ended early: 2 of 3 epochs"]


def test_a_studys_arms_are_named_by_what_it_varies(copy: Copy, tmp_path: Path) -> None:
    for i, (lr, seed) in enumerate(((0.001, 0), (0.001, 1), (0.002, 0))):
        run = copy(f"study/trials/00{i}-{lr}-seed{seed}", wandb={"job_type": str(lr)}, seed_everything=seed)
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["model"]["init_args"]["lr"] = lr
        (run / "config.yaml").write_text(dump_yaml(config))
    assert [each.name for each in configurations([tmp_path / "study"])] == ["lr 0.001", "lr 0.002"]


def test_a_run_counts_once_however_often_it_is_given(copy: Copy, tmp_path: Path) -> None:
    run = copy("study/trials/000-x-seed0", wandb={"job_type": "x"})
    shutil.copytree(run, tmp_path / "backup")
    (tmp_path / "link").symlink_to(run)
    (once,) = configurations([run, run, tmp_path / "link", tmp_path / "study", tmp_path / "backup"])
    assert once.seeds == (0,)


def test_seeds_are_named_by_what_their_folders_share(copy: Copy) -> None:
    paths = [copy(f"small-seed{seed}", seed_everything=seed) for seed in (10, 11)]
    assert [each.label for each in configurations(paths)] == ["small"]


def test_another_training_with_the_same_settings_and_seed_is_not_lost(copy: Copy) -> None:
    """The code was changed in between."""
    before, after = copy("before"), copy("after")
    results = json.loads((after / "val_results.json").read_text())
    results[0]["keypoints"][0] += 3
    (after / "val_results.json").write_text(json.dumps(results))
    assert [(each.label, each.seeds) for each in configurations([before, after])] == [("before", (0,)), ("after", (0,))]


def test_equal_names_are_told_apart(copy: Copy) -> None:
    assert len({each.label for each in configurations([copy("a/run"), copy("b/run", data__batch_size=4)])}) == 2


def test_results_that_test_made_will_do(copy: Copy) -> None:
    run = copy("a")
    (run / "val_results.json").rename(run / "results_val.json")
    shutil.copy(run / "val_score.json", run / "score_val.json")
    found = read_runs([run])
    (training,) = found.trainings
    assert found.runs[str(run)].by_test
    assert training.detections is not None
    assert np.isfinite(training.detections.score).all()


def broken(run: Path, how: str) -> list[Path]:
    match how:
        case "no folder":
            return [run / "nowhere"]
        case "no run":
            (run / "run.json").unlink()
        case "nothing finished":
            shutil.copytree(run, run / "trials" / "000-x-seed0")
            (run / "trials" / "000-x-seed0" / "metrics.csv").unlink()
            (run / "run.json").unlink()
        case "settings":
            (run / "config.yaml").write_text("[")
        case "settings that grow":
            text = (run / "config.yaml").read_text() + "a: &a {x: 1}\n"
            for name, before in zip("bcdefghijk", "abcdefghij", strict=True):
                text += f"{name}: &{name} {{" + ", ".join(f"k{i}: *{before}" for i in range(9)) + "}\n"
            (run / "config.yaml").write_text(text)
        case "settings in brackets":
            (run / "config.yaml").write_text("[" * 40_000)
        case "large settings":
            (run / "config.yaml").write_text((run / "config.yaml").read_text() + "#" * 200_000)
        case "seed" | "max_epochs" | "input_size":
            config = yaml.safe_load((run / "config.yaml").read_text())
            part = {"seed": config, "max_epochs": config["trainer"], "input_size": config["data"]}[how]
            part["seed_everything" if how == "seed" else how] = "many"
            (run / "config.yaml").write_text(dump_yaml(config))
        case "epoch":
            with (run / "metrics.csv").open("a") as file:
                file.write(",".join(["3", *["x"] * 40]) + "\n")
        case "number":
            lines = (run / "metrics.csv").read_text().splitlines()
            (run / "metrics.csv").write_text("\n".join([*lines[:-1], lines[-1].rsplit(",", 1)[0] + ",much"]))
        case "start":
            (run / "run.json").write_text('{"starts": [{"git": "main", "command": 5}]}')
        case "deep":
            (run / "val_score.json").write_text("[" * 100_000 + "]" * 100_000)
        case "flip test":
            score = json.loads((run / "val_score.json").read_text())
            score["protocol"]["flip_test"] = ["perhaps"]
            (run / "val_score.json").write_text(json.dumps(score))
        case "sigmas":
            score = json.loads((run / "val_score.json").read_text())
            score["protocol"]["sigmas"][0] = 0.5
            (run / "val_score.json").write_text(json.dumps(score))
        case "other data":
            return [run, *broken(Path(shutil.copytree(run, run.parent / "other")), "data")]
        case "record":
            (run / "run.json").write_text("{}")
        case "results":
            (run / "val_results.json").unlink()
        case "score":
            (run / "val_score.json").write_text("[]")
        case "protocol":
            other = run.parent / "other"
            shutil.copytree(run, other)
            score = json.loads((other / "val_score.json").read_text())
            score["protocol"]["flip_test"] = False
            (other / "val_score.json").write_text(json.dumps(score))
            return [run, other]
        case "data":
            score = json.loads((run / "val_score.json").read_text())
            score["protocol"]["split_hash"] = "0" * 64
            (run / "val_score.json").write_text(json.dumps(score))
    return [run]


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no folder", "nowhere: is no folder; name the folder of a run"),
        ("no run", "holds neither run.json nor trials/"),
        ("nothing finished", "none of its 1 trials is finished"),
        ("settings", "config.yaml: .*; restore it, or leave out this run"),
        ("record", "run.json: is missing or damaged"),
        ("results", "holds no val_results.json .* python -m catpose.test"),
        ("settings that grow", "config.yaml: .*its aliases written out.*; restore it, or leave"),
        ("settings in brackets", "config.yaml: .*nested too deeply.*; restore it, or leave"),
        ("large settings", "config.yaml: .*is larger than.*; restore it, or leave"),
        ("seed", "config.yaml: seed_everything: .* integer, which fit doesn't write; restore it, or leave"),
        ("max_epochs", "config.yaml: trainer.max_epochs: .* integer"),
        ("input_size", "config.yaml: data.input_size: .*, which fit doesn't write"),
        ("epoch", "metrics.csv: is damaged"),
        ("number", "metrics.csv: holds what is no number"),
        ("start", "run.json: is missing or damaged"),
        ("score", "val_score.json: holds no score with its protocol; .* python -m catpose.test"),
        ("deep", "val_score.json: holds no score with its protocol"),
        ("flip test", "val_score.json: holds no score with its protocol"),
        ("sigmas", r"run: was scored otherwise than here \(sigmas"),
        ("other data", "other was scored on .*--data"),
        ("protocol", r"different protocols \(flip_test False against True\)"),
        ("data", "val.json: sha256 .* is not what .* was scored on .*--data"),
    ],
)
def test_what_cant_be_read_is_one_line(how: str, said: str, copy: Copy) -> None:
    with pytest.raises(InputError, match=said) as error:
        configurations(broken(copy("run"), how))
    assert "\n" not in str(error.value)
