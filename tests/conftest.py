"""What all tests share: threads, the checked shapes, and where the real photographs are."""

from __future__ import annotations

import os
from pathlib import Path

# Set before numpy, torch and OpenCV start their pools: more threads than free cores slow a run tenfold.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ["WANDB_MODE"] = "offline"

import pytest
from jaxtyping import install_import_hook

# The array shapes in these modules' signatures are checked while the tests run.
install_import_hook(["catpose.geometry", "catpose.score.oks", "catpose.model.codec"], "beartype.beartype")

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photographs and weights beside the checkout."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no real photographs: {SHARED / 'data'} is absent")
    return SHARED


@pytest.fixture(scope="session")
def cats17(shared: Path) -> Path:
    return shared / "data" / "cats17"
