"""Predict keypoints on a COCO file's boxes or on whole images: `python -m catpose.predict cats/ --checkpoint x.ckpt`.

A COCO file gives boxes (its pictures are looked for in --images, or in ../images beside the file); of a folder or of
single pictures the whole picture is the box. What a folder holds is told by its files' content: what isn't read there
is listed. Writes a COCO results file, and with --overlays a picture for each.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from catpose.errors import InputError, Parser, command, one_line, whole
from catpose.run.options import add_model_options

if TYPE_CHECKING:  # else torch and OpenCV would be loaded for --help
    from catpose.data.coco_split import CocoSplit
    from catpose.data.whole_pictures import LeftOut
    from catpose.score.detections import Detections
    from catpose.skeleton import Skeleton


@command
def main(argv: list[str] | None = None) -> None:
    parser = Parser(prog="python -m catpose.predict", description="Predict keypoints on boxes or on whole images.")
    parser.add_argument("sources", nargs="+", type=Path, metavar="SOURCE",
                        help="one COCO file, or folders and single pictures")  # fmt: skip
    parser.add_argument("--checkpoint", type=Path, required=True, help="a best.ckpt or last.ckpt of fit")
    parser.add_argument("--images", type=Path, help="where the COCO file's pictures are (../images beside the file)")
    parser.add_argument("--out", type=Path, default=Path("predictions.json"), help="COCO results file (%(default)s)")
    parser.add_argument("--overlays", type=Path, metavar="DIR", help="folder for pictures with the poses drawn")
    parser.add_argument("--pre-labels", type=Path, metavar="DIR",
                        help="folder for COCO files that CVAT and Label Studio import")  # fmt: skip
    parser.add_argument("--rank", type=Path, metavar="FILE",
                        help="CSV of the pictures to label next, the least certain first")  # fmt: skip
    parser.add_argument("--shown-above", type=float, default=0.2, metavar="CONFIDENCE",
                        help="draw and pre-label keypoints of more than this confidence (%(default)s)")  # fmt: skip
    parser.add_argument("--num-workers", type=whole, metavar="N",
                        help="processes that decode (none on the CPU, else one a free core, at most 8)")  # fmt: skip
    add_model_options(parser)
    arguments = parser.parse_args(argv)
    split, left_out = read_sources(arguments.sources, arguments.images)

    from catpose.data.whole_pictures import LeftOut, left_out_lines
    from catpose.files import refuse_owned, require_writable, write_json
    from catpose.run.checkpoint import load_model
    from catpose.run.directory import refuse_run_file
    from catpose.run.evaluation import detect
    from catpose.run.pictures import overlay_writer

    require_writable(arguments.out, "--out")
    refuse_run_file(arguments.out, "--out")
    if arguments.rank:
        require_writable(arguments.rank, "--rank")
        refuse_run_file(arguments.rank, "--rank")
    if arguments.pre_labels:
        require_writable(arguments.pre_labels, "--pre-labels", folder=True)
        refuse_owned(arguments.pre_labels, "--pre-labels", "run", "study")
    for line in left_out_lines(left_out):
        print(one_line(f"catpose.predict: {line}"), file=sys.stderr)
    read = [arguments.checkpoint, split.file, *(image.path for image in split.images)]
    if arguments.out.resolve() in {file.resolve() for file in read}:
        raise InputError(f"--out {arguments.out}: is read itself; name another file for the results")
    if arguments.overlays:
        require_writable(arguments.overlays, "--overlays", folder=True)
        folders = {place.parent.resolve() for image in split.images for place in (image.path, image.path.resolve())}
        if arguments.overlays.resolve() in folders:
            raise InputError(f"--overlays {arguments.overlays}: holds the pictures themselves; name another folder")
    model, settings = load_model(arguments.checkpoint, tuple(arguments.trusted))

    named, damaged = set(arguments.sources), []

    def unreadable(index: int, reason: str) -> None:
        path = split.images[index].path
        if split.file.suffix.lower() == ".json" or path in named:
            raise InputError(reason)
        damaged.append(LeftOut(path, reason.removeprefix(f"{path}: ")))

    overlays = (
        overlay_writer(split, model.skeleton, arguments.overlays, arguments.shown_above)
        if arguments.overlays
        else nullcontext()
    )
    with overlays as show:
        detections, _ = detect(
            model,
            split,
            tuple(settings["data"]["input_size"]),
            arguments.batch_size,
            accelerator=arguments.accelerator,
            num_workers=arguments.num_workers,
            show=show,
            unreadable=unreadable,
        )
        for line in left_out_lines(damaged):
            print(one_line(f"catpose.predict: {line}"), file=sys.stderr)
        if len(damaged) == len(split.images):
            raise InputError(f"{arguments.sources[0]}: none of its pictures can be read; nothing is written")
    results = detections.to_results()
    if split.file.suffix.lower() != ".json":  # ids of our own making: say whose they are
        names = {image.id: str(image.path) for image in split.images}
        results = [entry | {"file_name": names[entry["image_id"]]} for entry in results]
    write_json(arguments.out, results, indent=None)
    print(_summary(detections, len(split.images), len(left_out) + len(damaged), arguments.shown_above, arguments.out))
    if arguments.rank:
        model.flip_test = False
        plain, _ = detect(
            model,
            split,
            tuple(settings["data"]["input_size"]),
            arguments.batch_size,
            accelerator=arguments.accelerator,
            num_workers=arguments.num_workers,
            unreadable=lambda index, reason: None,
        )
        write_ranking(split, detections, plain, arguments.rank)
    if arguments.pre_labels:
        write_pre_labels(split, detections, model.skeleton, arguments.shown_above, arguments.pre_labels)
    if arguments.overlays:
        n_drawn = len(set(split.image_index.tolist())) - len(damaged)
        print(f"{_counted(n_drawn, 'picture')} with poses: {arguments.overlays}/")


def write_ranking(split: CocoSplit, flipped: Detections, plain: Detections, file: Path) -> None:
    """A CSV of the pictures to label next, by the detections with and without the flip test."""
    from catpose.files import atomic_write
    from catpose.run.ranking import rank_pictures, ranking_csv

    ranked, n_copies = rank_pictures(split, flipped, plain)
    with atomic_write(file) as temporary:
        temporary.write_text(ranking_csv(ranked), encoding="utf-8")
    print(
        f"{_counted(len(ranked), 'picture')} to label, the least certain first, {n_copies} near-copies left out: {file}"
    )


def write_pre_labels(split: CocoSplit, detections: Detections, skeleton: Skeleton, above: float, folder: Path) -> None:
    """cvat.json and label_studio.json with the keypoints of more confidence than `above`; animals without one are
    left out."""
    from dataclasses import replace

    import numpy as np

    from catpose.data.labelling import Pose, tool_files
    from catpose.files import atomic_write

    images = split.images
    if split.file.suffix.lower() != ".json":  # tools know pictures by their names
        images = tuple(replace(image, file_name=image.path.name) for image in images)
    boxes = dict(zip(split.ids.tolist(), split.boxes.tolist(), strict=True))
    poses = [
        Pose(image_id, tuple(boxes[id_]), np.column_stack([points, 2 * (confidence > above)]), score)
        for image_id, id_, points, confidence, score in zip(
            detections.image_id.tolist(), detections.annotation_id.tolist(), detections.keypoints,
            detections.confidence, detections.score.tolist(), strict=True,
        )
        if (confidence > above).any()
    ]  # fmt: skip
    for name, content in tool_files(images, poses, skeleton).items():
        with atomic_write(folder / name) as temporary:
            temporary.write_bytes(content)
    print(f"pre-labels of {_counted(len(poses), 'animal')}: {folder}/cvat.json, {folder}/label_studio.json")


def read_sources(sources: list[Path], images: Path | None) -> tuple[CocoSplit, list[LeftOut]]:
    """The split that the user's sources make, and what of their folders is left out.

    Raises:
        InputError: a source that isn't there, holds no picture, or a COCO file beside other sources.
    """
    from catpose.data.coco import read_coco
    from catpose.data.whole_pictures import find_pictures, split_of_pictures
    from catpose.files import require_folder

    coco = next((source for source in sources if source.suffix.lower() == ".json"), None)
    if coco:
        if len(sources) > 1:
            raise InputError(f"{coco}: a COCO file is predicted alone; give it without other sources")
        if images:
            require_folder(images)
        return read_coco(coco, images or coco.parent.parent / "images", labels=False), []
    sizes, left_out = find_pictures(sources)
    return split_of_pictures(sizes), left_out


def _summary(detections: Detections, n_pictures: int, n_left_out: int, shown_above: float, out: Path) -> str:
    """How many detections there are, in how many of the pictures, and how many of these show nothing."""
    detected = set(detections.image_id.tolist())
    sure = set(detections.image_id[(detections.confidence > shown_above).any(axis=1)].tolist())
    line = f"{_counted(len(detections.score), 'detection')} in {_counted(len(detected), 'picture')}"
    if len(detected) < n_pictures:
        line += f" of {n_pictures}"
    if n_left_out:
        line += f", {n_left_out} left out"
    if detected - sure:
        line += f", {len(detected - sure)} without a keypoint above {shown_above:g}"
    return f"{line}: {out}"


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


if __name__ == "__main__":
    main(sys.argv[1:])
