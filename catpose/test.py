"""Score a checkpoint or a results file on a labelled split: `python -m catpose.test --checkpoint runs/x/best.ckpt`.

Prints AP and its family, PCK, AUC, NME, EPE with 95 % intervals from a bootstrap over the images, each keypoint's own,
the ΔAP of error types, and AP on slices of the data. pycocotools scores the same detections beside it; where the two
differed by more than 1e-9, the command would fail. With --against, a second results file is compared by a paired
bootstrap. With --rules all, AP of the same detections by the rules of other programs stands beside it; with --rules
FILE, that with the sigmas of a skeleton.yaml. With --boxes, the checkpoint is scored in other boxes too, under a
protocol of its own. With --out, the detections (COCO results), the score with its protocol and the analysis are
written. With --calibrate, what the model's confidences are worth is learnt on the split and kept in its file; scores
don't change by it.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catpose.data.coco import DEFAULT_ROOT, read_coco, read_split
from catpose.data.coco_split import CocoSplit
from catpose.errors import InputError, Parser, command, natural, one_line
from catpose.files import read_json
from catpose.run.options import add_model_options, add_scales_option
from catpose.shipped import find_model
from catpose.text import counted

if TYPE_CHECKING:  # else torch would be loaded for --help
    from catpose.analysis.diagnosis import Diagnosis
    from catpose.data.boxes import Boxes
    from catpose.run.ensemble import Ensemble
    from catpose.run.network import Network
    from catpose.score.detections import Detections
    from catpose.score.protocol import Score


@command
def main(argv: list[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    split = read_split(arguments.data, arguments.split, arguments.area)
    if not split.has_keypoints:
        raise InputError(f"{split.file}: holds no keypoints to score against; use python -m catpose.predict")
    if not split.visibility[~split.crowd].any():
        raise InputError(f"{split.file}: no instance has a labelled keypoint to score; see python -m catpose.check")

    from catpose.analysis.configurations import evaluate_runs
    from catpose.analysis.diagnosis import diagnose, varied
    from catpose.analysis.rules import rules_asked, rules_content, rules_text, scored_by_rules
    from catpose.analysis.terminal import analysis_text
    from catpose.data.boxes import read_boxes
    from catpose.data.slices import colour_distances, slices
    from catpose.files import require_writable, write_json
    from catpose.score.ap import count

    _require_together(arguments)
    label = " + ".join(str(each) for each in arguments.checkpoint or [arguments.predictions])
    label += f" at scales {', '.join(f'{scale:g}' for scale in arguments.scales)}" * (arguments.scales != (1,))
    boxes = read_boxes(arguments.boxes, split.images) if arguments.boxes else None
    rules = rules_asked(arguments.rules, split)
    if arguments.out:
        require_writable(arguments.out, "--out", folder=True)
        _keep_what_is_read(arguments, split)
    against = arguments.against
    other = _detections_in(against, split) if against else None
    model = _network(arguments, split) if arguments.checkpoint else None
    detections, scored = _scored(arguments, split, model)
    evaluated = evaluate_runs(label, [detections], split, arguments.draws)
    scored = dataclasses.replace(scored, intervals=evaluated.intervals())
    try:
        found = slices(split, colour_distances(split))
    except InputError as error:  # a score needs no pictures
        print(f"catpose.test: AP isn't looked at by colour: {error}", file=sys.stderr)
        found = slices(split)
    diagnosis = diagnose(evaluated, split, varied(found), arguments.draws)

    for name, found_there in ((arguments.predictions, detections), (arguments.against, other)):
        if name is not None and found_there is not None:
            print(f"{name}: {count(split, found_there)}")
    _print_score(split, scored, diagnosis)
    print(analysis_text(diagnosis))
    if other is not None:
        _print_against(arguments, split, label, detections, other)
    by_rule = scored_by_rules(split, detections, rules)
    if by_rule:
        print(rules_text(by_rule, scored, split.skeleton))
    if arguments.out:
        _write(arguments, split, detections, scored, diagnosis)
        if by_rule:
            write_json(arguments.out / f"rules_{split.file.stem}.json", rules_content(by_rule, split.skeleton))
    if arguments.calibrate:
        _calibrate(arguments.checkpoint[0], split, detections)
    if boxes is not None and model is not None:
        _print_under_boxes(arguments, split, model, *boxes)


def evaluate(predictions: Any, truth: str | Path | CocoSplit, draws: int = 1000) -> Score:
    """Score predictions on labelled pictures, as `test --predictions` does; pycocotools agrees to 1e-9.

    Args:
        predictions: a COCO results file, its entries, or what `predict` gave for the pictures of a split.
        truth: a COCO keypoint file, or a split of `read_split`.
        draws: resamples of the images, for the intervals.

    Returns:
        `values`: "AP", "AP50", "PCK@0.1", "EPE" (px) and the others that `catpose.score.full` lists, 0..1 but for
        lengths, nan where nothing counts; `intervals`: their 95 % intervals; `protocol`: what they were made under.

    Raises:
        InputError: files that can't be read, predictions of other images, a truth without labels.
    """
    from catpose.analysis.configurations import evaluate_runs
    from catpose.run.scoring import given_detections, results_of, score

    split = truth if isinstance(truth, CocoSplit) else read_coco(truth, Path(truth).parent)
    if isinstance(predictions, str | Path):
        detections = _detections_in(Path(predictions), split)
    else:
        detections = given_detections(results_of(predictions), split, "predictions")
    evaluated = evaluate_runs("predictions", [detections], split, draws)
    return dataclasses.replace(score(split, detections, flip_test=None), intervals=evaluated.intervals())


def _detections_in(file: Path, split: CocoSplit) -> Detections:
    """Those of a results file; raises InputError as `given_detections`."""
    from catpose.run.scoring import given_detections

    return given_detections(read_json(file), split, str(file))


def _parser() -> Parser:
    examples = (
        "catpose test --checkpoint runs/mobilenet/best.ckpt --data data/cats",
        "catpose test --predictions a.json --against b.json --split test --out scores/",
    )
    parser = Parser(prog="catpose test", description=__doc__.splitlines()[0].split(":")[0] + ".", examples=examples)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", type=find_model, action="append", metavar="FILE",
                      help="a best.ckpt or last.ckpt of fit, or cats; given again, the mean of several")  # fmt: skip
    what.add_argument("--predictions", type=Path, help="a COCO results file")
    parser.add_argument("--against", type=Path, metavar="FILE", help="another COCO results file, to be compared with")
    parser.add_argument("--rules", action="append", default=[], metavar="all|FILE",
                        help="AP by other programs' rules, too; or with a skeleton.yaml's sigmas")  # fmt: skip
    parser.add_argument("--boxes", type=Path, metavar="FILE",
                        help="COCO file or detection results: score the model in these boxes, too")  # fmt: skip
    parser.add_argument("--calibrate", action="store_true",
                        help="learn what confidences are worth, and write it into the checkpoint")  # fmt: skip
    parser.add_argument("--data", type=Path, default=Path(DEFAULT_ROOT), help="data folder (%(default)s)")
    parser.add_argument("--split", default="val", help="val, test or another annotations/NAME.json (%(default)s)")
    parser.add_argument("--area", choices=("box", "file"), default="box",
                        help="an instance's area in OKS: its box's, or the file's own (%(default)s)")  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder for results, score and analysis, SPLIT.json each")
    parser.add_argument("--draws", type=natural, default=1000, help="resamples of the images (%(default)s)")
    add_scales_option(parser)
    add_model_options(parser)
    return parser


def _require_together(arguments: argparse.Namespace) -> None:
    """InputError for options that don't go with each other."""
    if arguments.boxes and not arguments.checkpoint:
        raise InputError("--boxes: other boxes need a model to predict in them; give --checkpoint")
    if arguments.calibrate and (len(arguments.checkpoint or ()) != 1 or arguments.scales != (1,)):
        raise InputError("--calibrate: is written into one model's file; give --checkpoint once, and no --scales")
    if arguments.scales != (1,) and not arguments.checkpoint:
        raise InputError("--scales: other crops need a model to predict in them; give --checkpoint")


def _keep_what_is_read(arguments: argparse.Namespace, split: CocoSplit) -> None:
    """InputError where results would be written over those that they are compared with, or over the boxes."""
    written = {(arguments.out / f"results_{split.file.stem}{end}.json").resolve() for end in ("", "_boxes")}
    for option, file in (("--against", arguments.against), ("--boxes", arguments.boxes)):
        if file and file.resolve() in written:
            raise InputError(f"--out {arguments.out}: {option} {file} would be written over; name another folder")


def _network(arguments: argparse.Namespace, split: CocoSplit) -> Network | Ensemble:
    from catpose.run.calibrating import require_calibratable
    from catpose.run.ensemble import load_networks

    if arguments.calibrate:
        require_calibratable(arguments.checkpoint[0], split)
    return load_networks(arguments.checkpoint, arguments.device, tuple(arguments.trusted), arguments.scales)


def _scored(
    arguments: argparse.Namespace, split: CocoSplit, model: Network | Ensemble | None
) -> tuple[Detections, Score]:
    """The checkpoint's detections, or those of the results file, and their score."""
    from catpose.run.scoring import score

    if model is None:
        detections = _detections_in(arguments.predictions, split)
        return detections, score(split, detections, flip_test=None)
    from catpose.run.prediction import detect  # and torch, which a results file is scored without

    detections = detect(model, split, arguments.batch_size, labelled_only=True)
    return detections, score(split, detections, flip_test=model.flip_test)


def _calibrate(checkpoint: Path, split: CocoSplit, detections: Detections) -> None:
    from catpose.run.calibrating import calibrate, calibration_text

    print(f"\n{calibration_text(checkpoint, split, calibrate(checkpoint, split, detections))}")


def _print_score(split: CocoSplit, scored: Score, diagnosis: Diagnosis) -> None:
    """The table, its protocol, and the AP without pictures that have a copy in another split."""
    from catpose.data.slices import COPIED
    from catpose.run.table import score_table
    from catpose.text import metric

    print(f"{split.file}: {split.count()}\n")
    print(score_table(scored.values, intervals=scored.intervals))
    protocol = scored.protocol
    print(
        f"\n{counted(int(scored.values['n']), 'instance')} of {split.file} (sha256 {protocol.split_hash[:12]}), boxes:"
        f" {protocol.box_source}, flip test: {protocol.flip}, area: {protocol.area_rule}, score:"
        f" {protocol.score_rule}; pycocotools agrees to 1e-9\n"
    )
    if COPIED in diagnosis.slices:
        without = diagnosis.slice_ap(COPIED, "no")
        print(
            f"{diagnosis.size(COPIED, 'yes')} of them are on pictures with a copy in another split (split.json): AP"
            f" {metric(scored.values['AP'])} with them, {metric(without.value)} without\n"
        )


def _print_against(
    arguments: argparse.Namespace, split: CocoSplit, label: str, detections: Detections, other: Detections
) -> None:
    """How these detections compare with those of another file."""
    from catpose.analysis.configurations import evaluate_runs
    from catpose.analysis.terminal import comparison_text
    from catpose.score.pairs import paired_alike

    alike = paired_alike(detections, other)
    pair = zip((label, str(arguments.against)), alike, strict=True)
    print(comparison_text(*(evaluate_runs(of, [each], split, arguments.draws) for of, each in pair)))
    if alike[0] is not detections:
        print("Not both files name the annotations that they were made from, so that here detections of both belong")
        print("to the animals that they are most like: distances may differ from those above.\n")


def _write(
    arguments: argparse.Namespace, split: CocoSplit, detections: Detections, scored: Score, diagnosis: Diagnosis
) -> None:
    from catpose.files import write_json

    arguments.out.mkdir(parents=True, exist_ok=True)
    names = ("results", "score", "analysis")
    results, figures, analysis = (arguments.out / f"{name}_{split.file.stem}.json" for name in names)
    if not results.exists() or not arguments.predictions or not results.samefile(arguments.predictions):
        write_json(results, detections.to_results(), indent=None)
    scored.write(figures)
    write_json(analysis, diagnosis.content())
    print(f"written: {results}, {figures}, {analysis}")


def _print_under_boxes(
    arguments: argparse.Namespace, split: CocoSplit, model: Network | Ensemble, boxes: Boxes, n_others: int
) -> None:
    """The model's score in the boxes of a file, with its protocol; with --out it is written, too."""
    from catpose.analysis.configurations import evaluate_runs
    from catpose.data.boxes import boxes_lines, with_boxes
    from catpose.files import write_json
    from catpose.run.prediction import detect, scored_by_box
    from catpose.run.scoring import score
    from catpose.run.table import score_table

    for line in boxes_lines(split, boxes, model.input_size):
        print(one_line(f"catpose.test: {line}"), file=sys.stderr)
    detections = scored_by_box(detect(model, with_boxes(split, boxes), arguments.batch_size), boxes)
    digest = hashlib.sha256(arguments.boxes.read_bytes()).hexdigest()[:12]
    source = f"{arguments.boxes.name} (sha256 {digest}, {counted(len(boxes.scores), 'box', 'boxes')})"
    scored = score(split, detections, model.flip_test, source)
    evaluated = evaluate_runs(source, [detections], split, arguments.draws)
    scored = dataclasses.replace(scored, intervals=evaluated.intervals())
    others = f"; {counted(n_others, 'box', 'boxes')} of other pictures left out" if n_others else ""
    print(
        f"\nThe same model, boxes: {source}{others}; score: {scored.protocol.score_rule}. This is another protocol,"
        " whose scores aren't subtracted from those above\n"
    )
    print(score_table(scored.values, intervals=scored.intervals))
    if arguments.out:
        results, figures = (arguments.out / f"{name}_{split.file.stem}_boxes.json" for name in ("results", "score"))
        write_json(results, detections.to_results(), indent=None)
        scored.write(figures)
        print(f"written: {results}, {figures}")


if __name__ == "__main__":
    main(sys.argv[1:])
