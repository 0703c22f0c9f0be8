"""Methods, each with a results file or several, one a seed, compared on the same truth: AP in all and by slice.

Nothing is known of how results were made: a method is its files, and all is said of AP and what it is made of. Torch
isn't imported here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from catpose.analysis.evaluations import ENOUGH, estimate_of, sample
from catpose.analysis.statistics import Difference, Estimate, Sample, against, difference, holm
from catpose.instances import Instances
from catpose.score.ap import Found, Matches, match
from catpose.score.bootstrap import bootstrap, image_weights
from catpose.score.box_ap import match_boxes
from catpose.score.detections import BoxDetections, Detections
from catpose.score.full import Evaluation

#: What has no p-value of its own, being AP at some threshold and recall.
PARTS = ("AP50", "AP75", "AR")


@dataclass(frozen=True, eq=False)
class Method:
    """What is compared: its name, and its files as evaluated, one for each seed."""

    name: str
    seeds: tuple[Evaluation, ...]

    def sample(self, key: str) -> Sample:
        """One metric of all seeds."""
        return sample(self.seeds, key)

    def estimate(self, key: str, others: Sequence[Sample] = ()) -> Estimate:
        """With its 95 % interval, where it rests on instances enough; `others` as of `statistics.estimate`."""
        return estimate_of(self.seeds, key, others)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Methods in the order given, and the best one's differences to each other one, by the other's place.

    p of "AP" is corrected for all pairs of methods (Holm), since AP chose the best; p of the sizes and categories for
    all pairs on all of them that rest on instances enough. The other metrics have none.
    """

    methods: tuple[Method, ...]
    keys: tuple[str, ...]  # of the metrics: "AP" first
    best: int  # of the highest mean AP; the first of equals
    differences: dict[str, dict[int, Difference]]  # by metric
    p: dict[str, dict[int, float]]  # by metric

    def ap(self, method: Method) -> Estimate:
        """AP of one of the methods: one with a single file has the spread between seeds that the others have."""
        return method.estimate("AP", [each.sample("AP") for each in self.methods])

    @property
    def others(self) -> list[int]:
        """The places of all but the best."""
        return [i for i in range(len(self.methods)) if i != self.best]


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
    drawn = bootstrap(matches, weights, names)
    drawn = {key: drawn[key] for key in rests_on}
    values = {key: float(each[0]) for key, each in drawn.items()}
    return Evaluation(values, {key: each[1:] for key, each in drawn.items()}, n_images, rests_on)


def compare_methods(methods: Sequence[Method]) -> Comparison:
    """Hold the best method against each other one, in AP and in all that it is made of."""
    keys = tuple(methods[0].seeds[0].rests_on)
    best = max(range(len(methods)), key=lambda i: np.nan_to_num(methods[i].sample("AP").ap.mean(), nan=-1.0))
    samples = {key: [method.sample(key) for method in methods] for key in keys}
    differences, p = {}, {}
    differences["AP"], p["AP"] = against(samples["AP"], best)
    rests_on = methods[0].seeds[0].rests_on
    slices = [key for key in keys[1:] if key not in PARTS and rests_on[key] >= ENOUGH]
    pairs = list(combinations(range(len(methods)), 2))
    tested = [difference(samples[key][i], samples[key][j], others=samples[key]).p for key in slices for i, j in pairs]
    corrected = iter(holm(np.array(tested)).tolist())
    by_pair = {key: {pair: next(corrected) for pair in pairs} for key in slices}
    for key in keys[1:]:
        others = [i for i in range(len(methods)) if i != best]
        differences[key] = {i: difference(samples[key][best], samples[key][i], others=samples[key]) for i in others}
        if key in by_pair:
            p[key] = {i: by_pair[key][min(i, best), max(i, best)] for i in others}
    return Comparison(tuple(methods), keys, best, differences, p)


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
