"""Finished runs as models: what is read, how runs are put together, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from catpose.errors import InputError
from catpose.study.models import read_models

Copy = Callable[..., Path]


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Copy:
    """Copies of a run, with other settings."""

    def copied(name: str, **settings: object) -> Path:
        run = tmp_path / name
        run.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(trained, run, ignore=shutil.ignore_patterns("*.ckpt", "wandb"))
        config = yaml.safe_load((run / "config.yaml").read_text())
        for key, value in settings.items():
            part, _, name = key.rpartition("__")
            (config[part] if part else config)[name] = value
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        return run

    return copied


def test_a_run_is_read_as_fit_wrote_it(trained: Path, drawn: Path) -> None:
    (model,), split, truth = read_models([trained])
    (run,) = model.runs
    assert model.label == run.label == "trained"
    assert (run.seed, run.study, run.is_whole, len(run.history)) == (0, None, True, 15)
    assert run.starts[0]["command"][:1] == ["--config"]
    assert split.file == drawn / "annotations" / "val.json"
    results = json.loads((trained / "val_results.json").read_text())
    assert run.detections.score.tolist() == [entry["score"] for entry in results]
    assert len(truth) == len(split)


def test_runs_that_differ_in_seed_and_place_alone_are_one_model(copy: Copy) -> None:
    paths = [copy("a", seed_everything=3), copy("b", seed_everything=1, out="elsewhere"), copy("c", data__batch_size=4)]
    models, _, _ = read_models(paths)
    assert [[run.seed for run in model.runs] for model in models] == [[1, 3], [0]]
    assert [model.label for model in models] == ["a", "c"]


def test_a_study_is_its_finished_trials(copy: Copy, tmp_path: Path) -> None:
    for seed in (0, 1):
        copy(f"study/trials/000-x-seed{seed}", seed_everything=seed, wandb={"job_type": "1e-3", "mode": "disabled"})
    copy("study/trials/001-y-seed0", trainer__max_epochs=16, wandb={"job_type": "2e-3"})  # one epoch is missing
    (model,), _, _ = read_models([tmp_path / "study"])
    assert (model.label, [run.seed for run in model.runs]) == ("1e-3", [0, 1])
    other = copy("other")
    both, _, _ = read_models([tmp_path / "study", other])
    assert [model.label for model in both] == ["study 1e-3", "other"]


def test_equal_names_are_told_apart(copy: Copy) -> None:
    models, _, _ = read_models([copy("a/run"), copy("b/run", data__batch_size=4)])
    assert len({model.label for model in models}) == 2


def test_results_that_test_made_will_do(copy: Copy) -> None:
    run = copy("a")
    (run / "val_results.json").rename(run / "results_val.json")
    (run / "val_score.json").rename(run / "score_val.json")
    (model,), _, _ = read_models([run])
    assert np.isfinite(model.runs[0].detections.score).all()


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
        case "record":
            (run / "run.json").write_text("{}")
        case "results":
            (run / "val_results.json").unlink()
        case "score":
            (run / "val_score.json").write_text("[]")
        case "contract":
            other = run.parent / "other"
            shutil.copytree(run, other)
            score = json.loads((other / "val_score.json").read_text())
            score["contract"]["flip_test"] = False
            (other / "val_score.json").write_text(json.dumps(score))
            return [run, other]
        case "data":
            score = json.loads((run / "val_score.json").read_text())
            score["contract"]["split_hash"] = "0" * 64
            (run / "val_score.json").write_text(json.dumps(score))
    return [run]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no folder", "nowhere: is no folder; name the folder of a run"),
        ("no run", "holds neither run.json nor trials/"),
        ("nothing finished", "none of its 1 trials is finished"),
        ("settings", "config.yaml: is missing or damaged"),
        ("record", "run.json: is missing or damaged"),
        ("results", "holds no val_results.json; make results .* python -m catpose.test"),
        ("score", "val_score.json: no score with its contract"),
        ("contract", r"different contracts \(flip_test False against True\)"),
        ("data", "val.json: sha256 .* is not what .* was scored on .*--data"),
    ],
)
def test_what_cant_be_read_is_one_line(how: str, said: str, copy: Copy) -> None:
    with pytest.raises(InputError, match=said) as error:
        read_models(broken(copy("run"), how))
    assert "\n" not in str(error.value)
