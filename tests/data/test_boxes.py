"""Files of boxes for pictures: each box goes to the picture that is meant, or is refused or counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from catpose.data.boxes import read_boxes
from catpose.data.coco_split import Image
from catpose.errors import InputError

IMAGES = [Image(i, name, Path("photos") / name, 96, 80) for i, name in ((3, "a/1.png"), (4, "a/2.png"), (9, "3.png"))]
BOX = {"image_id": 3, "file_name": "1.png", "bbox": [4, 6, 60, 70], "score": 0.5}
LISTED = {"id": 1, "file_name": "1.png", "width": 96, "height": 80}


def places(folder: Path, content: object, named_only: bool = False) -> tuple[list[int], int]:
    """The places of the pictures that a file's boxes went to, and how many went nowhere."""
    (folder / "boxes.json").write_text(json.dumps(content))
    boxes, others = read_boxes(folder / "boxes.json", IMAGES, named_only)
    return boxes.image_index.tolist(), others


def coco(*images: dict[str, Any], **entry: Any) -> dict[str, Any]:
    """A COCO file with a box on each of its images."""
    boxes = [{"image_id": image["id"], "bbox": [4, 6, 60, 70]} | entry for image in images]
    return {"images": list(images), "annotations": boxes}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([BOX | {"bbox": [96, 6, 60, 70]}], "entry 0.*outside of its 96 × 80 px"),
        ([BOX, BOX | {"bbox": [4, -80, 60, 70]}], "entry 1.*outside"),
        ([BOX | {"bbox": [0.1, 0.1, 0.5, 0.9]}], "entry 0.*parts of the picture"),
        ([BOX | {"iscrowd": "0"}], "entry 0.*iscrowd.*give 0 or 1"),
        *(
            ([BOX | {"file_name": None, "image_id": id_}], "entry 0.*image_id.*whole number")
            for id_ in ("3", 3.0, True, None, [3])
        ),
        (coco(LISTED, LISTED | {"file_name": "2.png"}), "1 is there twice"),
        (coco(LISTED | {"id": "1"}), "images: 'id' is '1'"),
        (coco(LISTED | {"width": 960, "height": 800}), "image 1 is 960 × 800 px there.*96 × 80"),
        (coco(LISTED | {"width": 80, "height": 96}), "upright picture"),
        (coco(LISTED, image_id="1"), "entry 0.*without quotes"),
        ({"images": {"1": "1.png"}, "annotations": [BOX]}, "list of id and file_name"),
    ],
)
def test_boxes_that_would_be_predicted_wrongly_or_lost_are_one_line(content: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"boxes.json: .*{said}") as error:
        places(tmp_path, content)
    assert "\n" not in str(error.value)


def test_a_picture_is_found_by_its_name_or_by_a_last_part_that_tells(tmp_path: Path) -> None:
    """Of two pictures of one last part in the file neither may be taken for the one that is here."""
    one, other = LISTED | {"file_name": "x/1.png"}, LISTED | {"id": 2, "file_name": "y/1.png"}
    third = LISTED | {"id": 5, "file_name": "z\\3.png", "width": None}
    assert places(tmp_path, coco(one, third)) == ([0, 2], 0)
    assert places(tmp_path, coco(one, other, third)) == ([2], 2)
    assert places(tmp_path, coco(other, one | {"file_name": "a/1.png"}, third)) == ([0, 2], 1)
    results = [BOX | {"file_name": image["file_name"]} for image in (one, other, third)]
    assert places(tmp_path, results) == ([2], 2)


def test_numbers_that_only_one_side_knows_are_no_names(tmp_path: Path) -> None:
    nameless = [{key: value for key, value in BOX.items() if key != "file_name"}, BOX | {"file_name": "3.png"}]
    assert places(tmp_path, nameless) == ([0, 2], 0)
    assert places(tmp_path, nameless, named_only=True) == ([2], 1)
    with pytest.raises(InputError, match=r"no box for any .* file_name"):
        places(tmp_path, nameless[:1], named_only=True)
