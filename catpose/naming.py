"""What others call AP-10K's 17 keypoints: spellings, synonyms, and data sets whose words mean other joints."""

from __future__ import annotations

import re
from collections.abc import Sequence

from catpose.errors import InputError
from catpose.skeleton import AP10K

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


def _synonym(word: str) -> str:
    side, _, part = word.partition("_")
    if side in ("left", "right"):
        return f"{side}_{_SYNONYMS.get(part, part)}"
    return _SYNONYMS.get(word, word)
