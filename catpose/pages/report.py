"""The report page, put together from its sections."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import catpose
from catpose.data.coco import read_split
from catpose.data.conditions import conditions
from catpose.data.statistics import measure
from catpose.pages.cost import cost, price, what_does_it_cost
from catpose.pages.failures import failures, where_does_it_fail
from catpose.pages.reproduction import reproduction
from catpose.pages.results import is_it_real, published, results, which_is_better
from catpose.pages.training import training
from catpose.run.profiling import read_profile
from catpose.score.error_kinds import kinds
from catpose.show.data_report import data_blocks
from catpose.show.gallery import gallery
from catpose.show.page import Page, Section, Text
from catpose.study.compare import compare
from catpose.study.diagnosis import diagnose, parts_of
from catpose.study.models import read_models, unfinished

#: Most models that the error analysis and the gallery show, the best first.
SHOWN = 4


def report(
    runs: Sequence[Path],
    root: Path | None,
    profiles: Sequence[Path],
    title: str,
    draws: int,
    command: Sequence[str],
) -> Page:
    """The page of some runs and studies.

    Args:
        root: the data folder; the first run's where none is given.
        profiles: files that `catpose.profile` wrote.
        draws: resamples of the validation images.
        command: the words that were given, to be shown.

    Raises:
        InputError: as `read_models`, or a picture can't be read.
    """
    measured = [read_profile(path) for path in profiles]
    models, split, truth = read_models(runs, root)
    comparison = compare(models, truth, draws)
    found = conditions(split)
    parts = parts_of(found, split, truth)
    shown = sorted(comparison.judged, key=lambda judged: -judged.value("AP"))[:SHOWN]
    diagnoses = [diagnose(judged, truth, parts, draws) for judged in shown]
    pictures = gallery(
        split,
        truth,
        [(judged.label, judged.detections[0], kinds(truth, judged.detections[0])) for judged in shown],
        {name: found[name] for name in parts},
    )
    prices = [price(model) for model in models]
    train = read_split(split.file.parent.parent, "train")
    counted = {"train": conditions(train, pictures=False), "val": found}
    n = sum(len(model.runs) for model in models)
    of = f"{len(models)} models, {n} trained networks" if n > 1 else "One trained network"
    aside = " ".join(["", *unfinished(runs)])
    return Page(
        title,
        f"{of}, scored on the {len(truth.images)} images of {split.file.stem}.{aside}",
        [
            which_is_better(comparison),
            is_it_real(comparison),
            where_does_it_fail(diagnoses[0]),
            what_does_it_cost(comparison, prices, measured),
        ],
        [
            results(comparison),
            failures(diagnoses, truth),
            Section("gallery", "Gallery", [Text(GALLERY), pictures]),
            cost(comparison, prices, measured),
            training(models),
            published(comparison),
            Section("data", "The data", data_blocks(measure([train, split]), counted)),
            reproduction(models, command),
        ],
        f"Made by catpose {catpose.__version__} on {time.strftime('%Y-%m-%d')}.",
    )


GALLERY = (
    "Every instance of the validation split with what the models predict, the worst first. Of a model with several"
    " seeds, the first."
)
