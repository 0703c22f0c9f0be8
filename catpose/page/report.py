"""The report page, put together from its sections."""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np

from catpose.analysis.comparison import scored_on
from catpose.analysis.configurations import Configuration, Training, evaluated, gather
from catpose.analysis.diagnosis import diagnose, varied
from catpose.analysis.report import Report
from catpose.analysis.report import report as report_of
from catpose.cost.record import read_profile
from catpose.data.coco import read_split
from catpose.data.coco_split import CocoSplit
from catpose.data.images import read_pictures
from catpose.data.slices import colour_distances_in, slices
from catpose.data.statistics import measure
from catpose.figures.gallery import Thumbnail, gallery, thumbnail, worst_pictures
from catpose.page.cost import cost, price, what_does_it_cost
from catpose.page.data import page_blocks
from catpose.page.failures import failures, where_does_it_fail
from catpose.page.html import Answer, Page, Section, Text
from catpose.page.reproduction import reproduction
from catpose.page.results import is_it_real, published, results, what_does_it_vary_with, which_is_better
from catpose.page.run_folder import runs_of
from catpose.page.runs import Found, read_runs
from catpose.page.training import training
from catpose.score.error_types import error_types
from catpose.text import counted
from catpose.version import __version__

#: Most models that the error analysis and the gallery show, the best first.
SHOWN = 2
#: Instances that the gallery shows, of more the worst: a page of a thousand photographs has some 20 MB.
MOST = 1000


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
        InputError: as `read_runs`, or a picture can't be read.
    """
    measured = [read_profile(path) for path in profiles]
    read = read_runs(runs, root)
    outcome, split = compared(read, draws), read.truths[0].split
    shown = [outcome.rows[i].configuration for i in outcome.evaluated]
    prices = {
        i: price(runs_of(outcome.rows[i].configuration, read.runs), split.skeleton, trusted) for i in outcome.evaluated
    }
    about, failing, data = (
        (what_does_it_vary_with(outcome), [], []) if outcome.design.splits else _of_images(shown[:SHOWN], split, draws)
    )
    return Page(
        title,
        _subtitle(outcome, split),
        [
            which_is_better(outcome),
            is_it_real(outcome),
            about,
            what_does_it_cost(outcome, read.runs, prices, measured),
        ],
        [
            results(outcome, split),
            *failing,
            cost(outcome, read.runs, prices, measured),
            training(shown, read.runs),
            published(outcome, read.runs),
            *data,
            reproduction(shown, read.runs, command),
        ],
        f"Made by catpose {__version__} on {time.strftime('%Y-%m-%d')}.",
    )


def compared(found: Found, draws: int) -> Report:
    """What runs and studies came to, evaluated on so many resamples of the validation images."""

    def evaluation(training: Training) -> Training:
        truth = found.truths[training.seed % len(found.truths)]
        return training.evaluated(truth.split, draws, truth.division)

    configurations = evaluated(found.design, gather(found.design, found.trainings), evaluation)
    return report_of(found.design, configurations, found.notes)


def _of_images(
    shown: Sequence[Configuration], split: CocoSplit, draws: int
) -> tuple[Answer, list[Section], list[Section]]:
    """What there is where all were scored on one set of images: where models fail, in an answer and in sections, and
    the data."""
    thumbnails, colours = _looked_at(split, worst_pictures(split, shown[0].detections[0], MOST))
    found = slices(split, colours)
    sliced = varied(found)
    diagnoses = [diagnose(each, split, sliced, draws) for each in shown]
    models = [(each.name, each.detections[0], error_types(split, each.detections[0])) for each in shown]
    pictures = gallery(split, thumbnails, models, {name: found[name] for name in sliced})
    train = read_split(split.file.parent.parent, "train")
    sliced_splits = {"train": slices(train), "val": found}
    return (
        where_does_it_fail(diagnoses[0]),
        [
            failures(diagnoses),
            Section("gallery", "Gallery", [Text(_about_gallery(len(pictures.items), split)), pictures]),
        ],
        [Section("data", "The data", page_blocks(measure([train, split], pictures=False), sliced_splits))],
    )


def _looked_at(split: CocoSplit, shown: Container[int]) -> tuple[dict[int, Thumbnail], np.ndarray]:
    """Thumbnails of the pictures `shown` and colour distances (N,) of all instances: each picture is decoded once."""
    thumbnails, colours = {}, np.full(len(split), np.nan)
    for i, picture in read_pictures(split, ~split.crowd):
        if i in shown:
            thumbnails[i] = thumbnail(picture)
        colours[split.image_index == i] = colour_distances_in(split, i, picture)
    return thumbnails, colours


def _subtitle(outcome: Report, split: CocoSplit) -> str:
    n = sum(len(each.seeds) for each in outcome.configurations)
    of = f"{counted(len(outcome.configurations), 'model')}, {n} trained networks" if n > 1 else "One trained network"
    return f"{of}, scored on {scored_on(outcome, split.file.stem)}."


def _about_gallery(n: int, split: CocoSplit) -> str:
    """What the gallery's n instances are."""
    of = int((~split.crowd).sum())
    which = "Every instance of the validation split"
    if n < of:
        which = (
            f"{n} of the validation split's {of} instances, the best model's worst and what else their pictures show,"
        )
    return f"{which} with what the models predict, the worst first. Of a model with several seeds, the first."
