"""Keypoints of other tools, matched to AP-10K's 17 by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from catpose.errors import InputError, one_line
from catpose.naming import meanings
from catpose.skeleton import AP10K, Skeleton

LEFT_OUT = "-"  # in a list of names: a keypoint that is to be left out


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


def _some(names: Sequence[str]) -> str:
    return one_line(", ".join(names[:3]) + (", …" if len(names) > 3 else ""))[:80]
