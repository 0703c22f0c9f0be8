"""What all tests share: threads, the checked shapes, and where the real photographs are."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

# Set before numpy, torch and OpenCV start their pools: more threads than free cores slow a run tenfold.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ["WANDB_MODE"] = "offline"
_cache = tempfile.TemporaryDirectory(prefix="catpose-tests-")
os.environ["XDG_CACHE_HOME"] = _cache.name  # decoded pictures of tests are nobody's

import pytest
from jaxtyping import install_import_hook

# The array shapes in these modules' signatures are checked while the tests run.
install_import_hook(["catpose.geometry", "catpose.score.oks", "catpose.model.codec"], "beartype.beartype")

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"


TINY = """
model:
  class_path: TimmBackbone
  init_args:
    name: test_resnet
    head_channels: 16
    weights: null
    codec: {class_path: Unbiased, init_args: {sigma: 1.0}}
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
    """The folder of a run that has learnt something, with what `fit` said on its standard output beside it."""
    from catpose.fit import main

    out = tmp_path_factory.mktemp("runs") / "trained"
    plain = [f"--data.augment.{name}=0" for name in ("rotation_factor", "scale_factor", "half_body_probability")]
    with (out.parent / "stdout").open("w") as file, contextlib.redirect_stdout(file):
        main(["--config", str(tiny), "--out", str(out), "--model.class_path", "FeaturePyramid", "--model.lr", "5e-3",
              "--trainer.max_epochs", "15", "--wandb.mode", "disabled", *plain])  # fmt: skip
    return out


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photographs and weights beside the checkout."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no real photographs: {SHARED / 'data'} is absent")
    return SHARED


@pytest.fixture(scope="session")
def cats17(shared: Path) -> Path:
    return shared / "data" / "cats17"
