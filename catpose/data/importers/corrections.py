"""Corrected labels of a labelling tool brought back onto a data folder: only what was changed changes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from catpose.data.checks import all_findings
from catpose.data.coco import read_coco
from catpose.data.coco_split import CocoSplit, split_hash
from catpose.data.copies import RECORD
from catpose.data.finding import Finding
from catpose.data.importers.labels import Animal, Labels, Picture
from catpose.data.importers.names import match_keypoints
from catpose.data.importers.pictures import PictureFinder
from catpose.data.importers.release import around, is_tight
from catpose.data.importers.unpack import scratch
from catpose.data.layout import BOXES_ONLY, annotation_files
from catpose.data.skeletons import FILE
from catpose.data.whole import WHOLE
from catpose.errors import InputError, one_line
from catpose.files import atomic_write, read_json
from catpose.naming import in_words
from catpose.skeleton import AP10K, Skeleton
from catpose.text import counted

#: What tools round places to (px): CVAT to hundredths, Label Studio to whole ones, which shows in all its places.
FINE, COARSE = 0.01, 0.5
_LEAST = 0.1  # overlap from which two poses may be of one animal
Triple = tuple[float, float, int]
Pose = Sequence[Triple | None]


@dataclass
class Corrections:
    """What a tool's labels change in a data folder."""

    contents: dict[Path, dict[str, Any]] = field(default_factory=dict)  # of the annotation files that change
    changes: list[str] = field(default_factory=list)  # a line for each animal that changes
    notes: list[str] = field(default_factory=list)
    n_pictures: int = 0  # that came back
    n_same: int = 0  # animals that came back as they were


def find_corrections(labels: Labels, root: Path) -> Corrections:
    """Hold a tool's labels against those of the pictures of the same names in ROOT/images.

    Of a picture that came back the animals are paired with those that are there. A place counts as changed where it
    differs by more than the tool rounds; what a tool doesn't say (hidden or seen, boxes) stays. An animal that is gone
    is removed, one more is added. Pictures that come back without any animal keep theirs.

    Args:
        labels: of an importer; their pictures needn't come along.
        root: a data folder.

    Raises:
        InputError: a folder with errors in its annotation files, none of its pictures, keypoints of other names.
    """
    finder = PictureFinder([root / "images"])
    found = Corrections()
    came_back: dict[Path, Picture] = {}
    strangers = []
    for picture in labels.pictures:
        path = finder.find(picture.name, picture.labels)
        if path is None:
            strangers.append(picture.name)
        else:
            merged = came_back.setdefault(path, Picture(picture.name, picture.labels))
            merged.animals += [animal for animal in picture.animals if any(v for _, _, v in animal.points)]
            merged.rectangles += picture.rectangles
    if not came_back:
        raise InputError(
            f"{labels.files[0]}: none of its {len(labels.pictures)} pictures is in {root / 'images'}; --onto takes"
            " labels of the folder's own pictures"
        )
    if strangers:
        which = f"{counted(len(strangers), 'picture')}, '{one_line(strangers[0])[:100]}' for one"
        found.notes.append(f"left out, since {root} has no such: {which}")
    files = [file for file in annotation_files(root)[0] if file.stem != BOXES_ONLY]
    empty = mixed = 0
    for file in files:
        content = read_json(file)
        split = read_coco(file, root / "images", content=content)
        editor = _Editor(labels, split, content, found)
        for image in split.images:
            back = came_back.get(image.path)
            several = ((split.image_id == image.id) & ~split.ignored).sum() > 1
            if back is not None and back.animals and labels.one_a_picture and several:
                mixed += 1
            elif back is not None and back.animals:
                found.n_pictures += 1
                editor.picture(image.id, image.file_name, back)
            empty += back is not None and not back.animals
        if editor.changed:
            found.contents[file] = editor.content
    if mixed:
        found.notes.append(
            f"left as before: {counted(mixed, 'picture')} with several animals, since Label Studio's COCO export makes"
            " one animal of all keypoints of a picture"
        )
    if empty:
        found.notes.append(f"left as before: {counted(empty, 'picture')} that came back without an animal")
    return found


def apply_corrections(found: Corrections, root: Path, source: Path, digest: str) -> None:
    """Write the annotation files that change, and split.json with their hashes.

    Args:
        source: the export, for messages.
        digest: SHA-256 of its labels, which the record keeps.

    Raises:
        InputError: `check` would find an error that isn't there now, or warn of a file as a whole, which a few
            corrections don't change; nothing is written.
    """
    before = set(map(_grave, all_findings(root)))
    with scratch(root) as folder:
        (folder / "annotations").mkdir()
        (folder / "images").symlink_to((root / "images").absolute())
        for file in annotation_files(root)[0]:
            text = json.dumps(found.contents[file]) if file in found.contents else file.read_text(encoding="utf-8")
            (folder / "annotations" / file.name).write_text(text, encoding="utf-8")
        for name in (FILE, RECORD):
            if (root / name).is_file():
                (folder / name).write_bytes((root / name).read_bytes())
        for finding in all_findings(folder):
            if _grave(finding) and _grave(finding) not in before:
                raise InputError(
                    f"{source}: {finding.split}: {finding.where}: {finding.message}; correct it in the tool, nothing"
                    " was written"
                )
        hashes = {}
        for file in found.contents:
            written = read_coco(folder / "annotations" / file.name, root / "images")
            hashes[file.stem] = {"instances": len(written), "annotations_sha256": split_hash(written)}
    for file, content in found.contents.items():
        with atomic_write(file) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")
    if found.contents and (root / RECORD).is_file():
        record = read_json(root / RECORD)
        for name, values in hashes.items():
            record["splits"].setdefault(name, {}).update(values)
        record["request"]["corrections"] = [*record["request"].get("corrections", []), digest]
        with atomic_write(root / RECORD) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _grave(finding: Finding) -> tuple[str, str] | None:
    """What tells a finding from others, where it is one that corrections must not bring in."""
    if finding.where == WHOLE:
        return finding.split, finding.kind
    return (finding.split, finding.message) if finding.severity == "error" else None


class _Editor:
    """One annotation file's content, edited picture by picture."""

    def __init__(self, labels: Labels, split: CocoSplit, content: dict[str, Any], found: Corrections) -> None:
        self.content = content
        self.changed = False
        self._labels, self._split, self._found = labels, split, found
        self._entries = {entry["id"]: entry for entry in self.content["annotations"]}
        self._places = {name: _places(labels, name, split.skeleton) for name in labels.keypoints}
        self._rounding = _rounding(labels) + 1e-6

    def picture(self, image_id: int, name: str, back: Picture) -> None:
        split = self._split
        rows = np.flatnonzero((split.image_id == image_id) & ~split.ignored)
        old = [self._entries[int(id_)] for id_ in split.ids[rows]]
        new = [self._points(animal) for animal in back.animals]
        pairs = _pair([_triples(entry) for entry in old], new, self._rounding)
        for i, entry in enumerate(old):
            where = f"{name}: annotation {entry['id']}"
            if i not in pairs:
                self.content["annotations"].remove(entry)
                self._change(f"{where}: removed")
                continue
            changes = self._edit(entry, new[pairs[i]], _stated_box(back.animals[pairs[i]], back.rectangles))
            if changes:
                self._change(f"{where}: {', '.join(changes)}")
            else:
                self._found.n_same += 1
        for n in sorted(set(range(len(new))) - set(pairs.values())):
            self._add(image_id, name, back.animals[n], new[n], back.rectangles)

    def _change(self, line: str) -> None:
        self.changed = True
        self._found.changes.append(one_line(line))

    def _points(self, animal: Animal) -> list[Triple | None]:
        """Its keypoints in the folder's order; None for one that the tool doesn't have."""
        return [None if place is None else animal.points[place] for place in self._places[animal.category]]

    def _edit(self, entry: dict[str, Any], new: list[Triple | None], box: Sequence[float] | None) -> list[str]:
        changes = []
        names, points = self._split.skeleton.names, entry["keypoints"]
        for k, triple in enumerate(new):
            x, y, v = points[3 * k : 3 * k + 3]
            if triple is None:
                continue
            if not v or not triple[2]:
                if bool(v) != bool(triple[2]):
                    changes.append(f"{names[k]} {'removed' if v else 'added'}")
                    points[3 * k : 3 * k + 3] = triple
                continue
            if max(abs(triple[0] - x), abs(triple[1] - y)) > self._rounding:
                changes.append(f"{names[k]} moved {np.hypot(triple[0] - x, triple[1] - y):.1f} px")
                points[3 * k : 3 * k + 2] = triple[:2]
            if triple[2] != v and not self._labels.only_seen:
                changes.append(f"{names[k]} now {'hidden' if triple[2] == 1 else 'visible'}")
                points[3 * k + 2] = triple[2]
        if box is not None and max(abs(a - b) for a, b in zip(box, entry["bbox"], strict=True)) > self._rounding:
            changes.append("box changed")
            entry["bbox"] = list(box)
            entry["area"] = box[2] * box[3]
        if changes:
            entry["num_keypoints"] = sum(v > 0 for v in points[2::3])
        return changes

    def _add(
        self, image_id: int, name: str, animal: Animal, points: list[Triple | None], rectangles: Sequence[Any]
    ) -> None:
        box = _stated_box(animal, rectangles) or animal.box
        categories = {entry["name"]: entry["id"] for entry in self.content["categories"]}
        category = categories.get(animal.category, next(iter(categories.values())) if len(categories) == 1 else None)
        if box is None or category is None:
            what = "has no box" if box is None else f"is of category '{one_line(animal.category)}', which isn't there"
            raise InputError(
                f"{self._labels.files[0]}: a new animal on {one_line(name)} {what}; correct it in the tool"
            )
        values = [value for triple in points for value in triple or (0, 0, 0)]
        id_ = max(self._entries, default=0) + 1
        self._entries[id_] = {
            "id": id_, "image_id": image_id, "category_id": category, "bbox": list(box), "area": box[2] * box[3],
            "iscrowd": 0, "num_keypoints": sum(v > 0 for v in values[2::3]), "keypoints": values,
        }  # fmt: skip
        self.content["annotations"].append(self._entries[id_])
        self._change(f"{name}: annotation {id_}: added")


def _places(labels: Labels, category: str, skeleton: Skeleton) -> tuple[int | None, ...]:
    """Where each keypoint of the folder's skeleton stands among a category's."""
    names = labels.keypoints[category]
    if skeleton.names == AP10K.names:
        return match_keypoints(names, labels.files[0]).places
    words = [in_words(name) for name in names]
    places = tuple(
        names.index(name) if name in names else words.index(in_words(name)) if in_words(name) in words else None
        for name in skeleton.names
    )
    if set(places) == {None}:
        raise InputError(f"{labels.files[0]}: none of its keypoints is one of the folder's; is it of these data?")
    return places


def _rounding(labels: Labels) -> float:
    """How far the tool's rounding moves a place, px."""
    values = [
        value
        for picture in labels.pictures
        for animal in picture.animals
        for x, y, v in animal.points
        if v
        for value in (x, y)
    ]
    return COARSE if all(value == round(value) for value in values) else FINE


def _triples(entry: dict[str, Any]) -> list[Triple | None]:
    values = entry["keypoints"]
    return [(values[k], values[k + 1], values[k + 2]) for k in range(0, len(values), 3)]


def _stated_box(animal: Animal, rectangles: Sequence[Any]) -> tuple[float, float, float, float] | None:
    """A box that a person drew; one that ends at the outermost keypoints the tool made."""
    return around(animal, rectangles) if animal.box is None or is_tight(animal) else animal.box


def _pair(
    old: Sequence[Sequence[Triple | None]], new: Sequence[Sequence[Triple | None]], near: float
) -> dict[int, int]:
    """Which of the new poses each of the old ones is: those with most places in common first, then by overlap."""
    scores = sorted(
        ((_likeness(a, b, near), i, j) for i, a in enumerate(old) for j, b in enumerate(new)),
        key=lambda score: (-score[0], score[1:]),
    )
    pairs: dict[int, int] = {}
    for score, i, j in scores:
        if score >= _LEAST and i not in pairs and j not in pairs.values():
            pairs[i] = j
    return pairs


def _likeness(a: Pose, b: Pose, near: float) -> float:
    """How many places both poses share, and how much their extents overlap (0..1)."""
    same = sum(
        bool(p and q and p[2] and q[2] and max(abs(p[0] - q[0]), abs(p[1] - q[1])) <= near)
        for p, q in zip(a, b, strict=True)
    )
    ends = []
    for pose in (a, b):
        places = np.array([triple[:2] for triple in pose if triple and triple[2]], dtype=np.float64).reshape(-1, 2)
        if not len(places):
            return 0.0
        ends.append((places.min(axis=0) - 1, places.max(axis=0) + 1))
    (low_a, high_a), (low_b, high_b) = ends
    common = float(np.prod(np.clip(np.minimum(high_a, high_b) - np.maximum(low_a, low_b), 0, None)))
    return same + common / float(np.prod(high_a - low_a) + np.prod(high_b - low_b) - common)
