"""What a study's sentences are worth: `python tests/benchmarks/claims.py FOLDER [STUDIES [CELL …]]`.

About an hour of one core with 1,000 studies a cell. Each cell's figures are written to FOLDER/CELL.json as it ends, and
those that are there aren't made again, so that an interrupted run goes on. The worlds are those of `poses.py`, other
than those that the estimates were built on. The truth of a configuration is its mean over all studies of the cell. Of
each cell, with the number of studies:

- single, difference: how often the 95 % intervals of a configuration's AP, and of the differences from the first, hold
  the truth; where every configuration has one seed, the truth is that of these models;
- level: in how many studies any difference from the first configuration, of those as they would be were they equal, has
  a corrected (Holm) p below 0.05;
- winner, corrected: how often the winner's interval, raw and corrected for its being the highest, holds its expected
  AP; and by how much either value is above that on average;
- power: how often the difference that a study is said to detect is found in the next study; range: how often the one
  that 80 of 100 studies find is in the range given with it;
- warned: how often a study's own numbers make the sentence warn, by two seeds, seeds far off the others or unequal
  spreads (copies are told from detections, which these studies don't have). That fewer than 15 seeds can't show how
  they spread, and how many trainings could fail unseen, it says of all these but "1 1 1", or warns of what they show.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import json
import sys
import zlib
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from poses import World, study

from catpose.analysis.caution import seeds_are_few, stray, unequal
from catpose.analysis.power import detectable
from catpose.analysis.selection import corrected
from catpose.analysis.statistics import ALPHA, POWER, Sample, difference, estimate, holm

CELLS = {
    "1 1 1": World((1, 1, 1)),
    "2 2": World((2, 2)),
    "2 nine times": World((2,) * 9),
    "3 3": World((3, 3)),
    "3 3 3": World((3, 3, 3)),
    "3 3 1": World((3, 3, 1)),
    "1 3 3": World((1, 3, 3)),
    "5 5 1 1": World((5, 5, 1, 1)),
    "3 nine times": World((3,) * 9),
    "5 nine times": World((5,) * 9),
    "images above all": World((3,) * 9, seed=(0.02,), configuration=0.4),
    "a ladder": World((3,) * 5, gap=0.05),
    "30 images": World((3, 3, 3), n_images=30),
    "200 images": World((3, 3, 3), n_images=200),
    "AP near 0": World((3, 3, 3), error=2.2),
    "AP near 1": World((3, 3, 3), error=0.06),
    "unequal spreads": World((3, 3, 3), seed=(0.03, 0.12, 0.25)),
    "heavy tails": World((3, 3, 3), shape="heavy"),
    "seeds that fail": World((3, 3, 3), shape="fails"),
    "images doubled": World((3, 3, 3), doubled=True),
}
COLUMNS = {
    "AP": "{:.3f}", "seed_sd": "{:.3f}", "single": "{:.1%}", "difference": "{:.1%}", "level": "{:.1%}",
    "winner": "{:.1%}", "corrected": "{:.1%}", "winner_above": "{:+.4f}", "corrected_above": "{:+.4f}",
    "power": "{:.1%}", "range": "{:.1%}", "detectable": "{:.3f}", "warned": "{:.1%}",
}  # fmt: skip


def main() -> None:
    folder, studies = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    folder.mkdir(parents=True, exist_ok=True)
    print("| cell | " + " | ".join(COLUMNS).replace("_", " ") + " |\n|---|" + "---:|" * len(COLUMNS))
    for name in sys.argv[3:] or CELLS:
        file = folder / file_of(name)
        if not file.is_file() or json.loads(file.read_text())["studies"] < studies:
            unfinished = file.with_suffix(".part")
            unfinished.write_text(json.dumps(measured(name, studies), indent=1))
            unfinished.replace(file)
        print(row(name, json.loads(file.read_text())), flush=True)
    print(f"\n{studies} studies a cell; one standard error of 5 %: {100 * (0.05 * 0.95 / studies) ** 0.5:.1f} %.")


def file_of(name: str) -> str:
    """What a cell's file is called."""
    return f"{name.replace(' ', '_')}.json"


def row(name: str, figures: dict[str, float | None]) -> str:
    """A cell's figures as a line of the table."""
    known = {key: figures[key] for key in COLUMNS}
    cells = ["" if value is None else COLUMNS[key].format(value) for key, value in known.items()]
    return "| " + " | ".join([name, *cells]) + " |"


def measured(name: str, studies: int) -> dict[str, float | None]:
    """The figures of one cell; None where there is nothing to say."""
    world, rng = CELLS[name], np.random.default_rng(zlib.crc32(name.encode()))
    made, parts = zip(*(study(world, rng) for _ in range(studies)), strict=True)
    several = [sample for samples in made for sample in samples if len(sample.ap) > 1]
    ap = np.array([[sample.ap.mean() for sample in samples] for samples in made])
    truth = np.tile(ap.mean(axis=0), (studies, 1))
    if not several:
        of_part = np.polynomial.Polynomial.fit(np.array(parts).ravel(), ap.ravel(), 4)
        truth = of_part(np.array(parts)[..., 0])
    pairs = [_about(*each) for each in zip(made, truth, strict=True)]
    centred = [_moved(*each) for each in zip(made, truth, strict=True)]
    return {
        "studies": studies,
        "AP": float(ap.mean()),
        "seed_sd": float(np.sqrt(np.mean([each.ap.var(ddof=1) for each in several]))) if several else None,
        **{key: float(np.mean([each[key] for each in pairs])) for key in pairs[0]},
        **_power(centred),
        "warned": float(np.mean([warns(samples) for samples in made])),
    }


def warns(samples: Sequence[Sample]) -> bool:
    """Whether a study's numbers show that its intervals hold less often than they say."""
    return bool(seeds_are_few(samples) or stray(samples) or unequal(samples))


def _about(samples: Sequence[Sample], truth: np.ndarray) -> dict[str, float]:
    """What of one study's intervals holds; truth (A,)."""
    single = [estimate(sample, others=samples) for sample in samples]
    pairs = [difference(sample, samples[0], others=samples) for sample in samples[1:]]
    by_much = truth[1:] - truth[0]
    best = max(range(len(samples)), key=lambda i: samples[i].ap.mean())
    raw, fair = single[best], corrected(samples)
    assert fair is not None
    equal = _moved(samples, truth)
    p = holm(np.array([difference(sample, equal[0], others=equal).p for sample in equal[1:]]))
    return {
        "single": float(np.mean([each.low <= true <= each.high for each, true in zip(single, truth, strict=True)])),
        "difference": float(np.mean([d.low <= true <= d.high for d, true in zip(pairs, by_much, strict=True)])),
        "level": float((p < ALPHA).any()),
        "winner": float(raw.low <= truth[best] <= raw.high),
        "corrected": float(fair.low <= truth[best] <= fair.high),
        "winner_above": raw.value - truth[best],
        "corrected_above": fair.value - truth[best],
    }


def _power(centred: Sequence[Sequence[Sample]]) -> dict[str, float | None]:
    """Of what studies are said to detect, configurations being equal; between two of the seeds that most have."""
    said = [detectable(samples, list(combinations(range(len(samples)), 2)), 1) for samples in centred]
    if any(each is None for each in said):
        return {"power": None, "range": None, "detectable": None}
    known = [each for each in said if each]
    one, other = [i for i, sample in enumerate(centred[0]) if len(sample.ap) == known[0].seeds][:2]

    def found(samples: Sequence[Sample], by: float) -> bool:
        shifts = np.zeros(len(samples))
        shifts[other] = -by
        moved = _moved(samples, shifts)
        return difference(moved[other], moved[one], others=moved).p < ALPHA

    next_ones = [*centred[1:], centred[0]]  # not the study whose spread the difference is from
    power = np.mean([found(samples, each.value) for each, samples in zip(known, next_ones, strict=True)])
    low, high = 0.0, 1.0
    for _ in range(9):
        middle = (low + high) / 2
        low, high = (middle, high) if np.mean([found(each, middle) for each in centred]) < POWER else (low, middle)
    inside = np.mean([each.low <= high <= each.high for each in known])
    return {"power": float(power), "range": float(inside), "detectable": high}


def _moved(samples: Sequence[Sample], less: np.ndarray) -> list[Sample]:
    """Samples whose AP are so much (A,) less."""
    return [Sample(s.ap - by, s.draws - by, s.n_images) for s, by in zip(samples, less, strict=True)]


if __name__ == "__main__":
    main()
