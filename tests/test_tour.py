"""The notebook runs from its first cell to its last, with few cats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
NOTEBOOK = REPOSITORY / "docs" / "tour.ipynb"
SMALL = "sizes, epochs, seeds = (24, 12, 8), 1, (0, 1)"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (sizes,) = [cell for cell in notebook.cells if cell.source.startswith("sizes = ")]
    sizes.source = SMALL
    done = nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(out.get("text", "") for cell in done.cells for out in cell.get("outputs", []))
    assert "0.002" in printed
    assert "0.008" in printed
    assert any("image/jpeg" in out.get("data", {}) for cell in done.cells for out in cell.get("outputs", []))
    assert (tmp_path / "tour" / "report" / "index.html").exists()
    assert len(json.loads((tmp_path / "tour" / "predictions.json").read_text())) == 8


@pytest.mark.slow
def test_the_notebook_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
