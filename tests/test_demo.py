"""`python -m catpose.demo`: prints its address, answers, ends with Ctrl-C; what is missing is one line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refused import exit_code

from catpose import demo, predict


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    assert exit_code(demo.main, *argv) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_what_is_missing_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("uvicorn")
    monkeypatch.chdir(tmp_path)
    assert "none.ckpt" in refused(capsys, "--checkpoint", "none.ckpt", "--port", 0)
    assert "65535" in refused(capsys, "--checkpoint", "none.ckpt", "--port", 70000)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "--port 0" in refused(capsys, "--checkpoint", "none.ckpt", "--port", taken.getsockname()[1])
    assert "--host" in refused(capsys, "--checkpoint", "none.ckpt", "--port", 0, "--host", "203.0.113.1")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert "pip install 'catpose[demo]'" in refused(capsys, "--checkpoint", "none.ckpt")
    assert list(tmp_path.iterdir()) == []


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1", "0.0.0.0"])
def test_it_answers_at_any_address_and_says_which_are_public(
    host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uvicorn = pytest.importorskip("uvicorn")
    from serving.served import Grid, ask

    if host == "::1" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    serve, answers, warned = uvicorn.Server.run, [], []

    def asked(server: Any, sockets: list[socket.socket]) -> None:
        thread = threading.Thread(target=serve, args=(server, sockets), daemon=True)
        thread.start()
        said = capsys.readouterr()
        warned.append("whoever reaches" in said.err)
        address = said.out.split()[2]
        assert ask(f"{address}/about")[1]["models"] == ["cats"]  # not the file of it
        answers.append(ask(f"{address}/about", Host="rebound.example")[0])
        server.should_exit = True
        thread.join(60)

    monkeypatch.setattr(uvicorn.Server, "run", asked)
    monkeypatch.setattr("catpose.run.predictor.load", lambda file, trusted: Grid())
    demo.main(["--host", host, "--port", "0", "--out", str(tmp_path / "demo")])
    is_public = host == "0.0.0.0"
    assert answers == [200 if is_public else 400]
    assert warned == [is_public]


@pytest.mark.slow
def test_it_is_ready_when_it_says_so_and_ends_with_ctrl_c(trained: Path, drawn: Path, tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    from serving.served import ask

    file = sorted((drawn / "images").iterdir())[0]
    command = [sys.executable, "-m", "catpose.demo", "--checkpoint", str(trained / "best.ckpt"), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
                               env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])})  # fmt: skip
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[2]
        _, added = ask(f"{address}/pictures?name={file.name}", file.read_bytes())
        _, found = ask(f"{address}/predict", {"picture": added["picture"], "model": str(trained / "best.ckpt")})
        predict.main([str(file), "--checkpoint", str(trained / "best.ckpt"), "--out", str(tmp_path / "expected.json")])
        (expected,) = json.loads((tmp_path / "expected.json").read_text())
        assert np.allclose(np.ravel(found["keypoints"]), np.delete(expected["keypoints"], np.s_[2::3]), atol=0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0
        assert errors == ""
    finally:
        process.kill()
    assert [path.name for path in tmp_path.iterdir()] == ["expected.json"]
