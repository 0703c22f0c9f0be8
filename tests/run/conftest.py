"""What tests of runs share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fit_server import FitServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FitServer]:
    server = FitServer(tmp_path_factory.mktemp("server") / "output")
    yield server
    server.close()
