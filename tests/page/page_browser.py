"""A page as people see it: opened from its file in a headless Chromium, which may call nobody.

    python tests/page/page_browser.py PAGE.html FOLDER

writes pictures of its first screen and of the whole: on a phone and on a desk, in light and dark.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from study.browser import CHROMIUM

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PHONE, DESK = (360, 780), (1440, 900)
OPTIONS = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        alone = ["--no-sandbox"] if os.geteuid() == 0 else []  # its sandbox refuses root
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*OPTIONS, *alone])
        try:
            yield browser
        finally:
            browser.close()


def watched(page: Page) -> tuple[list[str], list[str]]:
    """What the page will ask for, and its errors and warnings, as they come."""
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    return asked, wrong


@contextlib.contextmanager
def opened(
    browser: Browser,
    file: Path,
    size: tuple[int, int] = DESK,
    theme: str = "light",
    address: str = "",
    injected: bool = False,
) -> Iterator[Page]:
    """The page during the block, after which it must have asked nobody for anything and have had no error.

    Args:
        address: what follows the file's name: "#…". injected: lets the test run scripts that the page's policy forbids.
    """
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if theme == "dark" else "light",
        reduced_motion="reduce",
        bypass_csp=injected,
    )
    page = context.new_page()
    asked, wrong = watched(page)
    page.set_default_timeout(15_000)
    page.goto(file.absolute().as_uri() + address)
    yield page
    context.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert wrong == []


if __name__ == "__main__":
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for name, size in (("phone", PHONE), ("desk", DESK)):
            for theme in ("light", "dark"):
                with opened(browser, source, size, theme) as page:
                    page.screenshot(path=folder / f"{name}-{theme}.png")
                    page.screenshot(path=folder / f"{name}-{theme}-whole.png", full_page=True)
