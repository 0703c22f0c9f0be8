"""Keypoints of other tools, matched to AP-10K's 17 by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from catpose.errors import InputError, one_line
from catpose.skeleton import AP10K, Skeleton

#: Animal-Pose's name of each of the 17; its ears and withers have no counterpart. Its "elbow" and "knee" are the
#: upper and the middle joint of every leg, AP-10K's shoulder and elbow in front, hip and knee behind.
ANIMAL_POSE: dict[str, str] = {
    "left_eye": "left_eye",
    "right_eye": "right_eye",
    "nose": "nose",
    "neck": "throat",
    "root_of_tail": "tailbase",
    "left_shoulder": "left_front_elbow",
    "left_elbow": "left_front_knee",
    "left_front_paw": "left_front_paw",
    "right_shoulder": "right_front_elbow",
    "right_elbow": "right_front_knee",
    "right_front_paw": "right_front_paw",
    "left_hip": "left_back_elbow",
    "left_knee": "left_back_knee",
    "left_back_paw": "left_back_paw",
    "right_hip": "right_back_elbow",
    "right_knee": "right_back_knee",
    "right_back_paw": "right_back_paw",
}

#: DeepLabCut's SuperAnimal-Quadruped, which writes "thai" for the upper joint of every leg.
_SUPERANIMAL = {
    f"{side}_{theirs}": f"{side}_{ours}"
    for side in ("left", "right")
    for theirs, ours in (
        ("front_thai", "shoulder"),
        ("front_knee", "elbow"),
        ("back_thai", "hip"),
        ("back_knee", "knee"),
    )
}

LEFT_OUT = "-"  # in a list of names: a keypoint that is to be left out

_WORDS = {
    "l": "left", "r": "right", "f": "front", "fore": "front", "anterior": "front",
    "b": "back", "h": "back", "hind": "back", "rear": "back", "posterior": "back",
}  # fmt: skip
_PAIRS = {side + place for side in "lr" for place in "fbh"} | {place + side for side in "lr" for place in "fbh"}
_PREFIX = re.compile(
    r"(left|right|front|fore|hind|back|rear)(?=(left|right|front|fore|hind|back|rear)?(eye|ear|paw|foot|knee|elbow|hip"
    r"|shoulder|stifle)s?$|(left|right|front|fore|hind|back|rear)$)"
)
_SYNONYMS = {
    "throat": "neck", "nose_tip": "nose", "tip_nose": "nose", "tip_of_nose": "nose",
    "tailbase": "root_of_tail", "tail_base": "root_of_tail", "base_tail": "root_of_tail",
    "base_of_tail": "root_of_tail", "tailroot": "root_of_tail", "tail_root": "root_of_tail",
    "root_tail": "root_of_tail", "tailhead": "root_of_tail", "tail_head": "root_of_tail",
    "tail_start": "root_of_tail", "tailstart": "root_of_tail",
    "front_shoulder": "shoulder", "front_elbow": "elbow", "front_foot": "front_paw",
    "back_hip": "hip", "back_knee": "knee", "stifle": "knee", "back_stifle": "knee", "back_foot": "back_paw",
}  # fmt: skip


@dataclass(frozen=True)
class Match:
    """Where each keypoint of a skeleton, AP-10K's or the source's own, stands among a source's keypoints."""

    source: tuple[str, ...]
    places: tuple[int | None, ...]  # of each of `skeleton.names`; None for one that the source doesn't have
    words: str = ""  # whose words they are, where those mean other joints
    skeleton: Skeleton = AP10K

    @property
    def missing(self) -> list[str]:
        return [name for name, place in zip(self.skeleton.names, self.places, strict=True) if place is None]

    @property
    def left_out(self) -> list[str]:
        return [name for i, name in enumerate(self.source) if i not in self.places]

    def table(self) -> str:
        """The matches, a line each, as printed; of a skeleton of the source's own, what is taken for granted of it."""
        n = len(self.places) - len(self.missing)
        words = f" ({self.words}'s words)" if self.words else ""
        if self.skeleton is AP10K:
            lines = [f"{n} of the source's {len(self.source)} keypoints are AP-10K's{words}:"]
            for name, place in zip(AP10K.names, self.places, strict=True):
                lines.append(f"  {name:16} {'- (v = 0)' if place is None else one_line(self.source[place])}")
        else:
            lines = [f"the source's own keypoints, {n} of {len(self.source)}: {one_line(self.skeleton.summary())}"]
        if self.left_out:
            lines.append(f"  left out: {one_line(', '.join(self.left_out))}")
        return "\n".join(lines)


def match_keypoints(names: Sequence[str], source: object) -> Match:
    """Where each of the 17 stands among a source's keypoints, by their names.

    Case, blanks, hyphens, camel case, the order of side and place, and known synonyms don't matter. Animal-Pose's and
    SuperAnimal-Quadruped's words mean other joints and are recognised by those that only they have.

    Args:
        names: of the source's keypoints in its order; "-" for one to be left out.
        source: for messages.

    Raises:
        InputError: none is one of the 17, or two mean the same one.
    """
    found, whose = meanings(names, source)
    if not found:
        raise InputError(
            f"{source}: none of its {len(names)} keypoints ({_some(names)}) is one of AP-10K's 17 by its name; write"
            " what they are into a file, a line each, '-' for one to leave out, and give it with --keypoints, or keep"
            " them as they are with --skeleton own"
        )
    return Match(tuple(names), tuple(found.get(name) for name in AP10K.names), whose)


def meanings(names: Sequence[str], source: object = None) -> tuple[dict[str, int], str]:
    """By AP-10K's names the places of those that mean them, the first of several; and whose words they are, where those
    mean other joints.

    Raises:
        InputError: two mean the same one, where a source is given, for the message.
    """
    words = [in_words(name) for name in names]
    table: dict[str, str] = {}
    whose = ""
    if {"left_front_elbow", "left_front_knee"} <= set(words) or {"right_front_elbow", "right_front_knee"} <= set(words):
        whose, table = "Animal-Pose", {theirs: ours for ours, theirs in ANIMAL_POSE.items()}
    elif any(word.endswith("_front_thai") for word in words):
        whose, table = "SuperAnimal-Quadruped", _SUPERANIMAL
    found: dict[str, int] = {}
    for place, word in enumerate(words):
        ours = table.get(word) or _synonym(word)
        if ours not in AP10K.names:
            continue
        if ours in found and source is not None:
            raise InputError(
                f"{source}: keypoints '{names[found[ours]]}' and '{names[place]}' both mean {ours}; name them in a"
                " file, a line each, '-' for one to leave out, and give it with --keypoints"
            )
        found.setdefault(ours, place)
    return found, whose


def in_words(name: str) -> str:
    """A name in lower case with "_" between its words, side and place first: `L_F_Paw`, `front left paw` and
    `LeftFrontPaw` are left_front_paw."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    words: list[str] = []
    for word in re.split(r"[\W_]+", spaced.casefold()):
        while prefix := _PREFIX.match(word):
            words.append(prefix[1])
            word = word[len(prefix[1]) :]
        words += list(word) if word in _PAIRS else [word] if word else []
    words = [_WORDS.get(word, word) for word in words]
    order = {"left": 0, "right": 0, "front": 1, "back": 1}
    return "_".join(sorted(words, key=lambda word: order.get(word, 2)))


def read_names(file: Path) -> tuple[str, ...]:
    """The keypoints' names in a text file, a line each; empty lines and those that begin with "#" don't count.

    Raises:
        InputError: the file can't be read as text, or holds no name.
    """
    try:
        with file.open("rb") as opened:
            lines = opened.read(2**16).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--keypoints {file}: can't be read as a list of names ({error}); write a name a line"
        ) from None
    names = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not names:
        raise InputError(f"--keypoints {file}: holds no name; write the keypoints' names in order, a line each")
    return names


def _synonym(word: str) -> str:
    side, _, part = word.partition("_")
    if side in ("left", "right"):
        return f"{side}_{_SYNONYMS.get(part, part)}"
    return _SYNONYMS.get(word, word)


def _some(names: Sequence[str]) -> str:
    return one_line(", ".join(names[:3]) + (", …" if len(names) > 3 else ""))[:80]
