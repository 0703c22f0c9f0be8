"""Look for faults in a data set before a GPU is spent on it.

`python -m catpose.check --data ROOT` holds annotations/*.json and images/ against each other, lists what it finds and
ends with a table. An error stops training or falsifies a score: the exit code is 2. A warning is for a person to look
at, since real data have some and can be trained on: warnings alone leave the exit code at 0.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from catpose.data.coco import DEFAULT_ROOT
from catpose.errors import BAD_INPUT, Parser, command

if TYPE_CHECKING:
    from catpose.data.structure import Finding

SHOWN = 5  # findings of a kind that are listed, unless all are asked for
EXAMPLES = 3  # places named in the table


@command
def main(argv: list[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    from catpose.data.checks import all_findings

    findings = all_findings(arguments.data)
    kinds: dict[tuple[str, str, str], list[Finding]] = defaultdict(list)
    for finding in sorted(findings, key=lambda finding: finding.severity):  # errors before warnings
        kinds[finding.severity, finding.kind, finding.split].append(finding)
    for (severity, kind, split), group in kinds.items():
        shown = group if arguments.all else group[:SHOWN]
        for finding in shown:
            print(f"{severity}: {split}: {finding.where}: {finding.message}")
        if len(shown) < len(group):
            print(f"{severity}: {split}: {len(group) - len(shown)} more of '{kind}' (--all lists them)")
    if findings:
        print()
        _print_table(kinds)
    errors = sum(finding.severity == "error" for finding in findings)
    print(f"{arguments.data}: {errors} errors, {len(findings) - errors} warnings")
    if errors:
        sys.exit(BAD_INPUT)


def _print_table(kinds: dict[tuple[str, str, str], list[Finding]]) -> None:
    rows: list[Sequence[str]] = [("", "kind", "split", "count", "for example")]
    for (severity, kind, split), group in kinds.items():
        examples = ", ".join(finding.where for finding in group[:EXAMPLES])
        rows.append((severity, kind, split, str(len(group)), examples))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        severity, kind, split = (cell.ljust(width) for cell, width in zip(row[:3], widths, strict=False))
        print(f"{severity}  {kind}  {split}  {row[3].rjust(widths[3])}  {row[4]}")


def _parser() -> Parser:
    parser = Parser(
        prog="python -m catpose.check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=Path(DEFAULT_ROOT), metavar="ROOT", help=f"the data set (default: {DEFAULT_ROOT})"
    )
    parser.add_argument("--all", action="store_true", help=f"list every finding, not the first {SHOWN} of a kind")
    return parser


if __name__ == "__main__":
    main()
