"""Skeletons other than AP-10K's, for tests of all that once knew the 17 only."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np

from catpose.score import oks
from catpose.skeleton import AP10K, Skeleton, skeleton_of

KEYPOINTS, FLIP, LIMBS, SIGMAS, N_KEYPOINTS = AP10K.names, AP10K.flip, AP10K.limbs, AP10K.sigmas, len(AP10K)
SIGMA_ARRAY = np.array(SIGMAS)
similarity, oks_nms, oks_to_unlabelled = (
    partial(function, sigmas=SIGMA_ARRAY) for function in (oks.similarity, oks.oks_nms, oks.oks_to_unlabelled)
)

#: 12 of the 17: legs alone.
LEGS = skeleton_of(AP10K.names[5:], name="legs")
#: A cat's head, one of its keypoints known to AP-10K by another name.
HEAD = skeleton_of(
    ("left_ear", "right_ear", "left_eye", "right_eye", "nose", "chin"),
    limbs=[(0, 2), (1, 3), (2, 4), (3, 4), (4, 5)],
    name="head",
)
#: As in Animal-Pose (Cao et al., ICCV 2019), in its order.
ANIMAL_POSE = skeleton_of(
    (
        *("left_eye", "right_eye", "left_ear", "right_ear", "nose", "throat", "tailbase", "withers"),
        *("left_front_elbow", "right_front_elbow", "left_back_elbow", "right_back_elbow"),
        *("left_front_knee", "right_front_knee", "left_back_knee", "right_back_knee"),
        *("left_front_paw", "right_front_paw", "left_back_paw", "right_back_paw"),
    ),
    name="Animal-Pose",
)
OTHERS = {"legs": LEGS, "head": HEAD, "Animal-Pose": ANIMAL_POSE}

#: Which of AP-10K's keypoints another name stands for, and how many px above it.
_STANDS_FOR = {
    "left_ear": ("left_eye", 3),
    "right_ear": ("right_eye", 3),
    "chin": ("nose", -2),
    "throat": ("neck", 0),
    "withers": ("neck", 4),
    "tailbase": ("root_of_tail", 0),
    **{f"{side}_front_elbow": (f"{side}_shoulder", 0) for side in ("left", "right")},
    **{f"{side}_front_knee": (f"{side}_elbow", 0) for side in ("left", "right")},
    **{f"{side}_back_elbow": (f"{side}_hip", 0) for side in ("left", "right")},
    **{f"{side}_back_knee": (f"{side}_knee", 0) for side in ("left", "right")},
}


def relabelled(root: Path, target: Path, skeleton: Skeleton) -> Path:
    """The synthetic cats of a folder with the keypoints of another skeleton, in a folder of its own."""
    (target / "annotations").mkdir(parents=True)
    (target / "images").symlink_to(root / "images")
    for file in (root / "annotations").glob("*.json"):
        coco = json.loads(file.read_text())
        coco["categories"][0]["keypoints"] = list(skeleton.names)
        coco["categories"][0]["skeleton"] = [[a + 1, b + 1] for a, b in skeleton.limbs]
        for annotation in coco["annotations"]:
            triples = []
            for name in skeleton.names:
                known, above = _STANDS_FOR.get(name, (name, 0))
                x, y, v = annotation["keypoints"][3 * KEYPOINTS.index(known) :][:3]
                triples += [x, y - above, v] if v else [0, 0, 0]
            annotation |= {"keypoints": triples, "num_keypoints": sum(v > 0 for v in triples[2::3])}
        (target / "annotations" / file.name).write_text(json.dumps(coco))
    return target
