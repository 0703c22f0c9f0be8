"""One HTML file that people read: answers first, then sections of text, tables, figures and galleries.

The file holds all it needs and asks for nothing: no request leaves it, and its policy forbids the browser to make one.
Whatever comes from a user (names of runs, files, categories) is escaped, and only the page's own script may run. The
same page is the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from catpose.figures.canvas import VARIABLES, inline
from catpose.figures.error_types import COLOURS
from catpose.figures.gallery import SIDES, Gallery, data_uri
from catpose.files import atomic_write

WORDY = 24  # characters: a column with a cell longer than this is text, which stands to the left and is wrapped
_FILES = Path(__file__).parent


@dataclass(frozen=True)
class Answer:
    """A card of the first screen; `section` is the id of the section that says more."""

    question: str
    answer: str
    detail: str
    section: str


@dataclass(frozen=True)
class Table:
    """Cells of text. The first column names the rows; `highlight` holds indices of rows that stand out."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    highlight: tuple[int, ...] = ()

    @property
    def wordy(self) -> frozenset[int]:
        """The columns of text."""
        cells = ((i, cell) for row in self.rows for i, cell in enumerate(row))
        return frozenset(i for i, cell in cells if i and len(cell) > WORDY)


@dataclass(frozen=True)
class Figure:
    """A chart: `files` has its "svg", `table` is the same in numbers."""

    name: str
    caption: str
    alt: str
    files: Mapping[str, bytes]
    table: Table | None = None


@dataclass(frozen=True)
class Picture:
    """A photograph or drawing."""

    name: str
    caption: str
    alt: str
    data: bytes
    kind: str = "image/webp"


@dataclass(frozen=True)
class Text:
    """Paragraphs, an empty line between them."""

    text: str


@dataclass(frozen=True)
class Listing:
    """A bulleted list."""

    items: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Commands for a shell."""

    text: str


@dataclass(frozen=True)
class Beside:
    """Blocks side by side where the screen is wide enough."""

    blocks: Sequence[Table | Figure]


@dataclass(frozen=True)
class Fold:
    """Blocks that are seen once their `summary` is pressed."""

    summary: str
    blocks: Sequence[Table | Figure | Text | Listing | Code]


Block = Table | Figure | Picture | Text | Listing | Code | Gallery | Beside | Fold


@dataclass(frozen=True)
class Section:
    """A part of the page under its own heading; `id` is the anchor that links name."""

    id: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A page as it is read from the top; `footer` is its last line: when, and by what."""

    title: str
    subtitle: str
    answers: Sequence[Answer]
    sections: Sequence[Section]
    footer: str

    def html(self) -> str:
        """The page as one file, encodable as UTF-8.

        Raises:
            ValueError: two things of one id, an id or a figure's name that is no id, an answer whose section isn't
                there, or a table's row that is shorter or longer than its header.
        """
        self._check()
        script = "\n".join((_FILES / name).read_text(encoding="utf-8") for name in ("page.js", "page.gallery.js"))
        environment = jinja2.Environment(
            autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        environment.filters |= {"drawn": _drawn, "points": _points, "data_uri": data_uri, "json": _json}
        template = environment.from_string((_FILES / "page.html").read_text(encoding="utf-8"))
        html = template.render(
            page=self,
            style=Markup((_FILES / "page.css").read_text(encoding="utf-8")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            grouped=_grouped,
            enumerate=enumerate,
            zip=zip,
            marks=_marks(),
            sides=list(SIDES),
        )
        # A file's name may hold what UTF-8 doesn't.
        return html.strip().encode("utf-8", "replace").decode("utf-8") + "\n"

    def figures(self) -> Iterator[Figure]:
        """The figures of all sections, from the top."""
        return (block for block in self._blocks() if isinstance(block, Figure))

    def write(self, folder: str | Path) -> list[Path]:
        """FOLDER/index.html, and each figure as FOLDER/figures/NAME.svg; the paths written.

        Raises:
            InputError: a file can't be written; what was there is as it was. ValueError: as `html`.
        """
        contents = {f"figures/{figure.name}.svg": figure.files["svg"] for figure in self.figures()}
        contents["index.html"] = self.html().encode("utf-8")
        paths = [Path(folder) / name for name in contents]
        for path, data in zip(paths, contents.values(), strict=True):
            with atomic_write(path) as temporary:
                temporary.write_bytes(data)
        return paths

    def _blocks(self) -> Iterator[Block]:
        """Those of all sections from the top, what lies within others too."""
        for block in (block for section in self.sections for block in section.blocks):
            yield block
            yield from block.blocks if isinstance(block, Beside | Fold) else ()

    def _check(self) -> None:
        blocks = [*self._blocks()]
        ids = ["main", "theme", *(section.id for section in self.sections)]
        ids += [block.name for block in blocks if isinstance(block, (Figure, Picture))]
        wrong = [id_ for id_ in ids if not re.fullmatch(r"[A-Za-z][\w-]*", id_, re.ASCII) or ids.count(id_) > 1]
        wrong += [answer.section for answer in self.answers if answer.section not in ids]
        if wrong:
            raise ValueError(f"ids of sections and figures that are none, stand twice or lead nowhere: {wrong}")
        tables = [block.table if isinstance(block, Figure) else block for block in blocks]
        for table in (table for table in tables if isinstance(table, Table)):
            if any(len(row) != len(table.header) for row in table.rows):
                raise ValueError(f"table {table.caption!r}: a row is not as long as the header")


def _grouped(blocks: Sequence[Block]) -> Iterator[tuple[str, list[Block]]]:
    """Runs of blocks of one kind, with the kind's name: figures that follow each other stand side by side."""
    for kind, group in itertools.groupby(blocks, key=lambda block: type(block).__name__):
        yield kind, list(group)


def _marks() -> Markup:
    """The colours of sides and error types as CSS; those of sides don't change with the page's."""
    colors = {side: f"rgb{color}" for side, color in SIDES.items()}
    colors |= {kind: f"var({VARIABLES[color]})" for kind, color in COLOURS.items()}
    return Markup("\n".join(f".mark-{name} {{ --mark: {color}; }}" for name, color in colors.items()))


def _drawn(figure: Figure) -> Markup:
    return Markup(inline(figure.files["svg"], figure.alt, figure.name))


def _points(figure: Figure) -> str:
    """A figure's width in points, to which the page makes it wide: 8 points are just read at a CSS pixel a point."""
    found = re.search(rb'viewBox="[\d.]+ [\d.]+ ([\d.]+)', figure.files["svg"])
    return f"{float(found[1]):.0f}" if found else "432"


def _json(content: Any) -> Markup:
    """JSON to stand within <script>: no character of it means anything to HTML."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
