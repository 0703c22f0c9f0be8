from __future__ import annotations

import dataclasses
import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from made_up_study import Trials, study, validation
from run.offline import records

from catpose.analysis.rendering import decision, markdown, write
from catpose.analysis.report import Report, report
from catpose.errors import InputError
from catpose.run.wandb import job_type
from catpose.study.file import Study
from catpose.study.results import Truth, design_of, resampled
from catpose.study.wandb_summary import log_summary, report_page, save_report, summary_id

pytest.importorskip("wandb_workspaces", reason="wandb-workspaces isn't installed (catpose[reports])")

STUDY_ID = "0123abcd"
GRID = "space: {model.lr: [1e-5, 1e-4, 5e-4]}\nseeds: 2\npublished: [0.153, null, 0.228]\n"
#: The report's page, built in a process that writes down each connection and each program it starts.
WATCHED = """
import json, sys
from pathlib import Path
seen = []
watched = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen")
sys.addaudithook(lambda event, args: seen.append([event, str(args)]) if event in watched else None)
from catpose.study.file import read_study
from catpose.analysis.report import report
from catpose.study.results import design_of
from catpose.study.wandb_summary import report_page
report_page(report(design_of(read_study(Path(sys.argv[1]))), []))._to_model()
print(json.dumps(seen))
"""
SAVING = """
import sys
from pathlib import Path
from catpose.study.file import read_study
from catpose.analysis.report import report
from catpose.study.results import design_of
from catpose.study.wandb_summary import save_report
print(save_report(report(design_of(read_study(Path(sys.argv[1]))), [])))
"""


@pytest.fixture(scope="module")
def rates(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study(tmp_path_factory.mktemp("sweeps"), GRID)


@pytest.fixture(scope="module")
def made(rates: Study, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """What a study of three configurations has come to."""
    truth = validation(tmp_path_factory.mktemp("data"))
    trials = Trials([truth], rates.configurations, rates.seeds, [12.0, 4.0, 6.0])
    design = design_of(rates)
    return report(design, resampled(design, trials.trials, trials.results, [Truth(truth)]))


@pytest.fixture
def folder(tmp_path: Path, made: Report) -> Path:
    """A study's folder with its report in it."""
    write(made, tmp_path)
    return tmp_path


@pytest.fixture
def keyless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def written(folder: Path, kind: str) -> list[Any]:
    files = sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"))
    return [getattr(r, kind) for file in files for r in records(file) if r.WhichOneof("record_type") == kind]


@pytest.mark.slow
def test_a_study_has_one_run_however_often_it_reports(made: Report, folder: Path) -> None:
    for _ in range(2):
        where = log_summary(made, STUDY_ID, folder, tags=["cats"])
        assert where is not None
        assert Path(where).is_relative_to(folder / "wandb")
    log_summary(made, "another study", folder, tags=["cats"])
    runs = written(folder, "run")
    assert {run.run_id for run in runs} == {summary_id(STUDY_ID), summary_id("another study")}
    assert len({summary_id(STUDY_ID), summary_id("another study")}) == 2
    for run in runs:
        assert (run.project, run.run_group, run.job_type) == ("catpose", "lr", "summary")
        assert (run.display_name, run.notes, list(run.tags)) == ("lr", made.design.question, ["cats", "summary"])


def test_the_decision_is_in_the_runs_summary(made: Report, folder: Path) -> None:
    log_summary(made, STUDY_ID, folder)
    said = {i.key: json.loads(i.value_json) for summary in written(folder, "summary") for i in summary.update if i.key}
    decided = dataclasses.asdict(decision(made))
    assert said["winner"] == "0.0001"
    assert {name: said[name] for name in decided} == decided


def test_the_table_and_the_figure_are_beside_the_run(made: Report, folder: Path) -> None:
    where = log_summary(made, STUDY_ID, folder)
    (file,) = Path(str(where)).glob("files/media/table/configurations_*.table.json")
    table = json.loads(file.read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["configuration"] for row in rows] == ["1e-05", "0.0001", "0.0005"]
    assert [row["published_elsewhere"] for row in rows] == [0.153, None, 0.228]
    assert [row["AP"] for row in rows] == pytest.approx([each.mean for each in made.configurations], abs=1e-5)
    (picture,) = Path(str(where)).glob("files/media/images/figure_*.png")
    assert picture.read_bytes() == (folder / "report.png").read_bytes()


def test_nothing_of_the_command_line_is_kept(made: Report, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "hunter2secret"
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--storage", f"postgresql://me:{secret}@db/cats"])
    monkeypatch.setenv("CATPOSE_STORAGE", f"postgresql://me:{secret}@db/cats")
    log_summary(made, STUDY_ID, folder)
    files = [file for file in (folder / "wandb").rglob("*") if file.is_file()]
    assert any(b"0.0001" in file.read_bytes() for file in files)
    assert [file for file in files if secret.encode() in file.read_bytes()] == []


def test_without_a_figure_there_is_nothing_to_log(made: Report, folder: Path) -> None:
    (folder / "report.png").unlink()
    with pytest.raises(InputError, match=r"report.png: .*--report"):
        log_summary(made, STUDY_ID, folder)
    assert not (folder / "wandb").exists()


def test_without_a_key_nobody_is_asked(made: Report, folder: Path, keyless: None) -> None:
    with pytest.raises(InputError, match="WANDB_API_KEY"):
        log_summary(made, STUDY_ID, folder, mode="online")
    with pytest.raises(InputError, match=r"--wandb-report needs .*WANDB_API_KEY"):
        save_report(made)
    assert log_summary(made, STUDY_ID, folder, mode="disabled") is None


def test_where_wandb_is_offline_no_report_is_saved(
    made: Report, keyless: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with pytest.raises(InputError, match="online"):
        save_report(made, mode="offline")


def sent(report: Report) -> dict[str, Any]:
    """What saving the report would send."""
    return json.loads(report_page(report)._to_model().model_dump_json(by_alias=True, exclude_none=True))


def named(report: Report, labels: list[str]) -> Report:
    """The report with configurations of other names, one of its own for each."""
    first = report.configurations[0]
    return dataclasses.replace(report, configurations=tuple(dataclasses.replace(first, label=name) for name in labels))


def grids(specification: dict[str, Any]) -> list[dict[str, Any]]:
    return [block["metadata"] for block in specification["spec"]["blocks"] if block["type"] == "panel-grid"]


def conditions(run_set: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Each condition of a run set's filter: what of a run, how, to what; all of them have to hold."""
    filters = run_set["filters"]["filters"]
    assert all(
        f["key"]["section"] == "run" and not f["disabled"] and f.get("connector", "AND") == "AND" for f in filters
    )
    return [(f["key"]["name"], f["op"], f["value"]) for f in filters]


def test_the_page_compares_the_studys_configurations(made: Report) -> None:
    page = sent(made)
    assert page["displayName"] == f"lr: {made.design.question}"
    assert page["project"]["name"] == "catpose"
    (text,) = [block["content"] for block in page["spec"]["blocks"] if block["type"] == "markdown-block"]
    assert text == markdown(made, figure=None)
    summary, trials = grids(page)
    assert [conditions(s) for s in summary["runSets"]] == [[("group", "=", "lr"), ("jobType", "=", "summary")]]
    assert [p["config"]["mediaKeys"] for p in summary["panelBankSectionConfig"]["panels"]] == [["figure"]]
    assert [s["name"] for s in trials["runSets"]] == ["1e-05", "0.0001", "0.0005"]
    ap, loss, bars = trials["panelBankSectionConfig"]["panels"]
    assert [p["viewType"] for p in (ap, loss, bars)] == ["Run History Line Plot", "Run History Line Plot", "Bar Chart"]
    assert [p["config"]["metrics"] for p in (ap, loss, bars)] == [["val/AP"], ["train/loss"], ["val/AP"]]
    assert [p["config"].get("xAxis") for p in (ap, loss)] == ["epoch", "epoch"]
    for panel in (ap, loss, bars):
        config = panel["config"]
        assert (config["aggregate"], config["groupBy"]) == (True, "jobType")
        assert (config["groupAgg"], config["groupArea"]) == ("mean", "minmax")


@pytest.mark.parametrize("label", ["1e-05", "lr=1, size<2", "'a' or \"b\"", "\\ {x} [y]", "192×256", "long " * 20])
def test_a_set_of_runs_is_of_one_configuration_whatever_its_name(made: Report, label: str) -> None:
    _, trials = grids(sent(named(made, [label])))
    assert [conditions(s) for s in trials["runSets"]] == [[("group", "=", "lr"), ("jobType", "=", job_type(label))]]


def test_panels_do_not_overlap(made: Report) -> None:
    for grid in grids(sent(made)):
        cells = [
            (x, y)
            for panel in grid["panelBankSectionConfig"]["panels"]
            for x in range(panel["layout"]["x"], panel["layout"]["x"] + panel["layout"]["w"])
            for y in range(panel["layout"]["y"], panel["layout"]["y"] + panel["layout"]["h"])
        ]
        assert len(cells) == len(set(cells))
        assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("n", [0, 50])
def test_many_configurations_are_one_set_of_runs_without_the_summary(made: Report, n: int) -> None:
    _, trials = grids(sent(named(made, [str(i) for i in range(n)])))
    assert [conditions(s) for s in trials["runSets"]] == [[("group", "=", "lr"), ("jobType", "!=", "summary")]]


@pytest.mark.slow
def test_building_the_page_opens_no_connection(rates: Study, keyless: None) -> None:
    seen = subprocess.run([sys.executable, "-c", WATCHED, rates.file], capture_output=True, text=True, check=True)
    assert json.loads(seen.stdout.splitlines()[-1]) == []


class Wandb(BaseHTTPRequestHandler):
    """Answers the four questions that saving a report asks, and keeps them."""

    asked: list[dict[str, Any]]

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/graphql":
            self.send_error(404)
            return
        query = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
        self.asked.append(query)
        owner = {"id": "u", "entity": "cats", "username": "cats", "flags": "{}", "teams": {"edges": []}}
        data: dict[str, Any] = {"viewer": owner, "project": {"internalId": "cGlk"}}
        if "upsertView" in query["query"]:
            given = query["variables"]
            view = {"id": "VIEW", "type": given["type"], "name": given["name"], "displayName": given["displayName"]}
            where = {"id": "p", "name": given["projectName"], "entityName": given["entityName"]}
            data = {"upsertView": {"view": {**view, "description": "", "project": where, "spec": given["spec"]}}}
        elif "models(" in query["query"] or "projects(" in query["query"]:
            data = {"models": {"edges": [], "pageInfo": {"endCursor": None, "hasNextPage": False}}}
        answer = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        print(format % args, file=sys.stderr)


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Kept", (Wandb,), {"asked": asked})) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}", asked
        serving.shutdown()


@pytest.mark.slow
def test_saving_sends_the_page(made: Report, rates: Study, server: tuple[str, list[dict[str, Any]]]) -> None:
    url, asked = server
    environment = {**os.environ, "WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40, "WANDB_MODE": "online"}
    done = subprocess.run(
        [sys.executable, "-c", SAVING, rates.file], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (view,) = [query["variables"] for query in asked if "upsertView" in query["query"]]
    assert (view["entityName"], view["projectName"]) == ("cats", "catpose")
    assert view["displayName"] == f"lr: {made.design.question}"
    for grid in grids({"spec": json.loads(view["spec"])}):
        assert [s["project"]["entityName"] for s in grid["runSets"]] == ["cats"]
    assert done.stdout.splitlines()[-1].startswith(f"{url}/cats/catpose/reports/")


@pytest.mark.slow
def test_a_server_that_is_away_is_said_in_one_line(rates: Study) -> None:
    environment = {**os.environ, "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
    done = subprocess.run(
        [sys.executable, "-c", SAVING, rates.file],
        capture_output=True,
        text=True,
        env={**environment, "WANDB_MODE": "online"},
        timeout=300,
    )
    assert "InputError: --wandb-report: " in done.stderr.splitlines()[-1]
