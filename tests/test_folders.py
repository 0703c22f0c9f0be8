"""A folder is a run's, a study's or another command's: none writes into one of another kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from catpose import check, fit, prepare, report, sweep
from catpose.files import OWNERS

QUICK = Path(__file__).parents[1] / "sweeps" / "quick.yaml"
#: Each command that fills a folder: its words, and whose folders it refuses.
COMMANDS: dict[str, tuple[Callable[..., None], list[str], tuple[str, ...]]] = {
    "fit": (fit.main, ["--data.root=none", "--out={folder}"], ("study",)),
    "sweep": (sweep.main, ["--config={quick}", "--out={folder}"], ("run",)),
    "sweep --report": (sweep.main, ["--config={quick}", "--out={folder}", "--report"], ("run",)),
    "report": (report.main, ["none", "--out={folder}"], ("run", "study")),
    "check": (check.main, ["--data=none", "--report={folder}"], ("run", "study")),
    "prepare": (prepare.main, ["drawn", "--out={folder}", "--sizes", "1", "1", "1"], ("run", "study")),
}
CASES = [(name, owner, sign) for name, (_, _, owners) in COMMANDS.items() for owner in owners for sign in OWNERS[owner]]


@pytest.mark.parametrize(("name", "owner", "sign"), CASES)
def test_the_folder_of_another_kind_is_refused_in_one_line(
    name: str, owner: str, sign: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / sign).write_text("{}")
    main, words, _ = COMMANDS[name]
    with pytest.raises(SystemExit) as ended:
        main([word.format(folder=folder, quick=QUICK) for word in words])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert len(said.splitlines()) == 1
    assert str(folder) in said
    assert ("with other data" if name == "prepare" else f"is the folder of a {owner}") in said
    assert [(file.name, file.read_text()) for file in folder.iterdir()] == [(sign, "{}")]
