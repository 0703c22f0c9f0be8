"""Look for faults in a data set before a GPU is spent on it.

`python -m catpose.check --data ROOT` holds annotations/*.json and images/ against each other, lists what it finds and
ends with a table. An error stops training or falsifies a score: the exit code is 2. A warning is for a person to look
at, since real data have some and can be trained on: warnings alone leave the exit code at 0.

With --report DIR it also shows what the data are like (of train and val, where they are there): report.md with tables,
figures, the mean pose and a contact sheet, and data.json with all numbers. With a model's results for one split beside
it (--predictions), the labels that the model disagrees with most are listed in label_issues.csv and shown, and their
pictures' labels written for CVAT and Label Studio (label_issues/), where the model is fit to judge: its own PCK@0.1 on
that split, which is printed, is at least 0.7. Below, most of what it disagrees with is its own error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catpose.data.coco import DEFAULT_ROOT, read_split
from catpose.data.layout import SPLITS, annotation_files
from catpose.errors import BAD_INPUT, InputError, Parser, command, one_line, printable
from catpose.files import read_json
from catpose.skeleton import AP10K
from catpose.text import counted

if TYPE_CHECKING:
    from catpose.data.coco_split import CocoSplit
    from catpose.data.finding import Finding

SHOWN = 5  # findings of a kind that are listed, unless all are asked for
EXAMPLES = 3  # places named in the table
FIT_PCK = 0.7  # PCK@0.1 from which a model may say which labels look wrong


@command
def main(argv: list[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    results = _asked(arguments)
    from catpose.data.checks import examine_folder, picture_findings

    splits, findings, others = examine_folder(arguments.data, arguments.area)
    findings += picture_findings(arguments.data, splits)
    kinds: dict[tuple[str, str, str], list[Finding]] = defaultdict(list)
    for finding in sorted(findings, key=lambda finding: finding.severity):  # errors before warnings
        kinds[finding.severity, finding.kind, finding.split].append(finding)
    for (severity, kind, split), group in kinds.items():
        shown = group if arguments.all else group[:SHOWN]
        for finding in shown:
            print(one_line(f"{severity}: {split}: {finding.where}: {finding.message}"))
        if len(shown) < len(group):
            print(f"{severity}: {split}: {len(group) - len(shown)} more of '{kind}' (--all lists them)")
    if findings:
        print()
        _print_table(kinds)
    for name, each in splits.items():
        print(f"{name}: {each.count()}")
    for skeleton in dict.fromkeys(each.skeleton for each in splits.values() if each.has_keypoints):
        if skeleton != AP10K:
            print(one_line(skeleton.summary()))
    if others:
        names = ", ".join(file.name for file in others)
        print(one_line(f"not looked at: {names} (only {', '.join(SPLITS)} are)"))
    errors = sum(finding.severity == "error" for finding in findings)
    print(f"{arguments.data}: {counted(errors, 'error')}, {counted(len(findings) - errors, 'warning')}")
    if arguments.report:
        _report(arguments, results)
    if errors:
        sys.exit(BAD_INPUT)


def _asked(arguments: argparse.Namespace) -> Any:
    """What is in the results file, None without one; whatever would make a report fail is said before the work."""
    if not arguments.report:
        if arguments.predictions or arguments.split:
            raise InputError("--predictions and --split belong to --report; name its folder")
        return None
    from catpose.files import refuse_owned, require_writable

    require_writable(arguments.report, "--report", folder=True)
    refuse_owned(arguments.report, "--report", "run", "study")
    if arguments.split and not arguments.predictions:
        raise InputError("--split says what --predictions are of; name the results file too")
    return read_json(arguments.predictions) if arguments.predictions else None


def _report(arguments: argparse.Namespace, results: Any) -> None:
    from catpose.data.slices import colour_distances, slices
    from catpose.data.statistics import measure
    from catpose.files import atomic_write
    from catpose.page import data as data_report
    from catpose.page.html import Text
    from catpose.run.scoring import given_detections
    from catpose.score.ap import count
    from catpose.score.distances import distances, means, measures
    from catpose.score.label_issues import label_issues

    labelled = None
    if results is not None:
        labelled = read_split(arguments.data, arguments.split or "val", arguments.area)
        if not labelled.has_keypoints:
            raise InputError(
                f"{labelled.file}: has no keypoints to look for label issues in; name a labelled one with --split"
            )
        detections = given_detections(results, labelled, str(arguments.predictions))
        print(f"{arguments.predictions}: {count(labelled, detections)}")
        pck = float(means(labelled, measures(labelled, distances(labelled, detections)))["PCK@0.1"])
        fit = pck >= FIT_PCK
        verdict = "fit to judge labels" if fit else "not fit to judge labels: no label issue is ranked"
        verdict = f"PCK@0.1 {pck:.3f} ({FIT_PCK:g} or more is needed): {verdict}"
        print(verdict)
    present = [file.stem for file in annotation_files(arguments.data)[0]]
    names = [name for name in ("train", "val") if name in present] or present
    splits = [read_split(arguments.data, name, arguments.area) for name in names]
    statistics = measure(splits)
    by_split = {split.file.stem: slices(split, colour_distances(split)) for split in splits}
    blocks = [*data_report.data_blocks(statistics, by_split), data_report.sheet_block(splits)]
    content = {"data": str(arguments.data), "slices": data_report.slice_counts(by_split), **statistics.summary()}
    files: dict[str, bytes] = {}
    if labelled is not None and not fit:
        blocks.append(Text(f"Label issues: {verdict}."))
    elif labelled is not None:
        found = label_issues(labelled, detections)
        files |= _for_tools(labelled, {issue.image_id for issue in found})
        blocks += data_report.label_issue_blocks(labelled, detections, found)
        files["label_issues.csv"] = data_report.label_issues_csv(labelled, found).encode()
    files["data.json"] = (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()
    files |= data_report.as_files(f"The data in {arguments.data}", blocks)
    for name, data in files.items():
        with atomic_write(arguments.report / name) as temporary:
            temporary.write_bytes(data)
    print(f"written: {arguments.report / 'report.md'} and {counted(len(files) - 1, 'file')} that it shows")


def _for_tools(split: CocoSplit, image_ids: set[int]) -> dict[str, bytes]:
    """The labels of some images as files for labelling tools."""
    import numpy as np

    from catpose.data.labelling import Pose, tool_files

    images = [image for image in split.images if image.id in image_ids]
    rows = [row for row in range(len(split)) if split.used[row] and int(split.image_id[row]) in image_ids]
    points = np.concatenate([np.nan_to_num(split.keypoints), split.visibility[..., None]], axis=-1)
    names = {entry["id"]: entry["name"] for entry in split.coco["categories"]}
    poses = [
        Pose(
            int(split.image_id[row]), tuple(split.boxes[row].tolist()), points[row], names[int(split.category_id[row])]
        )
        for row in rows
    ]
    files = tool_files(images, poses, split.skeleton)
    return {f"label_issues/{name}": content for name, content in files.items()}


def _print_table(kinds: dict[tuple[str, str, str], list[Finding]]) -> None:
    rows: list[Sequence[str]] = [("", "kind", "split", "count", "for example")]
    for (severity, kind, split), group in kinds.items():
        examples = ", ".join(finding.where for finding in group[:EXAMPLES])
        rows.append((severity, kind, split, str(len(group)), examples))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        severity, kind, split = (cell.ljust(width) for cell, width in zip(row[:3], widths, strict=False))
        print(printable(f"{severity}  {kind}  {split}  {row[3].rjust(widths[3])}  {row[4]}"))


def _parser() -> Parser:
    examples = (
        "catpose check --data data/cats",
        "catpose check --data data/cats --report look/ --predictions results.json",
    )
    parser = Parser(prog="catpose check", description=__doc__, examples=examples)
    parser.add_argument(
        "--data", type=Path, default=Path(DEFAULT_ROOT), metavar="ROOT", help=f"the data set (default: {DEFAULT_ROOT})"
    )
    parser.add_argument("--area", choices=("box", "file"), default="box",
                        help="an instance's area in OKS: its box's, or the file's own (default: box)")  # fmt: skip
    parser.add_argument("--report", type=Path, metavar="DIR", help="folder for a report of what the data are like")
    parser.add_argument(
        "--predictions", type=Path, metavar="FILE", help="a COCO results file, by which labels are suspected"
    )
    parser.add_argument("--split", metavar="NAME", help="the split that --predictions are of (default: val)")
    parser.add_argument("--all", action="store_true", help=f"list every finding, not the first {SHOWN} of a kind")
    return parser


if __name__ == "__main__":
    main()
