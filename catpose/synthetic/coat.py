"""The colours and patterns of drawn cats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WHITE = np.array([243.0, 239.0, 231.0])


@dataclass(frozen=True)
class Coat:
    """Colours are RGB, 0 to 255."""

    pattern: str  # one of PATTERNS
    base: np.ndarray
    dark: np.ndarray  # stripes, patches or points
    other: np.ndarray  # a second colour of patches
    socks: bool
    iris: np.ndarray
    nose: np.ndarray
    round_pupils: bool
    asleep: bool
    seed: int  # of what is left to chance in the pattern


PATTERNS = ("plain", "tabby", "bicolour", "patches", "points")

_FURS = {  # base and dark of each common colour
    "ginger": ((232, 158, 82), (186, 98, 36)),
    "brown": ((172, 140, 104), (84, 62, 46)),
    "silver": ((176, 178, 182), (86, 90, 98)),
    "black": ((66, 63, 68), (38, 36, 42)),
    "blue": ((126, 136, 152), (84, 92, 108)),
    "cream": ((240, 216, 176), (214, 164, 108)),
    "white": ((240, 236, 228), (206, 196, 184)),
    "chocolate": ((120, 84, 62), (72, 48, 38)),
}
_IRISES = ((150, 184, 84), (226, 184, 62), (214, 138, 48), (104, 168, 204), (116, 176, 140))
_NOSES = ((226, 140, 140), (196, 112, 108), (92, 66, 66))


def dress(rng: np.random.Generator, pose: str) -> Coat:
    """A random coat."""
    pattern = str(rng.choice(PATTERNS, p=(0.16, 0.36, 0.2, 0.16, 0.12)))
    names = {
        "plain": ("black", "blue", "cream", "white", "ginger", "chocolate", "silver"),
        "tabby": ("ginger", "brown", "silver", "brown", "ginger", "cream"),
        "bicolour": ("black", "blue", "ginger", "brown", "silver"),
        "patches": ("white", "white", "cream"),
        "points": ("cream", "white"),
    }[pattern]
    base, dark = (np.array(c, float) for c in _FURS[str(rng.choice(names))])
    other = np.array(_FURS["black"][0], float)
    if pattern == "patches":
        dark = np.array(_FURS["ginger"][0], float)
        if rng.random() < 0.4:  # black and white, like a cow
            dark = other
    elif pattern == "points":
        dark = np.array(_FURS[str(rng.choice(["chocolate", "black", "blue"]))][0], float)
    tint = rng.normal(0, 3, 3) + rng.normal(0, 7)
    return Coat(
        pattern=pattern,
        base=np.clip(base + tint, 25, 250),
        dark=np.clip(dark + tint, 20, 250),
        other=other,
        socks=pattern == "bicolour" or (pattern in ("tabby", "plain") and rng.random() < 0.35),
        iris=np.array(_IRISES[3 if pattern == "points" else rng.integers(len(_IRISES))], float),
        nose=np.array(_NOSES[rng.integers(len(_NOSES))], float),
        round_pupils=bool(rng.random() < 0.5),
        asleep=bool(pose == "lie" and rng.random() < 0.15),
        seed=int(rng.integers(2**31)),
    )
