"""Write a data set in the one layout: labelled photographs, a published release, drawn cats.

`python -m catpose.prepare SOURCE …` makes ROOT/annotations/{train,val,test}.json, ROOT/images/ and ROOT/split.json,
which holds the seed and the hashes of pictures and annotations: two people with equal hashes have the same data. The
folder appears whole or not at all (a killed run leaves a hidden folder .NAME.unfinished-… beside it, to be deleted).
Where the same call has made it before, nothing is done; other data are never overwritten.

Keypoints of other tools are matched to AP-10K's 17 by their names, and the matches printed; those that a source doesn't
have are unlabelled (v = 0), and those that it has beyond the 17 are left out. `--skeleton own` keeps the source's
keypoints as they are, and skeleton.yaml states what their names, or the source, tell of them.

The split is drawn by image; copies of one picture, exact or nearly so, stay together, as do pictures of one video or
made from one picture where the source says so, and those of a given test image go to val rather than train. Copies that
lie in several splits all the same are listed in split.json: `check` warns of them, and `test` scores with and without
them. Images whose keypoints a release withholds go to the test split first, and a test split of nothing else is written
as test_info.json, boxes only. A size of 0 leaves that split out.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catpose.data.coco import DEFAULT_ROOT
from catpose.errors import InputError, Parser, command, whole
from catpose.text import counted

if TYPE_CHECKING:
    from catpose.data.importers.labels import Labels
    from catpose.data.importers.release import Imported
    from catpose.data.sources import Release

DRAWN_ROOT = "data/drawn"  # drawn cats never pose as the real ones
AP10K_KEYPOINTS = "ap10k"
OWN = "own"  # the split that a source comes in, and its keypoints
PUBLISHED = "published"  # the split of RESULTS.md
#: Labels of other tools: whose, and what is named.
IMPORTED = {
    "coco": (
        "COCO keypoints, of CVAT, Label Studio, Roboflow, COCO Annotator, MMPose",
        "a JSON file, a folder or a zip",
    ),
    "yolo": ("YOLO-pose labels, of Ultralytics, CVAT or Roboflow", "data.yaml, its folder or a zip of that"),
    "deeplabcut": ("DeepLabCut's CollectedData_*.csv", "a project, labeled-data, a CSV or a zip"),
    "sleap": ("SLEAP's labels, read by sleap-io (pip install 'catpose[import]')", "a .slp or .pkg.slp file"),
}


@command
def main(argv: list[str] | None = None) -> None:
    parser, sources = _parsers()
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:  # by the source's own parser, which knows the nearest option
        sources.choices[arguments.source].error(f"unrecognized arguments: {' '.join(unknown)}")
    if arguments.source == "drawn":
        _prepare_drawn(arguments)
    elif arguments.source == "label-config":
        _write_label_config(arguments)
    elif arguments.source in ("animal-pose", "ap10k"):
        _prepare_release(arguments)
    else:
        _prepare_labels(arguments)


def _prepare_drawn(arguments: argparse.Namespace) -> None:
    from catpose.data.split import draw_split, parse_split
    from catpose.data.writing import hash_pictures, new_folder, record_lines, write_layout
    from catpose.synthetic import draw

    train, val, test = parse_split(arguments.split) or (None, None, None)
    if not isinstance(train, int) or not isinstance(val, int) or not isinstance(test, int):
        raise InputError("--split: drawn cats are as many as you like; give three numbers")
    sizes = train, val, test
    n_images = sum(sizes)
    first = draw(arguments.seed, 0)  # what the drawing looks like today
    digest = hashlib.sha256(first.picture.tobytes() + first.keypoints.round(3).tobytes()).hexdigest()
    request = {"source": "drawn", "seed": arguments.seed, "sizes": list(sizes), "first_drawing": digest}
    if _is_there(arguments.out, request):
        return
    with new_folder(arguments.out) as folder:
        (folder / "images").mkdir()
        release = draw_release(folder / "images", n_images, arguments.seed)
        names = {image["id"]: image["file_name"] for image in release.images}
        alone = {id_: id_ for id_ in names}  # no drawing is a copy of another
        split = draw_split(names, alone, sizes, arguments.seed, frozenset())
        record = write_layout(folder, release, hash_pictures(release), split, alone, request)
    print(*record_lines(arguments.out, record), sep="\n")


def draw_release(image_dir: Path, n_images: int, seed: int) -> Release:
    """Drawn cats, their pictures written into `image_dir` as JPEG of quality 95, their boxes' and keypoints' places
    rounded to 0.01 px."""
    import cv2
    from tqdm import tqdm

    from catpose.data.sources import Release, category_entry, make_annotation
    from catpose.synthetic import draw

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in tqdm(range(n_images), desc="drawing", unit="", delay=2, mininterval=1, leave=False, disable=None):
        drawn = draw(seed, index)
        height, width = drawn.picture.shape[:2]
        name = f"drawn_{index:06d}.jpg"
        content = cv2.imencode(".jpg", drawn.picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        (image_dir / name).write_bytes(content.tobytes())
        images.append({"id": index + 1, "file_name": name, "width": width, "height": height})
        for box, keypoints in zip(drawn.boxes, drawn.keypoints, strict=True):
            triples = [(round(float(x), 2), round(float(y), 2), int(v)) if v else (0, 0, 0) for x, y, v in keypoints]
            box = [round(float(value), 2) for value in box]
            annotations.append(make_annotation(len(annotations) + 1, index + 1, 1, box, triples))
    return Release("drawn cats", image_dir, images, annotations, [category_entry(1, "cat")])


def _prepare_release(arguments: argparse.Namespace) -> None:
    from catpose.data.sources import AP10K_FILES, read_animal_pose, read_ap10k
    from catpose.data.split import (
        default_sizes,
        draw_split,
        parse_split,
        published_split,
        read_test_ids,
        resolve_sizes,
    )
    from catpose.data.writing import find_copies

    release: Release
    if arguments.source == "animal-pose":
        release = read_animal_pose(
            arguments.keypoints_json, arguments.images, arguments.species, arguments.skeleton == OWN
        )
        files = [arguments.keypoints_json]
    else:
        release = read_ap10k(arguments.folder, arguments.species)
        files = [arguments.folder / "annotations" / name for name in AP10K_FILES]
    names = {image["id"]: image["file_name"] for image in release.images}
    test = read_test_ids(arguments.test_ids, names) if arguments.test_ids else release.withheld
    published = None
    if arguments.split == [PUBLISHED] and arguments.source == "animal-pose" and not arguments.test_ids:
        published = published_split(names)
        train, val, test_ids = published.values()
        sizes = len(train), len(val), len(test_ids)
    else:
        shares = parse_split(arguments.split)
        sizes = resolve_sizes(shares, len(names)) if shares else default_sizes(len(names), len(test))
    if arguments.test_ids and len(test) != sizes[2]:
        raise InputError(
            f"--split has {sizes[2]} test images, but {arguments.test_ids} names {len(test)}; make them agree"
        )
    request = {
        "source": arguments.source,
        "species": sorted(arguments.species),
        "seed": arguments.seed,
        "sizes": list(sizes),
        "test_images": sorted(test) if arguments.test_ids else None,
        "annotations_sha256": _digests(files),
    }
    request |= {"split": PUBLISHED} if published else {}
    if arguments.source == "animal-pose" and arguments.skeleton == OWN:
        request["skeleton"] = OWN
    if _is_there(arguments.out, request):
        return
    copy_of = find_copies(release)
    split = published or draw_split(names, copy_of, sizes, arguments.seed, test)
    _write(arguments, release, split, copy_of, request, files[0])
    lost = len(release.withheld - set(split["test"]))
    if lost:
        print(f"note: without a keypoint, of no use in training: {counted(lost, 'image')} outside the test split")


def _prepare_labels(arguments: argparse.Namespace) -> None:
    from catpose.data.importers.coco import read_coco_labels
    from catpose.data.importers.deeplabcut import read_deeplabcut
    from catpose.data.importers.names import read_names
    from catpose.data.importers.pictures import PictureFinder
    from catpose.data.importers.release import to_release
    from catpose.data.importers.sleap import read_sleap
    from catpose.data.importers.unpack import scratch, unpacked
    from catpose.data.importers.yolo import read_yolo

    names = read_names(arguments.keypoints) if arguments.keypoints else None
    if arguments.onto and arguments.split:
        raise InputError("--split: with --onto the pictures stay in the splits that they are in; leave it out")
    beside = arguments.onto or arguments.out.parent
    with unpacked(arguments.labels, beside) as place, scratch(beside) as frames:
        folder = place if place.is_dir() else place.parent
        finder = PictureFinder([arguments.images or (folder.parent if folder.name == "annotations" else folder)])
        try:
            if arguments.source == "coco":
                labels = read_coco_labels(place, names)
                if arguments.onto:
                    return _bring_back(labels, arguments.onto, arguments.labels)
            elif arguments.source == "yolo":
                labels = read_yolo(place, names, finder)
            elif arguments.source == "deeplabcut":
                labels = read_deeplabcut(place, names)
            else:
                labels = read_sleap(place, names, finder, frames)
                finder = PictureFinder([*finder.folders, frames])
            imported = to_release(labels, finder, arguments.species, arguments.skeleton == OWN)
            _bring_in(arguments, imported, labels.files)
        except InputError as error:  # nobody knows the folder that an archive was unpacked to
            raise InputError(str(error).replace(str(place), str(arguments.labels))) from None


def _bring_in(arguments: argparse.Namespace, imported: Imported, files: list[Path]) -> None:
    """Split and write imported labels."""
    from catpose.data.split import (
        SHARES,
        SPLITS,
        draw_split,
        keep_together,
        parse_split,
        resolve_sizes,
        torn_groups,
    )
    from catpose.data.writing import find_copies

    release = imported.release
    print(imported.match.table())
    names = {image["id"]: image["file_name"] for image in release.images}
    own = {name: [id_ for id_ in names if imported.splits.get(id_) == name] for name in SPLITS}
    in_none = len(names) - sum(map(len, own.values()))
    keep_own = arguments.split == [OWN] or (not arguments.split and not in_none and bool(own["train"] and own["val"]))
    if keep_own and in_none:
        raise InputError(
            f"--split {OWN}: {in_none} of the {len(names)} pictures are in no split; take --split 0.8 0.1 0.1"
        )
    shares = None if keep_own else parse_split(arguments.split) or SHARES
    request = {
        "source": arguments.source,
        "species": sorted(category["name"] for category in release.categories),
        "keypoints": list(imported.match.source),
        "seed": arguments.seed,
        "split": list(shares) if shares else OWN,
        "annotations_sha256": hashlib.sha256("".join(_digests(files)).encode()).hexdigest(),
    }
    request |= {"skeleton": OWN} if arguments.skeleton == OWN else {}
    if _is_there(arguments.out, request):
        return
    copy_of = find_copies(release)
    if shares is None:
        split = own
        print("split: the source's own")
    else:
        together = keep_together(copy_of, imported.groups)
        whole = any(isinstance(size, float) for size in shares) and len(set(together.values())) > 1
        split = draw_split(names, together, resolve_sizes(shares, len(names)), arguments.seed, frozenset(), whole)
        if apart := torn_groups(split, imported.groups):
            print(
                f"note: pictures of {' and '.join(apart[:2])}{' and others' if len(apart) > 2 else ''} lie in several"
                " splits: scores will be too high; give shares (--split 0.8 0.1 0.1), or label more videos"
            )
    _write(arguments, release, split, copy_of, request, files[0])
    for note in imported.notes:
        print(f"note: {note}")


def _bring_back(labels: Labels, root: Path, source: Path) -> None:
    from catpose.data.importers.corrections import apply_corrections, find_corrections

    found = find_corrections(labels, root)
    apply_corrections(found, root, source, hashlib.sha256("".join(_digests(labels.files)).encode()).hexdigest())
    for line in found.changes:
        print(line)
    for note in found.notes:
        print(f"note: {note}")
    changed = f"{counted(len(found.changes), 'animal')} changed, {found.n_same} as they were"
    print(f"{root}: {counted(found.n_pictures, 'picture')} came back; {changed}")


def _write_label_config(arguments: argparse.Namespace) -> None:
    from catpose.data.importers.label_config import TOOLS, cvat_labels, label_studio_interface
    from catpose.figures.cat import CAT, draw_skeleton
    from catpose.files import atomic_write
    from catpose.synthetic import draw

    tool = TOOLS[arguments.tool]
    config, picture = arguments.out / tool.file, arguments.out / "keypoints.png"
    points = draw(*CAT).keypoints[0, :, :2]
    text = cvat_labels(points) if arguments.tool == "cvat" else label_studio_interface()
    for path, content in ((config, text.encode()), (picture, draw_skeleton()["png"])):
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    print(f"{config}: {tool.use}; then `python -m catpose.prepare coco EXPORT.zip`")
    print(f"{picture}: the keypoints with their names; left and right are the animal's own")


def _write(
    arguments: argparse.Namespace,
    release: Release,
    split: Mapping[str, list[int]],
    copy_of: Mapping[int, int],
    request: dict[str, Any],
    source: Path,
) -> None:
    from catpose.data.writing import kept_line, record_lines, warning_lines, write_checked

    record, findings = write_checked(arguments.out, release, split, copy_of, request, source, arguments.link)
    lines = [*record_lines(arguments.out, record), *warning_lines(arguments.out, findings)]
    print(*lines, kept_line(release, record), sep="\n")


def _digests(files: list[Path]) -> list[str]:
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def _is_there(root: Path, request: dict[str, Any]) -> bool:
    from catpose.data.writing import record_lines, same_as_there

    record = same_as_there(root, request)
    if record is not None:
        print(f"already there: {root}", *record_lines(root, record), sep="\n")
    return record is not None


def _parsers() -> tuple[Parser, argparse._SubParsersAction[Parser]]:
    parser = Parser(
        prog="catpose prepare",
        description=__doc__,
        examples=("catpose prepare drawn", "catpose prepare coco export.zip --out data/mine --split 0.8 0.1 0.1"),
    )
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    drawn = sources.add_parser("drawn", help="drawn cats: no download, nobody's photographs")
    _add_split(drawn, "", "1000 128 200", DRAWN_ROOT)
    drawn.set_defaults(split=["1000", "128", "200"])
    for name, (tools, source) in IMPORTED.items():
        imported = sources.add_parser(name, help=tools)
        imported.add_argument("labels", type=Path, metavar="SOURCE", help=source)
        _add_import_options(imported)
        imported.set_defaults(onto=None)
        if name == "coco":
            imported.add_argument(
                "--onto", type=Path, metavar="ROOT",
                help="bring corrected labels back onto this data folder's own pictures: only what was changed changes",
            )  # fmt: skip
        _add_split(imported, f"; '{OWN}' for the source's", f"'{OWN}' where it has train and val, else 0.8 0.1 0.1")
    animal_pose = sources.add_parser("animal-pose", help="Animal-Pose's own release, 20 keypoints")
    animal_pose.add_argument("keypoints_json", type=Path, metavar="KEYPOINTS_JSON", help="the release's keypoints.json")
    animal_pose.add_argument("--images", type=Path, required=True, metavar="DIR", help="the folder of its pictures")
    _add_skeleton(animal_pose)
    animal_pose.add_argument(
        "--own-keypoints", dest="skeleton", action="store_const", const=OWN, help=argparse.SUPPRESS
    )  # as it was called
    ap10k = sources.add_parser("ap10k", help="AP-10K's release, its three split files merged")
    ap10k.add_argument("folder", type=Path, metavar="DIR", help="the folder that holds annotations/ and data/")
    for release in (animal_pose, ap10k):
        release.add_argument("--species", nargs="+", default=["cat"], metavar="NAME", help="or 'all' (default: cat)")
        release.add_argument(
            "--test-ids",
            type=Path,
            metavar="FILE",
            help="the test images, by id or file name: a line each, a JSON list, or a COCO file such as test_info.json",
        )
        more = f"; '{PUBLISHED}' for that of RESULTS.md" if release is animal_pose else ""
        _add_split(release, more, "test: images whose keypoints are withheld, or a tenth; val: a ninth of the others")
    config = sources.add_parser("label-config", help="no data: the skeleton's settings for a labelling tool")
    config.add_argument("--for", dest="tool", required=True, choices=["cvat", "label-studio"], help="the tool")
    config.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="(default: the folder you are in)")
    return parser, sources


def _add_split(source: Parser, more: str, default: str, root: str = DEFAULT_ROOT) -> None:
    """Options on how the data are divided and where they go."""
    source.add_argument(
        "--split", "--sizes",
        nargs="+",
        metavar="N",
        help=f"for train, val and test a number of images, a share or 'rest'{more} (default: {default})",
    )  # fmt: skip
    source.add_argument("--seed", type=whole, default=0, help="of the draw (default: 0)")
    source.add_argument("--out", type=Path, default=Path(root), metavar="ROOT", help=f"(default: {root})")
    if root == DEFAULT_ROOT:
        source.add_argument("--link", action="store_true", help="hard-link the pictures instead of copying them")


def _add_skeleton(source: Parser) -> None:
    source.add_argument(
        "--skeleton", choices=[AP10K_KEYPOINTS, OWN], default=AP10K_KEYPOINTS,
        help=f"AP-10K's 17 keypoints, or '{OWN}' for all of the source's (default: {AP10K_KEYPOINTS})",
    )  # fmt: skip


def _add_import_options(source: Parser) -> None:
    source.add_argument("--images", type=Path, metavar="DIR", help="where the pictures are, if not beside the labels")
    source.add_argument("--species", nargs="+", metavar="NAME", help="categories, or 'all', if there are several")
    _add_skeleton(source)
    source.add_argument(
        "--keypoints", type=Path, metavar="FILE",
        help="the keypoints' names in the source's order, a line each, '-' for one to leave out",
    )  # fmt: skip


if __name__ == "__main__":
    main()
