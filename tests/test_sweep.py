"""The command as users run it: a whole small study, what it leaves, what it refuses, what it never shows."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from refused import exit_code, refused, says
from run.offline import records

from catpose.analysis.configurations import Design
from catpose.errors import InputError
from catpose.study.directory import StudyDirectory
from catpose.study.record import write_record
from catpose.sweep import hide_password, main, parsed, sort_out, storage_url

SECRET = "s3cr%40t"
STUDY = """# Question: is a higher rate better?
experiment: {experiment}
settings: {{wandb.mode: offline}}
space:
  model.lr: [1e-9, 5e-3]
published: [0.1, null]
seeds: 2
grace: 5
"""


sweep = functools.partial(exit_code, main)


@pytest.fixture(scope="module")
def file(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sweeps") / "rate.yaml"
    made.write_text(STUDY.format(experiment=tiny))
    return made


@pytest.fixture(scope="module")
def done(file: Path) -> tuple[Path, str]:
    """The folder of a study that ended, and what was said; stopped by a signal on the way."""
    out = file.parent / "out"
    command = [sys.executable, "-m", "catpose.sweep", "--config", str(file), "--out", str(out)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 400
    while not list(out.glob("trials/*/last.ckpt")):
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < end
        time.sleep(0.1)
    first.send_signal(signal.SIGTERM)
    stdout, stderr = first.communicate(timeout=300)
    assert first.returncode == 143, (stdout, stderr)
    assert "given back" in stderr
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert sweep("--config", file, "--out", out, "--workers", 2) == 0
    return out, stdout + printed.getvalue()


@pytest.mark.slow
def test_a_study_ends_in_a_decision(done: tuple[Path, str], file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, said = done
    assert re.search(r"highest mean AP|Nothing was learnt", said)
    for name in ("report.md", "report.csv", "report.png", "report.svg", "study.yaml", "study.db"):
        assert (out / name).stat().st_size > 0
    with (out / "report.csv").open(newline="") as rows:
        configurations = list(csv.DictReader(rows))
    assert [row["configuration"] for row in configurations] == ["1e-09", "0.005"]
    assert sweep("--config", file, "--out", out, "--report") == 0
    assert capsys.readouterr().out.split("files:")[0].strip() in said


@pytest.mark.slow
def test_each_trial_is_the_fit_that_was_printed(done: tuple[Path, str]) -> None:
    out, said = done
    printed = {line.split("] ", 1)[1] for line in said.splitlines() if "python -m catpose.fit" in line}
    runs = sorted((out / "trials").iterdir())
    assert len(runs) == 4
    assert len(printed) == 5  # one of them was stopped, and claimed again
    assert all(any(str(run) in line for line in printed) for run in runs)
    for run in runs:
        starts = json.loads((run / "run.json").read_text())["starts"]
        commands = [[word for word in start["command"] if not word.startswith("--out=")] for start in starts]
        assert all(command == commands[0] for command in commands)


@pytest.mark.slow
def test_wandb_has_one_run_a_trial_grouped_by_arm_and_a_summary(done: tuple[Path, str]) -> None:
    out, _ = done
    runs = {}
    for offline in sorted(out.glob("trials/*/wandb/offline-run-*/*.wandb")):
        for record in records(offline):
            if record.WhichOneof("record_type") == "run":
                config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
                kept = runs.setdefault(record.run.run_id, set())
                kept.add(
                    (
                        record.run.run_group,
                        record.run.job_type,
                        config["trial"],
                        config["configuration"],
                        config["study"],
                    )
                )
    assert len(runs) == 4  # one of them was stopped, and started twice
    facts = [fact for kept in runs.values() for fact in kept]
    assert len(facts) == 4
    assert {fact[0] for fact in facts} == {fact[4] for fact in facts} == {"rate"}
    assert sorted(fact[1] for fact in facts) == ["0.005", "0.005", "1e-09", "1e-09"]
    assert all(fact[1] == fact[3] for fact in facts)
    assert sorted(fact[2] for fact in facts) == [0, 1, 2, 3]
    assert list(out.glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.slow
def test_a_study_with_other_settings_is_refused_under_its_name(
    done: tuple[Path, str], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", file, "--out", done[0], "--trainer.max_epochs", "3"]
    says(refused(main, words, capsys, done[0]), "trainer.max_epochs 2 → 3", "--name")


@pytest.mark.slow
def test_final_scores_the_test_split_once(
    done: tuple[Path, str], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = done
    assert sweep("--config", file, "--out", out, "--final") == 0
    assert len(list((out / "final").glob("results_seed*.json"))) == 2
    before = (out / "final" / "final.json").read_bytes()
    capsys.readouterr()
    assert sweep("--config", file, "--out", out, "--final") == 0
    assert "once" in capsys.readouterr().out
    assert (out / "final" / "final.json").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--report"], "no such study"),
        (["--slurm.partition", "x"], "--launch slurm"),
        (["--storage", "nonsense"], "nonsense"),
        (["--storage", f"postgresql://cat:{SECRET}@127.0.0.1:1/x"], "127.0.0.1"),
        pytest.param(["--data.root", "nowhere"], "nowhere", marks=pytest.mark.slow),  # by a process of each arm
        (["--model.lrr", "3"], "Did you mean model.lr"),
        (["--worker", "3"], "--workers"),
        (["--model.lr", "3"], "what this study varies"),
        (["--experiment", "nowhere.yaml"], "nowhere.yaml"),
        (["--workers", "0"], "--workers"),
        (["stray"], "stray"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    file: Path,
    tmp_path: Path,
    words: list[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CATPOSE_STORAGE", "")
    with pytest.raises(SystemExit) as ended:
        main(["--config", str(file), "--out", str(tmp_path / "out"), *words])
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert named in said.err
    assert said.err.count("\n") == 1
    assert SECRET not in said.err + said.out
    assert "s3cr@t" not in said.err + said.out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [[], ["--report"], ["--final"], ["--workers", "2"], ["--retry-failed"]])
def test_another_studys_folder_is_refused(
    file: Path, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(StudyDirectory(tmp_path).summary, Design("depth"), [], [])
    said = refused(main, ["--config", file, "--out", tmp_path, *words], capsys, tmp_path)
    says(said, "--out HERE: holds the study depth, not rate", "name another folder")


def test_a_password_leaves_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"postgresql://cat:{SECRET}@host/db"
    for words in (["--storage", url], [f"--storage={url}"]):
        monkeypatch.delenv("CATPOSE_STORAGE", raising=False)
        hidden = hide_password(["--config", "a", *words, "--report"], again=False)
        assert " ".join(hidden).replace("=", " ") == "--config a --storage postgresql://cat:***@host/db --report"
        assert hide_password(list(hidden), again=False) == hidden
        assert storage_url("postgresql://cat:***@host/db", Path("out/study.db")) == url
    monkeypatch.setenv("CATPOSE_STORAGE", url)  # there already, and said again
    assert SECRET not in str(hide_password(["--storage", url, f"--storage={url}"], again=False))
    monkeypatch.delenv("CATPOSE_STORAGE")
    assert hide_password(["--storage", "sqlite:///x.db"], again=False) == ["--storage", "sqlite:///x.db"]
    assert storage_url(None, Path("out/study.db")) == "sqlite:///out/study.db"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_process_list_never_keeps_it(file: Path, tmp_path: Path) -> None:
    import socket

    with socket.socket() as deaf:  # a server that never answers
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        url = f"postgresql://cat:{SECRET}@127.0.0.1:{deaf.getsockname()[1]}/x"
        command = [sys.executable, "-m", "catpose.sweep", "--config", str(file), "--out", str(tmp_path / "o")]
        process = subprocess.Popen([*command, "--storage", url], stderr=subprocess.PIPE, text=True)
        deaf.settimeout(300)
        connection, _ = deaf.accept()
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        connection.close()
        process.kill()
        process.wait()
    assert SECRET.encode() not in shown
    assert b"postgresql://cat:***@127.0.0.1" in shown


@pytest.mark.parametrize("setting", ["--data.input_size=[64, 64]", "--data.input_size=[64,64]", "--model.lr=1e-3"])
def test_a_setting_after_files_is_none_of_them(setting: str) -> None:
    options, rest = parsed(
        ["--config", "one.yaml", "other.yaml", setting, "--workers", "2", "--trainer.max_epochs", "8"]
    )
    assert options.config == [Path("one.yaml"), Path("other.yaml")]
    assert options.workers == 2
    assert set(sort_out(rest)[1]) == {setting, "--trainer.max_epochs=8"}


def test_what_is_left_over_is_sorted_out() -> None:
    slurm, words = sort_out(["--slurm.partition", "gpu", "--model.lr", "1e-4", "--data.root=x", "--slurm.time=3"])
    assert slurm == {"partition": "gpu", "time": "3"}
    assert words == ["--model.lr=1e-4", "--data.root=x"]
    for bad in (["x"], ["--what", "1"], ["--model.lr"], ["--model.lr", "--data.root=x"]):
        with pytest.raises(InputError):
            sort_out(bad)


def test_windows_which_lacks_signals_and_process_groups_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit) as stop:
        main(["--config", str(tmp_path / "study.yaml")])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("catpose.sweep: error: a study needs signals and process groups, which Windows hasn't")
    assert error.count("\n") == 1
