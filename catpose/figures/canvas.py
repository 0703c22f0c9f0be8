"""Figures as people and files need them: the same input makes the same bytes, whatever the user's own settings.

A figure's files are a PNG on white and an SVG whose text is text. `inline` makes of the SVG what a page of light or
dark colours shows: every colour named here becomes a variable of the page.
"""

from __future__ import annotations

import html
import io
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT, DPI = 6.0, 3.5, 200  # inches and dots an inch
NARROW = 4.6  # inches: readable on a phone
#: Of Okabe and Ito's colours, which stay apart for colour-blind eyes.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
GREY, INK, GRID, PAPER = "#8C8C8C", "#222222", "#E4E4E4", "#FFFFFF"
#: Told apart also where they are printed in grey.
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
#: What a page calls them.
VARIABLES = {
    **{BLUE: "--blue", VERMILION: "--vermilion", GREEN: "--green", PURPLE: "--purple", ORANGE: "--orange"},
    **{SKY: "--sky", GREY: "--grey", INK: "--ink", GRID: "--grid", PAPER: "--paper", "#000000": "--ink"},
}
_METADATA: dict[str, dict[str, None]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
MARGIN = 0.04  # of an axis, beyond what is drawn


@contextmanager
def plain() -> Iterator[None]:
    """matplotlib as it comes, text dark grey; ids in an SVG are made from its content alone."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams["svg.hashsalt"] = "catpose"
        mpl.rcParams["svg.fonttype"] = "none"
        for name in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"):
            mpl.rcParams[name] = INK
        yield


def canvas(height: float = HEIGHT, title: str = "", width: float = WIDTH) -> tuple[Figure, Axes]:
    """A figure of one plot, inches; within `plain`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor=PAPER)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    if title:
        figure.suptitle("\n".join(textwrap.wrap(title, round(80 * width / WIDTH))[:2]), fontsize=9.5, parse_math=False)
    return figure, axes


def limits(values: Sequence[float]) -> tuple[float, float]:
    """An axis' ends, a little beyond the values; nan don't count."""
    known = [value for value in values if not np.isnan(value)] or [0.0, 1.0]
    margin = max(MARGIN * (max(known) - min(known)), 0.005)
    return min(known) - margin, max(known) + margin


class Drawing(Mapping[str, bytes]):
    """A figure's files, "png" and "svg", each made when it is first asked for: a page shows the second alone."""

    def __init__(self, figure: Figure) -> None:
        self._figure, self._files = figure, dict[str, bytes]()

    def __getitem__(self, kind: str) -> bytes:
        if kind not in self._files:
            self._files[kind] = _saved(self._figure, kind)
        return self._files[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(_METADATA)

    def __len__(self) -> int:
        return len(_METADATA)


def encoded(figure: Figure) -> Drawing:
    """The files of a finished figure, without a date or version in them."""
    return Drawing(figure)


def _saved(figure: Figure, kind: str) -> bytes:
    file = io.BytesIO()
    with plain(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # of names that the font doesn't have; a browser does
        if kind == "svg":  # as `savefig` writes it, which draws everything once before, for the layout alone
            from matplotlib.backends.backend_svg import FigureCanvasSVG

            FigureCanvasSVG(figure).print_svg(file, metadata=_METADATA[kind])
        else:
            figure.savefig(file, format=kind, metadata=_METADATA[kind])
    return file.getvalue()


def inline(svg: bytes, label: str, name: str) -> str:
    """An SVG of `encoded` as markup within an HTML page, its colours the page's variables, its background the page's.

    Args:
        label: what a screen reader says of it.
        name: of the figure, unique in the page: ids within are made its own.
    """
    text = svg.decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="patch_1">.*?</g>', "", text, count=1, flags=re.DOTALL)  # the paper
    for colour, variable in VARIABLES.items():
        text = re.sub(re.escape(colour), f"var({variable})", text, flags=re.IGNORECASE)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    attributes = f'role="img" aria-label="{html.escape(label)}"'
    return re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', rf'<svg {attributes} viewBox="\1">', text, count=1, flags=re.DOTALL
    )
