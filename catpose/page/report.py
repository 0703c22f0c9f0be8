"""The report page, put together from its sections."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from catpose.analysis.compare import compare
from catpose.analysis.diagnosis import diagnose, varied
from catpose.analysis.models import read_models, unfinished
from catpose.cost.profiling import read_profile
from catpose.data.coco import read_split
from catpose.data.slices import slices
from catpose.data.statistics import measure
from catpose.figures.gallery import gallery
from catpose.page.cost import cost, price, what_does_it_cost
from catpose.page.data import data_blocks
from catpose.page.failures import failures, where_does_it_fail
from catpose.page.html import Page, Section, Text
from catpose.page.reproduction import reproduction
from catpose.page.results import is_it_real, published, results, which_is_better
from catpose.page.training import training
from catpose.score.error_types import error_types
from catpose.version import __version__

#: Most models that the error analysis and the gallery show, the best first.
SHOWN = 4


def report(
    runs: Sequence[Path],
    root: Path | None,
    profiles: Sequence[Path],
    title: str,
    draws: int,
    command: Sequence[str],
    trusted: tuple[str, ...] = (),
) -> Page:
    """The page of some runs and studies.

    Args:
        root: the data folder; the first run's where none is given.
        profiles: files that `catpose.profile` wrote.
        draws: resamples of the validation images.
        command: the words that were given, to be shown.
        trusted: modules outside of catpose, whose models may be built to count them.

    Raises:
        InputError: as `read_models`, or a picture can't be read.
    """
    measured = [read_profile(path) for path in profiles]
    models, split = read_models(runs, root)
    comparison = compare(models, split, draws)
    found = slices(split)
    sliced = varied(found)
    shown = sorted(comparison.evaluated, key=lambda each: -each.value("AP"))[:SHOWN]
    diagnoses = [diagnose(each, split, sliced, draws) for each in shown]
    pictures = gallery(
        split,
        [(each.label, each.detections[0], error_types(split, each.detections[0])) for each in shown],
        {name: found[name] for name in sliced},
    )
    prices = [price(model, split.skeleton, trusted) for model in models]
    train = read_split(split.file.parent.parent, "train")
    counted = {"train": slices(train, pictures=False), "val": found}
    n = sum(len(model.runs) for model in models)
    of = f"{len(models)} models, {n} trained networks" if n > 1 else "One trained network"
    aside = " ".join(["", *unfinished(runs)])
    return Page(
        title,
        f"{of}, scored on the {len(split.image_ids)} images of {split.file.stem}.{aside}",
        [
            which_is_better(comparison),
            is_it_real(comparison),
            where_does_it_fail(diagnoses[0]),
            what_does_it_cost(comparison, prices, measured),
        ],
        [
            results(comparison),
            failures(diagnoses, split),
            Section("gallery", "Gallery", [Text(GALLERY), pictures]),
            cost(comparison, prices, measured),
            training(models),
            published(comparison),
            Section("data", "The data", data_blocks(measure([train, split]), counted)),
            reproduction(models, command),
        ],
        f"Made by catpose {__version__} on {time.strftime('%Y-%m-%d')}.",
    )


GALLERY = (
    "Every instance of the validation split with what the models predict, the worst first. Of a model with several"
    " seeds, the first."
)
