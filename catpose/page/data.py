"""What is to be seen of a data set: tables, figures and contact sheets, for a page or as files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from catpose.data.coco_split import CocoSplit
from catpose.data.slices import SLICES
from catpose.data.statistics import PUBLISHED, DataStatistics, Statistics
from catpose.figures import data as draw
from catpose.figures.sheet import instances_sheet, label_issues_sheet
from catpose.page.html import Block, Figure, Fold, Picture, Table, Text
from catpose.score.detections import Detections
from catpose.score.label_issues import LabelIssue, first_of_each
from catpose.text import markdown_escaped, markdown_table

#: Suspected instances that are shown.
SHOWN = 24
#: Of each split, by its name, what `catpose.data.slices.slices` gives.
Slices = Mapping[str, Mapping[str, np.ndarray]]


def page_blocks(statistics: DataStatistics, slices: Slices) -> list[Block]:
    """What a page about models shows of its data: no colours, for which each picture would have to be read."""
    all_ = statistics.together
    return [
        _counts(statistics),
        _labelled(all_),
        _mean_pose(all_),
        Fold("Sizes, and instances in each slice", [_sizes(all_), _slice_table(slices)]),
        Text("Colours, more figures and a sheet of the pictures: python -m catpose.check --data ROOT --report DIR."),
    ]


def data_blocks(statistics: DataStatistics, slices: Slices) -> list[Block]:
    """Numbers and figures of some splits, without a photograph."""
    all_ = statistics.together
    return [
        _counts(statistics),
        _channels(statistics),
        Figure(
            "brightness",
            "How often each value is in the images (solid), and in the crops within the image (dotted).",
            "Histogram of red, green and blue",
            draw.draw_brightness(all_),
        ),
        _sizes(all_),
        Figure(
            "image_sizes",
            "Sizes of the images; the more images have a size, the larger its dot.",
            "Width against height of the images",
            draw.draw_image_sizes(all_),
        ),
        Figure(
            "box_sizes",
            "Longer side of the boxes; dashed, the borders of the slices by box size.",
            "Histogram of the boxes' longer sides",
            draw.draw_box_sizes(all_),
        ),
        Figure(
            "box_shares",
            "Share of its image that a box takes.",
            "Histogram of the boxes' shares of their image",
            draw.draw_box_shares(all_),
        ),
        _labelled(all_),
        Figure(
            "keypoints_per_instance",
            "How many keypoints an instance has labelled.",
            "Bars: instances by the number of keypoints labelled",
            draw.draw_labelled_per_instance(all_),
        ),
        _mean_pose(all_),
        _slice_table(slices),
    ]


def sheet_block(splits: Sequence[CocoSplit]) -> Picture:
    """The contact sheet.

    Raises:
        InputError: a picture that can't be read.
    """
    caption = (
        "Instances at equal distances through the data, with the keypoints labelled: the animal's left in orange, "
    )
    caption += "its right in blue, the middle in green."
    return Picture("contact_sheet", caption, "Cats with their keypoints", instances_sheet(splits), "image/jpeg")


def label_issue_blocks(split: CocoSplit, detections: Detections, label_issues: Sequence[LabelIssue]) -> list[Block]:
    """The most suspicious labels as pictures and as a table.

    Raises:
        InputError: a picture that can't be read.
    """
    shown = first_of_each(label_issues)[:SHOWN]
    if not shown:
        return [Text("The model disagrees with no label surely enough to suspect it.")]
    names = {image.id: image.file_name for image in split.images}
    rows = [
        (str(place), names[s.image_id], str(s.annotation_id), f"{s.suspicion:.2f}", s.kind, s.reason)
        for place, s in enumerate(shown, 1)
    ]
    note = (
        "Suspicion is how far, and how surely by the standard of its own successes, the model disagrees. Some of these "
        "are the model's errors."
    )
    header = ("", "picture", "annotation", "suspicion", "kind", "why")
    n = len({s.row for s in label_issues})
    caption = f"Possible errors of labels: {len(rows)} of {n} suspected instances in {split.file.stem}"
    picture = label_issues_sheet(split, detections, shown)
    legend = "Labels are rings, predictions filled; a white line joins the two where one of them may be wrong."
    return [
        Picture("label_issues", legend, "Cats whose labels may be wrong", picture, "image/jpeg"),
        Table(caption, header, rows, note),
    ]


def label_issues_csv(split: CocoSplit, label_issues: Sequence[LabelIssue]) -> str:
    """All label_issues, a line each, most suspicious first."""
    names = {image.id: image.file_name for image in split.images}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("suspicion", "image_id", "file_name", "annotation_id", "kind", "keypoints", "reason"))
    for s in label_issues:
        keypoints = " ".join(split.skeleton.names[k] for k in s.keypoints)
        writer.writerow(
            (f"{s.suspicion:.4f}", s.image_id, names[s.image_id], s.annotation_id, s.kind, keypoints, s.reason)
        )
    return text.getvalue()


def as_files(title: str, blocks: Sequence[Block]) -> dict[str, bytes]:
    """By its name each file of a folder that shows the blocks: report.md, figures/NAME.png and .svg, NAME.jpg."""
    files: dict[str, bytes] = {}
    lines = [f"# {title}", ""]
    for block in blocks:
        if isinstance(block, Text):
            lines += [block.text, ""]
        elif isinstance(block, Table):
            lines += [f"**{markdown_escaped(block.caption)}**", "", *_markdown(block)]
        elif isinstance(block, Picture):
            files[f"{block.name}.jpg"] = block.data
            lines += [f"![{block.alt}]({block.name}.jpg)", "", block.caption, ""]
        elif isinstance(block, Figure):
            for kind, content in block.files.items():
                files[f"figures/{block.name}.{kind}"] = content
            lines += [f"![{block.alt}](figures/{block.name}.png)", "", block.caption, ""]
            if block.table:
                lines += [f"**{markdown_escaped(block.table.caption)}**", "", *_markdown(block.table)]
    return {**files, "report.md": ("\n".join(lines).rstrip() + "\n").encode()}


def slice_counts(slices: Slices) -> dict[str, dict[str, dict[str, int]]]:
    """Instances by attribute, slice and split; those in no slice are left out."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for name in dict.fromkeys(name for names in slices.values() for name in names):
        columns = {split: of_split[name] for split, of_split in slices.items() if name in of_split}
        own = sorted({str(each) for column in columns.values() for each in column} - {"", *SLICES[name]})
        counts[name] = {
            each: {split: int((column == each).sum()) for split, column in columns.items()}
            for each in (*SLICES[name], *own)
        }
    return counts


def _counts(statistics: DataStatistics) -> Table:
    parts = dict(statistics.splits)
    if len(parts) > 1:
        parts["together"] = statistics.together
    rows = [
        (
            name,
            str(len(s.image_sizes)),
            str(len(s.boxes)),
            f"{len(s.boxes) / max(1, len(s.image_sizes)):.2f}",
            str(int((s.per_image > 1).sum())),
            f"{s.labelled.sum(axis=1).mean():.1f}" if s.labelled.any() else "",
        )
        for name, s in parts.items()
    ]
    header = ("split", "images", "instances", "per image", "images with several", "keypoints labelled per instance")
    return Table("What there is", header, rows, "Instances without a labelled keypoint, and crowds, are not counted.")


def _labelled(statistics: Statistics) -> Figure:
    return Figure(
        "keypoints_labelled",
        "Of how many instances each keypoint is labelled.",
        "Bars: share of the instances with each keypoint labelled",
        draw.draw_labelled(statistics),
        _keypoints(statistics),
    )


def _mean_pose(statistics: Statistics) -> Figure:
    return Figure(
        "mean_pose",
        "Mean pose: keypoints in the box, in its long sides from its centre, with ellipses of one standard"
        " deviation. Instances whose face is to the right of the rest are mirrored, left and right exchanged. Each"
        " keypoint's mean is of those instances that have it labelled.",
        "A cat's mean pose facing left, with an ellipse round each keypoint",
        draw.draw_mean_pose(statistics),
    )


def _channels(statistics: DataStatistics) -> Figure:
    """Mean and deviation of red, green and blue, in each way that they are reckoned, beside the published ones."""
    crops = f"{statistics.input_size[0]} × {statistics.input_size[1]} px"
    beyond = statistics.together.beyond
    share = "" if np.isnan(beyond) else f", {beyond:.0%} of the crops' pixels"
    table = Table(
        f"Red, green, blue of {statistics.name}, 0 to 1",
        ("of", "mean", "standard deviation"),
        [(name, _three(mean), _three(std)) for name, mean, std in draw.channel_rows(statistics)],
        "Each by itself: the mean over pictures of each picture's figures, as the published ones were reckoned. All "
        "pixels: of all taken together, which also holds how pictures differ from one another. Crops are the padded "
        f"boxes at {crops}, as a model sees them, unaugmented: what lies beyond the image{share}, is black and counts; "
        "within the image it does not. A model scales its input by its backbone's figures, mostly ImageNet's.",
        highlight=(2,),
    )
    means = _three(statistics.together.images.per_picture[0])
    return Figure(
        "channels",
        "Mean and standard deviation of the channels, in each way of reckoning.",
        f"Red, green and blue: the images' means are {means}, Animal-Pose's published {_three(PUBLISHED[0])}",
        draw.draw_channels(statistics),
        table,
    )


def _sizes(statistics: Statistics) -> Table:
    long = statistics.boxes[:, 2:].max(axis=1, initial=0)
    measured = {
        "image width, px": statistics.image_sizes[:, 0],
        "image height, px": statistics.image_sizes[:, 1],
        "box width, px": statistics.boxes[:, 2],
        "box height, px": statistics.boxes[:, 3],
        "longer side of the box, px": long,
        "box, % of its image": 100 * statistics.box_share,
        "keypoints labelled": statistics.labelled.sum(axis=1),
    }
    rows = [
        (name, *(f"{value:.4g}" for value in (values.mean(), *np.percentile(values, [0, 5, 25, 50, 75, 95, 100]))))
        for name, values in measured.items()
        if len(values)
    ]
    return Table("Sizes", ("", "mean", "least", "5 %", "25 %", "median", "75 %", "95 %", "most"), rows)


def _keypoints(statistics: Statistics) -> Table:
    mean, covariance, _ = statistics.mean_pose()
    n = statistics.labelled.sum(axis=0)
    total = max(1, len(statistics.labelled))
    rows = []
    for k, name in enumerate(statistics.skeleton.names):
        spread = np.sqrt(np.diagonal(covariance[k]))
        place = [f"{value:.2f}" if np.isfinite(value) else "" for value in (*mean[k], *spread)]
        rows.append((name.replace("_", " "), str(n[k]), f"{n[k] / total:.0%}", *place))
    header = ("keypoint", "labelled", "share", "mean across", "mean down", "deviation across", "deviation down")
    note = "Places are those of the mean pose: long sides of the box from its centre, mirrored to face left."
    return Table("Keypoints", header, rows, note)


def _slice_table(slices: Slices) -> Table:
    splits = list(slices)
    rows = [
        (name if first else "", each, *(str(by_split.get(split, "")) for split in splits))
        for name, counts in slice_counts(slices).items()
        for first, (each, by_split) in zip([True] + [False] * len(counts), counts.items(), strict=False)
    ]
    return Table("Slices: instances in each", ("attribute", "slice", *splits), rows)


def _three(values: Any) -> str:
    return "  ".join(f"{value:.3f}" for value in values)


def _markdown(table: Table) -> list[str]:
    return [markdown_table(table.rows, table.header), "", *([table.note, ""] if table.note else [])]
