"""Which image goes to which split: by numbers, by shares, as published; copies and pictures of one origin together."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from catpose.data.groups import Groups
from catpose.errors import InputError
from catpose.files import read_json
from catpose.text import counted

SPLITS = ("train", "val", "test")

#: Split and file name of each of the cats that RESULTS.md speaks of.
PUBLISHED = Path(__file__).with_name("published_split.txt")

#: Shares of train, val and test of labels that come without a split.
SHARES = (0.8, 0.1, 0.1)


Split = tuple[int | float | None, int | float | None, int | float | None]


def parse_split(words: Sequence[str] | None) -> Split | None:
    """Train, val and test as a command line has them: numbers of images (int), shares (float) or the rest (None).

    Raises:
        InputError: not three, or one that is none of these.
    """
    if words is None:
        return None
    if len(words) != 3:
        raise InputError(f"--split {' '.join(words)}: give three values, for train, val and test; put SOURCE before it")
    train, val, test = map(_split_value, words)
    return train, val, test


def _split_value(text: str) -> int | float | None:
    if text == "rest":
        return None
    if text.isdecimal():
        return int(text)
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise InputError(f"--split: {text!r} is neither a number of images, a share from 0 to 1 nor 'rest'")
    return share


def default_sizes(n_images: int, n_withheld: int) -> tuple[int, int, int]:
    """Sizes of train, val and test that fit a release: test holds the images whose keypoints are withheld, or a tenth
    where none are, and val a ninth of the others. The cats of Animal-Pose come to the published 1000, 124, 200."""
    test = n_withheld or max(n_images // 10, int(n_images > 2))
    val = max((n_images - test) // 9, int(n_images - test > 1))
    return n_images - test - val, val, test


def resolve_sizes(split: Sequence[float | None], n_images: int) -> tuple[int, int, int]:
    """The sizes of train, val and test.

    Args:
        split: for each a number of images (int) or a share of them (float); None is the rest.
        n_images: to be shared out.

    Raises:
        InputError: where they don't add up to the number of images, or to 1; the text says what would.
    """
    sizes = list(split)
    if any(isinstance(size, float) for size in split) or (None not in split and sum(split) == 1 < n_images):  # type: ignore[arg-type]
        sizes = _of_shares(split, n_images)
    fixed = sum(int(size) for size in sizes if size is not None)
    free = sizes.count(None)
    if free > 1 or fixed > n_images or (free == 0 and fixed != n_images):
        train, _, test = (0 if size is None else int(size) for size in sizes)
        if not 0 < n_images - train - test < train:
            train, _, test = default_sizes(n_images, 0)
        raise InputError(
            f"--split {_shown(split)}: {'only one can be the rest' if free > 1 else f'adds up to {fixed}'}, "
            f"but there are {n_images} images; --split {train} {n_images - train - test} {test} would fit"
        )
    train, val, test = (n_images - fixed if size is None else int(size) for size in sizes)
    return train, val, test


def _of_shares(split: Sequence[float | None], n_images: int) -> list[float | None]:
    total = sum(share for share in split if share is not None)
    counts = any(share is not None and share > 1 for share in split)
    if counts or split.count(None) > 1 or total > 1 + 1e-6 or (None not in split and total < 1 - 1e-6):
        what = "mixes shares with numbers of images" if counts else f"adds up to {total:g}, not to 1"
        what = "only one can be the rest" if split.count(None) > 1 else what
        raise InputError(f"--split {_shown(split)}: {what}; --split 0.8 0.1 0.1 would do, or --split 0.8 rest 0.1")
    train, *others = [1 - total if share is None else share for share in split]
    sizes = [max(round(n_images * share), int(share > 0)) for share in others]
    if train < 1e-6:
        sizes[0] = n_images - sizes[1]  # what rounding leaves
    else:
        while sum(sizes) >= n_images and max(sizes) > 1:  # or training would have none
            sizes[sizes.index(max(sizes))] -= 1
    if train >= 1e-6 and sum(sizes) >= n_images:
        raise InputError(f"--split {_shown(split)}: {n_images} images are too few for it; give numbers of images")
    return [n_images - sum(sizes), *sizes]


def _shown(split: Sequence[float | None]) -> str:
    return " ".join("rest" if size is None else f"{size:g}" for size in split)


def draw_split(
    file_names: Mapping[int, str],
    copy_of: Mapping[int, int],
    sizes: tuple[int, int, int],
    seed: int | str,
    test: frozenset[int],
    whole: bool = False,
) -> dict[str, list[int]]:
    """Which image goes to which split.

    Images are drawn in the order of SHA-256("SEED/FILE NAME"): the same on every machine and for every version of
    numpy, whatever their order in the file. Copies of one picture are drawn together, or a release that holds a
    picture twice would be trained on what it is scored on; where one of them is given as a test image, the others go
    to val rather than train.

    Args:
        file_names: by image id.
        copy_of: by image id, one of the images that show the same picture; the same one for all of them.
        sizes: of train, val and test; their sum is the number of images.
        seed: of the order.
        test: images that go to the test split before any other.
        whole: whether groups of copies are never torn, and val and test may have fewer images, or more where the
            first group is larger, than their sizes; else one is torn where the sizes ask for it.

    Returns:
        for each split, its image ids in rising order.
    """
    order = sorted(file_names, key=lambda id_: hashlib.sha256(f"{seed}/{file_names[id_]}".encode()).digest())
    named = [id_ for id_ in order if id_ in test][: sizes[2]]
    groups: dict[int, list[int]] = {copy_of[id_]: [] for id_ in named}  # first of all the copies of test images
    for id_ in order:
        groups.setdefault(copy_of[id_], [])
        if id_ not in named:
            groups[copy_of[id_]].append(id_)
    drawn, left = _take([group for group in groups.values() if group], sizes[2] - len(named), whole)
    val, left = _take(left, sizes[1], whole)
    if whole and sizes[1] and not val and not named:  # too few groups for three splits: training needs val, not test
        val, drawn = drawn, []
    return {"train": sorted(id_ for group in left for id_ in group), "val": sorted(val), "test": sorted(named + drawn)}


def _take(groups: list[list[int]], size: int, whole: bool) -> tuple[list[int], list[list[int]]]:
    """Whole groups in their order until `size` is reached, and those left; only the last is torn, if need be, or where
    they are to stay `whole` none, and of groups all larger than `size` the smallest is taken."""
    taken: list[int] = []
    left = []
    for group in groups:
        if len(taken) + len(group) <= size:
            taken += group
        else:
            left.append(group)
    if whole:
        if size and not taken and len(left) > 1:
            taken = min(left, key=len)
            left = [group for group in left if group is not taken]
        return taken, left
    while len(taken) < size:
        taken.append(left[0].pop())
        left = [group for group in left if group]
    return taken, left


def published_split(file_names: Mapping[int, str]) -> dict[str, list[int]]:
    """The image ids of each split of RESULTS.md, whose test keypoints are withheld.

    Args:
        file_names: by image id, of the cats of Animal-Pose.

    Raises:
        InputError: they are not the 1324 of the release.
    """
    lines = PUBLISHED.read_text(encoding="utf-8").splitlines()
    split_of = {name: split for split, _, name in (line.partition(" ") for line in lines if not line.startswith("#"))}
    unlike = sorted(split_of.keys() ^ set(file_names.values()))
    if unlike:
        raise InputError(
            f"--split published: is of the {len(split_of)} cats of Animal-Pose; here and not there, or the other way"
            f" round: {counted(len(unlike), 'picture')}, '{unlike[0]}' for one; take the release whole, --species cat"
        )
    return {name: sorted(id_ for id_, file in file_names.items() if split_of[file] == name) for name in SPLITS}


def keep_together(copy_of: Mapping[int, int], origin: Mapping[int, str]) -> dict[int, int]:
    """For each image one that it must share a split with: copies of one picture, and images of one origin, over any
    number of steps.

    Args:
        copy_of: as of `draw_split`.
        origin: by image id, the video or picture that it was made from, where that is known.
    """
    groups = Groups(copy_of)
    first: dict[str, int] = {}
    for id_, name in origin.items():
        groups.join(id_, first.setdefault(name, id_))
    return {id_: groups.of(id_) for id_ in copy_of}


def torn_groups(split: Mapping[str, Sequence[int]], origin: Mapping[int, str]) -> list[str]:
    """The videos or pictures from which images in several splits were made."""
    places: dict[str, set[str]] = {}
    for name, ids in split.items():
        for id_ in ids:
            if id_ in origin:
                places.setdefault(origin[id_], set()).add(name)
    return [name for name, splits in places.items() if len(splits) > 1]


def read_test_ids(file: Path, file_names: Mapping[int, str]) -> frozenset[int]:
    """The images that a list names: a text file with an id or a file name in each line, a JSON list of them, or a
    COCO file such as a published `test_info.json`, whose images are taken by their file names.

    Raises:
        InputError: where the file can't be read, or names an image that is not there.
    """
    if file.suffix == ".json":
        listed = read_json(file)
        if isinstance(listed, dict):
            listed = listed.get("images")
            if isinstance(listed, list):
                listed = [image.get("file_name") if isinstance(image, dict) else None for image in listed]
        if not isinstance(listed, list) or not all(isinstance(item, (str, int)) for item in listed):
            raise InputError(f"{file}: is neither a list of image ids or file names nor a COCO file with 'images'")
    else:
        try:
            listed = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: can't be read as a list of test images ({error})") from None
        listed = [line for line in listed if line and not line.startswith("#")]
    known = {str(id_): id_ for id_ in file_names} | {name: id_ for id_, name in file_names.items()}
    unknown = [str(item) for item in listed if str(item) not in known]
    if unknown or not listed:
        what = f"{unknown[0]!r} is none of the {len(file_names)} images" if unknown else "names no image"
        raise InputError(f"{file}: {what}{_more(unknown)}; list image ids or file names of this source")
    return frozenset(known[str(item)] for item in listed)


def _more(items: Sequence[object]) -> str:
    return f" (and {len(items) - 1} more)" if len(items) > 1 else ""
