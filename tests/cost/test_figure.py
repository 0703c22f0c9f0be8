"""The figures and tables of a cost: all that was measured is in them, the same bytes each time."""

from __future__ import annotations

import dataclasses

import pytest

from catpose.cost.figure import draw_parts, draw_speed, draw_training, figures
from catpose.cost.record import Complexity, Cost, Part, Phase, Profile, Timing, TrainingStep
from catpose.cost.runtime import RunTime, Spread
from catpose.cost.table import (
    milliseconds,
    parts_table,
    predictions_table,
    profile_text,
    published_lines,
    quantity,
    run_time_table,
    training_table,
)
from catpose.cost.timing import KINDS
from catpose.cost.training_step import PHASES

PARTS = (Part("backbone.stem", 1_000, 30_000_000, 31_000_000), Part("head.final", 4_369, 0, 17_895_424))
COMPLEXITY = Complexity(
    192, 256, PARTS, 5_369, 30_000_000, 48_895_424, {"convolution": 48_895_424}, {"add": 16}, {"attention": 5, "add": 0}
)
TIMINGS = tuple(
    Timing(kind, n, precision, compiled, 2.5 * n, 3.0 * n, 7, 400.0, None)
    for precision in ("float32", "bfloat16")
    for compiled in (False, True)
    for kind in KINDS
    for n in (1, 2, 16)
)
STEP = TrainingStep(
    8, "data/<cats>", 2, "float32", tuple(Phase(name, 10.0 + i, 0.2) for i, name in enumerate(PHASES)), 60.0, 70.0, 9,
    130.0, 812.0, "some memory",
)  # fmt: skip
RUN = RunTime(
    "runs/<a>", 2, 12, (0, 6), (54.2, 31.0), Spread(30.0, 2.0, 33.0, 7, 27.0, 9), Spread(0.4, 0.1, 0.5, 7, 0.3, 9), 0.9,
    38.5, 400.0,
)  # fmt: skip
COST = Cost("ResNet", {}, "cpu", 2, COMPLEXITY, TIMINGS, STEP, None, None, ("a note",))


def texts(svg: bytes) -> str:
    return svg.decode()


@pytest.mark.slow
def test_all_figures_are_made_and_are_the_same_twice() -> None:
    made = figures(COST)
    assert set(made) == {"parts", "latency", "throughput", "training_step"}
    assert made["parts"] == draw_parts(COMPLEXITY, "ResNet, 192 × 256 px")
    for files in made.values():
        assert set(files) == {"png", "svg"}
        assert files["png"].startswith(b"\x89PNG")
        assert b"ResNet" in files["svg"]


def test_nothing_is_drawn_of_what_was_not_measured() -> None:
    assert set(figures(dataclasses.replace(COST, predictions=(), training=None))) == {"parts"}


def test_parts_are_named_with_their_figures() -> None:
    svg = texts(draw_parts(COMPLEXITY)["svg"])
    for words in ("backbone.stem", "head.final", "30.00 M", "4.37 k", "multiply–adds, 30.00 M in all"):
        assert f">{words}<" in svg
    nothing = Complexity(32, 32, (Part("head", 0, 0, 0),), 0, 0, 0, {}, {}, {})
    assert draw_parts(nothing)["png"]


@pytest.mark.parametrize("what", ["latency", "throughput"])
def test_each_way_of_predicting_is_a_line(what: str) -> None:
    svg = texts(draw_speed(TIMINGS, what)["svg"])  # type: ignore[arg-type]
    for kind in KINDS:
        for way in ("float32", "float32, compiled", "bfloat16", "bfloat16, compiled"):
            assert f">{kind}, {way}<" in svg
    assert ">16<" in svg
    assert draw_speed(TIMINGS[:1], what)["png"]  # type: ignore[arg-type]


def test_each_model_s_step_is_a_bar() -> None:
    other = dataclasses.replace(STEP, phases=STEP.phases[1:], data=None, workers=None)
    svg = texts(draw_training({"a <b>": STEP, "$c$": other})["svg"])
    for words in (*PHASES, "a &lt;b&gt;", "$c$"):
        assert words in svg
    assert f">{milliseconds(sum(10.0 + i for i in range(len(PHASES))) / 8)} ms<" in svg


def test_tables_hold_every_row() -> None:
    header, rows = parts_table(COMPLEXITY)
    assert [row[0] for row in rows] == ["backbone.stem", "head.final", "all"]
    assert rows[-1][1:] == ("5.37 k", "30.00 M", "48.90 M")
    assert len(predictions_table(TIMINGS)[1]) == len(TIMINGS)
    assert [row[0] for row in training_table(STEP)[1]] == [*PHASES, "whole step"]
    on_gpu = [dataclasses.replace(TIMINGS[0], peak_mb=123.4), TIMINGS[1]]
    assert [row[-1] for row in predictions_table(on_gpu)[1]] == ["123", ""]
    for header, rows in (
        parts_table(COMPLEXITY),
        predictions_table(on_gpu),
        training_table(STEP),
        run_time_table([RUN]),
    ):
        assert {len(row) for row in rows} == {len(header)}


def test_epochs_and_iterations_go_by_their_names() -> None:
    header, rows = run_time_table([RUN, dataclasses.replace(RUN, iteration=None)])
    assert header == ("run time", "<a>", "<a>", "published")
    cells = {row[0]: row[1:] for row in rows}
    assert cells["an epoch, slowest, s"] == ("33.0 (epoch 7)", "33.0 (epoch 7)", "")
    assert cells["an iteration, slowest, s"] == ("0.5000 (epoch 7)", "", "0.0466 (iteration 885)")
    assert cells["an iteration, fastest, s"][2] == "0.0006 (iteration 11412)"
    assert cells["an iteration, std, s"][2] == "0.0032"
    assert cells["finished epochs (starts)"][0] == "12 (2)"


def test_the_published_form_is_rounded_as_the_tool_does() -> None:
    model = dataclasses.replace(COMPLEXITY, published_macs=7_282_000_000, params=33_998_000)
    assert published_lines(model) == ("Input shape: (1, 3, 256, 192)", "Flops: 7.28 GFLOPs", "Params: 34.0 M")


def test_the_text_says_what_is_counted_and_on_what() -> None:
    words = " ".join(profile_text(Profile({}, COST, (RUN,))).split())
    for part in (
        "ResNet on cpu, 2 threads, random weights",
        "192 × 256 px",
        "FLOPs are twice as many",
        "bias, and add ×16",
        "attention (5 by fvcore), add",
        "812 MB (some memory)",
        "note: a note",
        "slowest epoch 885, average time is 0.0466; fastest epoch 11412, average time is 0.0006",
        "Of a resumed run",
    ):
        assert part in words
    assert max(map(len, profile_text(Profile({}, COST, (RUN,))).splitlines())) <= 120
    alone = profile_text(Profile({}, None, (RUN,)))
    assert "training step" not in alone
    gpu = dataclasses.replace(COST, device="NVIDIA H100", largest_training_batch=96, largest_prediction_batch=1024)
    assert "Largest batch that fits: 96 in training, 1024 in prediction" in profile_text(Profile({}, gpu, ()))
    assert "threads" not in profile_text(Profile({}, gpu, ()))


def test_numbers_are_short() -> None:
    assert [quantity(n) for n in (0, 999, 1_000, 34_000_000, 17_024_000_000)] == [
        "0",
        "999",
        "1.00 k",
        "34.00 M",
        "17.02 G",
    ]
    assert [milliseconds(n) for n in (0.0512, 9.999, 12.34, 1234.5)] == ["0.05", "10.00", "12.3", "1234"]
