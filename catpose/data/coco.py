"""Reading the one data format: COCO keypoint JSON beside a folder of images.

ROOT/annotations/{train,val,test}.json and ROOT/images/; a `test_info.json` holds images and boxes without keypoints
and serves prediction only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from catpose.data.coco_split import CocoSplit, Image
from catpose.data.finding import Finding, refuse_errors
from catpose.data.layout import BOXES_ONLY, split_file
from catpose.data.skeletons import stated_in
from catpose.data.structure import Entries, examine
from catpose.data.values import is_number
from catpose.data.whole import WHOLE, whole_faults
from catpose.files import read_json
from catpose.instances import AreaRule, Instances
from catpose.skeleton import AP10K, Skeleton

DEFAULT_ROOT = "data/cats"


def read_split(root: str | Path, split: str, area: AreaRule = "box") -> CocoSplit:
    """ROOT/annotations/SPLIT.json, checked; `test` falls back to test_info.json where there is no test.json.

    Raises:
        InputError: where the folder or the file is missing, or as `read_coco`.
    """
    return read_coco(split_file(root, split), Path(root) / "images", area=area)


def read_skeleton(root: str | Path) -> Skeleton:
    """The keypoints of a data folder, by its val.json; AP-10K's where there is none yet.

    Raises:
        InputError: the file, or skeleton.yaml beside it, can't be read.
    """
    file = Path(root) / "annotations" / "val.json"
    return examine_file(file, Path(root) / "images")[0].skeleton if file.exists() else AP10K


def read_coco(
    annotation_file: str | Path, image_dir: str | Path, *, labels: bool = True, area: AreaRule = "box",
    content: Any = None,
) -> CocoSplit:  # fmt: skip
    """A COCO keypoint file, held against every rule of `catpose.data.structure`; pictures are not opened.

    Args:
        annotation_file: COCO keypoint JSON whose used categories list the keypoints in order. Where no annotation
            has `keypoints` it is a file of boxes: `has_keypoints` is False and all visibility 0.
        image_dir: the folder that `file_name` is relative to.
        labels: False to read it as a file of boxes, whatever its keypoints.
        area: where an instance's area comes from.
        content: what is in the file, where it has been read already.

    Raises:
        InputError: at the first error, in one line: file, annotation or image id, key, remedy.
    """
    file = Path(annotation_file)
    split, findings = examine_file(file, Path(image_dir), labels=labels, area=area, content=content)
    refuse_errors(findings, file, listed_by="python -m catpose.check")
    return split


def examine_file(
    file: Path, image_dir: Path, *, labels: bool = True, area: AreaRule = "box", content: Any = None
) -> tuple[CocoSplit, list[Finding]]:
    """The entries of a COCO keypoint file that keep all rules, and what was found wrong with the others.

    Raises:
        InputError: where it can't be read or is no JSON.
    """
    coco = read_json(file) if content is None else content
    labels = labels and file.stem != BOXES_ONLY
    stated = stated_in(file.parent.parent)
    entries, findings = examine(coco, file.stem, labels=labels, area=area, stated=stated)
    split = _as_arrays(file, coco if isinstance(coco, dict) else {}, entries, image_dir, area)
    whole = [Finding(each.kind, each.severity, file.stem, WHOLE, each.message) for each in whole_faults(split)]
    return split, findings + whole


def _as_arrays(file: Path, coco: dict[str, Any], entries: Entries, image_dir: Path, area: AreaRule) -> CocoSplit:
    sound = coco | {key: list(getattr(entries, key).values()) for key in ("images", "annotations", "categories")}
    instances = Instances.from_coco(sound, area, entries.skeleton)
    stated = (entries.annotations[id_].get("area") for id_ in instances.ids.tolist())
    return CocoSplit(
        **vars(instances),
        file=file,
        coco=sound,
        images=tuple(
            Image(id_, entry["file_name"], image_dir / entry["file_name"], int(entry["width"]), int(entry["height"]))
            for id_, entry in sorted(entries.images.items())
        ),
        stated_areas=np.array([value if is_number(value) else np.nan for value in stated], dtype=np.float64),
        has_keypoints=entries.has_keypoints,
    )
