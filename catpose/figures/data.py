"""Figures of a data set: sizes, labels, colours, the mean pose."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from catpose.data.slices import SIZE_BORDERS_PX
from catpose.data.statistics import IMAGENET, PUBLISHED, DataStatistics, Statistics
from catpose.figures.canvas import (
    BLUE,
    GREEN,
    GREY,
    GRID,
    HEIGHT,
    INK,
    ORANGE,
    PAPER,
    SKY,
    VERMILION,
    Drawing,
    canvas,
    encoded,
    plain,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Ellipse

#: Of a keypoint, by the side of the animal that it is on.
SIDES = {"left": ORANGE, "right": BLUE, "middle": GREEN}
_PUBLISHED = "Animal-Pose's cats, published"


def draw_image_sizes(statistics: Statistics) -> Drawing:
    """Width against height, the area of a dot by how many images have that size, to a factor of four."""
    sizes = Counter(map(tuple, statistics.image_sizes.tolist()))
    with plain():
        figure, axes = canvas(4.2, f"Sizes of {len(statistics.image_sizes)} images", 5.0)
        points, n = np.array(list(sizes)).reshape(-1, 2), np.array(list(sizes.values()))
        share = 4.0 ** np.ceil(np.log(n / n.max(initial=1)) / np.log(4))  # a few sizes of dots, which an SVG repeats
        for s in np.unique(share):
            axes.plot(*points[share == s].T, "o", color=BLUE, ms=2 + 18 * np.sqrt(s), alpha=0.45, mew=0)
        for (width, height), count in sizes.most_common(1):
            text = f"{width} × {height}: {count} images"
            axes.annotate(
                text, (width, height), (-14, 0), textcoords="offset points", ha="right", va="center", fontsize=8
            )
        end = 1.1 * points.max(initial=1)
        axes.plot([0, end], [0, end], color=GRID, lw=0.8, zorder=0)
        axes.set(xlim=(0, end), ylim=(0, end), xlabel="width, px", ylabel="height, px", aspect="equal")
        return encoded(figure)


def draw_box_sizes(statistics: Statistics) -> Drawing:
    """How long the longer sides of the boxes are, with the borders of the slices by box size."""
    long = statistics.boxes[:, 2:].max(axis=1, initial=0)
    with plain():
        figure, axes = canvas(HEIGHT, f"Longer side of {len(long)} boxes")
        if len(long):
            step = _step(float(long.max()) / 25)
            _bars_of(axes, long, np.arange(0, long.max() + step, step))
        ends = (0.0, *(float(border) for border in SIZE_BORDERS_PX), np.inf)
        for border in SIZE_BORDERS_PX:
            axes.axvline(border + 0.5, color=VERMILION, lw=1, ls="--")
        right = axes.get_xlim()[1]
        for low, high in itertools.pairwise(ends):
            share = np.mean((long > low) & (long <= high)) if len(long) else np.nan
            if low < right:
                middle = (low + min(high, right)) / 2
                axes.text(middle, 1.01, f"{share:.0%}", transform=axes.get_xaxis_transform(), ha="center",
                          fontsize=8, color=VERMILION)  # fmt: skip
        axes.set(xlabel="longer side of the box, px", ylabel="instances")
        axes.grid(axis="y", color=GRID, lw=0.6)
        return encoded(figure)


def draw_box_shares(statistics: Statistics) -> Drawing:
    """How much of its image a box takes."""
    with plain():
        figure, axes = canvas(HEIGHT, f"Share of the image in {len(statistics.boxes)} boxes")
        _bars_of(axes, 100 * statistics.box_share, np.arange(0, 101, 5))
        axes.set(xlabel="share of the image's area, %", ylabel="instances")
        axes.grid(axis="y", color=GRID, lw=0.6)
        return encoded(figure)


def draw_labelled(statistics: Statistics) -> Drawing:
    """Of how many instances each keypoint is labelled, per cent."""
    names = statistics.skeleton.names
    shares = 100 * statistics.labelled.mean(axis=0) if len(statistics.labelled) else np.zeros(len(names))
    with plain():
        figure, axes = canvas(1 + 0.2 * len(names), f"Keypoints labelled, {len(statistics.labelled)} instances", 5.2)
        places = np.arange(len(names))
        axes.barh(places, shares, color=[SIDES[side] for side in statistics.skeleton.sides], height=0.72)
        for place, share in enumerate(shares):
            axes.text(share + 1, place, f"{share:.0f}", va="center", fontsize=7.5)
        axes.set_yticks(places, [name.replace("_", " ") for name in names], fontsize=8)
        axes.set(xlim=(0, 106), ylim=(len(names) - 0.4, -0.6), xlabel="share of the instances, %")
        axes.tick_params(axis="y", length=0)
        return encoded(figure)


def draw_labelled_per_instance(statistics: Statistics) -> Drawing:
    """How many instances have 1, 2, … K keypoints labelled."""
    n = statistics.n_labelled
    with plain():
        mean = statistics.labelled.sum(axis=1).mean() if len(statistics.labelled) else np.nan
        figure, axes = canvas(3.2, f"Keypoints labelled per instance: {mean:.1f} on average")
        axes.bar(np.arange(1, len(n)), n[1:], color=BLUE, width=0.78)
        axes.set_xticks(np.arange(1, len(n)))
        axes.set(xlabel="keypoints labelled", ylabel="instances", xlim=(0.4, len(n) - 0.4))
        axes.grid(axis="y", color=GRID, lw=0.6)
        axes.set_axisbelow(True)
        return encoded(figure)


def draw_mean_pose(statistics: Statistics) -> Drawing:
    """The mean place of each keypoint in the box, and the ellipse of one standard deviation round it."""
    mean, covariance, n = statistics.mean_pose()
    with plain():
        figure, axes = canvas(4.6, f"Mean pose of {len(statistics.poses)} instances, mirrored to face left", 5.6)
        sides = statistics.skeleton.sides
        for a, b in statistics.skeleton.limbs:
            colour = SIDES[sides[a] if sides[b] == "middle" else sides[b]]
            axes.plot(*mean[[a, b]].T, color=colour, lw=1.4, alpha=0.9, zorder=3, solid_capstyle="round")
        for k, side in enumerate(sides):
            if n[k] > 1:
                axes.add_patch(_ellipse(mean[k], covariance[k], SIDES[side]))
            if n[k]:
                axes.plot(*mean[k], "o", ms=5, color=SIDES[side], mec=PAPER, mew=0.6, zorder=4)
        for name, colour in (("the animal's left", ORANGE), ("its right", BLUE), ("middle", GREEN)):
            axes.plot([], [], "o-", color=colour, ms=5, lw=1.4, label=name)
        axes.set(xlabel="across, in long sides of the box from its centre", ylabel="down", aspect="equal")
        axes.set(xlim=(-0.55, 0.55), ylim=(0.5, -0.5))
        axes.grid(color=GRID, lw=0.6)
        axes.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        return encoded(figure)


def draw_channels(statistics: DataStatistics) -> Drawing:
    """Mean and deviation of red, green, blue: ImageNet's, the published, and this data's, in each way of reckoning."""
    rows = channel_rows(statistics)
    with plain():
        figure, axes = canvas(0.9 + 0.42 * len(rows), f"Mean and deviation of the channels, {statistics.name}", 6.4)
        for y, (_, mean, std) in enumerate(rows):
            for shift, colour, m, s in zip((-0.22, 0, 0.22), (VERMILION, GREEN, BLUE), mean, std, strict=True):
                axes.plot([m - s, m + s], [y + shift] * 2, color=colour, lw=1.4, solid_capstyle="butt")
                axes.plot(m, y + shift, "o", color=colour, ms=4)
        for imagenet, colour in zip(IMAGENET[0], (VERMILION, GREEN, BLUE), strict=True):
            axes.axvline(imagenet, color=colour, lw=0.6, ls=":", zorder=0)
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows], fontsize=8)
        axes.set(
            ylim=(len(rows) - 0.5, -0.5), xlim=(0, 1), xlabel="mean ± one standard deviation (dotted: ImageNet's means)"
        )
        axes.tick_params(axis="y", length=0)
        for name, colour in (("red", VERMILION), ("green", GREEN), ("blue", BLUE)):
            axes.plot([], [], "o-", color=colour, ms=4, lw=1.4, label=name)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        return encoded(figure)


def draw_brightness(statistics: Statistics) -> Drawing:
    """How often each value of red, green, blue is in the images, and in the crops within the image."""
    with plain():
        figure, axes = canvas(3.2, f"Values in the pixels of {statistics.images.n} images")
        for channels, style, name in ((statistics.images, "-", "images"), (statistics.crops_inside, ":", "crops")):
            for colour, counts in zip((VERMILION, GREEN, BLUE), channels.histogram, strict=True):
                shares = 100 * counts.reshape(64, 4).sum(axis=1) / max(1, counts.sum())
                axes.stairs(shares, np.linspace(0, 1, 65), color=colour, ls=style, lw=1.2)
            axes.plot([], [], style, color=INK, lw=1.2, label=name)
        axes.set(
            xlim=(0, 1), ylim=(0, None), xlabel="value of the channel (red, green, blue)", ylabel="pixels, % per 1/64"
        )
        axes.legend(frameon=False, fontsize=8)
        axes.grid(axis="y", color=GRID, lw=0.6)
        return encoded(figure)


def channel_rows(statistics: DataStatistics) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """What mean and standard deviation are of, then the two, (3,) each, 0..1: references first."""
    references = (("ImageNet", IMAGENET), (_PUBLISHED, PUBLISHED))
    rows = [(name, np.array(mean), np.array(std)) for name, (mean, std) in references]
    for name, channels in statistics.together.channels().items():
        rows += [(f"{name}, each by itself", *channels.per_picture), (f"{name}, all pixels", *channels.pooled)]
    return rows


def _ellipse(mean: np.ndarray, covariance: np.ndarray, colour: str) -> Ellipse:
    """The points one standard deviation from a mean."""
    from matplotlib.patches import Ellipse

    variances, axes = np.linalg.eigh(covariance)  # ascending; columns
    across, along = 2 * np.sqrt(variances.clip(0))
    angle = np.degrees(np.arctan2(axes[1, 1], axes[0, 1]))
    x, y = mean
    return Ellipse((x, y), along, across, angle=angle, fill=False, ec=colour, lw=0.7, alpha=0.75, zorder=2)


def _bars_of(axes: Axes, values: np.ndarray, edges: np.ndarray) -> None:
    counts, _ = np.histogram(values, edges)
    axes.stairs(counts, edges, fill=True, color=SKY, alpha=0.85)
    axes.stairs(counts, edges, color=GREY, lw=0.6)
    axes.set_xlim(0, edges[-1])
    axes.set_axisbelow(True)


def _step(about: float) -> float:
    """A round width for bars: 1, 2 or 5 times a power of ten."""
    power = 10 ** np.floor(np.log10(about))
    return float(power * next(factor for factor in (1, 2, 5, 10) if factor * power >= about))
