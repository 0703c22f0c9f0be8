"""Compare results of any program on one truth: `python -m catpose.compare a.json b.json --truth val.json`.

Results are COCO keypoint results, of any skeleton, or COCO box results; the truth is a COCO file. Printed are AP of
each method with a 95 % interval from a bootstrap over the images, in all and by size and category, and the best one's
paired differences to the others, with intervals and p-values corrected for the number of comparisons (Holm).
pycocotools scores the same files; where it differed by more than 1e-9, the command would fail.

A method is a results file, or several, one for each training seed: NAME=a.json,b.json, or a folder whose .json files
are those. The area of an instance is the file's, as with pycocotools, where all instances have one, else its box's. The
sigmas of keypoints are those of skeleton.yaml in the folder above the truth's, or else AP-10K's and COCO's for their
names.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from catpose.analysis.evaluations import require_draws
from catpose.analysis.methods import Comparison, compare_methods, evaluate_file, n_images_with
from catpose.analysis.sentences import conclusion, estimand
from catpose.analysis.statistics import ENOUGH
from catpose.data.coco import read_coco
from catpose.data.coco_split import CocoSplit
from catpose.errors import InputError, Parser, command, natural, one_line
from catpose.files import read_json
from catpose.instances import AREA_RULES
from catpose.run.scoring import given_detections, require_in_pictures, require_named, results_of
from catpose.score.cocoeval import cocoeval, cocoeval_boxes, require_agreement
from catpose.score.detections import BoxDetections, Detections
from catpose.score.full import Evaluation
from catpose.text import counted, fraction, interval, metric, p_value, signed, table, with_interval


@command
def main(argv: list[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    compared = compare_files(_methods(arguments.results), arguments.truth, arguments.draws, log=print)
    print(f"\n{_table(compared)}\n")
    for other in compared.against("AP"):
        print(_difference_table(compared, other))
    print(_verdict(compared))


def compare(a: Any, b: Any, truth: str | Path | CocoSplit, draws: int = 1000) -> Comparison:
    """Compare two sets of predictions, of keypoints or of boxes, by AP on the same resamples of the images.

    Args:
        a: a COCO results file, a list of them (one for each training seed), what `predict` gave for pictures of the
            truth, or the entries of a results file.
        b: likewise.
        truth: a COCO file, or a split of `read_split`. Areas are its annotations' own, where all have one.
        draws: resamples of the images.

    Returns:
        `methods[best]`: the better one; `against("AP")`: by the other's place, its `difference` to that with a 95 %
        interval, and p; `report`: all that a study's analysis says of them.

    Raises:
        InputError: as `compare_files`.
    """
    methods: dict[str, list[Path]] = {}
    contents: dict[Path, list[Any]] = {}
    for name, results in (("a", a), ("b", b)):
        several = (
            isinstance(results, list | tuple) and results and all(isinstance(each, str | Path) for each in results)
        )
        for number, each in enumerate(results if several else [results]):
            is_file = isinstance(each, str | Path)
            file = Path(each) if is_file else Path(f"<{name}{number or ''}>")  # no file's name, in all likelihood
            contents[file] = _content(file) if is_file else results_of(each)
            methods.setdefault(name, []).append(file)
    _require_once({name: [file for file in files if file.is_file()] for name, files in methods.items()})
    return _compared(methods, contents, truth, draws, lambda line: None)


def compare_files(
    methods: Mapping[str, Sequence[str | Path]],
    truth: str | Path,
    draws: int,
    log: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Compare methods, each with its results files by name, one for each seed.

    Args:
        truth: a COCO file: with keypoints where the results are of keypoints.
        draws: resamples of the images.
        log: is given a line on the truth and one on each file.

    Raises:
        InputError: a file that can't be read or isn't of this truth, files of both kinds, a file twice, no image that
            two methods have both predicted.
        RuntimeError: pycocotools finds other values, which is a bug of ours.
    """
    contents = {Path(file): _content(Path(file)) for files in methods.values() for file in files}
    _require_once(methods)
    return _compared(methods, contents, truth, draws, log)


def _compared(
    methods: Mapping[str, Sequence[str | Path]],
    contents: Mapping[Path, list[Any]],
    truth: str | Path | CocoSplit,
    draws: int,
    log: Callable[[str], None],
) -> Comparison:
    require_draws(draws)
    boxes = _are_boxes(contents)
    split = truth.with_stated_areas() if isinstance(truth, CocoSplit) else _read_truth(Path(truth), boxes)
    log(_truth_line(split, boxes))
    found = {file: _detections(content, split, file, boxes) for file, content in contents.items()}
    _require_common(methods, found)
    results: dict[str, list[Evaluation]] = {}
    for name, files in methods.items():
        for file in map(Path, files):
            evaluated = evaluate_file(split, found[file], draws, _categories(split))
            _check(split, found[file], evaluated)
            results.setdefault(name, []).append(evaluated)
            with_one, annotated = n_images_with(split, found[file])
            log(f"{file}: {counted(len(found[file]), 'detection')} on {with_one} of {annotated} annotated images")
    return compare_methods(results)


def _parser() -> Parser:
    examples = (
        "catpose compare a.json b.json --truth val.json",
        "catpose compare ours=seed0.json,seed1.json theirs/ --truth val.json",
    )
    parser = Parser(
        prog="catpose compare", description=__doc__.splitlines()[0].split(": `")[0] + ".", examples=examples
    )
    parser.add_argument("results", nargs="+", metavar="RESULTS",
                        help="COCO results: FILE, NAME=FILE,FILE,… (a file a seed) or a folder of them")  # fmt: skip
    parser.add_argument("--truth", type=Path, required=True, help="the COCO file that the results belong to")
    parser.add_argument("--draws", type=natural, default=1000, help="resamples of the images (%(default)s)")
    return parser


def _methods(arguments: Sequence[str]) -> dict[str, list[Path]]:
    """Names and files of what was asked for; a file is called by its name, or by its path where names are alike."""
    stems = [Path(each).stem for each in arguments]
    methods: dict[str, list[Path]] = {}
    for each in arguments:
        name, _, files = each.partition("=")
        if Path(each).exists() or not files:
            name, files = Path(each).stem if stems.count(Path(each).stem) == 1 else each, each
        if not name.strip():
            raise InputError(f"{each}: names no method before its =; write NAME=a.json,b.json, or the file alone")
        if arguments.count(each) > 1:
            raise InputError(f"{each}: is there twice; name each results file once")
        if name in methods:
            raise InputError(f"{each}: another method is called {name}; give each a name, such as NAME=a.json,b.json")
        parts = [Path(files)] if Path(files).exists() else [Path(part) for part in files.split(",")]
        methods[name] = [file for part in parts for file in _files(part)]
    return methods


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.glob("*.json") if not file.name.startswith("."))
    if not files:
        raise InputError(f"{path}: holds no .json; give a results file, or a folder of them")
    return files


def _content(file: Path) -> list[Any]:
    content = read_json(file)
    if isinstance(content, dict) and "annotations" in content:
        raise InputError(f"{file}: is a COCO file, not results; it may be the --truth")
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise InputError(f"{file}: is no list of COCO results, each with image_id, keypoints or bbox, and score")
    return content


def _require_once(methods: Mapping[str, Sequence[str | Path]]) -> None:
    places: dict[bytes, Path] = {}
    for file in (Path(file) for files in methods.values() for file in files):
        content = file.read_bytes()
        if content in places:
            same = "is there twice" if places[content].samefile(file) else f"is a copy of {places[content]}"
            raise InputError(f"{file}: {same}; name each results file once")
        places[content] = file


def _are_boxes(contents: Mapping[Path, list[Any]]) -> bool:
    """Whether all files hold boxes; False where all hold keypoints. A file without a detection may be either."""
    kinds = {
        file: "keypoints" in content[0] or "bbox" not in content[0] for file, content in contents.items() if content
    }
    keypoints = next((file for file, has in kinds.items() if has), None)
    boxes = next((file for file, has in kinds.items() if not has), None)
    if keypoints is not None and boxes is not None:
        raise InputError(f"{boxes}: holds boxes, {keypoints} keypoints; compare files of one kind")
    return boxes is not None


def _read_truth(file: Path, boxes: bool) -> CocoSplit:
    content = read_json(file)
    categories = content.get("categories") if isinstance(content, dict) else None
    for category in categories if isinstance(categories, list) else []:
        if isinstance(category, dict):
            category.pop("skeleton", None)  # limbs, which no score takes, and some files have of other keypoints
    split = read_coco(file, file.parent, labels=not boxes, content=content)
    if split.crowd.all():
        raise InputError(f"{file}: no instance counts, since it has none or crowds alone; there is nothing to score")
    if not boxes and not split.visibility[~split.crowd].any():
        raise InputError(f"{file}: no instance has a labelled keypoint, and the results are of keypoints")
    return split.with_stated_areas()


def _truth_line(split: CocoSplit, boxes: bool) -> str:
    what = "boxes" if boxes else f"keypoints, sigmas {', '.join(f'{sigma:g}' for sigma in split.skeleton.sigmas)}"
    return f"{split.file}: {split.count()}; {what}; area: {AREA_RULES[split.area_rule]}"


def _detections(content: list[Any], split: CocoSplit, file: Path, boxes: bool) -> Detections | BoxDetections:
    """A file's detections; InputError where what they say can't be of these pictures."""
    if not boxes:
        return given_detections(content, split, str(file))
    found = BoxDetections.from_results(content, split, str(file))
    require_named(content, split, str(file))
    require_in_pictures(found.image_id, found.box[:, :2] + found.box[:, 2:] / 2, split, str(file))
    return found


def _require_common(
    methods: Mapping[str, Sequence[str | Path]], found: Mapping[Path, Detections | BoxDetections]
) -> None:
    images = {name: {int(i) for file in files for i in found[Path(file)].image_id} for name, files in methods.items()}
    names = list(images)
    for i, one in enumerate(names):
        for other in names[:i]:
            if images[one] and images[other] and not images[one] & images[other]:
                raise InputError(
                    f"{one} and {other}: no image has detections of both; compare results on the same images"
                )


def _categories(split: CocoSplit) -> dict[int, str]:
    """What the categories are called, by id; by their ids where two have one name."""
    entries = split.coco["categories"]
    names = {each["id"]: one_line(each.get("name") or each["id"]) for each in entries}
    return names if len(set(names.values())) == len(names) else {id_: str(id_) for id_ in names}


def _check(split: CocoSplit, found: Detections | BoxDetections, evaluated: Evaluation) -> None:
    """RuntimeError where pycocotools says otherwise."""
    if isinstance(found, BoxDetections):
        reference = cocoeval_boxes(split.coco, found.to_results(), split.area_rule)
    else:
        reference = cocoeval(split.coco, found.to_results(), split.skeleton, area=split.area_rule)
    require_agreement(evaluated.values, {key: reference[key] for key in evaluated.values if key in reference})


def _table(compared: Comparison) -> str:
    """Methods as rows: AP with its interval, and the other metrics but categories'."""
    keys = [key for key in compared.keys if "/" not in key and key != "AP"]
    rows = []
    for row in compared.report.rows:
        method = row.configuration
        others = [metric(method.estimate(key).value) for key in keys]
        ap = (metric(method.mean), interval(row.estimate), metric(row.sd))
        rows.append((method.name, str(len(method.seeds)), *ap, *others))
    header = ("method", "files", "AP", "95 % interval", "seed sd", *keys)
    return f"{table(rows, header)}\npycocotools agrees to 1e-9 with each file."


def _difference_table(compared: Comparison, other: int) -> str:
    best, one = compared.methods[compared.best], compared.methods[other]
    rows = []
    for key in compared.keys:
        each = compared.against(key)[other]
        n = best.evaluations[0].rests_on[key]
        test = (interval(each.difference, signed), p_value(each.p)) if n >= ENOUGH else ("", "")
        values = (fraction(best.value(key)), fraction(one.value(key)), signed(each.difference.value))
        rows.append((key.removeprefix("AP/"), str(n), *values, *test))
    header = ("", "instances", *("best", "other"), "difference", "95 % interval", "p")
    return f"{best.name} (best) minus {one.name} (other):\n\n{table(rows, header)}\n"


def _verdict(compared: Comparison) -> str:
    """What a study's sentences say of it."""
    report = compared.report
    if len(report.rows) > 1:
        return "\n".join(textwrap.fill(line, 100) for line in [*conclusion(report), *estimand(report)])
    row = report.rows[0]
    return f"AP of {row.configuration.name}: {with_interval(row.configuration.mean, row.estimate)}."


class _Callable(ModuleType):
    """`catpose.compare` is this module once it has been imported, and the function of that name for who calls it."""

    __call__ = staticmethod(compare)


sys.modules[__name__].__class__ = _Callable

if __name__ == "__main__":
    main(sys.argv[1:])
