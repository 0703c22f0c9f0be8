from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import urlparse

import pytest
import yaml
from offline import records
from skeletons import KEYPOINTS

from catpose.run.training import train
from catpose.run.wandb import has_key, server
from catpose.run.wandb_logger import wandb_logger

RUNS = Path(__file__).parents[2] / "docs" / "runs.md"


@pytest.fixture(scope="module")
def resumed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs that was started twice, an epoch each, with names for W&B."""
    out = tmp_path_factory.mktemp("runs") / "named"
    named = ["--wandb.project=cats", "--wandb.group=study", "--wandb.job_type=arm", "--wandb.tags=[a, b]"]
    given = ["--wandb.id=cat0", '--wandb.config={"trial": 3, "arm": "1e-4"}']
    common = ["--config", str(tiny), "--out", str(out), *named, "--wandb.notes=why", *given]
    for epochs in ("1", "2"):
        train([*common, "--trainer.max_epochs", epochs])
        import wandb

        wandb.finish()
    return out


def history(file: Path) -> list[dict[str, object]]:
    """Each logged step's values by name."""
    steps = []
    for record in records(file):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            steps.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items})
    return steps


def files(run: Path) -> list[Path]:
    return sorted((run / "wandb").glob("offline-run-*/run-*.wandb"), key=lambda file: file.stat().st_mtime)


@pytest.mark.slow
def test_both_starts_are_one_run_with_the_names_given(resumed: Path) -> None:
    runs = [r.run for file in files(resumed) for r in records(file) if r.WhichOneof("record_type") == "run"]
    assert len(files(resumed)) == 2
    assert {run.run_id for run in runs} == {json.loads((resumed / "run.json").read_text())["wandb_id"]} == {"cat0"}
    for run in runs:
        assert (run.project, run.run_group, run.job_type, run.notes) == ("cats", "study", "arm", "why")
        assert run.display_name == "named"
        assert list(run.tags) == ["a", "b"]


@pytest.mark.slow
def test_the_config_is_the_resolved_one_with_what_was_added(resumed: Path) -> None:
    config: dict[str, object] = {}
    for record in records(files(resumed)[-1]):
        for update in (record.run.config.update, record.config.update):
            config |= {item.key: json.loads(item.value_json) for item in update if item.key}
    expected = yaml.safe_load((resumed / "config.yaml").read_text())
    assert {key: config.get(key) for key in expected} == expected
    assert (config["trial"], config["arm"]) == (3, "1e-4")


@pytest.mark.slow
def test_every_name_that_the_documentation_promises_is_logged(resumed: Path) -> None:
    section = RUNS.read_text().split("## Weights & Biases")[1].split("\n## ")[0]
    promised = {name for name in re.findall(r"`([\w/@.]+)`", section) if "/" in name or name == "lr"}
    logged = {name for file in files(resumed) for step in history(file) for name in step}
    logged |= {name.rsplit("/", 1)[0] for name in logged}  # pictures are a record of several parts
    assert promised - logged <= {"val/AP_M", "val/AP_L"}  # blank where no instance is of that size
    assert len(promised) > 10
    assert {f"val/AP/{name}" for name in KEYPOINTS} <= logged


@pytest.mark.slow
def test_the_curves_are_those_of_the_table(resumed: Path) -> None:
    import csv

    with (resumed / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    logged = [step for file in files(resumed) for step in history(file) if "val/AP" in step]
    assert [step["epoch"] for step in logged] == [0, 1]
    for row, step in zip(rows, logged, strict=True):
        for name in ("val/AP", "val/loss", "val/AP/neck"):
            assert float(row[name]) == pytest.approx(step[name], rel=1e-6)


@pytest.mark.slow
def test_overlays_are_pictures_beside_the_file(resumed: Path) -> None:
    for file in files(resumed):
        (step,) = [step for step in history(file) if "val/overlays/count" in step]
        assert step["val/overlays/count"] == 4
        for name in step["val/overlays/filenames"]:  # type: ignore[attr-defined]
            assert (file.parent / "files" / name).stat().st_size > 1000


def test_a_key_is_looked_for_where_wandb_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not has_key()
    (tmp_path / "netrc").write_text(f"machine {urlparse(server()).hostname} login user password 0123\n")
    assert has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not has_key()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert has_key()


def test_disabled_is_no_logger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert wandb_logger(tmp_path, "id", mode="disabled") is None
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_logger(tmp_path, "id") is None


def test_it_is_asked_for_nothing_that_it_warns_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import wandb

    monkeypatch.setattr(wandb, "init", lambda **settings: begun.append(settings))
    begun: list[dict[str, object]] = []
    logger = wandb_logger(tmp_path, "id", mode="offline")
    assert logger is not None
    logger.begin()
    assert begun[0]["dir"] == str(tmp_path)
    assert "anonymous" not in begun[0]  # whatever its value: wandb 0.31
