"""Random changes of training samples: of the region that becomes the crop, and of the crop's pixels."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from catpose.errors import InputError
from catpose.geometry import box_to_center_size
from catpose.skeleton import Skeleton

#: Lowest and highest value of each setting.
_RANGES: dict[str, tuple[float, float]] = {
    "flip_probability": (0, 1),
    "rotation_factor": (0, 90),  # clipped at twice, so every direction at most
    "rotation_probability": (0, 1),
    "scale_factor": (0, 0.9),  # 1 would shrink the region to a point
    "half_body_probability": (0, 1),
    "translation_factor": (0, 1),
    "photometric_probability": (0, 1),
    "photometric_strength": (0, 1),
    "color_probability": (0, 1),
    "color_strength": (0, 1),
    "color_hue": (0, 0.5),
    "blur_probability": (0, 1),
    "blur_sigma_px": (0.1, 20),
    "noise_probability": (0, 1),
    "noise_std": (0, 1),
    "dropout_probability": (0, 1),
    "dropout_holes": (1, 100),
    "dropout_size": (0.01, 1),
}

_REGION_SWITCHES = {"flip_probability", "rotation_probability", "half_body_probability"}

HALF_BODY_PADDING = 1.5
#: The half-body transform needs more labelled keypoints than this in all …
_HALF_BODY_TOTAL = 8
#: … and at least this many in the half it takes.
_HALF_BODY_LEAST = 3


class Region(NamedTuple):
    """The part of an image that becomes the crop, as `catpose.geometry.image_to_crop` takes it."""

    center: np.ndarray  # (2,) image px
    size: np.ndarray  # (2,) width and height before rotation, image px
    rotation_deg: float
    flip: bool


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training samples. The defaults are the published best; a 0 switches a change off.

    The region's changes are those of HRNet's training (Sun et al., "Deep High-Resolution Representation Learning for
    Human Pose Estimation", CVPR 2019, section 4.1) and of MMPose 0.x's TopDown transforms, made in one affine with the
    crop; the pixels' are albumentations'. (The original half body means to take either half as often, but takes the
    upper one in 69 % by a slip.) Keypoints keep their visibility, also those that leave the crop or are covered.

    Args:
        flip_probability: Probability of mirroring left and right, keypoint pairs swapped.
        rotation_factor: Standard deviation of the turn in degrees; it is normal, and clipped at twice this.
        rotation_probability: Probability of turning at all.
        scale_factor: The region's size is multiplied by 1 + N(0, 1)·factor, clipped to 1 ± factor.
        half_body_probability: Probability of a region around the upper or the lower keypoints alone, either as likely,
            where more than 8 are labelled: centred on their mean, 1.5 times their extent. A half with fewer than 3
            yields to the other.
        translation_factor: The region's centre moves by up to this share of its width and height, uniformly, before it
            is scaled.
        photometric_probability: Probability of a change of brightness and contrast.
        photometric_strength: Values are multiplied by up to 1 ± this, and moved by up to a quarter of this of their
            range. (0.5 is about what MMPose's PhotometricDistortion does to them, with probability 0.5 each.)
        color_probability: Probability of a change of saturation and hue; it takes four times as long as photometric's.
        color_strength: The saturation is multiplied by up to 1 ± this.
        color_hue: The hue moves by up to this part of its circle. (PhotometricDistortion: 0.1.)
        blur_probability: Probability of a Gaussian blur.
        blur_sigma_px: The blur's largest standard deviation, crop px.
        noise_probability: Probability of Gaussian noise.
        noise_std: The noise's largest standard deviation, as a share of the full range.
        dropout_probability: Probability of black rectangles ("coarse dropout").
        dropout_holes: How many rectangles at most.
        dropout_size: The rectangles' longest side as a share of the crop's; the shortest is half of that.

    Raises:
        InputError: a value out of range, named `data.augment.NAME`.
    """

    flip_probability: float = 0.5
    rotation_factor: float = 40.0
    rotation_probability: float = 0.6
    scale_factor: float = 0.5
    half_body_probability: float = 0.3
    translation_factor: float = 0.0
    photometric_probability: float = 0.0
    photometric_strength: float = 0.5
    color_probability: float = 0.0
    color_strength: float = 0.5
    color_hue: float = 0.1
    blur_probability: float = 0.0
    blur_sigma_px: float = 2.0
    noise_probability: float = 0.0
    noise_std: float = 0.1
    dropout_probability: float = 0.0
    dropout_holes: int = 3
    dropout_size: float = 0.25

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise InputError(f"data.augment.{name}: must be a number between {low} and {high}, not {value!r}")

    def region(
        self,
        rng: random.Random,
        box: np.ndarray,
        keypoints: np.ndarray,
        visibility: np.ndarray,
        skeleton: Skeleton,
        input_size: tuple[int, int],
    ) -> Region:
        """Draw the region of one sample.

        What is drawn from `rng` does not depend on the settings, so that a sample's turn, say, is the same whether or
        not it is moved as well.

        Args:
            box: x, y, width, height, image px.
            keypoints: (K, 2) image px.
            visibility: (K,), 0 where not labelled.
            skeleton: of the K keypoints.
            input_size: width and height of the crop, px.
        """
        flip, turn, half, upper, across, down = (rng.random() for _ in range(6))
        turn_by, scale_by = rng.gauss(0, 1), rng.gauss(0, 1)
        center, size = box_to_center_size(box, input_size)
        if half < self.half_body_probability:
            center, size = half_body(keypoints, visibility, skeleton, upper < 0.5, input_size) or (center, size)
        if self.translation_factor:
            center = center + self.translation_factor * np.array([2 * across - 1, 2 * down - 1]) * size
        size = size * (1 + min(max(scale_by, -1.0), 1.0) * self.scale_factor)
        rotation_deg = min(max(turn_by, -2.0), 2.0) * self.rotation_factor if turn < self.rotation_probability else 0.0
        return Region(center, size, rotation_deg, flip < self.flip_probability)

    def pixel_changes(self) -> PixelChanges | None:
        """The changes of the crop's pixels, in this order; None if all are switched off."""
        switches = {name for name in _RANGES if name.endswith("_probability")} - _REGION_SWITCHES
        if not any(getattr(self, switch) for switch in switches):
            return None
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for a newer version at import
        import albumentations

        strength, size = self.photometric_strength, self.dropout_size
        transforms = [
            albumentations.RandomBrightnessContrast(strength / 4, strength, p=self.photometric_probability),
            albumentations.ColorJitter(0, 0, self.color_strength, self.color_hue, p=self.color_probability),
            albumentations.GaussianBlur(0, sigma_limit=(0.1, self.blur_sigma_px), p=self.blur_probability),
            albumentations.GaussNoise(std_range=(0, self.noise_std), p=self.noise_probability),
            albumentations.CoarseDropout(
                num_holes_range=(1, self.dropout_holes),
                hole_height_range=(size / 2, size),
                hole_width_range=(size / 2, size),
                p=self.dropout_probability,
            ),
        ]
        return PixelChanges([transform for transform in transforms if transform.p > 0])


def half_body(
    keypoints: np.ndarray, visibility: np.ndarray, skeleton: Skeleton, upper: bool, input_size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Centre and size of the region around one half of an animal; see `Augmentation`.

    Args:
        keypoints: (K, 2) image px.
        visibility: (K,), 0 where not labelled.
        skeleton: says which keypoints are the upper and the lower half.
        upper: which half is preferred.
        input_size: width and height of the crop, px.

    Returns:
        (x, y) and (width, height), image px; None where too few keypoints are labelled, or all stand at one place.
    """
    if (visibility > 0).sum() <= _HALF_BODY_TOTAL:
        return None
    halves = [[i for i in half if visibility[i] > 0] for half in (skeleton.upper, skeleton.lower)]
    preferred, other = halves if upper else halves[::-1]
    points = keypoints[preferred if len(preferred) >= _HALF_BODY_LEAST else other]
    if not len(points):
        return None
    low, high = points.min(axis=0), points.max(axis=0)
    if (low == high).all():
        return None
    _, size = box_to_center_size(np.concatenate([low, high - low]), input_size, HALF_BODY_PADDING)
    return points.mean(axis=0), size


class PixelChanges:
    """albumentations' transforms in sequence, their randomness drawn from the generator passed with each crop.

    Without a Compose, whose checks take longer than the transforms, and with one numpy generator whose state is set
    for each crop, which is faster than a new one.
    """

    # Not list[ImageOnlyTransform]: jsonargparse would import albumentations for the types of this file at every start.
    def __init__(self, transforms: list[Any]) -> None:
        self._transforms = transforms
        self._generator = np.random.Generator(np.random.PCG64(0))
        self._state = self._generator.bit_generator.state

    def __call__(self, crop: np.ndarray, rng: random.Random) -> np.ndarray:
        """The crop, uint8 (height, width, 3), changed; the argument isn't modified."""
        self._state["state"]["state"] = rng.getrandbits(128)
        self._generator.bit_generator.state = self._state
        for transform in self._transforms:
            transform.set_random_state(self._generator, rng)
            crop = transform(image=crop)["image"]
        return crop
