"""Pictures with an EXIF orientation: labels belong to the upright picture, but some tools label the stored pixels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from catpose.data.coco_split import CocoSplit, Image
from catpose.data.finding import Finding
from catpose.data.header import read_header
from catpose.data.inversions import facing, mirrored_face
from catpose.data.whole import FEW, Labels, paws_away, sure_of
from catpose.errors import InputError
from catpose.machine import usable_cores
from catpose.text import counted

#: How a direction in the stored pixels goes in the upright picture, by orientation.
_TURNS = {
    2: ((-1, 0), (0, 1)),
    3: ((-1, 0), (0, -1)),
    4: ((1, 0), (0, -1)),
    5: ((0, 1), (1, 0)),
    6: ((0, -1), (1, 0)),
    7: ((0, -1), (-1, 0)),
    8: ((0, 1), (-1, 0)),
}


def orientations(images: Sequence[Image]) -> list[int]:
    """EXIF's orientation of each picture, 1 where it can't be read; only headers are."""
    some = [images[start : start + 64] for start in range(0, len(images), 64)]  # a thread's turn costs more than one
    with ThreadPoolExecutor(min(8, usable_cores())) as threads:
        return [each for found in threads.map(lambda part: [*map(_orientation, part)], some) for each in found]


def _orientation(image: Image) -> int:
    try:
        with image.path.open("rb") as file:
            return read_header(file).orientation
    except (InputError, OSError):
        return 1


def turned_findings(splits: dict[str, CocoSplit]) -> Iterator[Finding]:
    """One finding on all pictures with an EXIF orientation: an error if their labels fit the stored pixels alone."""
    tags = {name: np.array(orientations(split.images), dtype=np.int64) for name, split in splits.items()}
    counts = Counter(tag for each in tags.values() for tag in each.tolist() if tag != 1)
    if not counts:
        return
    names = [name for name, each in tags.items() if (each != 1).any()]
    first = next((name, int(np.flatnonzero(tags[name] != 1)[0])) for name in names)
    picture = splits[first[0]].images[first[1]]
    what = ", ".join(f"{n} of {tag}" for tag, n in sorted(counts.items()))
    message = (
        f"EXIF orientation in {counted(counts.total(), 'picture')} ({what}; {picture.file_name} for one); labels must"
        " belong to the upright picture"
    )
    evidence = _evidence(splits, tags)
    severity, more = ("error", f", but {evidence}") if evidence else ("warning", ", not to the stored pixels")
    yield Finding("EXIF orientation", severity, "+".join(names), f"image {picture.id}", message + more)  # type: ignore[arg-type]


def _evidence(splits: dict[str, CocoSplit], tags: dict[str, np.ndarray]) -> str:
    """Evidence that the labels belong to the stored pixels, as text; empty without any."""
    by_tag: dict[int, list[np.ndarray]] = defaultdict(list)
    seen, mirrored = 0, 0
    for name, split in splits.items():
        labels = Labels.of(split)
        tag = tags[name][labels.images]
        for each in np.unique(tag[tag != 1]).tolist():
            by_tag[each].append(labels.body[tag == each])
        faces = facing(labels.body_visibility) & (tag == 2)
        seen += int(faces.sum())
        mirrored += int((faces & mirrored_face(labels.body)).sum())
    if seen >= FEW and mirrored >= 0.8 * seen:
        return f"in {mirrored} of {seen} mirrored ones left and right eye are on the wrong sides: mirror the labels"
    away = [(tag, paws_away(np.concatenate(points))) for tag, points in by_tag.items()]
    as_it_is = np.concatenate([way for _, way in away])
    upright = np.concatenate([way @ np.array(_TURNS[tag]).T for tag, way in away])
    if len(as_it_is) >= FEW and as_it_is[:, 1].mean() < 0.2 and upright[:, 1].mean() > sure_of(len(upright)):
        return f"over {len(upright)} animals the paws lie below the body in the stored pixels alone: turn the labels"
    return ""
