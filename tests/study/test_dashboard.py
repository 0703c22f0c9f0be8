from __future__ import annotations

import collections
import math
import re
import warnings
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from PIL import Image
from study.browser import CHROMIUM, dashboard, dashboard_program, look, studies

from catpose.study.storage import normal_url

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.skipif(dashboard_program() is None, reason="optuna-dashboard isn't installed (catpose[dashboard])"),
]

RATES = [1e-5, 1e-4, 5e-4]
EPOCHS = {TrialState.COMPLETE: 8, TrialState.PRUNED: 4, TrialState.FAIL: 2, TrialState.RUNNING: 3}
#: A plot's place on the study's page.
PLOTS = ("plot-history", "graph-hyperparameter-importances", "graph-timeline", "graph-intermediate-values")


def fill(storage: str) -> optuna.Study:
    """A study of three learning rates with three seeds, of which one trial was pruned, one failed, and one runs."""
    study = optuna.create_study(storage=storage, study_name="learning_rate", direction="maximize")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(["val/AP"])
    space: dict[str, BaseDistribution] = {"model.lr": CategoricalDistribution(RATES)}
    noise = np.random.default_rng(0)
    others = {(1, 0): TrialState.PRUNED, (2, 0): TrialState.FAIL, (2, 2): TrialState.RUNNING}
    for seed in range(3):
        for i, rate in enumerate(RATES):
            state = others.get((seed, i), TrialState.COMPLETE)
            curve = {e: 0.2 * (i + 1) * (1 - math.exp(-e)) + noise.normal(0, 0.01) for e in range(1, EPOCHS[state] + 1)}
            study.add_trial(
                create_trial(
                    state=state,
                    value=curve[EPOCHS[state]] if state == TrialState.COMPLETE else None,
                    params={"model.lr": rate},
                    distributions=space,
                    user_attrs={"arm": str(rate), "seed": seed},
                    intermediate_values=curve,
                )
            )
    return study


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('storage') / 'study.db'}"
    return normal_url(request.getfixturevalue("postgres"))


@pytest.fixture(scope="module")
def study(storage: str) -> optuna.Study:
    return fill(storage)


@pytest.fixture(scope="module")
def pages(storage: str, study: optuna.Study, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The DOM of the study's page and of its list of trials, and the files of their pictures."""
    folder = tmp_path_factory.mktemp("pages")
    with dashboard(storage, folder) as address:
        (only,) = studies(address)
        url = f"{address}/dashboard/studies/{only['study_id']}"
        seen = {name: look(f"{url}/{name}", folder / f"{name or 'study'}.png") for name in ("", "trials")}
    assert "listen" in (folder / "dashboard.log").read_text().lower()
    return {**seen, "picture": str(folder / "study.png"), "log": str(folder / "dashboard.log")}


def plot(page: str, name: str) -> str:
    """The part of a page that draws one plot."""
    starts = sorted((page.index(f'id="{plot}"'), plot) for plot in PLOTS)
    ends = [start for start, _ in starts[1:]] + [len(page)]
    return next(page[start:end] for (start, plot), end in zip(starts, ends, strict=True) if plot == name)


def texts(part: str, kind: str) -> list[str]:
    return re.findall(rf'class="{kind}"[^>]*>([^<]*)<', part)


def in_state(study: optuna.Study, *states: TrialState) -> list[FrozenTrial]:
    return study.get_trials(states=states)


def test_the_study_is_named_with_its_best_trial(pages: dict[str, str], study: optuna.Study) -> None:
    assert ">learning_rate (id=1)<" in pages[""]
    assert f">Best Trial (number={study.best_trial.number})<" in pages[""]
    assert f">{study.best_value}<" in pages[""]


def test_the_history_has_a_point_for_each_value(pages: dict[str, str], study: optuna.Study) -> None:
    history = plot(pages[""], "plot-history")
    assert history.count('class="point"') == len(in_state(study, TrialState.COMPLETE)) == 6
    assert texts(history, "ytitle") == ["val/AP"]


def test_the_curves_are_drawn(pages: dict[str, str], study: optuna.Study) -> None:
    curves = plot(pages[""], "graph-intermediate-values")
    shown = in_state(study, TrialState.COMPLETE, TrialState.RUNNING)  # so the dashboard has it
    assert curves.count('class="point"') == sum(len(trial.intermediate_values) for trial in shown)
    assert curves.count('class="trace scatter') == len(shown)
    assert sorted(int(n) for n in re.findall(r"trial #(\d+)", " ".join(texts(curves, "legendtext")))) == [
        trial.number for trial in shown
    ]


def test_the_timeline_shows_each_trial_in_its_state(pages: dict[str, str], study: optuna.Study) -> None:
    timeline = plot(pages[""], "graph-timeline")
    assert texts(timeline, "legendtext") == ["Complete", "Fail", "Pruned", "Running"]
    assert timeline.count('class="point"') == len(study.trials)


def test_each_trial_is_listed_with_its_state(pages: dict[str, str], study: optuna.Study) -> None:
    page = pages["trials"]
    listed = re.findall(r">Trial (\d+)<.*?>(Complete|Pruned|Fail|Running|Waiting)<", page)
    assert {int(number): state.upper() for number, state in listed} == {t.number: t.state.name for t in study.trials}
    shown = collections.Counter(state for _, state in listed)
    assert (shown["Complete"], shown["Pruned"], shown["Fail"], shown["Running"]) == (6, 1, 1, 1)
    for said in ("model.lr 1e-05", "arm 1e-05", "seed 0"):
        assert f">{said}<" in page


def test_the_picture_is_of_something(pages: dict[str, str]) -> None:
    with Image.open(pages["picture"]) as image:
        assert image.width == 1280
        colours = image.convert("RGB").getcolors(maxcolors=1 << 24) or []
    assert len(colours) > 200
    assert max(count for count, _ in colours) < 0.95 * image.width * image.height


def test_nothing_went_wrong_on_the_server(pages: dict[str, str]) -> None:
    log = Path(pages["log"]).read_text()
    assert "Traceback" not in log
    assert {code[0] for code in re.findall(r'HTTP/1\.\d" (\d{3})', log)} <= {"2", "3"}
