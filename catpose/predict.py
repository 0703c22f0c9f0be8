"""Predict keypoints on a COCO file's boxes or on whole images: `python -m catpose.predict cats/ --checkpoint x.ckpt`.

A COCO file gives boxes (its pictures are looked for in --images, or in ../images beside the file); of a folder or of
single pictures the whole picture is the box. Writes a COCO results file, and with --overlays a picture for each.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from catpose.errors import InputError, Parser, command, natural

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


@command
def main(argv: list[str] | None = None) -> None:
    parser = Parser(prog="python -m catpose.predict", description="Predict keypoints on boxes or on whole images.")
    parser.add_argument("sources", nargs="+", type=Path, metavar="SOURCE",
                        help="one COCO file, or folders and single pictures")  # fmt: skip
    parser.add_argument("--checkpoint", type=Path, required=True, help="a best.ckpt or last.ckpt of fit")
    parser.add_argument("--images", type=Path, help="where the COCO file's pictures are (../images beside the file)")
    parser.add_argument("--out", type=Path, default=Path("predictions.json"), help="COCO results file (%(default)s)")
    parser.add_argument("--overlays", type=Path, metavar="DIR", help="folder for pictures with the poses drawn")
    parser.add_argument("--shown-above", type=float, default=0.2, metavar="CONFIDENCE",
                        help="draw keypoints of more than this confidence (%(default)s)")  # fmt: skip
    parser.add_argument("--batch-size", type=natural, default=32, help="crops at once (%(default)s)")
    parser.add_argument("--accelerator", default="auto", help="auto, cpu, gpu, … (%(default)s)")
    parser.add_argument("--import", dest="trusted", action="append", default=[], metavar="MODULE",
                        help="a module of your own that holds the model's class")  # fmt: skip
    arguments = parser.parse_args(argv)
    split = read_sources(arguments.sources, arguments.images)

    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    from catpose.files import require_writable, write_json
    from catpose.run.checkpoint import load_model
    from catpose.run.evaluation import detect
    from catpose.run.pictures import write_overlays

    require_writable(arguments.out, "--out")
    read = [arguments.checkpoint, split.file, *(image.path for image in split.images)]
    if arguments.out.resolve() in {file.resolve() for file in read}:
        raise InputError(f"--out {arguments.out}: is read itself; name another file for the results")
    if arguments.overlays:
        require_writable(arguments.overlays, "--overlays", folder=True)
        if arguments.overlays.resolve() in {image.path.parent.resolve() for image in split.images}:
            raise InputError(f"--overlays {arguments.overlays}: holds the pictures themselves; name another folder")
    model, settings = load_model(arguments.checkpoint, tuple(arguments.trusted))
    detections, _ = detect(
        model,
        split,
        tuple(settings["data"]["input_size"]),
        arguments.batch_size,
        accelerator=arguments.accelerator,
    )
    results = detections.to_results()
    if split.file.suffix.lower() != ".json":  # ids of our own making: say whose they are
        names = {image.id: str(image.path) for image in split.images}
        results = [entry | {"file_name": names[entry["image_id"]]} for entry in results]
    write_json(arguments.out, results, indent=None)
    print(f"{len(results)} detections in {len(split.images)} images: {arguments.out}")
    if arguments.overlays:
        n = write_overlays(split, detections, arguments.overlays, arguments.shown_above)
        print(f"{n} pictures with poses: {arguments.overlays}/")


def read_sources(sources: list[Path], images: Path | None):  # type: ignore[no-untyped-def]
    """The split that the user's sources make.

    Raises:
        InputError: a source that isn't there, holds no picture, or a COCO file beside other sources.
    """
    from catpose.data.coco import read_coco
    from catpose.data.images import split_of_images

    coco = next((source for source in sources if source.suffix.lower() == ".json"), None)
    if coco:
        if len(sources) > 1:
            raise InputError(f"{coco}: a COCO file is predicted alone; give it without other sources")
        return read_coco(coco, images or coco.parent.parent / "images")
    files: list[Path] = []
    for source in sources:
        if not source.exists():
            raise InputError(f"{source}: no such file or folder; name pictures, folders of them, or one COCO file")
        if source.is_dir():
            found = sorted(file for file in source.iterdir() if file.suffix.lower() in PICTURES)
            if not found:
                raise InputError(f"{source}: holds no picture ({', '.join(PICTURES)}); name another folder")
            files += found
        else:
            files.append(source)
    return split_of_images(files)


if __name__ == "__main__":
    main(sys.argv[1:])
