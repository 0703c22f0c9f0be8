"""What lies behind a drawn cat: rooms, meadows, cloths and clutter."""

from __future__ import annotations

import cv2
import numpy as np

from catpose.synthetic.brush import noise, textured

BACKDROPS = ("room", "meadow", "studio", "blanket", "clutter")

WALLS = (
    (222, 206, 182),
    (186, 204, 206),
    (206, 190, 204),
    (238, 226, 196),
    (170, 186, 164),
    (212, 170, 150),
    (126, 146, 168),
)
FLOORS = ((176, 132, 92), (146, 108, 78), (196, 164, 124), (150, 150, 152), (120, 96, 84), (186, 178, 166))
CLOTHS = (
    (196, 98, 84),
    (92, 128, 152),
    (222, 184, 122),
    (122, 148, 112),
    (150, 112, 142),
    (214, 206, 194),
    (86, 84, 96),
    (206, 150, 96),
)
GREENS = ((106, 152, 72), (134, 168, 84), (88, 134, 80), (152, 160, 88))


def backdrop(rng: np.random.Generator, kind: str, size: tuple[int, int], horizon: int) -> np.ndarray:
    """One of `BACKDROPS` as (H, W, 3) uint8; where it has a floor, that begins at y = `horizon` px."""
    paint = {"room": _room, "meadow": _meadow, "studio": _studio, "blanket": _blanket, "clutter": _clutter}[kind]
    return paint(rng, size, horizon)


def pick(rng: np.random.Generator, colours: tuple[tuple[int, int, int], ...], spread: float = 10) -> np.ndarray:
    """One of the colours, varied: (3,) RGB, 10–250."""
    return np.clip(np.array(colours[rng.integers(len(colours))]) + rng.normal(0, spread, 3), 10, 250)


def _gradient(size: tuple[int, int], top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    t = np.linspace(0, 1, size[1])[:, None]
    column = ((1 - t) * top + t * bottom).astype(np.uint8)
    return np.repeat(column[:, None], size[0], axis=1)


def _box(image: np.ndarray, x: float, y: float, w: float, h: float, colour: np.ndarray, edge: float = 0.75) -> None:
    a, b = (int(x), int(y)), (int(x + w), int(y + h))
    cv2.rectangle(image, a, b, colour.tolist(), -1)
    if edge:
        cv2.rectangle(image, a, b, (edge * colour).tolist(), 2, cv2.LINE_AA)


def _ellipse(
    image: np.ndarray, x: float, y: float, rx: float, ry: float, colour: np.ndarray, angle: float = 0.0
) -> None:
    axes = (max(int(rx), 1), max(int(ry), 1))
    cv2.ellipse(image, (int(x), int(y)), axes, angle, 0, 360, colour.tolist(), -1, cv2.LINE_AA)


def _room(rng: np.random.Generator, size: tuple[int, int], horizon: int) -> np.ndarray:
    width, height = size
    wall, floor = pick(rng, WALLS), pick(rng, FLOORS)
    image = _gradient(size, wall * 0.96, np.minimum(wall * 1.04, 255))
    paper = rng.integers(3)
    if paper == 1:  # striped wallpaper
        step = int(rng.integers(18, 44))
        for x in range(0, width, step):
            cv2.rectangle(image, (x, 0), (x + step // 2, horizon), (0.94 * wall).tolist(), -1)
    elif paper == 2:  # dots
        step = int(rng.integers(22, 44))
        for j, y in enumerate(range(0, horizon, step)):
            for x in range((j % 2) * step // 2, width, step):
                cv2.circle(image, (x, y), 3, (0.9 * wall).tolist(), -1, cv2.LINE_AA)
    image[horizon:] = _gradient((width, height - horizon), 0.86 * floor, np.minimum(1.05 * floor, 255))
    if rng.random() < 0.55:  # boards that run towards the viewer
        middle = rng.uniform(0.2, 0.8) * width
        for k in range(-9, 10):
            near = (int(middle + k * width * 0.24), height)
            cv2.line(image, (int(middle + k * width * 0.1), horizon), near, (0.75 * floor).tolist(), 1, cv2.LINE_AA)
    else:
        part = image[horizon:]
        image[horizon:] = textured(part, noise(rng, (width, height - horizon), 1, 1), 0.35)
    for _ in range(rng.integers(1, 4)):
        _furnish(rng, image, horizon)
    _box(image, -4, horizon - 9, width + 8, 9, np.minimum(1.12 * wall, 250), 0.8)
    if rng.random() < 0.5:  # a rug
        depth, cloth = height - horizon, pick(rng, CLOTHS)
        at = rng.uniform(0.25, 0.75) * width, horizon + rng.uniform(0.45, 0.8) * depth
        rx, ry = rng.uniform(0.3, 0.5) * width, rng.uniform(0.35, 0.5) * depth
        for ring, shade in ((1.0, 0.8), (0.92, 1.0), (0.66, 0.88), (0.6, 1.0)):
            _ellipse(image, *at, ring * rx, ring * ry, np.minimum(shade * cloth, 255))
    return image


def _furnish(rng: np.random.Generator, image: np.ndarray, horizon: int) -> None:
    """One piece against the wall."""
    width = image.shape[1]
    x = rng.uniform(-0.05, 0.85) * width
    kind = rng.integers(5)
    if kind == 0:  # a window
        w, h = rng.uniform(0.18, 0.3) * width, 0.62 * horizon
        y = 0.1 * horizon
        _box(image, x, y, w, h, np.array([186.0, 216.0, 236.0]), 0)
        _ellipse(image, x + 0.5 * w, y + h, 0.49 * w, 0.3 * h, pick(rng, GREENS))
        frame = np.array([244.0, 240.0, 232.0])
        for a, b in (((0, 0), (w, 0)), ((0, h), (w, h)), ((0, 0), (0, h)), ((w, 0), (w, h)), ((w / 2, 0), (w / 2, h))):
            start, end = (int(x + a[0]), int(y + a[1])), (int(x + b[0]), int(y + b[1]))
            cv2.line(image, start, end, frame.tolist(), 4, cv2.LINE_AA)
        _box(image, x - 5, y + h, w + 10, 6, frame)
    elif kind == 1:  # a picture
        w, h = rng.uniform(0.1, 0.2) * width, rng.uniform(0.2, 0.4) * horizon
        y = rng.uniform(0.08, 0.35) * horizon
        _box(image, x, y, w, h, pick(rng, FLOORS))
        _box(image, x + 5, y + 5, w - 10, h - 10, pick(rng, CLOTHS), 0)
        _ellipse(image, x + w / 2, y + 0.6 * h, 0.25 * w, 0.2 * h, pick(rng, WALLS))
    elif kind == 2:  # a bookcase
        w, h = rng.uniform(0.2, 0.32) * width, rng.uniform(0.6, 0.95) * horizon
        wood = pick(rng, FLOORS) * 0.8
        _box(image, x, horizon - h, w, h, wood)
        for shelf in range(3):
            y = horizon - h + (shelf + 1) * h / 3 - 5
            at = x + 5
            while at < x + w - 10:
                wide, high = rng.uniform(5, 11), rng.uniform(0.5, 0.85) * h / 3
                _box(image, at, y - high, wide, high, pick(rng, CLOTHS, 16), 0.8)
                at += wide + 1.5
    elif kind == 3:  # a sofa
        w, h = rng.uniform(0.4, 0.6) * width, rng.uniform(0.35, 0.5) * horizon
        cloth = pick(rng, CLOTHS)
        _box(image, x, horizon - h, w, h, cloth)
        for side in (0.02, 0.51):
            _box(image, x + side * w, horizon - 0.8 * h, 0.47 * w, 0.5 * h, np.minimum(1.07 * cloth, 250), 0.85)
        _box(image, x - 0.08 * w, horizon - 0.6 * h, 0.12 * w, 0.6 * h, 0.92 * cloth)
    else:  # a plant in a pot
        w, h = 0.1 * width, 0.22 * horizon
        green = pick(rng, GREENS) * 0.85
        for angle in rng.uniform(-70, 70, 7):
            a = np.deg2rad(angle)
            long = rng.uniform(0.22, 0.36) * horizon
            _ellipse(
                image,
                x + w / 2 + long * np.sin(a),
                horizon - h - long * np.cos(a),
                0.17 * long,
                long,
                green * rng.uniform(0.8, 1.15),
                angle,
            )
        _box(image, x, horizon - h, w, h, pick(rng, CLOTHS))


def _meadow(rng: np.random.Generator, size: tuple[int, int], horizon: int) -> np.ndarray:
    width, height = size
    image = _gradient(size, np.array([142.0, 188.0, 228.0]) + rng.normal(0, 10, 3), np.array([222.0, 232.0, 230.0]))
    for _ in range(rng.integers(0, 3)):
        x, y, r = rng.uniform(0, width), rng.uniform(0.1, 0.5) * horizon, rng.uniform(0.03, 0.07) * width
        for k in (-1.1, 0.0, 1.0):
            _ellipse(image, x + k * r, y + 0.2 * abs(k) * r, 1.1 * r, 0.7 * r, np.array([246.0, 246.0, 242.0]))
    green = pick(rng, GREENS)
    for k in range(3):
        x, rx = rng.uniform(0, width), rng.uniform(0.4, 0.8) * width
        _ellipse(image, x, horizon + 4, rx, rng.uniform(0.1, 0.35) * horizon, green * (0.72 + 0.08 * k))
    for _ in range(rng.integers(0, 4)):
        x, h = rng.uniform(0, width), rng.uniform(0.3, 0.6) * horizon
        _box(image, x - 4, horizon - 0.6 * h, 8, 0.65 * h, np.array([112.0, 84.0, 62.0]), 0)
        for dx, dy, r in ((-0.22, 0.62, 0.26), (0.22, 0.66, 0.26), (0, 0.86, 0.3)):
            _ellipse(image, x + dx * h, horizon - dy * h, r * h, r * h, green * rng.uniform(0.6, 0.85))
    if rng.random() < 0.35:  # a fence
        wood = pick(rng, FLOORS)
        for y in (0.3, 0.16):
            _box(image, -5, horizon - y * horizon, width + 10, 7, wood)
        for x in range(int(rng.integers(0, 30)), width, 34):
            _box(image, x, horizon - 0.4 * horizon, 12, 0.42 * horizon, wood)
    ground = _gradient((width, height - horizon), 0.9 * green, np.minimum(1.08 * green, 255))
    image[horizon:] = textured(ground, noise(rng, (width, height - horizon), 0.8, 2.6), 0.5)
    for _ in range(rng.integers(12, 34)):
        x, y = rng.uniform(0, width), rng.uniform(horizon, height)
        blade = (green * rng.uniform(0.65, 1.2)).clip(0, 255)
        for lean in (-4, 0, 5):
            cv2.line(
                image, (int(x), int(y)), (int(x + lean), int(y - rng.uniform(7, 14))), blade.tolist(), 2, cv2.LINE_AA
            )
        if rng.random() < 0.3:
            colour = ((250, 246, 240), (244, 212, 84), (226, 124, 142))[rng.integers(3)]
            cv2.circle(image, (int(x), int(y - 12)), 3, colour, -1, cv2.LINE_AA)
    return image


def _studio(rng: np.random.Generator, size: tuple[int, int], horizon: int) -> np.ndarray:
    colour = pick(rng, (*WALLS, *CLOTHS))
    image = _gradient(size, np.minimum(1.1 * colour, 255), 0.7 * colour)
    return textured(image, noise(rng, size, 1.5, 1.5, kind=1), rng.uniform(0.15, 0.45))


def _blanket(rng: np.random.Generator, size: tuple[int, int], horizon: int) -> np.ndarray:
    """Cloth or carpet all over, in colours that cats come in too."""
    width, height = size
    colour = pick(rng, (*CLOTHS, *FLOORS), 8)
    image = _gradient(size, 0.85 * colour, np.minimum(1.05 * colour, 255))
    image = textured(image, noise(rng, size, 2.0, 2.0, kind=1), 0.35)
    if rng.random() < 0.6:  # checked
        overlay = image.copy()
        step = int(rng.integers(34, 72))
        second = pick(rng, CLOTHS, 14)
        for x in range(int(rng.integers(step)), width, step):
            cv2.rectangle(overlay, (x, 0), (x + step // 3, height), second.tolist(), -1)
        image = cv2.addWeighted(image, 0.6, overlay, 0.4, 0)
        for y in range(int(rng.integers(step)), height, step):
            cv2.rectangle(overlay, (0, y), (width, y + step // 3), second.tolist(), -1)
        image = cv2.addWeighted(image, 0.7, overlay, 0.3, 0)
    return textured(image, noise(rng, size, rng.uniform(1, 3), rng.uniform(1, 3)), rng.uniform(0.2, 0.45))


def _clutter(rng: np.random.Generator, size: tuple[int, int], horizon: int) -> np.ndarray:
    """Balls, boxes and cushions lying about, balloons over them."""
    width, height = size
    image = _studio(rng, size, horizon)
    image[horizon:] = cv2.convertScaleAbs(image[horizon:], alpha=0.85)
    for _ in range(rng.integers(7, 15)):
        x, y, r = rng.uniform(0, width), rng.uniform(0.1, 1) * height, rng.uniform(0.03, 0.12) * width
        colour = pick(rng, (*CLOTHS, *WALLS), 16)
        kind = rng.integers(3)
        if y < horizon or kind == 0:
            if y < horizon:  # a balloon on its string
                end = (int(x + rng.normal(0, 0.3) * r), int(y + 4 * r))
                cv2.line(image, (int(x), int(y + r)), end, (0.6 * colour).tolist(), 1, cv2.LINE_AA)
            _ellipse(image, x, y, r, r, 0.78 * colour)
            _ellipse(image, x - 0.08 * r, y - 0.1 * r, 0.86 * r, 0.86 * r, colour)
            _ellipse(image, x - 0.35 * r, y - 0.4 * r, 0.2 * r, 0.15 * r, np.minimum(1.25 * colour, 255))
        elif kind == 1:
            _box(image, x - r, y - r, 2 * r, rng.uniform(0.8, 2) * r, colour)
            _box(image, x - r, y - r, 2 * r, 0.3 * r, 0.86 * colour, 0)
        else:
            _ellipse(image, x, y, 1.5 * r, 0.55 * r, 0.8 * colour)
            _ellipse(image, x, y - 0.06 * r, 1.3 * r, 0.42 * r, colour)
    return image
