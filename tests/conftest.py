"""What all tests share: threads, the checked shapes, and where the real photographs are."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

# Set before numpy, torch and OpenCV start their pools: more threads than free cores slow a run tenfold.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ["WANDB_MODE"] = "offline"
_cache = tempfile.TemporaryDirectory(prefix="catpose-tests-")
os.environ["XDG_CACHE_HOME"] = _cache.name  # decoded pictures of tests are nobody's

gc.disable()  # until all is imported

import hypothesis
import pytest
from hypothesis import HealthCheck
from jaxtyping import install_import_hook

# The array shapes in these modules' signatures are checked while the tests run.
install_import_hook(["catpose.geometry", "catpose.score.oks", "catpose.model.codec"], "beartype.beartype")

import catpose.figures.canvas

catpose.figures.canvas.DPI = 60  # a tenth of the pixels: what is drawn is the same

# Properties: the same few examples each time, or with --hypothesis-profile=thorough, as in .ci/run, many new ones.
# A slow machine fails neither.
patient: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}
hypothesis.settings.register_profile("quick", max_examples=30, derandomize=True, database=None, **patient)
hypothesis.settings.register_profile("thorough", max_examples=100, **patient)
hypothesis.settings.load_profile("quick")

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"
#: Files that are begun first, where xdist leaves the order as it is, so that none keeps one process busy at the end.
LONGEST = (
    *("test_process.py", "test_resume.py", "test_alone.py", "test_freeze.py", "test_rehearsing.py", "test_splits.py"),
    *("test_sweep.py", "test_contributing.py", "test_sweeps.py", "test_lineage.py", "test_experiments.py"),
    *("test_docs.py", "test_imports.py", "test_kills.py", "test_page_browser.py", "test_kubernetes.py"),
    *("test_packaging.py", "test_tour.py", "test_rows.py", "test_other_skeletons.py"),
)


def pytest_collection_finish() -> None:
    """What collecting has imported lives to the end: no garbage collection is to go through it again."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    cases = Counter[str]()
    for item in items:
        if mark := item.get_closest_marker("one_in"):
            test = item.nodeid.partition("[")[0]
            if cases[test] % mark.args[0]:
                item.add_marker(pytest.mark.slow)
            cases[test] += 1
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


TINY = """
model:
  class_path: TimmBackbone
  init_args:
    name: test_resnet
    head_channels: 16
    weights: null
    codec: {class_path: UDPHeatmap, init_args: {sigma: 1.0}}
    lr: 2.0e-3
    global_batch_size: 8
    warmup_iterations: 5
data:
  input_size: [64, 64]
  batch_size: 8
  augment: {rotation_factor: 20, scale_factor: 0.2}
trainer:
  max_epochs: 2
  accelerator: cpu
  enable_progress_bar: false
  enable_model_summary: false
  log_every_n_steps: 1
"""


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of 40 drawn cats: 24 to train, 8 to validate, 8 to test."""
    from catpose.prepare import main

    root = tmp_path_factory.mktemp("data") / "drawn"
    main(["drawn", "--out", str(root), "--sizes", "24", "8", "8"])
    return root


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, drawn: Path) -> Path:
    """A configuration that trains a small network on the drawn cats, in about a second an epoch."""
    folder = tmp_path_factory.mktemp("config")
    config = folder / "tiny.yaml"
    config.write_text(
        TINY.replace("  input_size", f"  root: {drawn}\n  cache_dir: {folder}\n  input_size"), encoding="utf-8"
    )
    return config


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """The folder of a run of three epochs, with what `fit` printed on its standard output beside it.

    How good it came out depends on the processor: a test that needs detections of known quality uses `finished`.
    """
    from catpose.fit import main

    out = tmp_path_factory.mktemp("runs") / "trained"
    with (out.parent / "stdout").open("w") as file, contextlib.redirect_stdout(file):
        main(["--config", str(tiny), "--out", str(out), "--model.class_path", "FeaturePyramid",
              "--trainer.max_epochs", "3", "--wandb.mode", "disabled"])  # fmt: skip
    return out


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, trained: Path, drawn: Path) -> Path:
    """`trained` without checkpoints, whose detections are made up: the truth with noise, scored."""
    from made_up import shaken

    from catpose.data.coco import read_split
    from catpose.score.metric import metric_values
    from catpose.score.protocol import Score

    run = tmp_path_factory.mktemp("runs") / "finished"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("*.ckpt", "wandb"))
    truth = read_split(drawn, "val")
    detections = shaken(truth, 0.06, 0)
    (run / "val_results.json").write_text(json.dumps(detections.to_results()))
    score = Score.read(run / "val_score.json")
    dataclasses.replace(score, values=metric_values(truth, detections)).write(run / "val_score.json")
    return run


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photographs and weights beside the checkout."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no real photographs: {SHARED / 'data'} is absent")
    return SHARED


@pytest.fixture(scope="session")
def cats17(shared: Path) -> Path:
    return shared / "data" / "cats17"
