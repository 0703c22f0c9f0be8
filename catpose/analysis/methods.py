"""Methods, each with a results file or several, one a seed, compared on one truth: AP in all, by size and category.

A method is a configuration, and its files are the configuration's trainings, of which nothing is known but that: what
is said of AP is what `analysis.report` says of a study. Torch isn't imported here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from catpose.analysis.configurations import Configuration, Design, Training
from catpose.analysis.evaluations import sample
from catpose.analysis.report import Report, Tested, report
from catpose.analysis.statistics import ENOUGH, difference, holm
from catpose.instances import Instances
from catpose.score.ap import Found, Matches, match
from catpose.score.bootstrap import Bootstrap, image_weights
from catpose.score.box_ap import match_boxes
from catpose.score.detections import BoxDetections, Detections
from catpose.score.full import Evaluation, first_alike

#: What has no p-value of its own, being AP at some threshold and recall.
PARTS = ("AP50", "AP75", "AR")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Methods as the configurations of a study without a reference, in the order given; and what AP is made of.

    p of AP is corrected for all pairs of methods (Holm), since AP chose the winner; p of the sizes and categories for
    all pairs on all of them that rest on instances enough. The other metrics have none.
    """

    report: Report
    keys: tuple[str, ...]  # of the metrics: "AP" first
    parts: dict[str, dict[int, Tested]]  # by metric but AP: the winner minus each other, by its place; p nan for none

    @property
    def methods(self) -> tuple[Configuration, ...]:
        """In the order given; the trainings of each are its files."""
        return self.report.configurations

    @property
    def best(self) -> int:
        """The place of the winner."""
        return next(i for i, each in enumerate(self.methods) if each is self.report.winner)

    def against(self, key: str) -> dict[int, Tested]:
        """The winner minus each other method in one metric, by its place."""
        return self.report.pairs if key == "AP" else self.parts[key]


def evaluate_file(
    truth: Instances, found: Detections | BoxDetections, draws: int, categories: Mapping[int, str]
) -> Evaluation:
    """Evaluate the detections of one file, all files on the same resamples of the images.

    Args:
        categories: what they are called, by id.

    Returns:
        "AP", "AP50", "AP75", "AR", of the sizes "AP_M" and so on, and "AP/CATEGORY" where there are several.
    """
    matches = match_boxes(truth, found) if isinstance(found, BoxDetections) else match(truth, found, by_keypoint=False)
    n_images = len(truth.image_ids)
    weights = np.concatenate([np.ones((1, n_images), dtype=np.int64), image_weights(n_images, draws)])
    names = [categories[id_] for id_ in truth.category_ids.tolist()]
    names = names if len(names) > 1 else []
    rests_on = _rests_on(matches, names)
    draws_of = Bootstrap(matches, weights, names)
    drawn = {key: draws_of[key] for key in rests_on}
    values = {key: float(each[0]) for key, each in drawn.items()}
    alike = None if isinstance(found, BoxDetections) else first_alike(truth, found)
    return Evaluation(values, {key: each[1:] for key, each in drawn.items()}, n_images, rests_on, alike)


def compare_methods(methods: Mapping[str, Sequence[Evaluation]]) -> Comparison:
    """Hold the best method against each other one, in AP and in all that it is made of.

    Args:
        methods: by name, their files as evaluated, one for each seed; none has an AP of nan.
    """
    configurations = [
        Configuration(
            name,
            tuple(Training(i, seed, "complete", name, evaluation=each) for seed, each in enumerate(evaluations)),
            index=i,
        )
        for i, (name, evaluations) in enumerate(methods.items())
    ]
    compared = report(Design("", labels=tuple(methods)), configurations)
    rests_on = configurations[0].evaluations[0].rests_on
    samples = {key: [sample(each.evaluations, key) for each in configurations] for key in rests_on}
    best = next(i for i, each in enumerate(configurations) if each is compared.winner)
    tested = [key for key in samples if key not in ("AP", *PARTS) and rests_on[key] >= ENOUGH]
    pairs = list(combinations(range(len(configurations)), 2))
    found = [difference(samples[key][i], samples[key][j], others=samples[key]).p for key in tested for i, j in pairs]
    corrected = iter(holm(np.array(found)).tolist())
    p = {(key, *pair): next(corrected) for key in tested for pair in pairs}
    parts = {
        key: {
            i: Tested(difference(each[best], each[i], others=each), p.get((key, min(i, best), max(i, best)), math.nan))
            for i in range(len(each))
            if i != best
        }
        for key, each in samples.items()
        if key != "AP"
    }
    return Comparison(compared, tuple(samples), parts)


def n_images_with(truth: Instances, found: Found) -> tuple[int, int]:
    """Images with a detection among those with an instance, and the latter."""
    annotated = np.unique(truth.image_id)
    return int(np.isin(annotated, found.image_id).sum()), len(annotated)


def _rests_on(matches: Matches, categories: Sequence[str]) -> dict[str, int]:
    """The number of instances of each metric, in the order of the table, without those of none."""
    counts = dict(zip(matches.questions, matches.instances.sum(axis=(1, 2)).tolist(), strict=True))
    result = {"AP": counts.pop("AP")}
    result |= dict.fromkeys(PARTS, result["AP"]) | counts
    of_categories = matches.instances[0].sum(axis=1).tolist()
    result |= {f"AP/{name}": n for name, n in zip(categories, of_categories, strict=bool(categories))}
    return {key: n for key, n in result.items() if n or key == "AP"}
