"""Left and right keypoints that look exchanged, by geometry alone.

Three signs, each true of nearly every sound label whatever the pose; the limits are set so that an animal with its
legs crossed passes more often than a swap is found. What they report is for a person to look at.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from catpose.data.skeletons import in_ap10k_order
from catpose.skeleton import AP10K, Skeleton, without_side

_LEFT_EYE, _RIGHT_EYE, _NOSE = AP10K.indices("left_eye", "right_eye", "nose")
_LEFT_SHOULDER, _LEFT_HIP = AP10K.indices("left_shoulder", "left_hip")

#: The leg segments that have a twin on the other side, by their left ends.
_SEGMENTS = tuple(
    AP10K.indices(upper, lower)
    for upper, lower in (
        ("left_shoulder", "left_elbow"),
        ("left_elbow", "left_front_paw"),
        ("left_hip", "left_knee"),
        ("left_knee", "left_back_paw"),
    )
)


def suspicious_swaps(
    keypoints: np.ndarray, visibility: np.ndarray, scale_px: np.ndarray, skeleton: Skeleton
) -> Iterator[tuple[int, str]]:
    """Instances whose left and right look exchanged, with what gives that away.

    Args:
        keypoints: (N, K, 2), image px, nan where not labelled.
        visibility: (N, K): 0, 1, 2. A face counts only where both eyes and the nose are visible, not hidden.
        scale_px: (N,), the square root of each instance's box area.
        skeleton: of the K keypoints; where it lacks what a sign is of, nothing is found by it.
    """
    keypoints, visibility = in_ap10k_order(keypoints, visibility, skeleton)
    for i in np.flatnonzero(mirrored_face(keypoints) & facing(visibility)):
        yield int(i), "left_eye and right_eye look exchanged: seen from the nose they are on the wrong sides"
    for left, right in _SEGMENTS:
        for i in np.flatnonzero(crossed_segments(keypoints, scale_px, left, right)):
            upper, lower = (without_side(AP10K.names[k]) for k in (left, right))
            yield int(i), f"left and right {upper} or {lower} look exchanged: the two legs cross"
    for i in np.flatnonzero(twisted_trunk(keypoints, scale_px)):
        yield int(i), "left and right shoulder or hip look exchanged: the trunk is twisted by half a turn"


def facing(visibility: np.ndarray) -> np.ndarray:
    """(N,) bool: both eyes and the nose are visible, not hidden."""
    return (visibility[:, [_LEFT_EYE, _RIGHT_EYE, _NOSE]] == 2).all(axis=1)


def mirrored_face(keypoints: np.ndarray) -> np.ndarray:
    """(N,) bool: going from right eye to left eye to nose turns the wrong way.

    Where both eyes are seen, the face is seen from the front, and the turn is the same however the head is rolled.
    The nose must be off the line of the eyes by more than a quarter of their distance (looked at from below it comes
    close to that line and crosses it), and within three times that distance (else it is a profile, and the eyes one).
    """
    across = keypoints[:, _LEFT_EYE] - keypoints[:, _RIGHT_EYE]
    down = keypoints[:, _NOSE] - (keypoints[:, _LEFT_EYE] + keypoints[:, _RIGHT_EYE]) / 2
    eyes, nose = np.linalg.norm(across, axis=1), np.linalg.norm(down, axis=1)
    return (_cross(across, down) < -0.25 * eyes**2) & (nose < 3 * eyes)


def crossed_segments(keypoints: np.ndarray, scale_px: np.ndarray, upper: int, lower: int) -> np.ndarray:
    """(N,) bool: joined the other way round, the segment from `upper` to `lower` and its twin would be shorter by two
    fifths, while left and right are more than a tenth of the scale apart at both ends."""
    a, b, other_a, other_b = (keypoints[:, i] for i in (upper, lower, AP10K.flip[upper], AP10K.flip[lower]))
    own = np.linalg.norm(a - b, axis=1) + np.linalg.norm(other_a - other_b, axis=1)
    exchanged = np.linalg.norm(a - other_b, axis=1) + np.linalg.norm(other_a - b, axis=1)
    apart = np.minimum(np.linalg.norm(a - other_a, axis=1), np.linalg.norm(b - other_b, axis=1))
    return (exchanged < 0.6 * own) & (apart > 0.1 * scale_px)


def twisted_trunk(keypoints: np.ndarray, scale_px: np.ndarray) -> np.ndarray:
    """(N,) bool: right to left points one way at the shoulders and the opposite way at the hips, and so does its part
    across the trunk, by more than 0.08 of the scale (its part along the trunk is but the stride of a walk)."""
    left_shoulder, left_hip = keypoints[:, _LEFT_SHOULDER], keypoints[:, _LEFT_HIP]
    right_shoulder, right_hip = keypoints[:, AP10K.flip[_LEFT_SHOULDER]], keypoints[:, AP10K.flip[_LEFT_HIP]]
    front, back = left_shoulder - right_shoulder, left_hip - right_hip
    trunk = left_hip + right_hip - left_shoulder - right_shoulder
    with np.errstate(invalid="ignore", divide="ignore"):
        trunk = trunk / np.linalg.norm(trunk, axis=1, keepdims=True)
        front_across, back_across = _cross(trunk, front) / scale_px, _cross(trunk, back) / scale_px
        lengths = np.linalg.norm(front, axis=1) * np.linalg.norm(back, axis=1)
        opposite = np.sum(front * back, axis=1) < -0.7 * lengths
    return opposite & (front_across * back_across < 0) & (np.minimum(np.abs(front_across), np.abs(back_across)) > 0.08)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
