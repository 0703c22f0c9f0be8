from __future__ import annotations

import base64
import dataclasses
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from page.made_up_page import HOSTILE, made_up_gallery, made_up_page

import catpose.page.html
from catpose.errors import InputError
from catpose.figures.canvas import VARIABLES
from catpose.page.html import Beside, Fold, Page, Section, Table, Text

STYLE = (Path(catpose.page.html.__file__).parent / "page.css").read_text()
VOID = {"meta", "link", "img", "input", "br", "hr"}


class Reader(HTMLParser):
    """The elements of a page in order, each with its attributes and its text; fails where tags aren't paired."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[int] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.texts.append("")
        assert len(attrs) == len(dict(attrs)), (tag, attrs)
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        for i in self._open:
            self.texts[i] += data

    def all(self, *tags: str) -> list[tuple[dict[str, str | None], str]]:
        return [(e[1], text) for e, text in zip(self.elements, self.texts, strict=True) if e[0] in tags]


@pytest.fixture(scope="module")
def page(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return made_up_page(made_up_gallery(drawn, tmp_path_factory.mktemp("made up")))


@pytest.fixture(scope="module")
def html(page: Page) -> str:
    return page.html()


@pytest.fixture(scope="module")
def read(html: str) -> Reader:
    return Reader(html)


@pytest.mark.slow
def test_the_same_page_is_the_same_bytes(page: Page, html: str) -> None:
    assert page.html() == html


def test_only_the_pages_own_script_may_run(read: Reader) -> None:
    scripts = read.all("script")
    runs = [text for attributes, text in scripts if "type" not in attributes]
    assert len(runs) == 1
    assert {attributes["type"] for attributes, _ in scripts if "type" in attributes} == {"application/json"}
    (policy,) = [a["content"] for a, _ in read.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(runs[0].encode()).digest()).decode()
    assert policy is not None
    assert f"script-src 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"\beval\(|new Function|innerHTML|document\.write", runs[0])


def test_nothing_is_asked_of_anyone(read: Reader) -> None:
    for tag, attributes in read.elements:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "action", "srcset", "poster"):
                assert value is not None
                assert value.startswith(("#", "data:")), (tag, name, value)
            assert not name.startswith("on")
    assert not re.search(r"@import|url\((?!#)", STYLE)


def test_names_are_text_whatever_they_hold(read: Reader) -> None:
    assert [text for _, text in read.all("h1")] == [f"Two models {HOSTILE}"]
    assert next(text.strip() for _, text in read.all("title")) == f"Two models {HOSTILE}"
    assert next(text for _, text in read.all("footer")).strip() == f"Made by hand of {HOSTILE}"
    assert {attributes.get("src", "")[:5] for attributes, _ in read.all("img")} == {"data:"}
    assert any(HOSTILE in text for _, text in read.all("code"))
    assert any(attributes.get("aria-label") == f"Figure: Figure 0 {HOSTILE}" for attributes, _ in read.all("div"))


def test_the_gallerys_data_survive(read: Reader, page: Page) -> None:
    (data,) = [text for attributes, text in read.all("script") if attributes.get("type") == "application/json"]
    assert not set(data) & set("<>&")
    (shown,) = page.sections[1].blocks
    assert json.loads(data) == shown.data()  # type: ignore[union-attr]


def test_a_name_that_utf8_does_not_have_is_written(page: Page, tmp_path: Path) -> None:
    dataclasses.replace(page, title="run \udcff", sections=page.sections).write(tmp_path)
    assert "<title>run ?</title>" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_every_link_leads_somewhere_and_no_id_stands_twice(read: Reader) -> None:
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes, _ in read.all("a", "use"):
        link = attributes.get("href") or attributes.get("xlink:href") or ""
        assert link.startswith("#")
        assert link[1:] in ids
    for _, attributes in read.elements:
        for name in ("aria-labelledby", "form", "for"):
            assert attributes.get(name) is None or attributes[name] in ids


def test_it_is_made_for_all_readers(read: Reader) -> None:
    tags = [tag for tag, _ in read.elements]
    assert [attributes["lang"] for attributes, _ in read.all("html")] == ["en"]
    assert (tags.count("main"), tags.count("nav"), tags.count("h1"), tags.count("footer")) == (1, 1, 1, 1)
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for attributes, _ in read.all("th"):
        assert attributes["scope"] in ("row", "col")
    tables = [text for _, text in read.all("caption")]
    assert tables == ["AP of each", "AP of each", "A wide table"]
    for attributes, _ in read.all("svg"):
        assert attributes["aria-label"] == "Two configurations"
    for attributes, _ in read.all("img"):
        assert attributes["alt"]
    for attributes, _ in read.all("div", "pre"):
        if "scroll" in (attributes.get("class") or ""):
            assert (attributes["tabindex"], attributes["role"]) == ("0", "group")
            assert attributes["aria-label"]


def test_wide_text_is_a_column_of_text() -> None:
    table = Table("t", ["a", "b", "c"], [["a long name that is the row's own", "0.1", "x" * 40], ["a", "0.2", ""]])
    assert table.wordy == {2}


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """WCAG 2's contrast ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_every_colour_can_be_told_from_its_ground(theme: int) -> None:
    pairs = re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);", STYLE)
    colors = {name: values[theme] for name, *values in pairs}
    assert {variable[2:] for variable in VARIABLES.values()} <= set(colors)
    for ground in ("ground", "paper", "raised"):
        for text in ("ink", "muted", "link", "grey"):
            assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
        for mark in ("blue", "vermilion", "green", "purple", "orange", "sky", "edge"):
            assert contrast(colors[mark], colors[ground]) >= 3, (mark, ground)


def test_write_leaves_the_page_and_its_figures(page: Page, html: str, tmp_path: Path) -> None:
    written = page.write(tmp_path / "report")
    names = {path.relative_to(tmp_path / "report").as_posix() for path in written}
    assert names == {"index.html", *(f"figures/configurations-{i}.svg" for i in (0, 1))}
    assert (tmp_path / "report" / "index.html").read_text(encoding="utf-8") == html
    assert {path for path in (tmp_path / "report").rglob("*") if path.is_file()} == set(written)
    for figure in page.figures():
        assert (tmp_path / "report" / "figures" / f"{figure.name}.svg").read_bytes() == figure.files["svg"]


def test_where_nothing_can_be_written_one_line_says_so(page: Page, tmp_path: Path) -> None:
    (tmp_path / "index.html").mkdir()
    (tmp_path / "index.html" / "note").write_text("kept")
    with pytest.raises(InputError, match="cannot be written"):
        page.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert (tmp_path / "index.html" / "note").read_text() == "kept"


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ([Section("a", "A", []), Section("a", "A", [])], "'a', 'a'"),
        ([Section("a b", "A", [])], "'a b'"),
        ([Section("b", "B", [])], "'results'"),
        ([Section("results", "B", [Table("t", ["a", "b"], [["1"]])])], "not as long as"),
    ],
)
def test_a_page_that_does_not_hold_together_is_refused(
    page: Page, sections: list[Section], said: str, tmp_path: Path
) -> None:
    answers = page.answers[:1]
    with pytest.raises(ValueError, match=re.escape(said)):
        dataclasses.replace(page, answers=answers, sections=sections).write(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_is_folded_or_stands_beside_is_checked_and_written_too(page: Page, tmp_path: Path) -> None:
    figures = [*page.figures()]
    short = Table("short", ["a", "b"], [["1"]])
    for around in (lambda block: Fold("more", [block]), lambda block: Beside([block])):
        sections = [Section("one", "One", [around(figures[0])])]
        whole = dataclasses.replace(page, answers=[], sections=sections)
        assert [path.name for path in whole.write(tmp_path)] == [f"{figures[0].name}.svg", "index.html"]
        assert figures[0].caption in Reader(whole.html()).all("figcaption")[0][1]
        with pytest.raises(ValueError, match="not as long as"):
            dataclasses.replace(whole, sections=[Section("one", "One", [around(short)])]).html()


def test_a_page_may_be_small() -> None:
    small = Page("Title", "", [], [Section("one", "One", [Text("Nothing.")])], "now").html()
    assert Reader(small).all("p")[1][1] == "Nothing."
    assert len(small) < 60_000
