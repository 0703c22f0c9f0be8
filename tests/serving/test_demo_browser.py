"""The demo as people use it: in a headless Chromium, which may call nobody but the demo."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from page.page_browser import CHROMIUM, DESK, PHONE, chromium, watched
from serving.served import png, served

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
pytest.importorskip("playwright", reason="playwright isn't installed (catpose[dev])")
pytest.importorskip("uvicorn", reason="uvicorn isn't installed (catpose[demo])")

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SIZES = {"phone": PHONE, "desk": DESK}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with served(tmp_path / "demo") as at:
        yield at


@contextlib.contextmanager
def opened(
    browser: Browser,
    address: str,
    size: tuple[int, int] = DESK,
    theme: str = "light",
    injected: bool = False,
    refusals: int = 0,
) -> Iterator[Page]:
    """The demo's page, after which it must have asked nobody but the demo.

    Args:
        refusals: how often the demo may refuse something, which Chromium writes into its console.
    """
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=theme, bypass_csp=injected, has_touch=size == PHONE
    )  # type: ignore[arg-type]
    page = context.new_page()
    asked, wrong = watched(page)
    page.set_default_timeout(30_000)
    page.goto(address)
    yield page
    context.close()
    assert asked
    assert [url for url in asked if not url.startswith((f"{address}/", "blob:", "data:"))] == []
    assert len(wrong) == refusals, wrong


def drop(page: Page, content: bytes, name: str = "tom.png") -> None:
    page.locator("#file").set_input_files([{"name": name, "mimeType": "image/png", "buffer": content}])


def wait_for(page: Page, text: str) -> None:
    page.get_by_role("status").filter(has_text=text).wait_for()


def place(page: Page, what: str) -> tuple[float, float]:
    """The middle of a mark on the screen."""
    box = page.locator(f'[data-what="{what}"]').bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def shown_at(page: Page, width: int) -> float:
    """Screen px of a px of a picture so wide."""
    view = page.locator("#view").bounding_box()
    assert view is not None
    return view["width"] / width


def drag(page: Page, what: str, dx: float, dy: float) -> None:
    x, y = place(page, what)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx / 2, y + dy / 2)
    page.mouse.move(x + dx, y + dy)
    page.mouse.up()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_a_picture_is_predicted_and_the_page_is_never_wider_than_the_screen(
    browser: Browser, address: str, size: str, theme: str
) -> None:
    with opened(browser, address, SIZES[size], theme) as page:
        drop(page, png(1600, 1200))
        wait_for(page, "13 of 17 keypoints above 0.20")
        assert page.locator(".point").count() == 13
        assert page.locator("#keypoints tr").count() == 17
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
        view = page.locator("#view").bounding_box()
        assert view is not None
        x, y = place(page, "point16")  # at 0.9 of the box 10, 20, 800, 600
        assert (x - view["x"]) / view["width"] == pytest.approx(730.5 / 1600, abs=0.01)
        assert (y - view["y"]) / view["height"] == pytest.approx(560.5 / 1200, abs=0.01)


def test_a_moved_box_is_predicted_again(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        drop(page, png(400, 400))
        wait_for(page, "13 of 17")
        before = place(page, "point16")
        with page.expect_response("**/predict"):
            drag(page, "corner11", 60, 40)
        wait_for(page, "13 of 17")
        after = place(page, "point16")
        assert after[0] - before[0] == pytest.approx(54, abs=2)
        assert after[1] - before[1] == pytest.approx(36, abs=2)
        with page.expect_response("**/predict"):
            drag(page, "corner00", -300, -300)
        wait_for(page, "13 of 17")
        assert page.evaluate("pose.box.slice(0, 2)") == [0, 0]  # where it can be dragged back from
        with page.expect_response("**/predict"):
            page.get_by_role("button", name="Find the box again").click()
        wait_for(page, "13 of 17")
        assert place(page, "point16")[0] == pytest.approx(before[0], abs=2)


def test_models_and_the_threshold_are_switched(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        drop(page, png())
        wait_for(page, "13 of 17")
        page.get_by_label("Model").select_option("unsure/best.ckpt")
        wait_for(page, "10 of 17")
        page.get_by_label("Show keypoints").fill("0.4")
        wait_for(page, "4 of 17 keypoints above 0.40")


def test_a_corrected_keypoint_is_saved_and_downloaded(browser: Browser, address: str, tmp_path: Path) -> None:
    with opened(browser, address) as page:
        drop(page, png(400, 400))
        wait_for(page, "13 of 17")
        scale = shown_at(page, 400)
        drag(page, "point10", 30 * scale, -20 * scale)
        wait_for(page, "moved")
        page.locator("#keypoints tr").nth(16).get_by_role("checkbox").uncheck()
        page.get_by_role("button", name="Save correction").click()
        wait_for(page, "Saved: 1 animal of tom.png")
        with page.expect_download() as given:
            page.get_by_role("button", name="Download JSON").click()
        results = json.loads(Path(given.value.path()).read_text())
        assert given.value.suggested_filename == "tom.json"
        with page.expect_download() as given:
            page.get_by_role("button", name="Download overlay").click()
        assert given.value.suggested_filename == "tom-pose.jpg"
        assert Path(given.value.path()).read_bytes().startswith(b"\xff\xd8")
    (animal,) = json.loads((tmp_path / "demo" / "corrections.json").read_text())["annotations"]
    points = animal["keypoints"]
    assert points[48:] == [0, 0, 0]
    assert sum(v > 0 for v in points[2::3]) == 12
    where = 10 + 200 * 0.6 + 30, 20 + 200 * 0.6 - 20  # as `Grid` finds it, and as it was dragged
    assert points[30] == pytest.approx(where[0], abs=2)
    assert points[31] == pytest.approx(where[1], abs=2)
    assert results[0]["keypoints"][30:32] == pytest.approx(points[30:32], abs=0.01)


def test_the_keyboard_is_enough(browser: Browser, address: str) -> None:
    with opened(browser, address) as page:
        drop(page, png(400, 400))
        wait_for(page, "13 of 17")
        before = place(page, "point16")
        page.locator('[data-what="point16"]').focus()
        for _ in range(3):
            page.keyboard.press("Shift+ArrowRight")
        wait_for(page, "moved")
        assert place(page, "point16")[0] - before[0] == pytest.approx(30 * shown_at(page, 400), abs=2)


def test_what_goes_wrong_is_said(browser: Browser, address: str) -> None:
    with opened(browser, address, refusals=1) as page:
        drop(page, b"no picture", "notes.txt")
        page.locator("#status.error").filter(has_text="notes.txt").wait_for()  # "Reading notes.txt …" came before
        drop(page, png())
        wait_for(page, "13 of 17")
        assert page.locator("#status.error").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_barrier(browser: Browser, address: str, theme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe isn't installed (catpose[dev])")
    for size in (DESK, PHONE):
        with opened(browser, address, size, theme, injected=True) as page:
            drop(page, png(400, 400))
            wait_for(page, "13 of 17")
            found = axe.Axe().run(page).response["violations"]
        grave = [v for v in found if v["impact"] in ("serious", "critical")]
        assert [(v["id"], v["nodes"][0]["html"], v["nodes"][0]["failureSummary"]) for v in grave] == []
