from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_the_continuous_integration_runs_the_test_command_of_the_readme() -> None:
    command = re.findall(r"```sh\n(pip install -e '.*)\n```", README)
    assert len(command) == 1
    assert command[0] in (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_no_link_is_broken() -> None:
    for page in ("README.md", "CONTRIBUTING.md", "RESULTS.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (REPOSITORY / page).read_text(encoding="utf-8")):
            assert target.startswith("http") or (REPOSITORY / target).exists(), (page, target)
