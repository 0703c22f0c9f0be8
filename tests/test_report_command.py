"""`report` as its user sees it: one page of real runs, its numbers those of `test`, bad input in a line."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from page.page_browser import CHROMIUM, PHONE, chromium, opened
from refused import exit_code

from catpose.report import main
from catpose.score.protocol import Score
from catpose.test import main as score_command

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

report = functools.partial(exit_code, main)
#: A small desk.
DESK = (1280, 800)


@pytest.fixture(scope="module")
def worse(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with another learning rate, whose detections lie a little off; its name would be markup."""
    run = tmp_path_factory.mktemp("runs") / "<worse & worse>"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("*.ckpt", "wandb"))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["init_args"]["lr"] = 0.1
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    results = json.loads((run / "val_results.json").read_text())
    for entry in results:
        entry["keypoints"][0::3] = [x + 12 for x in entry["keypoints"][0::3]]
    (run / "val_results.json").write_text(json.dumps(results))
    return run


@pytest.fixture(scope="module")
def made(finished: Path, worse: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "page"
    assert report(finished, worse, "--out", out, "--draws", 100) == 0
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    pytest.importorskip("playwright", reason="playwright isn't installed (catpose[dev])")
    with chromium() as started:
        yield started


def text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def test_the_page_holds_everything_and_asks_for_nothing(made: Path) -> None:
    html = (made / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)[^"']*["']""", html)
    assert "<worse" not in html
    assert len(html) < 4e6
    figures = {file.name for file in (made / "figures").iterdir()}
    assert {f"{name}.svg" for name in ("models", "keypoints", "error_types", "slices")} <= figures


def test_the_four_questions_are_answered_first_with_the_numbers_of_test(
    made: Path, finished: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = text((made / "index.html").read_text(encoding="utf-8"))
    questions = ("Which model is better?", "Is the difference real?", "Where does it fail?", "What does it cost?")
    places = [page.index(question) for question in questions]
    assert places == sorted(places)
    score_command(["--predictions", str(finished / "val_results.json"), "--data", str(drawn), "--out", str(tmp_path),
          "--draws", "100"])  # fmt: skip
    score = Score.read(tmp_path / "score_val.json")
    assert f"AP {score.values['AP']:.3f}, one run" in page[places[0] : places[1]]  # too few instances for an interval
    assert "finished" in page[places[0] : places[1]]
    assert re.search(r"[+-]0\.\d{3} to .*, on too few images to tell", page[places[1] : places[2]])  # as for the AP
    assert f"{score.values['PCK@0.1']:.3f}" in page
    assert re.match(r"What does it cost\? +[\d.]+ (s|min) a training, [\d.]+ ms an image", page[places[3] :])
    assert "G multiply–adds" in page[places[3] :]


def test_the_published_complexity_is_reproduced_to_the_digit(made: Path) -> None:
    page = text((made / "index.html").read_text(encoding="utf-8"))
    assert "34.0 M 7.28 G 34.0 M 7.28 G 7.27 G" in page
    assert "68.64 M 17.02 G 68.64 M 17.02 G 16.99 G" in page


def test_of_many_animals_a_page_shows_the_worst(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catpose.page.report.MOST", 2)
    assert report(finished, "--out", tmp_path / "page", "--draws", 20) == 0
    html = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    shown, of = map(int, re.findall(r"(\d+) of the validation split&#39;s (\d+) instances, the best model", html)[0])
    assert 2 <= shown < of
    assert 1 <= html.count("data:image/webp") <= 2


@pytest.mark.slow
def test_a_page_needs_no_torch() -> None:
    """Which takes longer to import than the page of a small run to be made."""
    heavy = ("torch", "lightning", "timm", "albumentations")
    code = f"import sys, catpose.page.report; assert not sys.modules.keys() & {{*{heavy}}}"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_the_same_report_is_the_same_page(made: Path, finished: Path, worse: Path, tmp_path: Path) -> None:
    assert report(finished, worse, "--out", tmp_path, "--draws", 100) == 0
    again = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert again.replace(str(tmp_path), "") == (made / "index.html").read_text(encoding="utf-8").replace(str(made), "")


@pytest.mark.browser
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_answers_are_read_in_a_browser_on_the_first_screen_or_one_click_away(
    size: tuple[int, int], theme: str, browser: Browser, made: Path
) -> None:
    expected = {
        "Which model is better?": ("finished", "results", r"finished\s+1\s+0\.\d{3}"),
        "Is the difference real?": (r"Can't be told", "results", r"winner minus it"),
        "Where does it fail?": (r"Miss|Jitter|Inversion", "failures", r"ΔAP"),
        "What does it cost?": (r"\d+ s a training", "cost", r"parameters, M"),
    }
    with opened(browser, made / "index.html", size, theme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        cards = page.locator(".answers article")
        assert cards.count() == 4
        for card in cards.all():
            box = card.bounding_box()
            assert box is not None
            assert box["y"] + box["height"] <= size[1]  # all four on the first screen
        for i, (question, (answer, section, said)) in enumerate(expected.items()):
            text = cards.nth(i).inner_text()
            assert question in text
            assert re.search(answer, text), text
            cards.nth(i).locator("a").click()
            assert page.evaluate("location.hash") == f"#{section}"
            part = page.locator(f"#{section}")
            assert part.evaluate("e => Math.abs(e.getBoundingClientRect().top) < innerHeight")
            assert re.search(said, part.inner_text())
            if section == "results" and size == DESK:
                require_seen_whole(part.locator(".table .scroll").first)
            page.evaluate("scrollTo(0, 0)")


def require_seen_whole(table: Locator) -> None:
    """AP, difference, interval and p side by side, none to be scrolled to."""
    assert table.evaluate("box => box.scrollWidth <= box.clientWidth")
    heads = [head.bounding_box() for head in table.locator("thead th").all()]
    assert len(heads) == 7
    assert all(box is not None and box["x"] + box["width"] <= 1280 for box in heads)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere: is no folder"),
        (["{run}", "--draws", "0"], "--draws"),
        (["{run}", "--profile", "none.json"], "none.json: no such file"),
        (["{run}", "--out", "{run}"], "is the folder of a run"),
        (["{run}", "--data", "nowhere"], "nowhere/annotations: no such folder"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    words: list[str], said: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = [] if "--out" in words else ["--out", tmp_path / "page"]
    assert report(*(word.format(run=finished) for word in words), *out) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "page").exists()


def test_somebody_elses_page_is_left_alone(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "index.html"
    page.write_text("<p>mine")
    assert report(finished, "--out", tmp_path, "--draws", 20) == 2
    assert "index.html: is no report; move it away" in capsys.readouterr().err
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("index.html", "<p>mine")]


@pytest.mark.slow
def test_a_report_is_made_new_of_one_run_alone(made: Path, finished: Path, tmp_path: Path) -> None:
    page = Path(shutil.copy(made / "index.html", tmp_path))
    assert report(finished, "--out", tmp_path, "--draws", 20) == 0
    assert "worse &amp; worse" not in page.read_text()
    assert "Nothing to compare with" in text(page.read_text(encoding="utf-8"))
