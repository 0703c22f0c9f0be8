"""Whatever is wrong with Weights & Biases, a training goes on, in seconds and with one line. The servers are real."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from refused import exit_code

from catpose.fit import main
from catpose.run import wandb as ours
from catpose.run import wandb_logger as logging_
from catpose.run.wandb import closed_wandb
from catpose.run.wandb_logger import GuardedWandbLogger, wandb_logger

KEY = "0123456789" * 4


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A key, the wish to be online, and no patience."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setattr(ours, "ANSWER_S", 1.0)
    monkeypatch.setattr(logging_, "BEGIN_S", 2.0)
    monkeypatch.setattr(ours, "END_S", 2.0)
    yield
    os.environ["WANDB_MODE"] = "offline"  # as conftest.py has it; Lightning changes it


Answer = Callable[[http.server.BaseHTTPRequestHandler, str], None]


@contextlib.contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """The address of a server that answers as told."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode("utf-8", "replace")
            with contextlib.suppress(OSError):
                answer(self, text)

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def status(code: int) -> Answer:
    return lambda handler, _: handler.send_error(code)


def says(text: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler, _: str) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(text.encode())

    return answer


def hangs(handler: http.server.BaseHTTPRequestHandler, _: str) -> None:
    time.sleep(600)


def knows_the_key_and_hangs(handler: http.server.BaseHTTPRequestHandler, text: str) -> None:
    if "Viewer { viewer { id } }" in text:
        says(json.dumps({"data": {"viewer": {"id": "x"}}}))(handler, text)
    else:
        time.sleep(600)


def begun(folder: Path, **settings: Any) -> GuardedWandbLogger:
    logger = wandb_logger(folder, "cat0", **settings)
    assert isinstance(logger, GuardedWandbLogger)
    logger.begin()
    return logger


def is_kept_offline(folder: Path) -> bool:
    return len(list((folder / "wandb").glob("offline-run-*/run-cat0.wandb"))) == 1


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (status(401), "refuses the key"),
        (status(403), "refuses the key"),
        (status(500), "out of order"),
        (status(404), "out of order"),
        (says("<html>hotel wifi"), "can't be reached"),
        (says('{"data": {"viewer": null}}'), "doesn't know the key"),
        (says("[]"), "doesn't know the key"),
        (hangs, "doesn't answer|can't be reached"),
    ],
)
def test_a_server_that_wont_have_us_is_known_in_seconds(
    answer: Answer, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(answer) as address:
        monkeypatch.setenv("WANDB_BASE_URL", address)
        begin = time.monotonic()
        why = ours.unreachable()
        assert why is not None
        assert any(part in why for part in said.split("|"))
        assert "\n" not in why
        assert time.monotonic() - begin < 60


def test_without_a_key_or_a_network_nothing_is_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    assert "can't be reached (" in str(ours.unreachable())
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert "no key for http://127.0.0.1:1" in str(ours.unreachable())


def test_whom_the_server_knows_may_go_online(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(knows_the_key_and_hangs) as address:
        monkeypatch.setenv("WANDB_BASE_URL", address)
        assert ours.unreachable() is None


@pytest.mark.one_in(2)
@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "nonsense"])
def test_a_run_goes_offline_with_one_line(
    address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", address)
    with closed_wandb():
        logger = begun(tmp_path, mode="online")
        logger.log_metrics({"loss": 1.0})
    assert not logger.is_lost or address == "nonsense"  # with an address that is none W&B does nothing at all
    assert is_kept_offline(tmp_path) is not logger.is_lost
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("W&B: ")]
    assert len(lines) == 1


@pytest.mark.slow
def test_a_server_that_hangs_once_the_key_is_known_is_left_after_seconds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    begin = time.monotonic()
    with serving(knows_the_key_and_hangs) as address:
        monkeypatch.setenv("WANDB_BASE_URL", address)
        with closed_wandb():
            logger = begun(tmp_path)
            logger.log_metrics({"loss": 1.0})
    assert time.monotonic() - begin < 300
    assert is_kept_offline(tmp_path)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("W&B: ")]
    assert len(lines) == 1
    assert "wandb sync" in lines[0]


@pytest.mark.slow
def test_a_service_that_dies_in_the_middle_costs_the_rest_of_the_curves_only(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with closed_wandb():
        logger = begun(tmp_path, mode="offline")
        logger.log_metrics({"loss": 1.0})
        ours._kill_service()
        for _ in range(20):
            logger.log_metrics({"loss": 1.0})
            time.sleep(0.05)
        assert logger.is_lost
    assert len([line for line in capfd.readouterr().err.splitlines() if line.startswith("W&B: ")]) == 1


@pytest.mark.one_in(3)
@pytest.mark.parametrize("text", ["[default]\nbase_url: : :\nx", "\x00\x01", "[default]\nmode = sideways\n"])
def test_a_damaged_settings_file_is_no_end(text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings").write_text(text)
    with closed_wandb():
        logger = begun(tmp_path, mode="offline")
        logger.log_metrics({"loss": 1.0})
    assert len([line for line in capfd.readouterr().err.splitlines() if line.startswith("W&B: ")]) == logger.is_lost


NAMES = {
    "WANDB_PROJECT": "a project",
    "WANDB_ENTITY": "a team",
    "WANDB_NAME": "a name",
    "WANDB_RUN_GROUP": "a group",
    "WANDB_NOTES": "notes",
    "WANDB_JOB_TYPE": "a job",
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("given", [False, True])
def test_the_environment_is_honoured_and_options_win(
    given: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {**NAMES, "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path / "elsewhere")}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "elsewhere").mkdir()
    keys = ("project", "entity", "name", "group", "notes", "job_type")
    options = {key: f"option {key}" for key in keys} if given else {}
    with closed_wandb():
        logger = begun(tmp_path / "run", **options)
        run: Any = logger.experiment
        seen = (run.project, run.entity, run.name, run.group, run.notes, run.job_type)
    assert seen == (tuple(options.values()) if given else tuple(NAMES.values()))
    assert is_kept_offline(tmp_path / "elsewhere")


def test_the_mode_of_the_environment_gives_way_to_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, mode in {"offline": "offline", "dryrun": "offline", "disabled": "disabled", "online": "online"}.items():
        monkeypatch.setenv("WANDB_MODE", value)
        assert ours.wandb_mode() == mode
        assert ours.wandb_mode("offline") == "offline"
        assert ours.wandb_mode("disabled") == "disabled"


@pytest.mark.slow
def test_a_training_with_a_key_but_no_network_is_done_in_time(tiny: Path, tmp_path: Path) -> None:
    words = ["--config", str(tiny), "--out", str(tmp_path / "run"), "--trainer.max_epochs=1"]
    environment = {**os.environ, "WANDB_MODE": "online", "WANDB_BASE_URL": "http://127.0.0.1:1"}
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "catpose.fit", *words], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begin < 300
    assert len([line for line in done.stderr.splitlines() if line.startswith("W&B: ")]) == 1
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))


@pytest.mark.slow
def test_a_run_that_wandb_never_starts_is_trained_all_the_same(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise wandb.errors.CommError("run ID x is in use")

    monkeypatch.setattr(wandb, "init", refuse)
    options = ("--wandb.mode=offline", "--trainer.max_epochs=1")
    assert exit_code(main, "--config", tiny, "--out", tmp_path / "run", *options) == 0
    assert capsys.readouterr().err.count("run ID x is in use; the training goes on without it") == 1
    assert (tmp_path / "run" / "last.ckpt").is_file()
