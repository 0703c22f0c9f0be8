"""Files for labelling tools: what these read from them is what was written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from skeletons import HEAD

from catpose.data.coco_split import Image
from catpose.data.importers.coco import read_coco_labels
from catpose.data.labelling import Pose, tool_files
from catpose.skeleton import AP10K, Skeleton

WIDTH, HEIGHT = 97, 83
place = st.floats(0, 80)
CATEGORIES = ("cat", "big cat")
poses = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2**30), st.sampled_from(CATEGORIES)), max_size=5)


def made(skeleton: Skeleton, image_id: int, seed: int, category: str) -> Pose:
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.uniform(0, 80, (len(skeleton), 2)), rng.integers(0, 3, len(skeleton))])
    return Pose(image_id, (1.5, 2.5, 40.125, 30.0), points, category, 0.5)


@given(drawn=poses, skeleton=st.sampled_from([AP10K, HEAD]))
def test_both_tools_read_the_same_poses(drawn: list[tuple[int, int, str]], skeleton: Skeleton, tmp_path: Path) -> None:
    images = [Image(i, f"{i}.png", Path(f"{i}.png"), WIDTH, HEIGHT) for i in (1, 2, 3)]
    wanted = [made(skeleton, *each) for each in drawn]
    files = tool_files(images, wanted, skeleton)
    of_cvat, of_label_studio = json.loads(files["cvat.json"]), json.loads(files["label_studio.json"])
    assert len(of_cvat["images"]) == len(of_label_studio["images"]) == 3
    tasks = as_label_studio_reads(of_label_studio)
    called = {entry["id"]: entry["name"] for entry in of_cvat["categories"]}
    for entry, pose in zip(of_cvat["annotations"], wanted, strict=True):
        assert called[entry["category_id"]] == pose.category
        assert (pose.category, 1.5, 2.5, False) in tasks[pose.image_id]
        labelled = pose.points[:, 2] > 0
        points = np.array(entry["keypoints"]).reshape(-1, 3)
        assert np.array_equal(points[:, 2], pose.points[:, 2])
        assert np.abs(points - pose.points)[labelled].max(initial=0) <= 0.005 + 1e-9
        assert (points[~labelled] == 0).all()
        for name, (x, y, v) in zip(skeleton.names, points.tolist(), strict=True):
            assert ((name, round(x, 2), round(y, 2), v < 2) in tasks[pose.image_id]) == bool(v)
    n = sum(int((pose.points[:, 2] > 0).sum()) for pose in wanted)
    assert sum(name not in CATEGORIES for task in tasks.values() for name, *_ in task) == n
    if n:
        (tmp_path / "cvat.json").write_bytes(files["cvat.json"])
        labels = read_coco_labels(tmp_path / "cvat.json")
        assert labels.keypoints == {pose.category: skeleton.names for pose in wanted if (pose.points[:, 2] > 0).any()}


def as_label_studio_reads(coco: dict) -> dict[int, list[tuple[str, float, float, bool]]]:
    """By image the labels that its converter makes: each keypoint under its category's name, at per cent of the
    picture; a box needs a score."""
    names = {int(entry["id"]): entry["name"] for entry in coco["categories"]}
    images = {entry["id"]: entry for entry in coco["images"]}
    tasks: dict[int, list[tuple[str, float, float, bool]]] = {id_: [] for id_ in images}
    for entry in coco["annotations"]:
        image, name = images[entry["image_id"]], names[int(entry["category_id"])]
        if "bbox" in entry:
            assert 0 <= entry["score"] <= 1
            tasks[entry["image_id"]].append((name, *entry["bbox"][:2], False))
        for x, y, v in zip(*[iter(entry.get("keypoints", ()))] * 3, strict=True):
            x, y = x / image["width"] * 100, y / image["height"] * 100
            x, y = round(x * image["width"] / 100, 2), round(y * image["height"] / 100, 2)
            tasks[entry["image_id"]].append((name, x, y, v < 2))
    return tasks
