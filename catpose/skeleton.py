"""The skeleton: AP-10K's 17 keypoints, their names, flip pairs, limbs and OKS sigmas.

Source: Yu et al., "AP-10K: A Benchmark for Animal Pose Estimation in the Wild", NeurIPS 2021 (names, order, sigmas).
"Left" and "right" are the animal's own.
"""

from __future__ import annotations

KEYPOINTS: tuple[str, ...] = (
    "left_eye",
    "right_eye",
    "nose",
    "neck",
    "root_of_tail",
    "left_shoulder",
    "left_elbow",
    "left_front_paw",
    "right_shoulder",
    "right_elbow",
    "right_front_paw",
    "left_hip",
    "left_knee",
    "left_back_paw",
    "right_hip",
    "right_knee",
    "right_back_paw",
)

N_KEYPOINTS = len(KEYPOINTS)

#: OKS falloff per keypoint, AP-10K's (unit: square root of the instance's area).
SIGMAS: tuple[float, ...] = (
    0.025, 0.025, 0.026, 0.035, 0.035,
    0.079, 0.072, 0.062, 0.079, 0.072, 0.062,
    0.107, 0.087, 0.089, 0.107, 0.087, 0.089,
)  # fmt: skip

#: FLIP[i] is the keypoint that stands where i stood once the picture is mirrored.
FLIP: tuple[int, ...] = tuple(
    KEYPOINTS.index(
        name.replace("left_", "right_", 1) if name.startswith("left_") else name.replace("right_", "left_", 1)
    )
    for name in KEYPOINTS
)

#: Pairs of keypoints joined by a line, 0-based.
LIMBS: tuple[tuple[int, int], ...] = (
    (0, 1), (0, 2), (1, 2), (2, 3), (3, 4),
    (3, 5), (5, 6), (6, 7), (3, 8), (8, 9), (9, 10),
    (4, 11), (11, 12), (12, 13), (4, 14), (14, 15), (15, 16),
)  # fmt: skip

#: The keypoints of the half-body transform: eyes, nose, neck and front legs; the lower ones are all others.
#: (MMPose's published AP-10K metadata counts the right front paw as lower, a slip that is not copied.)
UPPER_BODY: tuple[int, ...] = (0, 1, 2, 3, 5, 6, 7, 8, 9, 10)
LOWER_BODY: tuple[int, ...] = tuple(i for i in range(N_KEYPOINTS) if i not in UPPER_BODY)
