"""A source's own keypoints as a skeleton: what the 17 tell of those that match, what the source tells of the others."""

from __future__ import annotations

from collections.abc import Sequence

from catpose.data.importers.names import LEFT_OUT, Match
from catpose.errors import InputError, one_line
from catpose.naming import in_words, meanings
from catpose.skeleton import AP10K, DEFAULT_SIGMA, skeleton_of

Pairs = Sequence[tuple[int, int]]
_OTHER = {"left": "right", "right": "left"}
_HIND = ("back", "tail", "hip")


def keep_keypoints(
    names: Sequence[str], source: object, title: str, limbs: Pairs = (), flip_pairs: Pairs = ()
) -> Match:
    """All keypoints of a source under its own names and in its order.

    Those that mean one of AP-10K's 17 have its sigma and its half of the body. Limbs are the source's, or else AP-10K's
    between these.

    Args:
        names: of the source's keypoints in its order; "-" for one to be left out.
        source: for messages.
        title: of the skeleton.
        limbs: pairs of places in `names`; those that can't be are passed over.
        flip_pairs: likewise (left, right), for names that don't say left and right.

    Raises:
        InputError: names that make no skeleton, or one side of a pair without the other.
    """
    places = [place for place, name in enumerate(names) if name != LEFT_OUT]
    keypoints = [names[place].strip() for place in places]
    new = {place: k for k, place in enumerate(places)}
    ours = {new[place]: name for name, place in meanings(names)[0].items()}
    known = {name: k for k, name in ours.items()}
    hind = [ours[k] in AP10K.names[11:] or ours[k] == "root_of_tail" if k in ours else _is_hind(keypoints[k])
            for k in range(len(keypoints))]  # fmt: skip
    sigmas = dict(zip(AP10K.names, AP10K.sigmas, strict=True))
    drawn = [(new[a], new[b]) for a, b in limbs if a in new and b in new and a != b]
    by_meaning = [(AP10K.names[a], AP10K.names[b]) for a, b in AP10K.limbs]
    try:
        skeleton = skeleton_of(
            keypoints,
            flip_pairs=_pairs(keypoints) or [(new[a], new[b]) for a, b in flip_pairs if a in new and b in new],
            limbs=drawn or [(known[a], known[b]) for a, b in by_meaning if a in known and b in known],
            sigmas={name: sigmas.get(ours.get(k, ""), DEFAULT_SIGMA) for k, name in enumerate(keypoints)},
            upper=[k for k in range(len(keypoints)) if not hind[k]],
            lower=[k for k in range(len(keypoints)) if hind[k]],
            name=title,
        )
    except InputError as error:
        raise InputError(
            f"{source}: {error}; name the keypoints in a file, a line each, '-' for one to leave out, and give it with"
            " --keypoints"
        ) from None
    return Match(tuple(names), tuple(places), skeleton=skeleton)


def _pairs(names: Sequence[str]) -> list[tuple[int, int]]:
    """Left and right by the words in the names, however these are spelt."""
    words = [in_words(name) for name in names]
    pairs = []
    for k, word in enumerate(words):
        side, _, part = word.partition("_")
        if side not in _OTHER or not part:
            continue
        other = f"{_OTHER[side]}_{part}"
        if words.count(other) != 1 or words.count(word) != 1:
            raise InputError(
                f"'{one_line(names[k])[:60]}' is of one side, and not one other keypoint is its counterpart"
            )
        if side == "left":
            pairs.append((k, words.index(other)))
    return pairs


def _is_hind(name: str) -> bool:
    return any(word in _HIND for word in in_words(name).split("_"))
