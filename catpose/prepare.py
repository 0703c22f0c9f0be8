"""Write a data set in the one layout from a published release, or draw one.

`python -m catpose.prepare SOURCE …` makes ROOT/annotations/{train,val,test}.json, ROOT/images/ and ROOT/split.json,
which holds the seed and the hashes of pictures and annotations: two people with equal hashes have the same data. The
folder appears whole or not at all (a killed run leaves a hidden folder .NAME.unfinished-… beside it, to be deleted).
Where the same call has made it before, nothing is done; other data are never overwritten.

The split is drawn by image; copies of one picture stay together, and those of a given test image go to val rather
than train. Images whose keypoints a release withholds go to the test split first, and a test split of nothing else
is written as test_info.json, boxes only. A size of 0 leaves that split out; `--sizes rest 0 0` makes all images
training images, for pre-training say.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catpose.data.coco import DEFAULT_ROOT
from catpose.errors import InputError, Parser, command

if TYPE_CHECKING:
    from catpose.data.sources import Release

DRAWN_ROOT = "data/drawn"  # drawn cats never pose as the real ones


@command
def main(argv: list[str] | None = None) -> None:
    parser, sources = _parsers()
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:  # by the source's own parser, which knows the nearest option
        sources.choices[arguments.source].error(f"unrecognized arguments: {' '.join(unknown)}")
    if arguments.source == "drawn":
        _prepare_drawn(arguments)
    else:
        _prepare_release(arguments)


def _prepare_drawn(arguments: argparse.Namespace) -> None:
    from catpose.data.drawn import draw
    from catpose.data.sources import draw_release
    from catpose.data.split import draw_split, hash_pictures, new_folder, write_layout

    if None in arguments.sizes:
        raise InputError("--sizes: drawn cats are as many as you like; give three numbers")
    n_images = sum(arguments.sizes)
    first = draw(arguments.seed, 0)  # what the drawing looks like today
    digest = hashlib.sha256(first.picture.tobytes() + first.keypoints.round(3).tobytes()).hexdigest()
    request = {"source": "drawn", "seed": arguments.seed, "sizes": list(arguments.sizes), "first_drawing": digest}
    if _is_there(arguments.out, request):
        return
    with new_folder(arguments.out) as folder:
        (folder / "images").mkdir()
        release = draw_release(folder / "images", n_images, arguments.seed)
        names = {image["id"]: image["file_name"] for image in release.images}
        contents = hash_pictures(release)
        split = draw_split(names, contents, tuple(arguments.sizes), arguments.seed, frozenset())
        record = write_layout(folder, release, contents, split, request)
    _report(arguments.out, record)


def _prepare_release(arguments: argparse.Namespace) -> None:
    from catpose.data.sources import AP10K_FILES, read_animal_pose, read_ap10k
    from catpose.data.split import draw_split, hash_pictures, new_folder, read_test_ids, resolve_sizes, write_layout

    release: Release
    if arguments.source == "animal-pose":
        release = read_animal_pose(arguments.keypoints_json, arguments.images, arguments.species)
        files = [arguments.keypoints_json]
    else:
        release = read_ap10k(arguments.folder, arguments.species)
        files = [arguments.folder / "annotations" / name for name in AP10K_FILES]
    names = {image["id"]: image["file_name"] for image in release.images}
    sizes = resolve_sizes(arguments.sizes, len(names))
    test = read_test_ids(arguments.test_ids, names) if arguments.test_ids else release.withheld
    if arguments.test_ids and len(test) != sizes[2]:
        raise InputError(
            f"--sizes has {sizes[2]} test images, but {arguments.test_ids} names {len(test)}; make them agree"
        )
    request = {
        "source": arguments.source,
        "species": sorted(arguments.species),
        "seed": arguments.seed,
        "sizes": list(sizes),
        "test_images": sorted(test) if arguments.test_ids else None,
        "annotations_sha256": [hashlib.sha256(file.read_bytes()).hexdigest() for file in files],
    }
    if _is_there(arguments.out, request):
        return
    contents = hash_pictures(release)
    split = draw_split(names, contents, sizes, arguments.seed, test)
    with new_folder(arguments.out) as folder:
        record = write_layout(folder, release, contents, split, request, arguments.link)
    _report(arguments.out, record)
    lost = len(release.withheld - set(split["test"]))
    if lost:
        print(f"note: {lost} images outside the test split have no keypoint at all and train nothing")


def _is_there(root: Path, request: dict[str, Any]) -> bool:
    from catpose.data.split import same_as_there

    record = same_as_there(root, request)
    if record is not None:
        print(f"already there: {root}")
        _report(root, record)
    return record is not None


def _report(root: Path, record: dict[str, Any]) -> None:
    for name, counts in record["splits"].items():
        digest = counts["annotations_sha256"][:12]
        print(f"{name:10} {counts['images']:6} images {counts['instances']:6} instances   annotations {digest}")
    seed, digest = record["request"]["seed"], record["images_sha256"][:12]
    print(f"{'':10} {record['images']:6} images, seed {seed}             pictures    {digest}")
    print(f"{root}: annotations/, images/ and split.json, which holds the hashes in full")


def _size(text: str) -> int | None:
    if text == "rest":
        return None
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of images nor 'rest'")
    return int(text)


def _parsers() -> tuple[Parser, argparse._SubParsersAction[Parser]]:
    parser = Parser(
        prog="python -m catpose.prepare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    drawn = sources.add_parser("drawn", help="drawn cats: no download, nobody's photographs")
    animal_pose = sources.add_parser("animal-pose", help="Animal-Pose's own release, 20 keypoints mapped to 17")
    animal_pose.add_argument("keypoints_json", type=Path, metavar="KEYPOINTS_JSON", help="the release's keypoints.json")
    animal_pose.add_argument("--images", type=Path, required=True, metavar="DIR", help="the folder of its pictures")
    ap10k = sources.add_parser("ap10k", help="AP-10K's release, its three split files merged")
    ap10k.add_argument("folder", type=Path, metavar="DIR", help="the folder that holds annotations/ and data/")
    for source in (animal_pose, ap10k):
        source.add_argument("--species", nargs="+", default=["cat"], metavar="NAME", help="or 'all' (default: cat)")
        source.add_argument(
            "--test-ids",
            type=Path,
            metavar="FILE",
            help="the test images, by id or file name: a line each, a JSON list, or a COCO file such as test_info.json",
        )
        source.add_argument("--link", action="store_true", help="hard-link the pictures instead of copying them")
    for source in (drawn, animal_pose, ap10k):
        source.add_argument(
            "--sizes",
            type=_size,
            nargs=3,
            default=[1000, 128, 200],
            metavar=("TRAIN", "VAL", "TEST"),
            help="images in each split; one of them may be 'rest' (default: 1000 128 200)",
        )
        source.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
        default = DRAWN_ROOT if source is drawn else DEFAULT_ROOT
        source.add_argument("--out", type=Path, default=Path(default), metavar="ROOT", help=f"(default: {default})")
    return parser, sources


if __name__ == "__main__":
    main()
