"""Augmentation against its published definitions, as distributions, and its settings."""

from __future__ import annotations

import dataclasses
import math
import random
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from skeletons import KEYPOINTS

from catpose.data.augment import Augmentation, PixelChanges, Region, half_body
from catpose.errors import InputError
from catpose.geometry import box_to_center_size
from catpose.skeleton import AP10K

N = 4000
INPUT = (192, 256)
BOX = np.array([100.0, 50.0, 120.0, 90.0])
CENTER, SIZE = box_to_center_size(BOX, INPUT)
KEYPOINTS_PX = BOX[:2] + BOX[2:] * np.random.default_rng(5).random((len(KEYPOINTS), 2))
ALL_LABELLED = np.full(len(KEYPOINTS), 2)
NOTHING = Augmentation(flip_probability=0, rotation_factor=0, scale_factor=0, half_body_probability=0)


def regions(visibility: np.ndarray = ALL_LABELLED, **settings: float) -> list[Region]:
    augmentation = dataclasses.replace(NOTHING, **settings)
    return [
        augmentation.region(random.Random(9 << 32 | i), BOX, KEYPOINTS_PX, visibility, AP10K, INPUT) for i in range(N)
    ]


def close_to(count: int, probability: float) -> bool:
    """Whether a binomial count is within four standard deviations of what is expected."""
    return abs(count - N * probability) < 4 * (N * probability * (1 - probability)) ** 0.5


def follows(sample: np.ndarray, distribution: Callable[[float], float]) -> bool:
    """Kolmogorov and Smirnov's test at the level of one in a thousand."""
    expected = np.array([distribution(value) for value in np.sort(sample)])
    steps = np.arange(len(sample) + 1) / len(sample)
    gap = max((steps[1:] - expected).max(), (expected - steps[:-1]).max())
    return bool(gap < 1.95 / len(sample) ** 0.5)


def below(z: float) -> float:
    """Share of a standard normal below z."""
    return 0.5 * (1 + math.erf(z / 2**0.5))


def within(z: float, limit: float) -> float:
    """Share of a standard normal below z among what lies within ± limit."""
    return (below(z) - below(-limit)) / (below(limit) - below(-limit))


def test_the_judge_of_distributions_can_say_no() -> None:
    normal = np.random.default_rng(1).standard_normal(N)
    assert follows(normal, below)
    assert not follows(1.2 * normal, below)
    assert not follows(normal + 0.1, below)


def test_defaults_are_the_published_best() -> None:
    published = Augmentation()
    assert (published.flip_probability, published.rotation_factor, published.rotation_probability) == (0.5, 40, 0.6)
    assert (published.scale_factor, published.half_body_probability, published.translation_factor) == (0.5, 0.3, 0)
    assert published.pixel_changes() is None


def test_nothing_is_the_box() -> None:
    for region in regions():
        assert (region.center == CENTER).all()
        assert (region.size == SIZE).all()
        assert region[2:] == (0, False)


def test_flip() -> None:
    drawn = regions(flip_probability=0.5)
    assert close_to(sum(region.flip for region in drawn), 0.5)
    assert all((region.size == SIZE).all() and region.rotation_deg == 0 for region in drawn)
    assert all(region.flip for region in regions(flip_probability=1))


@pytest.mark.parametrize("factor", [10.0, 40.0])
def test_rotation_is_normal_clipped_at_twice_in_six_of_ten(factor: float) -> None:
    angles = np.array([region.rotation_deg for region in regions(rotation_factor=factor)])
    turned = angles[angles != 0]
    assert close_to(len(turned), 0.6)
    assert np.abs(angles).max() == 2 * factor
    at_limit = np.abs(turned) == 2 * factor
    assert abs(at_limit.mean() - 2 * below(-2)) < 0.015
    assert follows(turned[~at_limit], lambda angle: within(angle / factor, 2))
    assert np.count_nonzero([r.rotation_deg for r in regions(rotation_factor=factor, rotation_probability=1.0)]) == N


@pytest.mark.parametrize("factor", [0.2, 0.5])
def test_scale_is_one_plus_a_normal_clipped_at_once(factor: float) -> None:
    drawn = regions(scale_factor=factor)
    scales = np.array([region.size / SIZE for region in drawn])
    np.testing.assert_allclose(scales[:, 0], scales[:, 1])  # the aspect is kept
    scale = scales[:, 0]
    at_limit = np.isclose(scale, 1 - factor) | np.isclose(scale, 1 + factor)
    assert abs(at_limit.mean() - 2 * below(-1)) < 0.03
    assert scale.min() == pytest.approx(1 - factor)
    assert scale.max() == pytest.approx(1 + factor)
    assert follows(scale[~at_limit], lambda value: within((value - 1) / factor, 1))
    assert all((region.center == CENTER).all() for region in drawn)


def test_translation_is_uniform_on_each_axis() -> None:
    shifts = np.array([(region.center - CENTER) / SIZE for region in regions(translation_factor=0.15)])
    for axis in (0, 1):
        assert follows(shifts[:, axis], lambda shift: (shift + 0.15) / 0.3)
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.06


def test_half_body_takes_either_half_as_often() -> None:
    drawn = regions(half_body_probability=0.3)
    expected = {}
    for name, half in (("upper", AP10K.upper), ("lower", AP10K.lower)):
        points = KEYPOINTS_PX[list(half)]
        extent = points.max(axis=0) - points.min(axis=0)
        _, size = box_to_center_size(np.array([0, 0, *extent]), INPUT, 1.5)
        expected[name] = (points.mean(axis=0), size)
    counts = {
        name: sum(np.allclose(region.center, center) and np.allclose(region.size, size) for region in drawn)
        for name, (center, size) in expected.items()
    }
    whole = sum((region.center == CENTER).all() for region in drawn)
    assert counts["upper"] + counts["lower"] + whole == N
    assert close_to(counts["upper"], 0.15)
    assert close_to(counts["lower"], 0.15)


def labelled(upper: int, lower: int) -> np.ndarray:
    visibility = np.zeros(len(KEYPOINTS), dtype=int)
    visibility[list(AP10K.upper[:upper]) + list(AP10K.lower[:lower])] = 1
    return visibility


@pytest.mark.parametrize(("upper", "lower"), [(8, 0), (0, 7), (4, 4), (1, 7)])
def test_half_body_needs_more_than_eight_keypoints(upper: int, lower: int) -> None:
    assert half_body(KEYPOINTS_PX, labelled(upper, lower), AP10K, True, INPUT) is None
    assert half_body(KEYPOINTS_PX, labelled(upper, lower), AP10K, False, INPUT) is None


@pytest.mark.parametrize(
    ("upper", "lower", "drawn", "taken"),
    [
        (5, 4, "upper", "upper"), (5, 4, "lower", "lower"),
        (2, 7, "upper", "lower"), (3, 7, "upper", "upper"),
        (10, 2, "lower", "upper"), (10, 3, "lower", "lower"), (9, 0, "lower", "upper"),
    ],
)  # fmt: skip
def test_a_half_with_too_few_keypoints_yields(upper: int, lower: int, drawn: str, taken: str) -> None:
    found = half_body(KEYPOINTS_PX, labelled(upper, lower), AP10K, drawn == "upper", INPUT)
    assert found is not None
    half = list(AP10K.upper[:upper] if taken == "upper" else AP10K.lower[:lower])
    np.testing.assert_allclose(found[0], KEYPOINTS_PX[half].mean(axis=0))


def test_half_body_of_keypoints_at_one_place() -> None:
    assert half_body(np.full((len(KEYPOINTS), 2), 7.0), ALL_LABELLED, AP10K, True, INPUT) is None


def test_the_right_front_paw_is_upper() -> None:
    assert {name for name in KEYPOINTS if "front" in name} <= {KEYPOINTS[i] for i in AP10K.upper}


def test_switching_one_change_leaves_the_others_as_drawn() -> None:
    """Arms of a study that differ in one switch see the same turns, scales and flips otherwise."""
    for one, other in zip(regions(rotation_factor=40, scale_factor=0.5), regions(rotation_factor=40), strict=True):
        assert one.rotation_deg == other.rotation_deg
        assert (one.center == other.center).all()


PIXELS = {
    "photometric": {"photometric_probability": 1.0},
    "color": {"color_probability": 1.0},
    "blur": {"blur_probability": 1.0},
    "noise": {"noise_probability": 1.0},
    "dropout": {"dropout_probability": 1.0},
}


def changes(**settings: float) -> PixelChanges:
    made = dataclasses.replace(NOTHING, **settings).pixel_changes()
    assert made is not None
    return made


def smooth_crop() -> np.ndarray:
    y, x = np.mgrid[:64, :48]
    return np.stack([60 + 2 * x, 190 - 2 * y, 90 + x + y], axis=2).astype(np.uint8)


@pytest.mark.parametrize("settings", [*PIXELS.values(), {k: v for s in PIXELS.values() for k, v in s.items()}])
def test_pixels_change_with_the_key_alone(settings: dict[str, float]) -> None:
    crop = smooth_crop()
    before = crop.copy()
    change, other = (changes(**settings) for _ in range(2))
    results = []
    for key in range(12):
        first = change(crop, random.Random(key))
        change(crop, random.Random(99))  # what came before does not matter
        assert (change(crop, random.Random(key)) == first).all()
        assert (other(crop, random.Random(key)) == first).all()
        assert first.shape == crop.shape
        assert first.dtype == np.uint8
        results.append(first.tobytes())
    assert len(set(results)) > 4
    assert (crop == before).all()


def test_each_change_of_pixels_does_what_its_name_says() -> None:
    crop = smooth_crop()
    rng = random.Random(3)
    noise = changes(noise_probability=1, noise_std=0.1)
    spreads = [(noise(crop, rng).astype(float) - crop).std() for _ in range(60)]
    assert 20 < max(spreads) < 0.1 * 255 * 1.05
    assert min(spreads) < 5
    dropout = changes(dropout_probability=1, dropout_holes=1, dropout_size=0.5)
    for _ in range(20):
        black = (dropout(crop, rng) == 0).all(axis=2)
        sides = black.any(axis=1).sum(), black.any(axis=0).sum()
        assert black.sum() == sides[0] * sides[1]
        assert 15 <= sides[0] <= 32
        assert 11 <= sides[1] <= 24
    blur = changes(blur_probability=1, blur_sigma_px=3)
    point = np.zeros((41, 41, 3), np.uint8)
    point[20, 20] = 255
    widest = min(blur(point, rng).max() for _ in range(60))
    assert abs(widest - 255 / (2 * np.pi * 3**2)) < 1.5
    photometric = changes(photometric_probability=1, photometric_strength=0.5)
    means = np.array([photometric(crop, rng).mean() for _ in range(200)]) / crop.mean()
    assert 0.25 < means.min() < 0.5
    assert 1.5 < means.max() < 1.75
    color = changes(color_probability=1, color_strength=0.5, color_hue=0.0)
    spread = [np.ptp(color(crop, rng), axis=2).mean() / np.ptp(crop, axis=2).mean() for _ in range(200)]
    assert 0.5 <= min(spread) < 0.55
    assert 1.3 < max(spread) < 1.5
    grey = np.repeat(crop[:, :, :1], 3, axis=2)
    assert (color(grey, rng) == grey).all()


def test_probabilities_of_pixel_changes() -> None:
    crop = smooth_crop()[:16, :16]
    transforms = changes(dropout_probability=0.25)
    changed = sum((transforms(crop, random.Random(i)) != crop).any() for i in range(N))
    assert close_to(changed, 0.25)


@pytest.mark.slow
def test_albumentations_is_imported_where_it_is_used_only() -> None:
    code = (
        "import sys; from catpose.data.augment import Augmentation; Augmentation().pixel_changes(); "
        "assert 'albumentations' not in sys.modules; Augmentation(noise_probability=1).pixel_changes(); "
        "assert 'albumentations' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_the_parser_of_fit_imports_no_library_for_types_alone() -> None:
    code = (
        "import sys; from catpose.fit import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print('loaded', *{name.split('.')[0] for name in sys.modules})"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    loaded = set(output.rpartition("loaded ")[2].split())
    assert "lightning" in loaded
    assert not loaded & {"albumentations", "optuna", "onnx", "onnxruntime", "pycocotools", "fvcore"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("flip_probability", -0.1), ("flip_probability", 1.5), ("rotation_factor", -1), ("rotation_factor", 91),
        ("rotation_probability", 2), ("scale_factor", 1.0), ("scale_factor", -0.5), ("half_body_probability", 3),
        ("translation_factor", 1.1), ("photometric_strength", 2), ("color_hue", 0.6), ("blur_sigma_px", 0),
        ("noise_std", float("nan")),
        ("dropout_holes", 0), ("dropout_size", 0), ("scale_factor", "0.5"), ("flip_probability", True),
        ("noise_probability", None),
    ],
)  # fmt: skip
def test_values_out_of_range(name: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"^data\.augment\.{name}: must be a number between .* not {value!r}$"):
        Augmentation(**{name: value})


def test_every_setting_has_a_range() -> None:
    for field in dataclasses.fields(Augmentation):
        with pytest.raises(InputError, match=field.name):
            Augmentation(**{field.name: 1e6})
