"""Predict keypoints on boxes or on whole images: `python -m catpose.predict cats/ --checkpoint x.ckpt`.

A COCO file gives boxes (its pictures are looked for in --images, or in ../images beside the file). Of folders and
single pictures boxes come from --boxes or --detector; else the whole picture is predicted, and once more the box of the
confident keypoints. What a folder holds is told by its files' content: what isn't read there is listed. Writes a COCO
results file, and with --overlays a picture for each. A calibrated model's results (`test --calibrate`) also have each
keypoint's probability of being correct, and the radius that 90 % of such keypoints are within, px.

A video is predicted by itself, the frames of --frames, one animal in it: results by frame, and with --overlays an .mp4.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from catpose.errors import InputError, Parser, command, one_line, whole
from catpose.run.options import add_model_options, add_scales_option
from catpose.shipped import DEFAULT_MODEL, find_model
from catpose.text import counted

if TYPE_CHECKING:  # else torch and OpenCV would be loaded for --help
    import numpy as np

    from catpose.data.boxes import Boxes
    from catpose.data.coco_split import CocoSplit
    from catpose.data.whole_pictures import LeftOut
    from catpose.run.prediction import CropModel, Located
    from catpose.score.detections import Detections
    from catpose.skeleton import Skeleton

ALL_FRAMES = (0, None)  # of a video


@command
def main(argv: list[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    if arguments.detector_weights and not arguments.detector:
        raise InputError("--detector-weights: belongs to --detector torchvision; give that as well")
    from catpose.data.video import is_video

    if any(is_video(source) for source in arguments.sources):
        return _predict_video(arguments)
    if arguments.frames != ALL_FRAMES:
        raise InputError("--frames: is a part of a video; name one")
    split, left_out = _read_sources(arguments.sources, arguments.images, arguments.recursive)

    from catpose.data.boxes import with_boxes
    from catpose.data.whole_pictures import left_out_lines
    from catpose.files import write_json
    from catpose.run.prediction import entries_of, load_crop_model, of_skeleton, scored_by_box, trust_of

    _require_outputs(arguments, split)
    for line in left_out_lines(left_out):
        print(one_line(f"catpose.predict: {line}"), file=sys.stderr)
    model = load_crop_model(_checkpoints(arguments), arguments.device, tuple(arguments.trusted), arguments.scales)
    if arguments.rank and not hasattr(model, "model"):
        raise InputError(f"--rank {arguments.rank}: needs poses without the flip test; give the checkpoint itself")
    split, damage = of_skeleton(split, model.skeleton), Damage(split, arguments.sources)
    boxes = _boxes(split, arguments, model, damage)
    boxed = split if boxes is None else of_skeleton(with_boxes(split, boxes), model.skeleton)
    detections = _detected(model, boxed, arguments, damage)
    where = boxed.boxes[boxed.rows_of(detections.annotation_id)]
    scored = detections if boxes is None else scored_by_box(detections, boxes)
    results = entries_of(scored, where, trust_of(model))
    if not _is_coco(split.file):  # ids of our own making: say whose they are
        names = {image.id: str(image.path) for image in split.images}
        results = [entry | {"file_name": names[entry["image_id"]]} for entry in results]
    write_json(arguments.out, results, indent=None)
    n_left_out = len(left_out) + len(damage.reasons)
    print(_summary(detections, len(split.images), n_left_out, arguments.shown_above, arguments.out))
    if arguments.rank:
        _write_ranking(boxed, detections, _unflipped(model, boxed, arguments, damage), arguments.rank)
    if arguments.pre_labels:
        _write_pre_labels(boxed, detections, model.skeleton, arguments.shown_above, arguments.pre_labels)
    if arguments.overlays:
        n_drawn = len(set(boxed.image_index.tolist()) - damage.reasons.keys())
        print(f"{counted(n_drawn, 'picture')} with poses: {arguments.overlays}/")


def _predict_video(arguments: argparse.Namespace) -> None:
    """A video's poses, by frame."""
    from catpose.run.prediction import load_crop_model
    from catpose.run.video import predict_video, require_new

    (video, *others), frames = arguments.sources, arguments.frames
    unfit = ("images", "boxes", "detector", "rank", "pre_labels", "recursive", "num_workers")
    options = [f"--{name.replace('_', '-')}" for name in unfit if getattr(arguments, name) not in (None, False)]
    if others or options:
        raise InputError(f"{video}: a video is predicted by itself; leave out {', '.join(options) or 'other sources'}")
    overlay = arguments.overlays / f"{video.stem}.mp4" if arguments.overlays else None
    require_new(arguments.out, overlay)
    model = load_crop_model(_checkpoints(arguments), arguments.device, tuple(arguments.trusted), arguments.scales)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a job's end keeps what was found, as Ctrl-C does
    predict_video(model, video, frames, arguments.out, overlay, arguments.shown_above, arguments.batch_size)


def _located(model: CropModel, split: CocoSplit, arguments: argparse.Namespace, damage: Damage) -> Iterator[Located]:
    from catpose.run.prediction import locate

    return locate(model, split, split.by_id, arguments.batch_size, unreadable=damage, n_threads=arguments.num_workers)


def _detected(model: CropModel, split: CocoSplit, arguments: argparse.Namespace, damage: Damage) -> Detections:
    """The detections in a split's boxes; their overlays written where they are asked for."""
    from catpose.run.pictures import overlay_folder
    from catpose.run.prediction import detections_of, drawn

    located = _located(model, split, arguments, damage)
    with overlay_folder(split, arguments.overlays) if arguments.overlays else nullcontext() as write:

        def written() -> Iterator[Located]:
            for each in located:
                if write:
                    write(each.place, drawn(split, each, model.input_size, arguments.shown_above))
                yield each

        detections = detections_of(split, written(), model.input_size)
        damage.tell()
    return detections


def _unflipped(
    model: CropModel, split: CocoSplit, arguments: argparse.Namespace, damage: Damage
) -> dict[int, np.ndarray]:
    """Each box's keypoints (K, 2) without the flip test, image px, by annotation id; the model has none henceforth."""
    model.model.flip_test = False  # type: ignore[attr-defined]  # a checkpoint's
    return {
        int(split.ids[row]): pose[:, :2]
        for each in _located(model, split, arguments, damage)
        for row, pose in zip(each.rows.tolist(), each.poses, strict=True)
    }


def _parser() -> Parser:
    examples = (
        "catpose predict photo.jpg --checkpoint best.ckpt --overlays drawn/",
        "catpose predict photos/ --recursive --checkpoint best.ckpt --boxes boxes.json",
        "catpose predict cat.mp4 --checkpoint best.ckpt --out cat.csv --overlays drawn/",
    )
    parser = Parser(
        prog="catpose predict", description="Predict keypoints on boxes or on whole images.", examples=examples
    )
    parser.add_argument("sources", nargs="+", type=Path, metavar="SOURCE",
                        help="one COCO file, or folders and single pictures, or a video")  # fmt: skip
    parser.add_argument("--checkpoint", type=find_model, action="append", metavar="FILE",
                        help=f"a best.ckpt or last.ckpt of fit, or an .onnx of export ({DEFAULT_MODEL}, which comes"
                        " with catpose); given again, the mean of several checkpoints")  # fmt: skip
    parser.add_argument("--images", type=Path, help="where the COCO file's pictures are (../images beside the file)")
    parser.add_argument("--recursive", action="store_true", help="look into the folders of folders too")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--boxes", type=Path, metavar="FILE",
                       help="boxes of the pictures: a COCO file, or COCO detection results")  # fmt: skip
    where.add_argument("--detector", choices=("torchvision",), help="find boxes of animals with torchvision's SSDlite")
    parser.add_argument("--detector-weights", type=Path, metavar="FILE",
                        help="the detector's weights (else from torch hub's cache; never fetched)")  # fmt: skip
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("predictions.json"),
        help="COCO results file; of a video also .csv (%(default)s)",
    )
    parser.add_argument("--overlays", type=Path, metavar="DIR", help="folder for pictures with the poses drawn")
    parser.add_argument("--pre-labels", type=Path, metavar="DIR",
                        help="folder for COCO files that CVAT and Label Studio import")  # fmt: skip
    parser.add_argument("--rank", type=Path, metavar="FILE",
                        help="CSV of the pictures to label next, the least certain first")  # fmt: skip
    parser.add_argument("--shown-above", type=_finite, default=0.2, metavar="CONFIDENCE",
                        help="draw and pre-label keypoints of more than this confidence (%(default)s)")  # fmt: skip
    parser.add_argument("--frames", type=_frames, default=ALL_FRAMES, metavar="FROM:TO",
                        help="of a video: 300: from the 300th on, 300:600 up to the 600th (all)")  # fmt: skip
    parser.add_argument("--num-workers", type=whole, metavar="N",
                        help="threads that decode (none on the CPU, else one a free core, at most 8)")  # fmt: skip
    add_scales_option(parser)
    add_model_options(parser)
    return parser


def _checkpoints(arguments: argparse.Namespace) -> list[Path]:
    return arguments.checkpoint or [find_model(DEFAULT_MODEL)]


def _finite(text: str) -> float:
    """A finite number, as an option's `type`."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is no finite number")
    return value


def _frames(text: str) -> tuple[int, int | None]:
    """FROM:TO, either of which may be left out, as an option's `type`."""
    first, colon, end = text.partition(":")
    if not colon or not all(part.isdecimal() or not part for part in (first, end)):
        raise argparse.ArgumentTypeError(f"{text} is no range of frames, such as 300:600, 300: or :600")
    if end and int(end) <= int(first or 0):
        raise argparse.ArgumentTypeError(f"{text} holds no frame")
    return int(first or 0), int(end) if end else None


def _require_outputs(arguments: argparse.Namespace, split: CocoSplit) -> None:
    """InputError where an output can't be written, or would take the place of what is read or of somebody else's."""
    from catpose.files import refuse_other, refuse_owned, require_writable
    from catpose.run.directory import refuse_run_file
    from catpose.run.pictures import OVERLAY_START, overlay_names

    read = {
        file.resolve()
        for file in (
            *_checkpoints(arguments),
            *filter(None, (arguments.boxes, arguments.detector_weights)),
            split.file,
            *(image.path for image in split.images),
        )
    }
    written = [("--out", arguments.out, b"[")]  # and how such files begin
    if arguments.rank:
        written.append(("--rank", arguments.rank, b"rank,"))
    for option, file, _ in written:
        require_writable(file, option)
        refuse_run_file(file, option)
    if arguments.pre_labels:
        require_writable(arguments.pre_labels, "--pre-labels", folder=True)
        refuse_owned(arguments.pre_labels, "--pre-labels", "run", "study")
        written += [("--pre-labels", arguments.pre_labels / name, b"") for name in ("cvat.json", "label_studio.json")]
    if arguments.overlays:
        require_writable(arguments.overlays, "--overlays", folder=True)
        overlays = [arguments.overlays / f"{name}.jpg" for name in overlay_names(split)]
        folders = {place.parent.resolve() for image in split.images for place in (image.path, image.path.resolve())}
        if folders & {place.resolve() for place in (arguments.overlays, *(overlay.parent for overlay in overlays))}:
            raise InputError(f"--overlays {arguments.overlays}: holds the pictures themselves; name another folder")
        written += [("--overlays", overlay, OVERLAY_START) for overlay in overlays]
    for option, file, start in written:
        if file.resolve() in read:
            raise InputError(f"{option} {file}: is read itself, or another option's; name another place")
        refuse_other(file, option, start)
        read.add(file.resolve())


class Damage:
    """Pictures that can't be read: of a folder they are left out and said, one that is named is an error.

    Called with the place of a picture and the reason.
    """

    def __init__(self, split: CocoSplit, named: list[Path]) -> None:
        self._images = split.images
        self._named = {image.path for image in split.images} if _is_coco(split.file) else set(named)
        self.reasons: dict[int, str] = {}

    def __call__(self, index: int, reason: str) -> None:
        if self._images[index].path in self._named:
            raise InputError(reason)
        self.reasons[index] = reason

    def tell(self) -> None:
        """A line for each reason; InputError where no picture is left."""
        from catpose.data.whole_pictures import LeftOut, left_out_lines

        paths = {index: self._images[index].path for index in self.reasons}
        damaged = [LeftOut(paths[index], why.removeprefix(f"{paths[index]}: ")) for index, why in self.reasons.items()]
        for line in left_out_lines(damaged):
            print(one_line(f"catpose.predict: {line}"), file=sys.stderr)
        if len(damaged) == len(self._images):
            folder = self._images[0].path.parent
            raise InputError(f"{folder}: none of its pictures can be read; nothing is written")


def _is_coco(file: Path) -> bool:
    """Whether a source is a COCO file, rather than a picture."""
    return file.suffix.lower() == ".json"


def _boxes(split: CocoSplit, arguments: argparse.Namespace, model: CropModel, damage: Damage) -> Boxes | None:
    """The boxes that were asked for, and what there is to know of them said; None where the split's own are meant."""
    from catpose.data.boxes import boxes_lines, read_boxes
    from catpose.run.prediction import detections_of
    from catpose.run.second_pass import second_boxes

    lines = []
    if arguments.boxes:
        boxes, others = read_boxes(arguments.boxes, split.images, named_only=not _is_coco(split.file))
        lines += [f"{arguments.boxes}: {counted(others, 'box', 'boxes')} of other pictures left out"] if others else []
    elif arguments.detector:
        from catpose.run.detector import find_animals, load_detector

        boxes = find_animals(load_detector(arguments.detector_weights), split, damage)
        if not len(boxes.image_index):
            damage.tell()
            raise InputError(
                f"--detector {arguments.detector}: found no animal in {counted(len(split.images), 'picture')}; leave"
                " it out to have whole pictures predicted, or give --boxes FILE"
            )
    elif not _is_coco(split.file):
        first = detections_of(split, _located(model, split, arguments, damage), model.input_size)
        boxes, n_refined = second_boxes(split, first)
        lines.append(
            f"whole pictures, {n_refined} of {len(split.images)} once more on the box of their keypoints; one animal a"
            " picture is looked for (--boxes or --detector for several)"
        )
    else:
        return None
    if len(damage.reasons) == len(split.images):
        damage.tell()
    for line in [*lines, *boxes_lines(split, boxes, model.input_size, damage.reasons)]:
        print(one_line(f"catpose.predict: {line}"), file=sys.stderr)
    return boxes


def _write_ranking(split: CocoSplit, detections: Detections, unflipped: dict[int, np.ndarray], file: Path) -> None:
    """A CSV of the pictures to label next, by the detections and their keypoints (K, 2) without the flip test."""
    from catpose.files import atomic_write
    from catpose.run.ranking import rank_pictures, ranking_csv

    ranked, n_copies = rank_pictures(split, detections, unflipped)
    with atomic_write(file) as temporary:
        temporary.write_text(ranking_csv(ranked), encoding="utf-8")
    print(
        f"{counted(len(ranked), 'picture')} to label, the least certain first, {n_copies} near-copies left out: {file}"
    )


def _write_pre_labels(split: CocoSplit, detections: Detections, skeleton: Skeleton, above: float, folder: Path) -> None:
    """cvat.json and label_studio.json with the keypoints of more confidence than `above`; animals without one are
    left out."""
    from collections import Counter
    from dataclasses import replace

    import numpy as np

    from catpose.data.labelling import Pose, tool_files
    from catpose.files import atomic_write

    images = split.images
    if not _is_coco(split.file):  # tools know pictures by their names, and by their folders where that doesn't tell
        times = Counter(image.path.name for image in images)
        images = tuple(
            replace(image, file_name=image.path.name) if times[image.path.name] == 1 else image for image in images
        )
    names = {entry["id"]: entry["name"] for entry in split.coco["categories"]}
    boxes = dict(zip(split.ids.tolist(), split.boxes.tolist(), strict=True))
    poses = [
        Pose(
            image_id, tuple(boxes[id_]), np.column_stack([points, 2 * (confidence > above)]), names[category], score
        )
        for image_id, id_, category, points, confidence, score in zip(
            detections.image_id.tolist(), detections.annotation_id.tolist(), detections.category_id.tolist(),
            detections.keypoints, detections.confidence, detections.score.tolist(), strict=True,
        )
        if (confidence > above).any()
    ]  # fmt: skip
    for name, content in tool_files(images, poses, skeleton).items():
        with atomic_write(folder / name) as temporary:
            temporary.write_bytes(content)
    print(f"pre-labels of {counted(len(poses), 'animal')}: {folder}/cvat.json, {folder}/label_studio.json")


def _read_sources(sources: list[Path], images: Path | None, recursive: bool) -> tuple[CocoSplit, list[LeftOut]]:
    """The split that the user's sources make, and what of their folders is left out.

    Args:
        sources: one COCO file, or folders and pictures. images: where a COCO file's pictures are.
        recursive: look into the folders of folders too.

    Raises:
        InputError: a source that isn't there, holds no picture, or a COCO file beside other sources.
    """
    from catpose.data.coco import read_coco
    from catpose.data.whole_pictures import find_pictures, split_of_pictures
    from catpose.files import require_folder

    coco = next((source for source in sources if _is_coco(source)), None)
    if coco:
        if len(sources) > 1:
            raise InputError(f"{coco}: a COCO file is predicted alone; give it without other sources")
        if recursive:
            raise InputError("--recursive: is for folders of pictures; leave it out with a COCO file")
        if images:
            require_folder(images)
        return read_coco(coco, images or coco.parent.parent / "images", labels=False), []
    if images:
        raise InputError(f"--images {images}: is where a COCO file's pictures are; name that file, or leave it out")
    sizes, left_out = find_pictures(sources, recursive)
    return split_of_pictures(sizes, sources), left_out


def _summary(detections: Detections, n_pictures: int, n_left_out: int, shown_above: float, out: Path) -> str:
    """How many detections there are, how many pictures have a confident keypoint, and the highest confidence."""
    sure = set(detections.image_id[(detections.confidence > shown_above).any(axis=1)].tolist())
    highest = f" (highest {detections.confidence.max():.2f})" if len(detections) else ""
    line = f"{counted(n_pictures, 'picture')}: {counted(len(detections), 'detection')}, {len(sure)} with a keypoint"
    line += f" above {shown_above:g}{highest}"
    return f"{line}{f', {n_left_out} left out' if n_left_out else ''}: {out}"


if __name__ == "__main__":
    main(sys.argv[1:])
