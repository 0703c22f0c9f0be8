"""The versions that pyproject.toml allows, that constraints.txt pins and that the image installs are one story."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
DIRECT = [
    requirement
    for text in (*PROJECT["project"]["dependencies"], *(text for extra in EXTRAS.values() for text in extra))
    if (requirement := Requirement(text)).name != "catpose"
]
PINS = [
    Requirement(line)
    for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda requirement: requirement.name)
def test_the_tested_version_is_an_allowed_one(requirement: Requirement) -> None:
    pins = [pin for pin in PINS if canonicalize_name(pin.name) == canonicalize_name(requirement.name)]
    assert pins
    for pin in pins:
        (exact,) = pin.specifier
        assert requirement.specifier.contains(exact.version)
    assert any(part.operator in (">=", "==") for part in requirement.specifier), "no lowest version"


def test_constraints_are_exact_and_name_no_place_to_fetch_from() -> None:
    for pin in PINS:
        (exact,) = pin.specifier
        assert exact.operator == "=="
        assert pin.url is None
        assert not pin.extras  # pip takes none in a constraint
        assert Version(exact.version).local is None, "a build that one registry has"


@pytest.mark.parametrize("version", ["2.6.2", "2.6.3"])  # malicious releases: GHSA-w37p-236h-pfx3
def test_malicious_releases_of_lightning_are_never_installed(version: str) -> None:
    (lightning,) = (requirement for requirement in DIRECT if requirement.name == "lightning")
    assert not lightning.specifier.contains(version)


def test_image_and_ci_install_the_tested_versions() -> None:
    assert "pip install -c constraints.txt" in (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    assert 'PIP_CONSTRAINT="$PWD/constraints.txt"' in (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
