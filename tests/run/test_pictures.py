"""Names of overlays: no two files are one, on any file system."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from catpose.run.pictures import file_names

STEMS = st.text(st.sampled_from("aA1_éßſ"), min_size=1, max_size=4)


@given(st.lists(STEMS, max_size=12))
def test_no_two_are_equal_in_capitals_or_composition_either(stems: list[str]) -> None:
    paths = [unicodedata.normalize("NFD" if i % 2 else "NFC", f"x/{stem}.png") for i, stem in enumerate(stems)]
    names = file_names(paths)
    for form in ("NFC", "NFD"):
        for fold in (str.lower, str.upper, str.casefold):
            assert len({fold(unicodedata.normalize(form, name)) for name in names}) == len(names)


@given(st.lists(STEMS, max_size=12))
def test_a_stem_of_its_own_stays(stems: list[str]) -> None:
    folded = [stem.casefold() for stem in stems]
    for stem, name in zip(stems, file_names([f"{stem}.jpg" for stem in stems]), strict=True):
        assert name == stem or folded.count(stem.casefold()) > 1


def test_names_stay_short() -> None:
    names = file_names(["x" * 250 + ".jpg", "é" * 120 + ".jpg", "x" * 249 + "y.jpg"])
    assert all(len(f"{name}.jpg".encode()) <= 255 for name in names)
    assert len(set(names)) == 3


def test_folders_stay() -> None:
    assert file_names(["a/x.jpg", "b/x.jpg", "x.png"]) == ["a/x", "b/x", "x"]
    assert file_names(["a/x.jpg", "a/x.png", "A/X.gif"]) == ["a/1_x", "a/2_x", "A/3_X"]
