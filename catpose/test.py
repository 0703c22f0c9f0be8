"""Score a checkpoint or a results file on a labelled split: `python -m catpose.test --checkpoint runs/x/best.ckpt`.

Prints AP and its family, overall and per keypoint. pycocotools scores the same detections beside it; where the two
differed by more than 1e-9, the command would fail. With --out, the detections (COCO results) and the score with its
contract are written.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from catpose.data.coco import DEFAULT_ROOT, read_split
from catpose.errors import InputError, Parser, command, natural


@command
def main(argv: list[str] | None = None) -> None:
    parser = Parser(prog="python -m catpose.test", description=__doc__.splitlines()[0].split(":")[0] + ".")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", type=Path, help="a best.ckpt or last.ckpt of fit")
    what.add_argument("--predictions", type=Path, help="a COCO results file")
    parser.add_argument("--data", type=Path, default=Path(DEFAULT_ROOT), help="data folder (%(default)s)")
    parser.add_argument("--split", default="val", help="val, test or another annotations/NAME.json (%(default)s)")
    parser.add_argument("--out", type=Path, help="folder for results_SPLIT.json and score_SPLIT.json")
    parser.add_argument("--batch-size", type=natural, default=32, help="crops at once (%(default)s)")
    parser.add_argument("--accelerator", default="auto", help="auto, cpu, gpu, … (%(default)s)")
    parser.add_argument("--import", dest="trusted", action="append", default=[], metavar="MODULE",
                        help="a module of your own that holds the model's class")  # fmt: skip
    arguments = parser.parse_args(argv)
    split = read_split(arguments.data, arguments.split)
    if not split.has_keypoints:
        raise InputError(f"{split.file}: holds no keypoints to score against; use python -m catpose.predict")
    if not split.visibility[~split.crowd].any():
        raise InputError(f"{split.file}: no instance has a labelled keypoint to score; see python -m catpose.check")

    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    from catpose.run.directory import require_writable, write_json
    from catpose.run.evaluation import detect, read_results, score
    from catpose.score.instances import Truth
    from catpose.show.table import score_table

    if arguments.out:
        require_writable(arguments.out, "--out", folder=True)
    if arguments.checkpoint:
        from catpose.run.checkpoint import load_model

        model, settings = load_model(arguments.checkpoint, tuple(arguments.trusted))
        detections, _ = detect(
            model,
            split,
            tuple(settings["data"]["input_size"]),
            arguments.batch_size,
            accelerator=arguments.accelerator,
            labelled_only=True,
        )
        scored = score(split, detections, flip_test=model.flip_test)
    else:
        detections = read_results(arguments.predictions, Truth.from_coco(split.coco, str(split.file)))
        scored = score(split, detections, flip_test=None)
    print(score_table(scored.values))
    contract = scored.contract
    print(
        f"\n{int(scored.values['n'])} instances of {split.file} (sha256 {contract.split_hash[:12]}), boxes:"
        f" {contract.box_source}, flip test: {contract.flip_test}, area: {contract.area_rule}, score:"
        f" {contract.score_rule}; pycocotools agrees to 1e-9"
    )
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        results, figures = (arguments.out / f"{name}_{split.file.stem}.json" for name in ("results", "score"))
        if not results.exists() or not arguments.predictions or not results.samefile(arguments.predictions):
            write_json(results, detections.to_results(), indent=None)
        scored.write(figures)
        print(f"written: {results}, {figures}")


if __name__ == "__main__":
    main(sys.argv[1:])
