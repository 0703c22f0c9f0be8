"""The figure of how many labelled cats one needs, from the runs kept in results/: `python tests/benchmarks/curve.py`.

Writes results/cats/curve.png: AP against training images of sweeps/cats.yaml, a line for each start, and of
sweeps/few.yaml, kept by `results.py --keep cats STUDY` and `--keep few STUDY`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import results
from catpose.analysis.rendering import mark
from catpose.figures.configurations import Mark, draw_trends

FEW = "other animals, few.yaml"


def lines(folder: Path) -> dict[str, list[tuple[float, Mark]]]:
    """The configurations of both studies, for each line (training images, mark) pairs by the images."""
    found: dict[str, list[tuple[float, Mark]]] = {}
    for study in ("cats", "few"):
        ((_, configurations),) = results.grouped(folder / study).items()  # of one protocol
        for row in results.reported(configurations).rows:
            start, _, images = row.configuration.label.rpartition(" ")
            found.setdefault(start or FEW, []).append((float(images), mark(row)))
    return {label: sorted(line, key=lambda at: at[0]) for label, line in found.items()}


if __name__ == "__main__":
    drawn = draw_trends(lines(results.RESULTS), "training images", "How many labelled cats do I need?")
    (results.RESULTS / "cats" / "curve.png").write_bytes(drawn["png"])
