"""What the study statistics are worth: `python tests/benchmarks/coverage.py [STUDIES [WORLD …]]`.

A quarter of an hour on one core with all worlds and 300 studies each.

In simulated worlds with known truth (tests/simulated.py), the rate at which 95 % intervals hold it, of single
arms and of differences to the first arm, and the level: in how many studies, their arms being equal, any of the
differences has a corrected (Holm) p below 0.05. With one seed an arm, the truth is these models' on other images; with
more, the expected AP over seeds and images. Printed as Markdown.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))

from simulated import World, coverage, typical

SEEDS = (1, 3, 10)
WORLDS = {
    "a bit of everything": World((0.1,) * 4),
    "images alone": World((0.0,) * 4, arm_image=0.5, seed_image=0.1),
    "seeds above all": World((0.4,) * 4, seed_image=0.3),
    "seed by image above all": World((0.02,) * 4, image=0.5, seed_image=1.0),
    "everything but seeds": World((0.02,) * 4, arm_image=0.3),
    "unequal seeds": World((0.05, 0.4, 0.2, 0.1)),
    "60 images": World((0.1,) * 4, n_images=60),
    "200 images": World((0.1,) * 4, n_images=200),
    "2 arms": World((0.1,) * 2),
    "6 arms": World((0.1,) * 6),
    "low AP": World((0.1,) * 4, level=-0.8),
    "high AP": World((0.1,) * 4, level=3.0),
}


def main() -> None:
    studies = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    names = sys.argv[2:] or list(WORLDS)
    columns = [f"{what}, {n} seed{'s' * (n > 1)}" for what in ("arm", "difference", "level") for n in SEEDS]
    print("| world | AP | image se | seed sd | of it with image | " + " | ".join(columns) + " |")
    print("|---|" + "---:|" * (4 + len(columns)))
    for name in names:
        rng = np.random.default_rng(list(WORLDS).index(name))
        counts = coverage(WORLDS[name], SEEDS, studies, rng)
        cells = [f"{100 * counts[n].rates[k]:.1f}" for k in range(3) for n in SEEDS]
        sizes = [f"{size:.3f}" for size in typical(WORLDS[name], rng)]
        print("| " + " | ".join([name, *sizes, *cells]) + " |", flush=True)
    error = 100 * (0.05 * 0.95 / studies) ** 0.5
    print(f"\n{studies} studies a world; percent. Simulation error, one standard error: at most {error:.1f}.")


if __name__ == "__main__":
    main()
