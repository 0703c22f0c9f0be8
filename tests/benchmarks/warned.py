"""How often a study's own numbers warn of its intervals: `python tests/benchmarks/warned.py [STUDIES]`.

First in the worlds of `claims.py`, in others of their studies than it makes; without bootstrap, of which warnings don't
depend: two minutes of one core with 3000. Then of three equal configurations, of whose trainings 5, 15 or 30 % fail, a
fifteenth as many studies for each number of seeds: how often the 95 % interval of a configuration's AP holds the truth
(its mean over all studies of the row), how often the study warns, and how often an interval fails to hold it without a
warning: a sound one does in 5 %. Five more minutes.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
import zlib
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import poses
from claims import CELLS, warns
from poses import World, study

from catpose.analysis.statistics import estimate


def main() -> None:
    studies = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    draws, poses.DRAWS = poses.DRAWS, 1
    for name, world in CELLS.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()) + 1)
        print(f"{name}: {np.mean([warns(study(world, rng)[0]) for _ in range(studies)]):.1%}", flush=True)
    poses.DRAWS = draws
    print("\n| seeds | could fail unseen | fail | hold | warned | fail to hold, unwarned |")
    print("|---:|---:|---:|---:|---:|---:|")
    for seeds in (3, 5, 8, 10, 15, 20):
        for share in (0.05, 0.15, 0.3):
            print(failing(seeds, share, studies // 15), flush=True)


def failing(seeds: int, share: float, studies: int) -> str:
    """A row of the table: studies of so many seeds, of which a share fails."""
    world, rng = World((seeds,) * 3, shape="fails", fails=share), np.random.default_rng(seeds)
    made = [study(world, rng)[0] for _ in range(studies)]
    truth = np.mean([sample.ap.mean() for samples in made for sample in samples])
    intervals = [[estimate(sample, others=samples) for sample in samples] for samples in made]
    hold = np.array([[each.low <= truth <= each.high for each in of_one] for of_one in intervals])
    warned = np.array([warns(samples) for samples in made])
    unwarned = (~hold & ~warned[:, None]).mean()
    shares = (1 - 0.05 ** (1 / seeds), share, hold.mean(), warned.mean())
    return f"| {seeds} | {' | '.join(f'{each:.0%}' for each in shares)} | {unwarned:.1%} |"


if __name__ == "__main__":
    main()
