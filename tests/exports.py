"""The same labels as labelling tools export them: their documented layouts, or files of their own libraries."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import made_up
import numpy as np
from skeletons import KEYPOINTS

WIDTH, HEIGHT = 96, 80


@dataclass(frozen=True)
class Cat:
    """A labelled cat on picture `image` (from 0), in AP-10K's order."""

    image: int
    points: np.ndarray  # (17, 3): x, y, v; 0, 0, 0 where not labelled
    box: tuple[float, float, float, float]


def cats(n_images: int = 12, several: bool = True) -> list[Cat]:
    """A cat a picture, on every fourth two, with places of a hundredth px, hidden and unlabelled keypoints."""
    rng = np.random.default_rng(5)
    found = []
    for image in range(n_images):
        for box in ((4.0, 6.0, 60.0, 70.0), (50.0, 20.0, 44.0, 58.0))[: 2 if several and image % 4 == 3 else 1]:
            points = np.array(made_up.keypoints(list(box)), dtype=np.float64).reshape(17, 3)
            points[:, :2] += rng.uniform(-2, 2, (17, 2)).round(2)
            points[rng.permutation(17)[:3], 2] = 1
            points[rng.permutation(17)[:4]] = 0
            found.append(Cat(image, points.round(2), box))
    return found


def pictures(folder: Path, names: list[str]) -> None:
    for i, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), made_up.picture(i, WIDTH, HEIGHT))


def coco(
    labelled: list[Cat], names: list[str], images: list[int], first_id: int = 1, order: tuple[str, ...] = KEYPOINTS,
    category: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Images `images` of `names` with their cats; keypoints in `order`."""
    category = category or {"id": first_id, "name": "cat", "supercategory": ""}
    places = [KEYPOINTS.index(name) for name in order]
    chosen = [cat for cat in labelled if cat.image in images]
    return {
        "info": {"description": ""},
        "licenses": [{"id": 0, "name": "", "url": ""}],
        "categories": [category | {"keypoints": list(order), "skeleton": [[1, 2]]}],
        "images": [
            {"id": i + first_id, "file_name": names[i], "width": WIDTH, "height": HEIGHT, "license": 0} for i in images
        ],
        "annotations": [
            {
                "id": n + first_id,
                "image_id": cat.image + first_id,
                "category_id": category["id"],
                "segmentation": [],
                "area": cat.box[2] * cat.box[3],
                "bbox": list(cat.box),
                "iscrowd": 0,
                "num_keypoints": int((cat.points[:, 2] > 0).sum()),
                "keypoints": cat.points[places].ravel().tolist(),
            }
            for n, cat in enumerate(chosen)
        ],
    }


def write(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def cvat(folder: Path, labelled: list[Cat], n_images: int = 12) -> Path:
    """CVAT's "COCO Keypoints 1.0" by its documented layout: a file a subset, file names without the subset's folder."""
    subsets = {"Train": range(8), "Validation": range(8, 10), "test": range(10, n_images)}
    order = KEYPOINTS[::-1]  # the order in which the skeleton was drawn
    for subset, images in subsets.items():
        names = [f"frame_{i:06}.PNG" for i in range(n_images)]
        pictures(folder / "images" / subset, [name for i, name in enumerate(names)])
        for i, name in enumerate(names):
            if i not in images:
                (folder / "images" / subset / name).unlink()
        content = coco(labelled, names, list(images), order=order)
        # CVAT lists the points of a skeleton as categories too.
        content["categories"] += [{"id": 2 + k, "name": name, "supercategory": "cat"} for k, name in enumerate(order)]
        write(folder / "annotations" / f"person_keypoints_{subset}.json", content)
    return folder


def label_studio(folder: Path, labelled: list[Cat], n_images: int = 12) -> Path:
    """Label Studio's "COCO with images", as its converter (label-studio-sdk 2.1) writes it: ids from 0, the rectangle
    a category and an annotation of its own, keypoints in whole px with a box at the outermost of them, no area, one
    animal a picture."""
    names = [f"{i:08x}-cat {i}.png" for i in range(n_images)]
    pictures(folder / "images", names)
    annotations: list[dict[str, Any]] = []
    for cat in labelled:
        annotations.append(
            {
                "id": len(annotations), "image_id": cat.image, "category_id": 0, "segmentation": [],
                "bbox": list(cat.box), "ignore": 0, "iscrowd": 0, "area": cat.box[2] * cat.box[3],
            }
        )  # fmt: skip
        points = cat.points.round().astype(int)
        points[points[:, 2] > 0, 2] = 2
        seen = points[points[:, 2] > 0, :2]
        low, high = seen.min(axis=0), seen.max(axis=0)
        annotations.append(
            {
                "id": len(annotations), "image_id": cat.image, "category_id": 1, "keypoints": points.ravel().tolist(),
                "num_keypoints": len(seen), "bbox": [*low.tolist(), *(high - low).tolist()], "iscrowd": 0,
            }
        )  # fmt: skip
    content = {
        "images": [
            {"width": WIDTH, "height": HEIGHT, "id": i, "file_name": f"..\\..\\label-studio\\media\\images\\{name}"}
            for i, name in enumerate(names)
        ],
        "categories": [
            {"id": 0, "name": "cat"},
            {
                "id": 1, "name": "default", "supercategory": "default", "keypoints": [
                    name.replace("_", " ").title() for name in KEYPOINTS
                ], "skeleton": [],
            },
        ],
        "annotations": annotations,
        "info": {"year": 2026, "version": "1.0", "contributor": "Label Studio"},
    }  # fmt: skip
    write(folder / "result.json", content)
    return folder


def roboflow(folder: Path, labelled: list[Cat], n_images: int = 12) -> Path:
    """Roboflow's "COCO JSON" by its documented layout: a file beside the pictures of each split, a root category."""
    for split, images in {"train": range(8), "valid": range(8, 10), "test": range(10, n_images)}.items():
        names = [f"cat-{i}_png.rf.{i:032x}.png" for i in range(n_images)]
        pictures(folder / "whole", names)
        for i in images:
            (folder / split).mkdir(exist_ok=True, parents=True)
            shutil.move(folder / "whole" / names[i], folder / split / names[i])
        shutil.rmtree(folder / "whole")
        content = coco(labelled, names, list(images), 0, category={"id": 1, "name": "cat", "supercategory": "cats"})
        content["categories"].insert(0, {"id": 0, "name": "cats", "supercategory": "none"})
        write(folder / split / "_annotations.coco.json", content)
    (folder / "README.roboflow.txt").write_text("cats")
    return folder


def coco_annotator(folder: Path, labelled: list[Cat], n_images: int = 12) -> Path:
    """COCO Annotator's export by its documented layout: one JSON beside the pictures, with paths, colours and
    keypoints given by the viewer's own spelling."""
    names = [f"{i}.png" for i in range(n_images)]
    pictures(folder / "pics", names)
    content = coco(labelled, names, list(range(n_images)), 40)
    content["categories"][0] |= {"keypoints": [name.replace("_", "-").upper() for name in KEYPOINTS], "color": "#f00"}
    for image in content["images"]:
        image |= {"path": f"/datasets/cats/{image['file_name']}", "dataset_id": 3, "deleted": False}
    for annotation in content["annotations"]:
        annotation |= {"isbbox": False, "color": "#0f0", "area": 7, "iscrowd": False}
    write(folder / "cats-3.json", content)
    return folder


MMPOSE = [
    "L_Eye", "R_Eye", "L_EarBase", "R_EarBase", "Nose", "Throat", "TailBase", "Withers", "L_F_Elbow", "R_F_Elbow",
    "L_B_Elbow", "R_B_Elbow", "L_F_Knee", "R_F_Knee", "L_B_Knee", "R_B_Knee", "L_F_Paw", "R_F_Paw", "L_B_Paw",
    "R_B_Paw",
]  # fmt: skip
_OURS = [
    "left_eye", "right_eye", "", "", "nose", "neck", "root_of_tail", "", "left_shoulder", "right_shoulder",
    "left_hip", "right_hip", "left_elbow", "right_elbow", "left_knee", "right_knee", "left_front_paw",
    "right_front_paw", "left_back_paw", "right_back_paw",
]  # fmt: skip


def mmpose(folder: Path, labelled: list[Cat], n_images: int = 12) -> Path:
    """Animal-Pose in MMPose's layout: 20 keypoints of other words, train and val, pictures in folders a species."""
    names = [f"VOC2012/JPEGImages/{i}.png" for i in range(n_images)]
    pictures(folder / "images", names)
    for split, images in {"train": range(9), "val": range(9, n_images)}.items():
        content = coco(labelled, names, list(images), category={"id": 1, "name": "animal", "supercategory": "animal"})
        content["categories"][0]["keypoints"] = MMPOSE
        for annotation in content["annotations"]:
            points = np.array(annotation["keypoints"]).reshape(17, 3)
            theirs = [points[KEYPOINTS.index(name)] if name else np.array([5, 5, 2]) for name in _OURS]
            annotation |= {"keypoints": np.concatenate(theirs).tolist(), "num_keypoints": 20, "segmentation": [[1, 2]]}
        write(folder / "annotations" / f"animalpose_{split}.json", content)
    return folder


def _yolo_lines(labelled: list[Cat], image: int) -> str:
    lines = []
    for cat in labelled:
        if cat.image == image:
            x, y, width, height = cat.box
            values = [(x + width / 2) / WIDTH, (y + height / 2) / HEIGHT, width / WIDTH, height / HEIGHT]
            text = [f"{value:.6f}" for value in values]
            for x, y, v in cat.points:
                text += [f"{x / WIDTH:.6f}", f"{y / HEIGHT:.6f}", f"{v:.0f}"]
            lines.append(" ".join(["0", *text]))
    return "\n".join(lines)


def ultralytics(folder: Path, labelled: list[Cat], n_images: int = 12) -> Path:
    """Ultralytics' documented layout: images/SPLIT, labels/SPLIT, data.yaml with the keypoints' names."""
    for split, images in {"train": range(8), "val": range(8, n_images)}.items():
        for i in images:
            pictures(folder / "images" / split, [f"{k}.png" for k in range(i + 1)])
        for i in range(images.start):
            (folder / "images" / split / f"{i}.png").unlink()
        (folder / "labels" / split).mkdir(parents=True)
        for i in images:
            (folder / "labels" / split / f"{i}.txt").write_text(_yolo_lines(labelled, i))
    names = "\n".join(f"    - {name}" for name in KEYPOINTS)
    (folder / "data.yaml").write_text(
        "path: ../datasets/cats\ntrain: images/train\nval: images/val\nkpt_shape: [17, 3]\n"
        f"flip_idx: [1, 0]\nnames:\n  0: cat\nkpt_names:\n  0:\n{names}\n"
    )
    return folder


def label_studio_yolo(folder: Path, labelled: list[Cat], n_images: int = 12) -> Path:
    """Label Studio's "YOLO with images", as its converter (label-studio-sdk 2.1) writes it: notes.json in place of
    data.yaml, keypoints with all digits, seen or absent."""
    names = [f"{i:08x}-cat {i}.png" for i in range(n_images)]
    pictures(folder / "images", names)
    (folder / "labels").mkdir()
    for i, name in enumerate(names):
        lines = []
        for cat in labelled:
            if cat.image == i:
                x, y, width, height = cat.box
                values = [(x + width / 2) / WIDTH, (y + height / 2) / HEIGHT, width / WIDTH, height / HEIGHT]
                for x, y, v in cat.points.tolist():
                    values += [x / WIDTH, y / HEIGHT, 2] if v else [0.0, 0.0, 0]
                lines.append(" ".join(["0", *map(str, values)]))
        (folder / "labels" / name).with_suffix(".txt").write_text("\n".join(lines) + "\n")
    (folder / "classes.txt").write_text("cat\n")
    categories = [{"id": 0, "name": "cat", "keypoints": list(KEYPOINTS)}]
    write(folder / "notes.json", {"categories": categories, "info": {"version": "1.0", "contributor": "Label Studio"}})
    return folder


def cvat_yolo(folder: Path, labelled: list[Cat], n_images: int = 12) -> Path:
    """CVAT's "Ultralytics YOLO Pose 1.0" by its documented layout: lists of pictures, no keypoints' names."""
    ultralytics(folder, labelled, n_images)
    for split, images in {"train": range(8), "val": range(8, n_images)}.items():
        (folder / f"{split}.txt").write_text("\n".join(f"data/images/{split}/{i}.png" for i in images))
    (folder / "data.yaml").write_text("path: .\ntrain: train.txt\nval: val.txt\nkpt_shape: [17, 3]\nnames:\n  0: cat\n")
    return folder


def deeplabcut(folder: Path, labelled: list[Cat], n_images: int = 12) -> Path:
    """A DeepLabCut project of several animals by its documented layout: labeled-data/VIDEO, two videos, nan for what
    isn't labelled, a point that belongs to no animal."""
    for video, images in {"tom": range(6), "kitty": range(6, n_images)}.items():
        place = folder / "labeled-data" / video
        pictures(place, [f"img{i:03}.png" for i in range(images.stop)])
        for i in range(images.start):
            (place / f"img{i:03}.png").unlink()
        columns = [(animal, name) for animal in ("cat1", "cat2") for name in KEYPOINTS] + [("single", "bowl")]
        rows = [
            ["scorer", "", ""] + ["me"] * 2 * len(columns),
            ["individuals", "", ""] + [animal for animal, _ in columns for _ in "xy"],
            ["bodyparts", "", ""] + [name for _, name in columns for _ in "xy"],
            ["coords", "", ""] + ["x", "y"] * len(columns),
        ]
        for i in images:
            own = [cat for cat in labelled if cat.image == i]
            cells = ["labeled-data", video, f"img{i:03}.png"]
            for n in range(2):
                points = own[n].points if n < len(own) else np.zeros((17, 3))
                cells += [str(value) if v else "" for x, y, v in points for value in (x, y)]
            rows.append([*cells, "3.5", "4.5"])
        (place / "CollectedData_me.csv").write_text("\n".join(",".join(row) for row in rows) + "\n")
    (folder / "config.yaml").write_text("Task: cats\n")
    return folder


def sleap(folder: Path, labelled: list[Cat], n_images: int = 12, embed: bool = False) -> Path:
    """A project that sleap-io writes, of pictures beside it or with them in it."""
    import sleap_io

    names = [f"{i}.png" for i in range(n_images)]
    pictures(folder, names)
    skeleton = sleap_io.Skeleton(nodes=list(KEYPOINTS))
    video = sleap_io.Video.from_filename([str(folder / name) for name in names])
    frames = []
    for i in range(n_images):
        instances = []
        for cat in labelled:
            if cat.image == i:
                points = np.where(cat.points[:, 2:] > 0, cat.points[:, :2], np.nan)
                instance = sleap_io.Instance.from_numpy(points, skeleton=skeleton)
                instance.points["visible"] = cat.points[:, 2] == 2
                instances.append(instance)
        frames.append(sleap_io.LabeledFrame(video=video, frame_idx=i, instances=instances))
    file = folder / ("cats.pkg.slp" if embed else "cats.slp")
    sleap_io.Labels(frames).save(str(file), embed=embed)
    return file


def sleap_package(folder: Path, labelled: list[Cat], n_images: int = 12) -> Path:
    file = sleap(folder, labelled, n_images, embed=True)
    for i in range(n_images):
        (folder / f"{i}.png").unlink()
    return file


def zipped(folder: Path) -> Path:
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted(folder.rglob("*")):
            out.write(file, file.relative_to(folder))
    return archive
