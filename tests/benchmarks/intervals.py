"""What the intervals of an evaluation are worth: `python tests/benchmarks/intervals.py [STUDIES [WORLD …]]`.

From a pool of 6000 made-up pictures some are drawn and two models evaluated on them, as `test` and `report` do it, time
and again: printed, as Markdown, is how often each 95 % interval holds the pool's own figure. The models share most of
what is hard for them; of their difference there are intervals too. Ten minutes on one core with 200 studies.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import dataclasses
import sys
from typing import Any

import numpy as np

from catpose.analysis.configurations import evaluate_runs
from catpose.analysis.diagnosis import Diagnosis
from catpose.analysis.evaluations import paired
from catpose.instances import Instances
from catpose.score.bootstrap import image_weights
from catpose.score.by_slice import SliceAP, ap_by_slice
from catpose.score.detections import Detections
from catpose.score.error_types import delta_ap
from catpose.score.oks import instance_score, similarity
from catpose.skeleton import AP10K

POOL, DRAWS, SIZES = 6000, 300, (60, 132, 200)
#: How often cats on photographs have each keypoint labelled.
LABELLED = np.array([0.9, 0.9, 0.95, 0.75, 0.4, 0.5, 0.6, 0.55, 0.5, 0.6, 0.55, 0.2, 0.2, 0.25, 0.2, 0.25, 0.25])
#: How bad the models are, and how far their confidence exceeds the share that is right.
WORLDS = {"good and calibrated": (0.4, 0.0), "middling and overconfident": (1.0, 0.1)}
SLICES = {"a quarter": 1 / 4, "an eighth": 1 / 8, "a 13th": 1 / 13}
FIGURES = (
    *("AP", "AP50", "AP75", "AR", "AP_M", "AP/left_hip", "PCK@0.1", "mPCK@0.1", "PCK@0.1/left_hip", "PCK_eyes@0.5"),
    *("AUC", "NME", "EPE", "EPE/left_hip", "ECE"),
)
LOCALIZATION = ("jitter", "inversion", "swap", "miss")
COMPARED = ("AP", "PCK@0.1", "EPE")
Pool = tuple[Instances, list[Detections], np.ndarray]


def pool(badness: float, excess: float, rng: np.random.Generator) -> Pool:
    """Pictures of a cat, every tenth of two, what two models make of them, and the slice (N,) each cat belongs to."""
    image = np.sort(np.concatenate([np.arange(POOL), np.arange(0, POOL, 10)]))
    ids, n = np.arange(len(image)), len(image)
    side = np.exp(rng.uniform(np.log(60), np.log(450), n))
    box = np.column_stack([rng.uniform(0, 100, (n, 2)), side, side * rng.uniform(0.6, 1, n)])
    points, labelled = _within(box, rng), rng.random((n, 17)) < LABELLED
    labelled[:, 2] |= ~labelled.any(axis=1)
    area, ones, no = box[:, 2] * box[:, 3], np.ones(n, np.int64), np.zeros(n, bool)
    truth = Instances(
        image_ids=np.arange(POOL), category_ids=np.array([1]), ids=ids, image_index=image, category_index=ones - 1,
        boxes=box, areas=area, crowd=no, keypoints=points, visibility=labelled * 2, ignored=no,
    )  # fmt: skip

    bad = badness * rng.gamma(2.0, 0.5, POOL)[image][:, None]  # of a picture, to both models
    mate = np.where(np.roll(image, 1) == image, np.roll(ids, 1), np.roll(ids, -1))
    fate, noise = rng.random((n, 17)), rng.normal(size=(n, 17, 2))
    models, sigmas = [], np.array(AP10K.sigmas)
    for own in (0.0, 0.5):  # what the second has for itself
        chance = np.where(rng.random((n, 17)) < own, rng.random((n, 17)), fate)
        off = np.sqrt(1 - own**2) * noise + own * rng.normal(size=(n, 17, 2))
        found = points + off * ((1 + 0.1 * own) * bad * sigmas * np.sqrt(area)[:, None])[..., None]
        found = np.where((chance < 0.05 * bad)[..., None], points[:, AP10K.flip], found)
        found = np.where((chance > 1 - 0.05 * bad)[..., None], _within(box, rng), found)
        swapped = (abs(chance - 0.5) < 0.025 * bad) & (image[mate] == image)[:, None]
        found = np.where(swapped[..., None], points[mate], found)
        sure = (-bad - rng.gamma(1.0, 0.6, (n, 17))).argsort(axis=None).argsort() * 200 // (n * 17)
        right = (similarity(found, points, area, sigmas) >= 0.5).ravel()
        confidence = (np.bincount(sure, right) / np.bincount(sure))[sure].reshape(n, 17)  # is the share that is right
        confidence = np.clip(confidence + excess, 0, 1)
        models.append(Detections(image, ones, found, confidence, instance_score(confidence), ids))
    return truth, models, np.searchsorted(np.cumsum([*SLICES.values()]), rng.random(n))


def _within(box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return box[:, None, :2] + rng.random((len(box), 17, 2)) * box[:, None, 2:]


def drawn(whole: Pool, pictures: np.ndarray) -> Pool:
    """The data set of these pictures; one that is there twice counts as two."""
    truth, models, part = whole
    each = [np.arange(*np.searchsorted(truth.image_id, [i, i + 1])) for i in pictures.tolist()]
    rows = np.concatenate(each)
    image = np.repeat(np.arange(len(pictures)), [len(some) for some in each])
    names = ("category_index", "boxes", "areas", "crowd", "keypoints", "visibility", "ignored")
    of_truth = {name: getattr(truth, name)[rows] for name in names}
    ids = np.arange(len(rows))
    few = dataclasses.replace(truth, image_ids=np.arange(len(pictures)), image_index=image, ids=ids, **of_truth)
    of_models = [dataclasses.replace(model.subset(rows), image_id=image, annotation_id=ids) for model in models]
    return few, of_models, part[rows]


def figures(whole: Pool, draws: int) -> dict[str, Any]:
    """Everything with a value, and with `low` and `high` where there are draws."""
    truth, models, part = whole
    ours, theirs = (evaluate_runs("", [model], truth, draws) for model in models)
    names = np.array([*SLICES, "the rest"])[part]
    slices: dict[str, tuple[SliceAP, ...]] = {
        name: (each,) for name, each in ap_by_slice(truth, models[0], names, draws).items()
    }
    delta = delta_ap(truth, models[0], image_weights(len(truth.image_ids), draws))
    diagnosis = Diagnosis(ours, truth, {"": names}, draws, np.zeros((0, 17), np.int8), (delta,), {"": slices})
    made: dict[str, Any] = {key: ours.estimate(key) for key in FIGURES}
    made |= {f"AP of {name}": diagnosis.slice_ap("", name) for name in SLICES if name in slices}
    made |= {f"ΔAP, {error}": diagnosis.delta_ap(error) for error in LOCALIZATION}
    return made | {f"difference in {key}": paired(ours.evaluations[0], theirs.evaluations[0], key) for key in COMPARED}


def main() -> None:
    studies = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    worlds = sys.argv[2:] or list(WORLDS)
    names: dict[str, list[str]] = {}
    for world in worlds:
        rng = np.random.default_rng(list(WORLDS).index(world))
        whole = pool(*WORLDS[world], rng)
        truth = {key: made.value for key, made in figures(whole, 2).items()}
        counts = {key: [f"{value:.3f}" if abs(value) < 1 else f"{value:.1f}"] for key, value in truth.items()}
        for n in SIZES:
            made = [figures(drawn(whole, rng.integers(0, POOL, n)), DRAWS) for _ in range(studies)]
            for key, value in truth.items():
                known = [each[key] for each in made if key in each and not np.isnan(each[key].low)]
                held = np.mean([each.low <= value <= each.high for each in known]) if known else np.nan
                few = len(known) < studies / 4  # mostly on too few instances for an interval
                counts[key].append("" if few else f"{100 * held:.1f}")
        for key, cells in counts.items():
            names.setdefault(key, []).extend(cells)
        print(f"{world}: done", file=sys.stderr)
    print("| | " + " | ".join(f"{world} | " + " | ".join(f"{n} images" for n in SIZES) for world in worlds) + " |")
    print("|---|" + "---:|" * (len(worlds) * (1 + len(SIZES))))
    for key, cells in names.items():
        print(f"| {key} | " + " | ".join(cells) + " |")
    error = 100 * (0.05 * 0.95 / studies) ** 0.5
    print(f"\n{studies} studies; percent, beside the figure itself. Simulation error, one standard error: {error:.1f}.")


if __name__ == "__main__":
    main()
