"""Experiments and studies by their names, from a clone and as a wheel has them."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import pytest
from refused import exit_code

from catpose import load, shipped, sweep
from catpose.errors import InputError
from catpose.run.cli import FitCLI
from catpose.shipped import find_config, find_model, with_found_configs

REPOSITORY = Path(__file__).parents[1]
EXPERIMENT, STUDY = REPOSITORY / "experiments" / "hrnet.yaml", REPOSITORY / "sweeps" / "quick.yaml"


def test_names_mean_files_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("hrnet", "hrnet.yaml", "experiments/hrnet", "experiments/hrnet.yaml"):
        assert find_config(name, "experiments") == EXPERIMENT
    for name in ("quick", "sweeps/quick", "sweeps/quick.yaml"):
        assert find_config(name, "sweeps") == STUDY
    for name in ("nothing", "../hrnet", "/hrnet", "model: {lr: 1}", "", "hrnet/x"):
        assert find_config(name, "experiments") == Path(name)
    (tmp_path / "hrnet").mkdir()  # a folder is no configuration
    assert find_config("hrnet", "experiments") == EXPERIMENT
    (tmp_path / "hrnet.yaml").write_text("{}")  # one's own comes first
    assert find_config("hrnet.yaml", "experiments") == Path("hrnet.yaml")


def test_those_of_a_wheel_lie_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "catpose"
    shutil.copytree(EXPERIMENT.parent, package / "experiments")
    monkeypatch.setattr(shipped, "PLACES", (package, package.parent))
    monkeypatch.chdir(tmp_path)
    assert find_config("hrnet", "experiments") == package / "experiments" / "hrnet.yaml"


def test_commands_take_names(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert with_found_configs(["--config", "hrnet", "--out", "hrnet"]) == [
        "--config",
        str(EXPERIMENT),
        "--out",
        "hrnet",
    ]
    assert with_found_configs(["--config=hrnet"]) == [f"--config={EXPERIMENT}"]
    cli = FitCLI(["--config", "quickstart", "--trainer.max_epochs", "1"])
    assert cli.out == Path("runs/quickstart")
    command = functools.partial(exit_code, sweep.main)
    assert command("--config", "nothing") == 2


def test_a_models_name_means_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "felines.safetensors").touch()
    (tmp_path / "last").touch()
    assert find_model("felines") == tmp_path / "felines.safetensors"
    for name in ("felines.safetensors", "runs/felines", "felines.ckpt", "../felines", "last"):
        assert find_model(name) == Path(name)
    with pytest.raises(InputError, match=r"feline: no such file, nor a model that comes with catpose \(felines\);"):
        load("feline")
