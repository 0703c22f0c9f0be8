"""What is wrong with any arm is said before the first trial, with nothing left behind; and how long all will take."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path

import pytest
from refused import exit_code, refused, says

from catpose.cost import rehearsal
from catpose.errors import InputError
from catpose.study import worker
from catpose.study.file import Study, read_study
from catpose.study.opening import settings_of
from catpose.study.rehearsing import duration, forecast, rehearse, seconds_of_run
from catpose.sweep import main

#: Fails for its widest model alone: while it is built, in a training step, in validation, or by a signal.
NET = """
import os
import signal

from catpose.model.backbones.timm_backbone import TimmBackbone


class Fails(TimmBackbone):
    def __init__(self, fault: str = "", **kwargs):
        super().__init__(**kwargs)
        self.fault = fault
        if fault == "built":
            raise ValueError("built")

    def loss(self, heatmaps, batch):
        if self.fault == ("step" if self.training else "validation"):
            raise ZeroDivisionError(self.fault)
        if self.fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(heatmaps, batch)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "fails.py").write_text(NET)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(tmp_path))
    return "fails"


def study(tiny: Path, folder: Path, text: str) -> Study:
    file = folder / "study.yaml"
    file.write_text(f"experiment: {tiny}\nsettings: {{wandb.mode: disabled}}\n{text}")
    return read_study(file)


def tried(study: Study) -> list[float]:
    return rehearse(study, [(each, settings_of(study, each)) for each in study.space.samples()], 1)


FAULT = """imports: [fails]
space: {{arm: {{sound: {{model: fails.Fails}}, broken: {{model: fails.Fails, model.fault: {}}}}}}}
"""


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "reason"), [("step", "ZeroDivisionError: step"), ("killed", "SIGKILL")])
def test_a_fault_of_the_last_arm_is_found_before_the_first_is_trained(
    tiny: Path, tmp_path: Path, module: str, fault: str, reason: str
) -> None:
    with pytest.raises(InputError) as error:
        tried(study(tiny, tmp_path, FAULT.format(fault)))
    assert "configuration broken: " in str(error.value)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("**/*.ckpt"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (FAULT.format("built"), "built"),
        (FAULT.format("validation"), "ZeroDivisionError: validation"),
        ("space: {data.input_size: [[64, 64], [64, 65]]}\n", "data.input_size: "),
    ],
)
def test_what_is_wrong_is_the_answer_of_the_process(
    tiny: Path, tmp_path: Path, module: str, text: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = study(tiny, tmp_path, text)
    trainings = [{"args": made.args(each, 0), "step": True} for each in made.space.configurations()]
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"trainings": trainings, "metrics": []})))
    monkeypatch.setattr("sys.argv", ["rehearsal", str(tmp_path / "answers")])
    rehearsal.main()
    sound, broken = map(json.loads, (tmp_path / "answers").read_text().splitlines())
    assert sound["epoch_s"] > 0
    assert reason in broken["error"]
    assert "\n" not in broken["error"]
    assert not list(tmp_path.glob("**/*.ckpt"))


@pytest.mark.slow
def test_a_step_tells_how_long_a_trial_takes(tiny: Path, tmp_path: Path) -> None:
    made = study(tiny, tmp_path, "space: {epochs: {few: {trainer.max_epochs: 3}, many: {trainer.max_epochs: 30}}}\n")
    few, many = tried(made)
    assert few > 0
    assert many == pytest.approx(10 * few)
    text = forecast(made, [*zip(made.space.configurations(), [few, many], strict=True)], 1)
    assert "2 configurations with 1 seeds are 2 trials" in text
    assert f"many: {duration(many)}" in text


@pytest.mark.parametrize(
    ("every", "interval", "expected"),
    [(1, None, 1), (1, 1.0, 1), (2, 1.0, 0.5), (1, 0.5, 2), (1, 5, 2), (1, 1, 10), (None, 5, 2), (None, 600, 1 / 60)],
)
def test_how_often_an_epoch_validates(every: int | None, interval: float | None, expected: float) -> None:
    assert rehearsal.validations_an_epoch(10, every, interval) == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize(("every", "fits"), [("null", True), ("1", False)])
def test_a_validation_after_more_batches_than_an_epoch_has(tiny: Path, tmp_path: Path, every: str, fits: bool) -> None:
    steps = f"trainer.max_steps: 40, trainer.val_check_interval: 40, trainer.check_val_every_n_epoch: {every}"
    made = study(
        tiny,
        tmp_path,
        f"space: {{length: {{a: {{{steps}, trainer.max_epochs: 99}}, b: {{{steps}, trainer.max_epochs: -1}}}}}}\n",
    )
    if fits:
        assert min(tried(made)) > 0
    else:
        with pytest.raises(InputError, match=r"val_check_interval"):
            tried(made)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("space", "refused"),
    [
        ("{trainer.check_val_every_n_epoch: [1, 3]}", "3"),  # of two epochs
        (
            "{trainer.max_epochs: [2, 4, 3]}\n'settings': {trainer.check_val_every_n_epoch: 2}",
            "3",
        ),  # one takes the steps
        ("{trainer.val_check_interval: [1.0, 0.9]}", "0.9"),
        ("{trainer.limit_val_batches: [1, 0]}", "0"),
        ("{end: {epochs: {trainer.max_epochs: 2}, steps: {trainer.max_steps: 2}}}", "steps"),
    ],
)
def test_a_configuration_that_would_end_without_an_ap_is_refused(
    tiny: Path, tmp_path: Path, space: str, refused: str
) -> None:
    space, _, settings = space.partition("\n'settings': ")
    text = (settings or "{}").replace("{", "{wandb.mode: disabled, ", 1)
    file = tmp_path / "study.yaml"
    file.write_text(f"experiment: {tiny}\nsettings: {text}\nspace: {space}\n")
    with pytest.raises(InputError, match=f"configuration {re.escape(refused)}: its last step is followed by no"):
        tried(read_study(file))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("space", "named"),
    [
        ("{model.lr: [1.0e-3, -1.0]}", "configuration -1: model.lr"),
        ("{arm: {a: {model.lr: 1.0e-3}, b: {model.lrr: 1.0e-3}}}", "configuration b: unknown setting model.lrr"),
    ],
)
def test_a_sweep_with_a_wrong_arm_trains_nothing(
    tiny: Path, tmp_path: Path, space: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = study(tiny, tmp_path, f"space: {space}\n")
    says(refused(main, ["--config", made.file, "--out", tmp_path / "out"], capsys, tmp_path), named)


@pytest.mark.slow
def test_a_dry_run_leaves_nothing_and_a_failed_study_can_be_corrected(
    tiny: Path, tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(worker, "ALIKE", 2)
    net, last = tmp_path / "fails.py", "        return super().loss"
    net.write_text(NET.replace(last, f"        if self.current_epoch:\n            raise RuntimeError('late')\n{last}"))
    made = study(tiny, tmp_path, f"imports: [{module}]\nspace: {{model.lr: [1.0e-3, 2.0e-3]}}\n")
    made.file.write_text(made.file.read_text().replace("disabled}", "disabled, model: fails.Fails}"))
    sweep = ("--config", made.file, "--out", tmp_path / "out")
    assert exit_code(main, *sweep, "--dry-run") == 0
    assert "2 trials" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert exit_code(main, *sweep) == 2
    error = capsys.readouterr().err
    assert "2 trials failed alike" in error
    assert "RuntimeError: late" in error
    net.write_text(NET)
    assert exit_code(main, *sweep, "--trainer.max_epochs", "1") == 0
    output = capsys.readouterr().out
    assert "nothing of it is complete, so it is corrected" in output
    assert "trainer.max_epochs 2 → 1" in output
    assert (tmp_path / "out" / "trials-before-correction-1").is_dir()
    assert exit_code(main, *sweep, "--trainer.max_epochs", "2") == 2
    assert "with other settings (trainer.max_epochs 1 → 2)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("epochs", "steps", "seconds"), [(10, -1, 20), (-1, 9, 6), (None, 9, 6), (2, 100, 4), (10, 4, 2), (None, -1, 2)]
)
def test_a_run_ends_with_its_epochs_or_its_steps(epochs: int | None, steps: int, seconds: float) -> None:
    """Of four steps an epoch, which takes two seconds."""
    settings = {"trainer.max_epochs": epochs, "trainer.max_steps": steps}
    assert seconds_of_run({"epoch_s": 2.0, "steps": 4}, settings) == seconds


@pytest.mark.parametrize(("seconds", "text"), [(3.4, "3 s"), (120, "2 min"), (7200, "2.0 h")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
