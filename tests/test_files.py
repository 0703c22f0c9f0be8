"""Files are written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path

import pytest

from catpose.files import atomic_write, write_json


def test_a_broken_write_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    write_json(file, {"AP": 0.5})
    with pytest.raises(ValueError, match="JSON"):
        write_json(file, {"AP": math.nan})
    with contextlib.suppress(KeyError), atomic_write(file) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert json.loads(file.read_text()) == {"AP": 0.5}
    assert list(tmp_path.iterdir()) == [file]
