"""What `catpose` has for other programs, imported only when it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import catpose

HEAVY = ("torch", "cv2", "numpy", "scipy", "matplotlib", "pydantic", "yaml")


def loaded_by(code: str) -> set[str]:
    """The modules that are loaded once some code has run in an interpreter of its own."""
    code += "\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    return set(done.stdout.split())


def test_the_package_alone_loads_nothing_heavy() -> None:
    assert not loaded_by("import catpose; dir(catpose); catpose.__version__") & {*HEAVY}


@pytest.mark.slow
def test_what_needs_no_torch_comes_without_it() -> None:
    names = ("load", "evaluate", "compare", "read_split", "train", "InputError", "Poses")
    assert "torch" not in loaded_by(f"from catpose import {', '.join(names)}")


def test_every_name_is_there_and_described() -> None:
    for name in catpose.__all__:
        assert (getattr(catpose, name).__doc__ or "").strip(), name
        assert name in dir(catpose)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        catpose.nothing  # noqa: B018


@pytest.mark.slow
@pytest.mark.parametrize("first", ["catpose.compare", "catpose.errors"])
def test_compare_is_called_alike_whether_its_module_was_imported_before(first: str) -> None:
    code = f"import {first}; from catpose import compare; import catpose.compare as module\n"
    code += "assert callable(compare) and callable(catpose.compare) and module.compare_files"
    loaded_by(code)


@pytest.mark.slow
def test_training_in_this_process(tiny: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"model": {"lr": 1e-3}, "trainer.max_epochs": 1, "wandb": {"mode": "disabled"}}
    run = catpose.train(tiny, out=tmp_path / "run", **settings)
    assert run.run.path == tmp_path / "run"
    assert run.run.best.is_file()
    assert "lr: 0.001" in (tmp_path / "run" / "config.yaml").read_text()
    assert run.score is not None
    assert 0 <= run.score.values["AP"] <= 1
    with pytest.raises(catpose.InputError, match=r"model\.lrr"):
        catpose.train(tiny, out=tmp_path / "other", model={"lrr": 1e-3})
