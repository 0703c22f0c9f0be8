"""Numbers, tables and Markdown as text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catpose.text import (
    ends,
    fraction,
    latex_escaped,
    latex_table,
    listed,
    markdown_escaped,
    metric,
    number,
    p_value,
    signed,
    table,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (math.nan, ""),
        (0.0, "0.0000"),
        (0.67325, "0.6733"),
        (1.0, "1.0000"),
        (132, "132"),
        (12.3456, "12.35"),
    ],
)
def test_metrics(value: float | None, text: str) -> None:
    assert metric(value) == text


def test_columns_are_aligned() -> None:
    lines = table([("a", "1.0", "x"), ("longer", "100.25", "")], ("name", "n", "note")).splitlines()
    assert lines == [
        "name         n  note",
        "------  ------  ----",
        "a          1.0     x",
        "longer  100.25",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    assert table([], ("name", "value")).splitlines() == ["name  value", "----  -----"]


@pytest.mark.parametrize(
    ("write", "text"), [(fraction, "0.123"), (signed, "+0.123"), (number, "0.1235"), (p_value, "0.123")]
)
def test_what_isnt_known_is_blank(write: object, text: str) -> None:
    assert callable(write)
    assert [write(value) for value in (0.12346, math.nan, None)] == [text, "", ""]


@given(st.floats(-2, 2) | st.floats(-0.01, 0.01), st.sampled_from([fraction, signed, metric, number]))
def test_a_rounded_zero_has_no_minus(value: float, write: Callable[[float], str]) -> None:
    text = write(value)
    assert not (float(text) == 0 and text.startswith("-")), text
    assert abs(float(text) - value) <= 0.0005


@given(st.floats(-1, 1), st.integers(1, 5))
def test_a_difference_has_its_sign_unless_it_is_rounded_to_nothing(value: float, digits: int) -> None:
    text = signed(value, digits)
    assert float(text) == round(value, digits)
    assert text[0] == ("+" if float(text) > 0 else "-" if float(text) < 0 else "0")


def test_a_p_of_nearly_nothing_is_less_than_a_thousandth() -> None:
    assert [p_value(p) for p in (0.00099, 0.001, 1.0)] == ["<0.001", "0.001", "1.000"]


def test_an_interval_has_both_ends_or_is_blank() -> None:
    assert ends(0.1, 0.25) == "[0.100, 0.250]"
    assert ends(-0.1, 0.25, signed) == "[-0.100, +0.250]"
    assert ends(math.nan, 0.25) == ends(0.1, math.nan) == ""


@pytest.mark.parametrize(
    ("names", "text"),
    [("", "none"), ("a", "a"), ("ab", "a and b"), ("abc", "a, b and c"), ("abcd", "a, b, c and 1 more")],
)
def test_a_list_ends_with_and(names: str, text: str) -> None:
    assert listed(list(names), 3) == text


def test_latex_sets_text_as_it_is() -> None:
    specials = r"a\b_c & 5 % of #1 ${x} ~y^z | <0.001 ResNet-50 1e-05 [-0.003, +0.012] × Δ" + "\nnext"
    assert latex_escaped(specials) == (
        r"a\textbackslash{}b\_c \& 5 \% of \#1 \$\{x\} \textasciitilde{}y\textasciicircum{}z $|$ $<$0.001 ResNet-50"
        r" 1e-05 {[}$-$0.003, +0.012{]} $\times$ $\Delta$ next"
    )


#: What LaTeX sets for each that `latex_escaped` writes.
SET = {
    **{f"\\{letter}": letter for letter in "&%$#_{}"},
    **{r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^"},
    **{f"${letter}$": letter for letter in "<>|-"},
    **{r"$\times$": "×", r"$\Delta$": "Δ", "{[}": "[", "{]}": "]"},
}


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from('\\&%$#_{}~^<>|[]"-0123')), max_size=30))
def test_latex_sets_any_text_as_it_is(text: str) -> None:
    remaining, read = latex_escaped(text), ""
    while remaining:
        token = next((token for token in SET if remaining.startswith(token)), remaining[0])
        assert token in SET or token not in "\\&%$#_{}~^[]", remaining
        read, remaining = read + SET.get(token, token), remaining[len(token) :]
    assert read == " ".join(text.split()).replace('"', "''").replace("−", "-")


def test_a_table_is_one_of_booktabs() -> None:
    lines = latex_table([["lr_1", "0.5"]], ["model", "AP"], "50 %").splitlines()
    assert [line for line in lines if "rule" in line] == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert r"\begin{tabular}{lr}" in lines
    assert r"lr\_1 & 0.5 \\" in lines
    assert r"\caption{50 \%}" in lines


def test_markdown_shows_text_as_it_is() -> None:
    assert markdown_escaped("0.4 [0.3, 0.5]") == "0.4 [0.3, 0.5]"
    escaped = markdown_escaped("a|b `c` *d* <e> [f](g) [h][i] \\")
    assert re.findall(r"(?<!\\)[|`*<>]|(?<!\\)\][(\[]", escaped) == []
    assert escaped.replace("\\", "") == "a|b `c` *d* <e> [f](g) [h][i] "
