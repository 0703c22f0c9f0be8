from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from page.made_up_page import HOSTILE, made_up_gallery, made_up_page
from page.page_browser import CHROMIUM, DESK, PHONE, chromium, opened

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
pytest.importorskip("playwright", reason="playwright isn't installed (catpose[dev])")

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

GALLERY = "gallery-gallery"
SIZES = {"phone": PHONE, "desk": DESK}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def file(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, alone in its folder."""
    folder = tmp_path_factory.mktemp("page")
    made_up_page(made_up_gallery(drawn, folder / "data")).write(folder / "report")
    (folder / "alone").mkdir()
    return Path(shutil.copy(folder / "report" / "index.html", folder / "alone" / "page.html"))


@pytest.fixture(scope="module")
def data(file: Path) -> dict[str, Any]:
    """What is embedded in the page."""
    found = re.search(r'<script type="application/json">(.*?)</script>', file.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return json.loads(found[1])


def choose(page: Page, **values: str) -> None:
    """Set controls by their names; "is:" of an attribute stands as "is_"."""
    for name, value in values.items():
        field = page.locator(f'select[name="{name.replace("is_", "is:")}"]')
        field.select_option(value, force=True)


def shown(page: Page) -> list[int]:
    """The instances shown, all of them, in their order."""
    while page.locator(".more").is_visible():
        page.locator(".more").click()
    return [int(i) for i in page.locator(".card").evaluate_all("cards => cards.map(card => card.dataset.index)")]


def counted(page: Page) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+) of (\d+)", page.locator(".count").inner_text())
    assert found
    return int(found[1]), int(found[2])


def read_oks(page: Page, panel: int = 0) -> list[float]:
    """As the cards say; 0 where nothing was detected, nan where it can't be told."""
    texts = page.locator(".card").evaluate_all(
        f"cards => cards.map(card => card.querySelectorAll('.panel')[{panel}].querySelector('.oks').textContent)"
    )
    said = [text.replace("OKS ", "") for text in texts]
    return [0.0 if text == "not detected" else float("nan") if text == "–" else float(text) for text in said]


def value(item: dict[str, Any], model: int) -> float | None:
    pose = item["poses"][model]
    return None if not any(item["truth"]) else 0.0 if pose is None else pose["oks"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_page_is_never_wider_than_the_screen(browser: Browser, file: Path, size: str, theme: str) -> None:
    with opened(browser, file, SIZES[size], theme) as page:
        for address in ("", f"#{GALLERY}?compare=1", f"#{GALLERY}?item=3", f"#{GALLERY}?search=none%20such"):
            page.goto(file.as_uri() + address)
            page.reload()
            wide = page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth]")
            assert max(wide[:2]) <= wide[2] == SIZES[size][0]
            inside = "[...document.querySelectorAll('dialog[open]')].every(d => d.scrollWidth <= d.clientWidth)"
            assert page.evaluate(inside)
        wide_table = page.get_by_role("group", name="Table: A wide table")
        assert wide_table.evaluate("box => box.scrollWidth > box.clientWidth && box.tabIndex === 0")


@pytest.mark.parametrize("size", SIZES)
def test_the_first_screen_holds_the_four_answers(browser: Browser, file: Path, size: str) -> None:
    with opened(browser, file, SIZES[size]) as page:
        boxes = [card.bounding_box() for card in page.locator(".answers article").all()]
        assert len(boxes) == 4
        assert all(box and box["y"] >= 0 and box["y"] + box["height"] <= SIZES[size][1] for box in boxes)


@pytest.mark.parametrize("size", SIZES)
def test_an_answer_leads_to_its_section(browser: Browser, file: Path, size: str) -> None:
    with opened(browser, file, SIZES[size]) as page:
        for question, section in [("Where does it fail?", "gallery"), ("What does it cost?", "cost")]:
            page.get_by_role("link", name=question).click()
            assert page.evaluate("location.hash") == f"#{section}"
            heading = page.locator(f"#{section}-title").bounding_box()
            assert heading
            bar = page.get_by_role("navigation", name="Sections").bounding_box()
            assert bar
            assert bar["y"] + bar["height"] <= heading["y"] < SIZES[size][1]
            page.wait_for_selector(f'nav a[href="#{section}"][aria-current="true"]')


def test_names_from_strangers_do_no_harm(browser: Browser, file: Path, data: dict[str, Any]) -> None:
    with opened(browser, file, address=f"#{GALLERY}?compare=1") as page:
        assert page.locator("h1").inner_text() == f"Two models {HOSTILE}"
        shown(page)
        assert HOSTILE in " ".join(page.locator(".card .title").all_inner_texts())
        assert HOSTILE in page.locator(".card .model").nth(1).inner_text()
        index = next(i for i, item in enumerate(data["items"]) if HOSTILE in item["title"])
        page.locator(f'.card[data-index="{index}"]').click()
        assert HOSTILE in page.locator("dialog h3").inner_text()
        assert page.evaluate("window.harm") is None
        assert page.locator("img:not([src^='data:'])").count() == 0


def test_sorting_orders_the_cards_by_what_they_say(browser: Browser, file: Path, data: dict[str, Any]) -> None:
    items = data["items"]
    for model in (0, 1):
        known = [v for item in items if (v := value(item, model)) is not None]
        median = sorted(known)[len(known) // 2] / 2 + sorted(known)[(len(known) - 1) // 2] / 2
        with opened(browser, file, address=f"#{GALLERY}?model={model}") as page:
            assert len(shown(page)) == len(items) == counted(page)[1]
            worst = read_oks(page)
            assert worst[:-1] == sorted(worst[:-1])
            assert worst[-1] != worst[-1], "what has no OKS stands last"
            assert sorted(worst[:-1]) == pytest.approx(sorted(known), abs=5.1e-4)
            choose(page, sort="best")
            shown(page)
            assert read_oks(page)[:-1] == worst[-2::-1]
            choose(page, sort="median")
            shown(page)
            distance = [abs(oks - median) for oks in read_oks(page)[:-1]]
            assert all(before <= after + 0.0011 for before, after in itertools.pairwise(distance))
            choose(page, sort="data")
            assert shown(page) == list(range(len(items)))


def test_the_largest_difference_comes_first(browser: Browser, file: Path) -> None:
    with opened(browser, file) as page:
        choose(page, sort="difference")
        assert page.locator('select[name="compare"]').input_value() == "1"
        shown(page)
        pairs = list(zip(read_oks(page, 0), read_oks(page, 1), strict=True))[:-1]
        gaps = [abs(a - b) for a, b in pairs]
        assert all(before >= after - 0.0011 for before, after in itertools.pairwise(gaps))
        gains = page.locator(".card .gain").all_inner_texts()
        for (a, b), said in zip(pairs, gains, strict=True):
            assert float(said.replace("−", "-")) == pytest.approx(b - a, abs=0.0011)


def test_filters_show_what_fits_and_nothing_else(browser: Browser, file: Path, data: dict[str, Any]) -> None:
    items, kinds, keypoints = data["items"], data["error_types"], data["keypoints"]
    with opened(browser, file, address=f"#{GALLERY}?model=1&sort=data") as page:

        def expect(fitting: list[int]) -> None:
            assert counted(page) == (len(fitting), len(items))
            assert shown(page) == fitting

        seen = [(i, item["poses"][1]) for i, item in enumerate(items) if item["poses"][1]]
        for kind, name in enumerate(kinds):
            choose(page, kind=name)
            expect([i for i, pose in seen if kind in pose["error_types"]])
            for k in (0, 7):
                choose(page, keypoint=keypoints[k])
                expect([i for i, pose in seen if pose["error_types"][k] == kind])
            choose(page, keypoint="")
        assert 0 < counted(page)[0] < len(items)
        choose(page, kind="undetected")
        expect([i for i, item in enumerate(items) if item["poses"][1] is None])
        choose(page, kind="", keypoint=keypoints[16])
        expect([i for i, item in enumerate(items) if item["truth"][16]])
        choose(page, keypoint="", **{"is_labelled keypoints": "6 to 10"})
        expect([i for i, item in enumerate(items) if item["slices"].get("labelled keypoints") == "6 to 10"])
        page.get_by_label("File name").fill("SCRIPT")
        expect(
            [i for i, item in enumerate(items) if "script" in item["title"] and "6 to 10" in item["slices"].values()]
        )


def test_where_nothing_fits_a_button_shows_all_again(browser: Browser, file: Path, data: dict[str, Any]) -> None:
    with opened(browser, file) as page:
        choose(page, sort="best")
        page.get_by_label("File name").fill("no such file")
        assert page.locator(".empty").inner_text().startswith("No instance fits these filters.")
        assert page.locator(".card").count() == 0
        page.get_by_role("button", name="Reset the filters").click()
        assert counted(page) == (len(data["items"]),) * 2
        assert page.locator('select[name="sort"]').input_value() == "best"
        assert page.locator(".empty").is_hidden()


def test_two_models_stand_side_by_side(browser: Browser, file: Path) -> None:
    with opened(browser, file) as page:
        assert page.locator(".card").first.locator("svg").count() == 1
        choose(page, compare="1")
        for card in page.locator(".card").all():
            left, right = (panel.bounding_box() for panel in card.locator(".panel").all())
            assert left
            assert right
            assert left["y"] == right["y"]
            assert left["x"] + left["width"] <= right["x"]
        choose(page, model="1")
        assert page.locator('select[name="compare"]').input_value() == "", "no model is compared with itself"


def test_marks_are_drawn_where_they_are_and_can_be_switched_off(
    browser: Browser, file: Path, data: dict[str, Any]
) -> None:
    with opened(browser, file, address=f"#{GALLERY}?sort=data") as page:
        card, item = page.locator(".card").first, data["items"][0]
        points = card.locator("circle.point").evaluate_all(
            "all => all.map(c => [c.cx.baseVal.value, c.cy.baseVal.value])"
        )
        labelled = [k for k in range(17) if item["truth"][k]]
        drawn_ = item["poses"][0]["keypoints"]
        for k in labelled:
            assert min(abs(x - drawn_[k][0]) + abs(y - drawn_[k][1]) for x, y in points) < 1e-3
        assert card.locator("circle.ring").count() == len(labelled)
        page.get_by_label("truth", exact=True).uncheck()
        assert (card.locator("circle.ring").count(), card.locator("circle.point").count()) == (0, len(points))
        page.get_by_label("prediction", exact=True).uncheck()
        assert card.locator("circle, line").count() == 0
        x, y, w, h = item["box"]
        view = [float(v) for v in (card.locator("svg").get_attribute("viewBox") or "").split()]
        left, top = max(0, x - w / 8), max(0, y - h / 8)
        right, bottom = min(item["size"][0], x + w * 9 / 8), min(item["size"][1], y + h * 9 / 8)
        assert view == pytest.approx([left, top, right - left, bottom - top], abs=0.06)
        page.get_by_label("whole picture").check()
        view = [float(v) for v in (card.locator("svg").get_attribute("viewBox") or "").split()]
        assert view == [0, 0, *item["size"]]


def test_error_types_have_their_colours(browser: Browser, file: Path, data: dict[str, Any]) -> None:
    with opened(browser, file, address=f"#{GALLERY}?sort=data&model=1&colour=kind") as page:
        item = data["items"][0]
        card = page.locator(".card").first
        for kind, name in enumerate(data["error_types"]):
            assert card.locator(f"circle.point.mark-{name}").count() == item["poses"][1]["error_types"].count(kind)
        assert page.locator(".legend").inner_text().split() == ["prediction", "truth", *data["error_types"]]


@pytest.mark.parametrize("size", SIZES)
def test_the_keyboard_is_enough(browser: Browser, file: Path, data: dict[str, Any], size: str) -> None:
    here = "document.activeElement.dataset.index"
    with opened(browser, file, SIZES[size]) as page:
        page.get_by_label("colour by").focus()
        page.keyboard.press("Tab")
        order = page.locator(".card").evaluate_all("cards => cards.map(card => card.dataset.index)")
        assert page.evaluate(here) == order[0], "one Tab leads from the controls to the first card"
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowLeft")
        assert page.evaluate(here) == order[1]
        columns = page.evaluate(
            "[...document.querySelectorAll('.cards > li')].filter((one, i, all) => one.offsetTop === all[0].offsetTop)"
            ".length"
        )
        assert (columns > 1) == (size == "desk")
        page.keyboard.press("ArrowDown")
        assert page.evaluate(here) == order[1 + columns]
        page.keyboard.press("End")
        page.keyboard.press("ArrowRight")
        assert page.evaluate(here) not in order, "beyond the last card there are more"
        page.keyboard.press("Home")
        assert page.evaluate(here) == order[0]
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        assert dialog.locator("h3").inner_text() == data["items"][int(order[0])]["title"]
        assert dialog.locator(".panel").count() == 2
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowLeft")
        assert dialog.locator(".position").inner_text() == f"2 of {len(data['items'])}"
        assert dialog.locator("h3").inner_text() == data["items"][int(order[1])]["title"]
        page.keyboard.press("Escape")
        assert dialog.count() == 0
        assert page.evaluate(here) == order[1]
        assert page.evaluate("location.hash") == f"#{GALLERY}"


def test_the_dialog_has_each_keypoints_numbers(browser: Browser, file: Path, data: dict[str, Any]) -> None:
    with opened(browser, file, address=f"#{GALLERY}?item=8") as page:
        item = data["items"][8]
        rows = page.locator("dialog tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.cells].map(c => c.textContent))"
        )
        assert [row[0] for row in rows] == data["keypoints"]
        for k, (_, kind, similarity, confidence, *others) in enumerate(rows):
            pose = item["poses"][0]
            index = pose["error_types"][k]
            assert kind == ("not labelled" if index < 0 else data["error_types"][index])
            each = pose["similarity"][k]
            assert (similarity == "–") == (each is None)
            assert each is None or float(similarity) == pytest.approx(each, abs=0.0051)
            assert float(confidence) == pytest.approx(pose["confidence"][k], abs=0.0051)
            assert len(others) == 3
        page.get_by_role("dialog").get_by_label("colour by").select_option("kind")
        assert page.locator("dialog circle.mark-good").count() > 0, "the switches work within the dialog too"


def test_an_address_brings_a_view_back(browser: Browser, file: Path) -> None:
    with opened(browser, file, address="#results") as page:
        choose(page, sort="difference", kind="jitter", colour="kind", **{"is_several cats": "no"})
        page.get_by_label("whole picture").check()
        before = shown(page)
        address = page.evaluate("location.hash")
    with opened(browser, file, address=address) as page:
        assert shown(page) == before
        assert page.get_by_label("whole picture").is_checked()
        assert page.locator('select[name="compare"]').input_value() == "1"
        assert page.locator(".gallery").get_attribute("data-colour") == "kind"
        page.locator(".card").nth(3).click()
        address = page.evaluate("location.hash")
        title = page.locator("dialog h3").inner_text()
    with opened(browser, file, PHONE, address=address) as page:
        assert page.locator("dialog h3").inner_text() == title
    for nonsense in ("?sort=no&model=99&is:colour=%22&item=zz", "?%E0%A4%A", "?item=99999"):
        with opened(browser, file, address=f"#{GALLERY}{nonsense}") as page:
            assert page.locator('select[name="sort"]').input_value() == "worst"
            assert page.locator(".card").count() == 8


def test_the_theme_is_the_systems_until_another_is_chosen(browser: Browser, file: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    with opened(browser, file, theme="light") as page:
        light = page.evaluate(ground)
    with opened(browser, file, theme="dark") as page:
        dark = page.evaluate(ground)
        button = page.get_by_role("button", name="Dark")
        assert button.get_attribute("aria-pressed") == "true"
        button.click()
        assert page.evaluate(ground) == light != dark
        assert button.get_attribute("aria-pressed") == "false"
        page.reload()
        assert page.evaluate(ground) == light, "it is remembered"


def test_commands_can_be_copied(browser: Browser, file: Path) -> None:
    with opened(browser, file) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_role("button", name="Copy").click()
        page.get_by_role("button", name="Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == page.locator(".code code").text_content()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("address", ["", f"#{GALLERY}?compare=1&colour=kind", f"#{GALLERY}?item=3"])
def test_axe_finds_no_barrier(browser: Browser, file: Path, theme: str, address: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe isn't installed (catpose[dev])")
    for size in (DESK, PHONE):
        with opened(browser, file, size, theme, address, injected=True) as page:
            found = axe.Axe().run(page).response["violations"]
        grave = [v for v in found if v["impact"] in ("serious", "critical")]
        assert [(v["id"], v["nodes"][0]["html"], v["nodes"][0]["failureSummary"]) for v in grave] == []


def test_without_javascript_all_but_the_gallery_is_there(browser: Browser, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 360, "height": 780})
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator(".answers article").count() == 4
    assert page.get_by_text("The gallery needs JavaScript").is_visible()
    assert not page.locator(".gallery form").is_visible()
    context.close()
