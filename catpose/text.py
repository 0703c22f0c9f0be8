"""Numbers, tables and Markdown as text. A number that isn't known, None or nan, is blank."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Protocol

from catpose.errors import one_line

#: What LaTeX takes for something else.
_LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", '"': "''"},
    **{"<": "$<$", ">": "$>$", "|": "$|$", "[": "{[}", "]": "{]}"},  # a row may not begin with a bracket
    **{"×": r"$\times$", "−": "$-$", "Δ": r"$\Delta$"},
}


class Interval(Protocol):
    """Whatever has two ends."""

    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def known(value: float | None) -> float | None:
    """None where it is nan, which JSON doesn't have."""
    return None if value is None or math.isnan(value) else value


def setting(value: str | float | None) -> str:
    """A setting's value as tables show it: numbers short, the rest as it is."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def number(value: float | None) -> str:
    """Four digits: "0.01234", "1234"."""
    return "" if value is None or math.isnan(value) else f"{value:z.4g}"


def fraction(value: float | None) -> str:
    """Three digits after the point, as of an AP: "0.765"."""
    return "" if value is None or math.isnan(value) else f"{value:z.3f}"


def signed(value: float | None, digits: int = 3) -> str:
    """A difference of fractions: "+0.012"; "0.000" of one that is rounded to nothing, whatever its sign."""
    if value is None or math.isnan(value):
        return ""
    return f"{value:+.{digits}f}" if round(value, digits) else f"{0:.{digits}f}"


def metric(value: float | None) -> str:
    """A fraction with four digits after the point, a greater number with four digits in all."""
    return "" if value is None or math.isnan(value) else f"{value:z.4f}" if abs(value) <= 1 else f"{value:z.4g}"


def p_value(p: float | None) -> str:
    """Three digits after the point, or "<0.001"."""
    return "" if p is None or math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def interval(of: Interval | None, written: Callable[[float], str] = fraction) -> str:
    """ "[low, high]", each end as `written` has it."""
    return "" if of is None else ends(of.low, of.high, written)


def with_interval(value: float, of: Interval | None, written: Callable[[float], str] = fraction) -> str:
    """ "0.765 [0.712, 0.801]"; the number alone where its interval isn't known."""
    return f"{written(value)} {interval(of, written)}".strip()


def ends(low: float, high: float, written: Callable[[float], str] = fraction) -> str:
    """As `interval`."""
    return "" if math.isnan(low) or math.isnan(high) else f"[{written(low)}, {written(high)}]"


def listed(names: Sequence[str], most: int = 6) -> str:
    """ "a, b and c", or the first `most` and a count."""
    if not names:
        return "none"
    if len(names) > most:
        return first(names, most)
    return " and ".join([part for part in (", ".join(names[:-1]), names[-1]) if part])


def first(names: Sequence[str], most: int) -> str:
    """ "a, b, c": the first `most`, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def counted(n: int, what: str, several: str = "") -> str:
    """ "1 animal", "2 animals", or with the plural that is given."""
    return f"{n} {what}" if n == 1 else f"{n} {several or what + 's'}"


def duration(seconds: float) -> str:
    """Seconds as text: "80 s", "12 min", "1.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def table(rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> str:
    """Rows of text under a header, columns aligned, the first to the left and the others to the right."""
    rows = [tuple(one_line(cell) if not cell.isprintable() else cell for cell in row) for row in rows]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(n) for cell, n in zip(row[1:], widths[1:], strict=True))])
        for row in [header, tuple("-" * width for width in widths), *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)


def markdown_table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """The same as Markdown, every cell shown as it is."""
    lines = [[markdown_escaped(cell) for cell in row] for row in (header, *rows)]
    lines.insert(1, ["---", *["---:"] * (len(header) - 1)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def latex_table(rows: Sequence[Sequence[str]], header: Sequence[str], caption: str) -> str:
    """The same as LaTeX, for documents that load booktabs; text in UTF-8, numbers with a minus rather than a hyphen."""
    lines = [" & ".join(map(latex_escaped, row)) + r" \\" for row in (header, *rows)]
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_escaped(caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def latex_escaped(text: str) -> str:
    """Text that LaTeX sets as it is, on one line; a hyphen that begins a number is a minus."""
    escaped = "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))
    return re.sub(r"(?<![\w.-])-(?=\d)", "$-$", escaped)


def markdown_escaped(text: str) -> str:
    """Text that Markdown shows as it is: no emphasis, code, HTML, link or end of a table's cell in it."""
    return re.sub(r"[\\|*`<>]|\](?=[(\[:])", r"\\\g<0>", text)
