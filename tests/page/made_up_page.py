"""A page about drawn cats whose two models err in known ways, with names that no page should take at their word."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from skeletons import FLIP, N_KEYPOINTS, SIGMA_ARRAY

from catpose.data.coco import read_coco
from catpose.data.coco_split import CocoSplit
from catpose.data.images import read_pictures
from catpose.data.slices import slices
from catpose.figures.configurations import Mark, draw_configurations
from catpose.figures.gallery import Gallery, Thumbnail, gallery, thumbnail
from catpose.instances import Instances
from catpose.page.html import Answer, Code, Figure, Listing, Page, Picture, Section, Table, Text
from catpose.score.detections import Detections
from catpose.score.error_types import error_types

HOSTILE = """x"'><script>window.harm = 1</script><img src=q onerror="window.harm = 1">&amp;"""
LABELS = ("steady", f"hasty {HOSTILE}")


def nasty_split(drawn: Path, folder: Path) -> CocoSplit:
    """The drawn training split, one of its pictures under a hostile name, one of its cats without a keypoint."""
    coco = json.loads((drawn / "annotations" / "train.json").read_text())
    shutil.copytree(drawn / "images", folder / "images")
    name = f"{HOSTILE}.jpg"
    (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder / "images" / coco["images"][2]["file_name"], folder / "images" / name)
    coco["images"][2]["file_name"] = name
    unlabelled = coco["annotations"][5]
    unlabelled["keypoints"], unlabelled["num_keypoints"] = [0] * (3 * N_KEYPOINTS), 0
    for annotation in coco["annotations"][7:20]:  # labelled in part, as photographs are
        annotation["keypoints"][-24:] = [0] * 24
        annotation["num_keypoints"] = sum(v > 0 for v in annotation["keypoints"][2::3])
    (folder / "train.json").write_text(json.dumps(coco))
    return read_coco(folder / "train.json", folder / "images")


def detections(truth: Instances, careful: bool) -> Detections:
    """The truth with noise; the careless model also exchanges left and right, takes the wrong cat, or sees nothing."""
    noise = np.random.default_rng(int(careful))
    spread = (0.4 if careful else 1.2) * np.sqrt(truth.areas)[:, None] * SIGMA_ARRAY
    center = truth.boxes[:, None, :2] + truth.boxes[:, None, 2:] / 2
    keypoints = (
        np.where(truth.labelled[..., None], truth.keypoints, center)
        + noise.normal(size=(len(truth), 17, 2)) * (spread[..., None])
    )
    rows = np.arange(len(truth))
    if not careful:
        keypoints[::3] = keypoints[::3][:, FLIP]
        for row in rows[1::4]:  # the cat beside it, where there is one
            mates = rows[(truth.image_id == truth.image_id[row]) & (rows != row)]
            keypoints[row, :8] = np.nan_to_num(truth.keypoints[mates[0], :8]) if len(mates) else truth.boxes[row, :2]
        rows = rows[rows != 4]
    results = Detections(
        image_id=truth.image_id[rows],
        category_id=truth.category_id[rows],
        keypoints=keypoints[rows],
        confidence=noise.uniform(0.1, 1.0, (len(rows), 17)),
        score=noise.uniform(0.3, 1.0, len(rows)),
        annotation_id=truth.ids[rows],
    )
    return Detections.from_results(json.loads(json.dumps(results.to_results())), truth)


def thumbnails(split: CocoSplit) -> dict[int, Thumbnail]:
    return {i: thumbnail(picture) for i, picture in read_pictures(split, ~split.crowd)}


def made_up_gallery(drawn: Path, folder: Path) -> Gallery:
    split = nasty_split(drawn, folder)
    found = [detections(split, careful=True), detections(split, careful=False)]
    models = [(label, d, error_types(split, d)) for label, d in zip(LABELS, found, strict=True)]
    return gallery(split, thumbnails(split), models, slices(split))


def made_up_page(shown: Gallery) -> Page:
    """Every kind of block, a table wider than any screen, and the four answers."""
    marks = [Mark("steady", 0.6, 0.55, 0.65, reference=True), Mark("hasty", 0.5, 0.45, 0.55)]
    wide = Table("A wide table", ["row", *(f"column {i}" for i in range(30))], [[HOSTILE, *["0.123"] * 30]] * 3)
    numbers = Table("AP of each", ["model", "AP", "remark"], [["steady", "0.600", ""], ["hasty", "0.500", HOSTILE]],
                    note="A note.", highlight=(0,))  # fmt: skip
    figures = [
        Figure(
            f"configurations-{i}",
            f"Figure {i} {HOSTILE}",
            "Two configurations",
            draw_configurations(marks),
            numbers if i else None,
        )
        for i in (0, 1)
    ]
    picture = Picture("cat", "A drawn cat", "A cat", next(iter(shown.pictures.values())))
    return Page(
        title=f"Two models {HOSTILE}",
        subtitle="A page about nothing real",
        answers=[
            Answer("Which model is better?", "steady", "AP 0.600, 0.550 to 0.650", "results"),
            Answer("Is the difference real?", "Yes", HOSTILE, "results"),
            Answer("Where does it fail?", "On the left", "which it takes for the right", "gallery"),
            Answer("What does it cost?", "Nothing", "neither time nor memory", "cost"),
        ],
        sections=[
            Section("results", "Results", [Text("One paragraph.\n\nAnother one."), numbers, *figures, wide]),
            Section("gallery", "Gallery", [shown]),
            Section("cost", f"Cost {HOSTILE}", [Listing(["one", HOSTILE]), picture]),
            Section("reproduce", "Reproduce", [Code(f"python -m catpose.report {HOSTILE} {'--and-more ' * 30}")]),
        ],
        footer=f"Made by hand of {HOSTILE}",
    )
