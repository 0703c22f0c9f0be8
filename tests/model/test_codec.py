"""Codecs against the published algorithms, written here once more as plain loops, and against what they promise."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from skeletons import FLIP

from catpose.errors import InputError
from catpose.model.codec import Codec, MSRAHeatmap, UDPHeatmap

CODECS = [codec for codec in Codec.__subclasses__() if codec.__module__ == "catpose.model.codec"]  # of heatmaps
GEOMETRIES = [  # input size, heatmap size, sigma
    ((256, 256), (64, 64), 2.0),
    ((128, 128), (32, 32), 1.0),
    ((192, 256), (48, 64), 2.0),
    ((256, 256), (64, 64), 1.5),
    ((256, 256), (64, 64), 3.0),
    ((384, 288), (96, 72), 2.5),
    ((64, 64), (16, 16), 0.8),
]

every_codec = pytest.mark.parametrize("make", CODECS)
every_geometry = pytest.mark.parametrize(("input_size", "heatmap_size", "sigma"), GEOMETRIES)


def random_points(n, low, high, seed=0):
    """(n, 17, 2) points between two corners, float32."""
    low, high = torch.as_tensor(low), torch.as_tensor(high)
    return low + (high - low) * torch.rand(n, 17, 2, generator=torch.Generator().manual_seed(seed))


def all_visible(points):
    return torch.full(points.shape[:2], 2)


def inside(input_size, heatmap_size, sigma, n=40, margin=3.0):
    """Random points at least `margin` sigmas inside every codec's heatmap."""
    stride = torch.tensor(input_size) / torch.tensor(heatmap_size)
    return random_points(n, stride * margin * sigma, (torch.tensor(heatmap_size) - 1 - margin * sigma) * stride)


# What every codec promises


@every_codec
@every_geometry
def test_a_round_trip_stays_within_the_codecs_own_bound(make, input_size, heatmap_size, sigma):
    codec = make(sigma)
    points = inside(input_size, heatmap_size, sigma)
    heatmaps, weight = codec.encode(points, all_visible(points), input_size, heatmap_size)
    decoded, confidence = codec.decode(heatmaps, input_size)
    assert heatmaps.shape == (len(points), 17, heatmap_size[1], heatmap_size[0])
    assert (weight == 1).all()
    error = (decoded - points).abs().max().item()
    assert error <= codec.round_trip_px(input_size, heatmap_size) + 1e-4
    assert torch.equal(confidence, heatmaps.amax((2, 3)))


@every_codec
def test_a_bound_is_no_wider_than_it_has_to_be(make):
    codec = make(2.0)
    points = inside((256, 256), (64, 64), 2.0, n=100)
    heatmaps, _ = codec.encode(points, all_visible(points), (256, 256), (64, 64))
    error = (codec.decode(heatmaps, (256, 256))[0] - points).abs().max().item()
    bound = codec.round_trip_px((256, 256), (64, 64))
    assert bound <= 0.05 or error > 0.95 * bound


@every_codec
def test_heatmaps_are_in_0_to_1_and_empty_where_nothing_is_labelled(make):
    points = random_points(20, (-80.0, -80.0), (336.0, 336.0))
    visibility = torch.randint(0, 3, (20, 17), generator=torch.Generator().manual_seed(1))
    points[visibility == 0] = math.nan  # whatever stands there must not matter
    heatmaps, weight = make(2.0).encode(points, visibility, (256, 256), (64, 64))
    assert heatmaps.dtype == weight.dtype == torch.float32
    assert ((heatmaps >= 0) & (heatmaps <= 1)).all()
    assert set(weight.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(weight > 0, heatmaps.amax((2, 3)) > 0)
    assert (weight[visibility == 0] == 0).all()


@every_codec
@pytest.mark.parametrize("axis", [0, 1])
def test_weight_is_0_only_where_the_patch_misses_the_heatmap(make, axis):
    """Stride 4 and sigma 2: the patch reaches 6 px beyond its pixel, so from heatmap -6 to 69."""
    positions = torch.tensor([-28.0, -24.0, -23.0, 0.0, 255.0, 275.0, 283.0, 287.0])
    points = torch.full((1, len(positions), 2), 100.0)
    points[0, :, axis] = positions
    _, weight = make(2.0).encode(points, all_visible(points), (256, 256), (64, 64))
    assert weight[0].tolist() == [0, 1, 1, 1, 1, 1, 0, 0]
    far = torch.tensor([[[1e6, 100.0], [100.0, -1e6]]])
    assert (make(2.0).encode(far, all_visible(far), (256, 256), (64, 64))[1] == 0).all()


@every_codec
def test_instances_and_keypoints_do_not_touch_each_other(make):
    codec = make(2.0)
    points = inside((192, 256), (48, 64), 2.0, n=4)
    heatmaps, _ = codec.encode(points, all_visible(points), (192, 256), (48, 64))
    noisy = heatmaps + 0.05 * torch.rand_like(heatmaps)
    together, confidence = codec.decode(noisy, (192, 256))
    for b in range(4):
        for k in range(17):
            alone, alone_confidence = codec.decode(noisy[b : b + 1, k : k + 1], (192, 256))
            assert torch.equal(alone[0, 0], together[b, k])
            assert torch.equal(alone_confidence[0, 0], confidence[b, k])


@every_codec
@pytest.mark.parametrize("fill", [0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 3e38])
def test_flat_and_broken_heatmaps_decode_to_something_finite(make, fill):
    keypoints, confidence = make(2.0).decode(torch.full((2, 17, 64, 48), fill), (192, 256))
    assert keypoints.isfinite().all()
    assert confidence.isfinite().all()


@every_codec
@pytest.mark.parametrize("seed", range(5))
def test_noise_decodes_near_its_maximum(make, seed):
    """However wild the map, no keypoint flies further from the highest pixel than the codec's own step."""
    noise = torch.randn(20, 17, 32, 32, generator=torch.Generator().manual_seed(seed)) * 10.0 ** (seed - 3)
    noise[:, :, 0, 0] = math.nan
    keypoints, confidence = make(1.0).decode(noise, (128, 128))
    finite = torch.nan_to_num(noise)
    peak = finite.flatten(2).argmax(-1)
    scale = 127 / 31 if make is UDPHeatmap else 4.0
    columns_rows = torch.stack([peak % 32, peak // 32], -1)
    assert ((keypoints / scale - columns_rows).abs() <= 1.0 + 1e-4).all()
    assert torch.equal(confidence, finite.amax((2, 3)))


@every_codec
@pytest.mark.parametrize(
    "corner", [(0.0, 0.0), (255.0, 0.0), (0.0, 255.0), (255.0, 255.0), (127.0, 0.0), (255.0, 90.0)]
)
def test_a_keypoint_on_the_border_decodes_near_it(make, corner):
    points = torch.tensor(corner).expand(1, 17, 2)
    heatmaps, weight = make(2.0).encode(points, all_visible(points), (256, 256), (64, 64))
    decoded, _ = make(2.0).decode(heatmaps, (256, 256))
    assert (weight == 1).all()
    assert ((decoded - points).abs() <= 8).all()


@every_codec
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_half_precision_is_decoded_in_float32(make, dtype):
    codec = make(2.0)
    points = inside((256, 256), (64, 64), 2.0, n=50)
    heatmaps, _ = codec.encode(points, all_visible(points), (256, 256), (64, 64))
    heatmaps = heatmaps.to(dtype)
    keypoints, confidence = codec.decode(heatmaps, (256, 256))
    expected, _ = codec.decode(heatmaps.float(), (256, 256))
    assert keypoints.dtype == confidence.dtype == torch.float32
    assert torch.equal(keypoints, expected)


@every_codec
def test_autocast_changes_nothing(make):
    codec = make(2.0)
    points = inside((256, 256), (64, 64), 2.0, n=50)
    heatmaps, weight = codec.encode(points, all_visible(points), (256, 256), (64, 64))
    keypoints, confidence = codec.decode(heatmaps, (256, 256))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        heatmaps_cast, weight_cast = codec.encode(points, all_visible(points), (256, 256), (64, 64))
        keypoints_cast, confidence_cast = codec.decode(heatmaps, (256, 256))
    for ours, cast in ((heatmaps, heatmaps_cast), (weight, weight_cast), (keypoints, keypoints_cast)):
        assert cast.dtype == torch.float32
        assert torch.equal(ours, cast)
    assert torch.equal(confidence, confidence_cast)


@every_codec
def test_unflip_undoes_mirrored_crops(make):
    """Heatmaps drawn on mirrored crops, unflipped, decode where the cat is: within half a pixel on average."""
    codec = make(2.0)
    points = inside((256, 256), (64, 64), 2.0, n=100)
    mirrored = points[:, list(FLIP)].clone()
    mirrored[..., 0] = 255 - mirrored[..., 0]
    heatmaps, _ = codec.encode(mirrored, all_visible(points), (256, 256), (64, 64))
    decoded, _ = codec.decode(codec.unflip(heatmaps, FLIP), (256, 256))
    bias_px = (decoded - points).mean((0, 1))
    assert (bias_px.abs() < 4 / 3).all()
    assert ((decoded - points).abs() <= codec.round_trip_px((256, 256), (64, 64)) + 1.01).all()


@every_codec
@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_sigma_is_refused(make, sigma):
    with pytest.raises(InputError, match=r"model\.codec\.sigma"):
        make(sigma)


def test_a_codec_of_ones_own_is_one_class():
    """A codec that only says how to encode and decode gets the mirrored crop's swap with it."""

    class OneHot(Codec):
        def encode(self, keypoints_crop, visibility, input_size, heatmap_size):
            raise NotImplementedError

        def decode(self, heatmaps, input_size):
            raise NotImplementedError

        def round_trip_px(self, input_size, heatmap_size):
            return 2.0

    heatmaps = torch.rand(2, 17, 4, 4)
    assert torch.equal(OneHot(1.0).unflip(heatmaps, FLIP)[:, 0], heatmaps[:, 1].flip(-1))


# The published algorithms


def published_classic_encode(points, visible, stride, size, sigma):
    """TopDownGenerateTarget of Xiao et al.: copy a patch of 6·sigma + 1 px, rounded to the pixel."""
    width, height = size
    radius = int(3 * sigma)
    patch = np.array(
        [
            [math.exp(-(i * i + j * j) / (2 * sigma**2)) for i in range(-radius, radius + 1)]
            for j in range(-radius, radius + 1)
        ]
    )
    target, weight = np.zeros((17, height, width)), np.zeros(17)
    for k in range(17):
        column, row = math.floor(points[k, 0] / stride[0] + 0.5), math.floor(points[k, 1] / stride[1] + 0.5)
        for j in range(2 * radius + 1):
            for i in range(2 * radius + 1):
                x, y = column - radius + i, row - radius + j
                if visible[k] and 0 <= x < width and 0 <= y < height:
                    target[k, y, x] = patch[j, i]
                    weight[k] = 1
    return target, weight


def published_classic_decode(heatmap, stride):
    """The highest pixel, a quarter towards its higher neighbour."""
    height, width = heatmap.shape
    y, x = divmod(int(heatmap.argmax()), width)
    step_x = np.sign(heatmap[y, x + 1] - heatmap[y, x - 1]) / 4 if 0 < x < width - 1 else 0
    step_y = np.sign(heatmap[y + 1, x] - heatmap[y - 1, x]) / 4 if 0 < y < height - 1 else 0
    return np.array([(x + step_x) * stride[0], (y + step_y) * stride[1]])


def published_unbiased_encode(points, visible, scale, size, sigma):
    """UDP: the exact centre, in a patch of 6·sigma + 1 px around the nearest pixel."""
    width, height = size
    target = np.zeros((17, height, width))
    for k in range(17):
        x, y = points[k, 0] / scale[0], points[k, 1] / scale[1]
        for row in range(height):
            for column in range(width):
                near = max(abs(column - math.floor(x + 0.5)), abs(row - math.floor(y + 0.5))) <= 3 * sigma
                if visible[k] and near:
                    target[k, row, column] = math.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * sigma**2))
    return target


def published_dark_decode(heatmap, scale, kernel, sigma):
    """DARK as UDP has it: OpenCV's blur on a zero border, scaled back to the maximum, log in [1e-3, 50], one step."""
    y, x = divmod(int(heatmap.argmax()), heatmap.shape[1])
    border = kernel // 2
    framed = cv2.GaussianBlur(np.pad(heatmap, border).astype(np.float32), (kernel, kernel), sigma)
    smooth = framed[border:-border, border:-border]
    log = np.log(np.clip(smooth * (heatmap.max() / smooth.max()), 1e-3, 50)).astype(np.float64)
    log = np.pad(log, 1, mode="edge")[y : y + 3, x : x + 3]
    gradient = np.array([log[1, 2] - log[1, 0], log[2, 1] - log[0, 1]]) / 2
    xx, yy = log[1, 2] - 2 * log[1, 1] + log[1, 0], log[2, 1] - 2 * log[1, 1] + log[0, 1]
    xy = (log[2, 2] - log[1, 2] - log[2, 1] + 2 * log[1, 1] - log[1, 0] - log[0, 1] + log[0, 0]) / 2
    hessian = np.array([[xx, xy], [xy, yy]])
    peaked = (np.linalg.eigvalsh(hessian) < 0).all()
    step = -np.linalg.solve(hessian, gradient) if peaked else np.zeros(2)
    return (np.array([x, y]) + np.clip(step, -sigma, sigma)) * scale


@pytest.mark.parametrize(("input_size", "heatmap_size", "sigma"), GEOMETRIES[:3])
def test_classic_encodes_as_published(input_size, heatmap_size, sigma):
    points = random_points(8, (-20.0, -20.0), (input_size[0] + 20.0, input_size[1] + 20.0), seed=3)
    visibility = torch.randint(0, 3, (8, 17), generator=torch.Generator().manual_seed(4))
    heatmaps, weight = MSRAHeatmap(sigma).encode(points, visibility, input_size, heatmap_size)
    for b in range(8):
        target, reference_weight = published_classic_encode(
            points[b].numpy(), visibility[b].numpy() > 0, (4, 4), heatmap_size, sigma
        )
        np.testing.assert_allclose(heatmaps[b].numpy(), target, atol=1e-6)
        np.testing.assert_array_equal(weight[b].numpy(), reference_weight)


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.3, 3.0])
def test_classic_decodes_as_published(noise):
    heatmaps = noisy_maps(noise)
    keypoints, _ = MSRAHeatmap(2.0).decode(torch.from_numpy(heatmaps), (192, 256))
    for b in range(len(heatmaps)):
        for k in range(17):
            np.testing.assert_allclose(keypoints[b, k], published_classic_decode(heatmaps[b, k], (4, 4)), atol=1e-4)


@pytest.mark.parametrize(("input_size", "heatmap_size", "sigma"), GEOMETRIES[:3])
def test_unbiased_encodes_as_published(input_size, heatmap_size, sigma):
    points = random_points(4, (-20.0, -20.0), (input_size[0] + 20.0, input_size[1] + 20.0), seed=5)
    visibility = torch.randint(0, 3, (4, 17), generator=torch.Generator().manual_seed(6))
    heatmaps, _ = UDPHeatmap(sigma).encode(points, visibility, input_size, heatmap_size)
    scale = [(i - 1) / (h - 1) for i, h in zip(input_size, heatmap_size, strict=True)]
    for b in range(4):
        target = published_unbiased_encode(points[b].numpy(), visibility[b].numpy() > 0, scale, heatmap_size, sigma)
        np.testing.assert_allclose(heatmaps[b].numpy(), target, atol=1e-5)


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.3, 3.0])
def test_unbiased_decodes_as_published(noise):
    """Up to our two guards: the reference has them too."""
    heatmaps = noisy_maps(noise)
    keypoints, _ = UDPHeatmap(2.0).decode(torch.from_numpy(heatmaps), (192, 256))
    scale = np.array([191 / 47, 255 / 63])
    reference = np.array([[published_dark_decode(heatmap, scale, 11, 2.0) for heatmap in maps] for maps in heatmaps])
    np.testing.assert_allclose(keypoints.numpy(), reference, atol=0.01)


def noisy_maps(noise):
    """(6, 17, 64, 48) heatmaps of cats, borders included, plus noise of a standard deviation."""
    points = random_points(6, (0.0, 0.0), (191.0, 255.0), seed=7)
    heatmaps, _ = UDPHeatmap(2.0).encode(points, all_visible(points), (192, 256), (48, 64))
    return (heatmaps + noise * torch.randn(heatmaps.shape, generator=torch.Generator().manual_seed(8))).numpy()


def test_classic_shifts_the_unflipped_heatmap_by_one():
    heatmaps = torch.rand(2, 17, 8, 8)
    expected = heatmaps.numpy()[:, list(FLIP), :, ::-1].copy()
    expected[..., 1:] = expected[..., :-1].copy()
    np.testing.assert_array_equal(MSRAHeatmap(2.0).unflip(heatmaps, FLIP).numpy(), expected)


def test_unbiased_flips_exactly():
    points = inside((192, 256), (48, 64), 2.0, n=20, margin=0.0)
    mirrored = points[:, list(FLIP)].clone()
    mirrored[..., 0] = 191 - mirrored[..., 0]
    codec = UDPHeatmap(2.0)
    straight, weight = codec.encode(points, all_visible(points), (192, 256), (48, 64))
    flipped, flipped_weight = codec.encode(mirrored, all_visible(points), (192, 256), (48, 64))
    torch.testing.assert_close(codec.unflip(flipped, FLIP), straight, atol=2e-4, rtol=0)
    assert torch.equal(flipped_weight[:, list(FLIP)], weight)
