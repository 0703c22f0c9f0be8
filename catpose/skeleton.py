"""A skeleton: the keypoints' names and order, which are mirror images of each other, limbs and OKS sigmas.

AP-10K's 17 keypoints are the default, and the synthetic cats'. Source: Yu et al., "AP-10K: A Benchmark for Animal Pose
Estimation in the Wild", NeurIPS 2021 (names, order, sigmas). "Left" and "right" are the animal's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from catpose.errors import InputError, one_line
from catpose.text import first

#: A keypoint's sigma where nobody states one: the median of AP-10K's.
DEFAULT_SIGMA = 0.072
#: More keypoints than any animal has; a file that lists more is refused before memory is reserved for them.
MOST_KEYPOINTS = 1000
#: Beyond the unit, the animal's own size, everything would be right.
LARGEST_SIGMA = 100
_LONGEST_NAME = 100
#: What tells the side in a name, as in left_eye, eye-right, LeftEar, earLeft, L_Eye; and its counterpart.
_SIDE = re.compile(r"(?<![a-z])(?:left|right)|(?<![a-z])[lr](?![a-z])|(?<=[a-z])(?-i:Left|Right)", re.IGNORECASE)
_COUNTERPARTS = {"left": "right", "right": "left", "l": "r", "r": "l"}
#: Words of names that belong to the hindquarters.
_HIND = ("hind", "back", "rear", "tail", "hip")


#: COCO's 17 keypoints of a person with the sigmas of its evaluation (pycocotools 2.0.11, cocoeval.py, `setKpParams`).
COCO_PERSON = {
    "nose": 0.026,
    "left_eye": 0.025,
    "right_eye": 0.025,
    "left_ear": 0.035,
    "right_ear": 0.035,
    "left_shoulder": 0.079,
    "right_shoulder": 0.079,
    "left_elbow": 0.072,
    "right_elbow": 0.072,
    "left_wrist": 0.062,
    "right_wrist": 0.062,
    "left_hip": 0.107,
    "right_hip": 0.107,
    "left_knee": 0.087,
    "right_knee": 0.087,
    "left_ankle": 0.089,
    "right_ankle": 0.089,
}


@dataclass(frozen=True)
class Skeleton:
    """Keypoints in their order, and what is known of each; K of them.

    Args:
        names: K different names.
        flip_pairs: indices (left, right) of keypoints that a mirrored picture exchanges, each in one pair at most.
        limbs: indices of keypoints that a line joins (COCO's `skeleton`, which counts from 1).
        sigmas: OKS falloff per keypoint, above 0 (unit: square root of the instance's area).
        upper: indices of the upper body, of the half-body transform; `lower` are its lower ones.
        name: of the skeleton, for messages.

    Raises:
        InputError: names or indices that contradict these rules.
    """

    names: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    upper: tuple[int, ...]
    lower: tuple[int, ...]
    name: str = "custom"

    def __post_init__(self) -> None:
        known = range(_require_names(self.names))
        for field, indices in (
            ("flip_pairs", [k for pair in self.flip_pairs for k in pair]),
            ("upper and lower", [*self.upper, *self.lower]),
        ):
            if len(set(indices)) < len(indices):
                raise InputError(f"skeleton: a keypoint is twice in {field}; name it once")
        pairs = (*self.flip_pairs, *self.limbs)
        if not all(len(pair) == 2 and pair[0] in known and pair[1] in known for pair in pairs):
            raise InputError("skeleton: flip_pairs and limbs are pairs of its keypoints")
        if not all(k in known for k in (*self.upper, *self.lower)):
            raise InputError("skeleton: upper and lower are some of its keypoints")
        if len(self.sigmas) != len(self.names) or not all(0 < sigma < LARGEST_SIGMA for sigma in self.sigmas):
            raise InputError(f"skeleton: sigmas must be {len(self.names)} numbers above 0 and below {LARGEST_SIGMA}")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def flip(self) -> tuple[int, ...]:
        """(K,): `flip[i]` is the keypoint that stands where i stood once the picture is mirrored."""
        flip = list(range(len(self)))
        for left, right in self.flip_pairs:
            flip[left], flip[right] = right, left
        return tuple(flip)

    @property
    def sides(self) -> tuple[Literal["left", "right", "middle"], ...]:
        """(K,): the side of the animal that each keypoint is on."""
        sides: list[Literal["left", "right", "middle"]] = ["middle"] * len(self)
        for left, right in self.flip_pairs:
            sides[left], sides[right] = "left", "right"
        return tuple(sides)

    def indices(self, *names: str) -> list[int]:
        """The places of these names, in their order, without those that the skeleton doesn't have."""
        return [self.names.index(name) for name in names if name in self.names]

    def difference(self, other: Skeleton) -> str:
        """In what the other's keypoints are other ones: "" where both agree in names, order and flip pairs."""
        if self.names == other.names:
            return "" if self.flip == other.flip else "other flip pairs"
        added = [name for name in self.names if name not in other.names]
        missing = [name for name in other.names if name not in self.names]
        if not added and not missing:
            k = next(k for k in range(len(self)) if self.names[k] != other.names[k])
            return f"another order ({self.names[k]} at place {k}, not {other.names[k]})"
        parts = [f"{len(self)} keypoints, not {len(other)}"] if len(self) != len(other) else []
        parts += [f"without {first(missing, 5)}"] if missing else []
        parts += [f"with {first(added, 5)}"] if added else []
        return ", ".join(parts)

    def summary(self) -> str:
        """What was taken for granted about it, in a line."""
        pairs = ", ".join(f"{self.names[a]}–{self.names[b]}" for a, b in self.flip_pairs) or "none"
        taken = [name for name, sigma in zip(self.names, self.sigmas, strict=True) if sigma == DEFAULT_SIGMA]
        taken = [name for name in taken if name not in AP10K.names]
        line = f"{len(self)} keypoints ({self.name}); flip pairs: {pairs}"
        if taken:
            line += (
                f"; sigma {DEFAULT_SIGMA}, the median of AP-10K's, for {', '.join(taken)} (skeleton.yaml states others)"
            )
        return line

    def to_plain(self) -> dict[str, Any]:
        """Lists, numbers and texts, as a checkpoint keeps them."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_plain(cls, plain: Any) -> Skeleton:
        """What `to_plain` gave.

        Raises:
            InputError: anything else.
        """
        try:
            return cls(
                names=tuple(plain["names"]),
                flip_pairs=tuple((int(a), int(b)) for a, b in plain["flip_pairs"]),
                limbs=tuple((int(a), int(b)) for a, b in plain["limbs"]),
                sigmas=tuple(map(float, plain["sigmas"])),
                upper=tuple(map(int, plain["upper"])),
                lower=tuple(map(int, plain["lower"])),
                name=one_line(plain["name"])[:_LONGEST_NAME],
            )
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise InputError(f"no skeleton ({one_line(error)[:80]})") from None


AP10K_NAMES = (
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


def counterpart(name: str) -> str:
    """The name of the keypoint on the other side of the animal; the same name for one in the middle."""

    def other(match: re.Match[str]) -> str:
        word = match[0]
        exchanged = _COUNTERPARTS[word.lower()]
        return exchanged.upper() if word.isupper() else exchanged.capitalize() if word[0].isupper() else exchanged

    return _SIDE.sub(other, name, count=1)


def without_side(name: str) -> str:
    """The name that both keypoints of a pair share: `eye` of left_eye."""
    return _SIDE.sub("", name, count=1).strip("_- ") or name


def _pairs_by_name(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Flip pairs (left, right) of keypoints by the words left and right in their names.

    Raises:
        InputError: a keypoint of one side whose counterpart is absent.
    """
    pairs = []
    for k, name in enumerate(names):
        other = counterpart(name)
        if other != name and other not in names:
            raise InputError(
                f"skeleton: {one_line(name)} has no counterpart {one_line(other)}; write flip_pairs into skeleton.yaml"
            )
        if other != name and _SIDE.search(name)[0].lower() in ("left", "l"):  # type: ignore[index]
            pairs.append((k, names.index(other)))
    return tuple(pairs)


def skeleton_of(
    names: Sequence[str],
    *,
    flip_pairs: Sequence[tuple[int, int]] | None = None,
    limbs: Sequence[tuple[int, int]] | None = None,
    sigmas: Mapping[str, float] | None = None,
    upper: Sequence[int] | None = None,
    lower: Sequence[int] | None = None,
    name: str | None = None,
) -> Skeleton:
    """The skeleton of these keypoints; what is not stated follows from their names.

    Args:
        names: in their order.
        flip_pairs: or else by left and right in the names.
        limbs: or else AP-10K's between keypoints of its names.
        sigmas: by name; or else COCO's where the names are those of its person, AP-10K's for AP-10K's names, else
            `DEFAULT_SIGMA`.
        upper, lower: or else AP-10K's for its names; of the others, those named after hindquarters are lower ones.
        name: or else AP-10K's name for its keypoints, "custom" for others.

    Raises:
        InputError: names or values that make no skeleton.
    """
    names = tuple(names)
    _require_names(names)
    published = COCO_PERSON if set(names) == COCO_PERSON.keys() else dict(zip(AP10K_NAMES, AP10K.sigmas, strict=True))
    known = published | dict(sigmas or {})
    rear = [_is_rear(name) for name in names]
    if limbs is None:
        by_name = [(AP10K_NAMES[a], AP10K_NAMES[b]) for a, b in AP10K.limbs]
        limbs = [(names.index(a), names.index(b)) for a, b in by_name if a in names and b in names]
    return Skeleton(
        names=names,
        flip_pairs=tuple(_pairs_by_name(names) if flip_pairs is None else flip_pairs),
        limbs=tuple(limbs),
        sigmas=tuple(known.get(name, DEFAULT_SIGMA) for name in names),
        upper=tuple(k for k in range(len(names)) if not rear[k]) if upper is None else tuple(upper),
        lower=tuple(k for k in range(len(names)) if rear[k]) if lower is None else tuple(lower),
        name=name or (AP10K.name if names == AP10K_NAMES else "custom"),
    )


def _is_rear(name: str) -> bool:
    if name in AP10K_NAMES:
        return AP10K_NAMES.index(name) in AP10K.lower
    return any(word in name.lower() for word in _HIND)


def _require_names(names: Sequence[Any]) -> int:
    """How many names there are; InputError unless they are different, short, printable texts."""
    if not 1 <= len(names) <= MOST_KEYPOINTS:
        raise InputError(f"skeleton: {len(names)} keypoints; a skeleton has 1 to {MOST_KEYPOINTS}")
    for name in names:
        if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
            raise InputError(f"skeleton: {one_line(repr(name))[:60]} is no name of a keypoint")
    twice = next((name for k, name in enumerate(names) if name in names[:k]), None)
    if twice is not None:
        raise InputError(f"skeleton: two keypoints are called {one_line(twice)}; give each its own name")
    return len(names)


AP10K = Skeleton(
    names=AP10K_NAMES,
    flip_pairs=_pairs_by_name(AP10K_NAMES),
    limbs=(
        (0, 1), (0, 2), (1, 2), (2, 3), (3, 4),
        (3, 5), (5, 6), (6, 7), (3, 8), (8, 9), (9, 10),
        (4, 11), (11, 12), (12, 13), (4, 14), (14, 15), (15, 16),
    ),
    sigmas=(
        0.025, 0.025, 0.026, 0.035, 0.035,
        0.079, 0.072, 0.062, 0.079, 0.072, 0.062,
        0.107, 0.087, 0.089, 0.107, 0.087, 0.089,
    ),
    # Eyes, nose, neck and front legs; the lower ones are all others. (MMPose's published AP-10K metadata counts the
    # right front paw as lower, a slip that is not copied.)
    upper=(0, 1, 2, 3, 5, 6, 7, 8, 9, 10),
    lower=(4, 11, 12, 13, 14, 15, 16),
    name="AP-10K",
)  # fmt: skip
