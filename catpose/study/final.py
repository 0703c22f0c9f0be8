"""The winner on the test split, once: an honest last number, made after everything has been decided on validation."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import AliasChoices, BaseModel, Field, ValidationError

from catpose.analysis.configurations import Configuration
from catpose.analysis.evaluations import estimate_of
from catpose.analysis.report import Report
from catpose.data.coco import read_split
from catpose.data.coco_split import CocoSplit, split_hash
from catpose.errors import InputError, one_line
from catpose.files import LARGEST_RECORD, read_json, require_writable, write_json
from catpose.instances import AreaRule
from catpose.score.detections import Detections
from catpose.score.full import evaluate_ap
from catpose.study.directory import StudyDirectory
from catpose.study.results import ROUNDING
from catpose.text import ends, fraction, known

_BATCH_SIZE = 32

if TYPE_CHECKING:
    from catpose.score.protocol import Score
    from catpose.study.file import Study
    from catpose.study.trial import Trial


class MeanAP(BaseModel):
    """The mean over seeds with its 95 % interval, and each seed's."""

    mean: float
    low: float | None  # None on few instances
    high: float | None
    seeds: list[float]


class Record(BaseModel):
    """What `final.json` holds, also as it was written until 0.1.0."""

    study: str
    configuration: str = Field(validation_alias=AliasChoices("configuration", "arm"))
    params: dict[str, Any]
    seeds: list[int]
    runs: list[str | None]
    time: str
    file: str
    split_hash: str
    protocol: dict[str, Any] | None = Field(validation_alias=AliasChoices("protocol", "contract"))
    AP: MeanAP | None  # None without labels
    values: list[dict[str, float | None]]
    validation_AP: list[float]


@dataclass(frozen=True)
class Final:
    """The record of the winner on the test split, where it is, and whether it had been there before."""

    file: Path
    record: Record
    before: bool

    def text(self) -> str:
        """In sentences, for the terminal."""
        record = self.record
        seeds = f"{len(record.seeds)} seed{'s' if len(record.seeds) > 1 else ''}"
        once = ", once; it isn't done again." if self.before else "."
        when = record.time[:16].replace("T", " ")
        first = f"The winner {record.configuration} ({seeds}) predicted the test split on {when}{once}"
        if record.AP:
            of = "these trained models" if len(record.seeds) == 1 else "the configuration"
            low, high = record.AP.low, record.AP.high
            interval = "" if low is None or high is None else f", 95 % interval {ends(low, high)}"
            second = f"Test AP of {of}: {fraction(record.AP.mean)}{interval}."
        else:
            second = f"{record.file} has no labels, so there is no score: send in the predictions."
        return f"{first} {second}\nfiles: {self.file.parent}/"


def final(
    study: Study,
    trials: Sequence[Trial],
    report: Report,
    out: Path,
    root: Path,
    area: AreaRule = "box",
    trusted: tuple[str, ...] = (),
) -> Final:
    """Predict the test split with the last checkpoint of each of the winner's seeds; score it where it has labels.

    Writes OUT/final/results_seedN.json (COCO results), score_seedN.json, and last of all final.json, by which a second
    call knows that it was done.

    Args:
        study, trials: the study and all of its trials.
        report: what they came to.
        out: the study's folder.
        root: the data folder.
        area: whose area OKS takes.
        trusted: modules outside of catpose whose classes a checkpoint may name.

    Raises:
        InputError: trials are still to come, no configuration is complete, a checkpoint is missing, or the test split
            was predicted before with other models than the winner's now.
    """
    folder = StudyDirectory(out).final
    file = folder / "final.json"
    best = _decided(study, trials, report)
    earlier = _before(file, best)
    if earlier is not None:
        return Final(file, earlier, before=True)
    checkpoints = [_checkpoint(trial.run, out, best) for trial in best.finished]
    split = read_split(root, "test", area)
    require_writable(folder, "--out", folder=True)
    found, scores = zip(*(_predict(path, split, trusted) for path in checkpoints), strict=True)
    for seed, detections, score in zip(best.seeds, found, scores, strict=True):
        write_json(folder / f"results_seed{seed}.json", detections.to_results(), indent=None)
        if score:
            score.write(folder / f"score_seed{seed}.json")
    record = Record(
        study=study.name,
        configuration=best.label,
        params=dict(best.params),
        seeds=list(best.seeds),
        runs=[trial.run for trial in best.finished],
        time=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        file=str(split.file),
        split_hash=split_hash(split),
        protocol=dict(vars(scores[0].protocol)) if scores[0] else None,
        AP=_test_ap(split, found, scores),
        values=[{k: known(v) for k, v in score.values.items()} for score in scores if score],
        validation_AP=best.ap.tolist(),
    )
    write_json(file, record.model_dump())
    return Final(file, record, before=False)


def _decided(study: Study, trials: Sequence[Trial], report: Report) -> Configuration:
    """The winner, once nothing can change it any more."""
    open_states = ("running",) if study.time_limit else ("running", "waiting")
    to_come = sum(trial.state in open_states for trial in trials)
    if to_come:
        raise InputError(
            f"{study.name}: {to_come} of {len(trials)} trials are still to come, so the winner isn't decided; run the"
            " study to its end before --final"
        )
    if report.winner is None:
        raise InputError(
            f"{study.name}: no configuration is complete in all its seeds, so there is no winner; see --report, and try"
            " the trials that failed or ended early again with --retry-failed"
        )
    return report.winner


def _before(file: Path, best: Configuration) -> Record | None:
    """What an earlier call wrote; None where there was none.

    Raises:
        InputError: the file is damaged, or other models than the winner's now have seen the test split.
    """
    if not file.exists():
        return None
    try:
        record = Record.model_validate(read_json(file, LARGEST_RECORD))
    except ValidationError as error:
        problem = error.errors()[0]
        what = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        raise InputError(f"{file}: is damaged ({one_line(what)[:80]}); restore it") from None
    except (InputError, ValueError) as error:
        raise InputError(f"{file}: is damaged ({one_line(error)[:80]}); restore it") from None
    then = (record.configuration, record.params, record.seeds)
    now = (best.label, json.loads(json.dumps(dict(best.params))), list(best.seeds))
    if then != now or not np.allclose(record.validation_AP, best.ap, rtol=0, atol=ROUNDING):
        first, second = (f"{label} (seeds {', '.join(map(str, seeds))})" for label, _, seeds in (then, now))
        raise InputError(
            f"{file}: the test split was predicted with {first}, and the winner is now {second} or was trained anew; a"
            f" test split looked at twice is a validation split. If it must be, move {file.parent} away, and report"
            " both"
        )
    return record


def _checkpoint(run: str | None, out: Path, best: Configuration) -> Path:
    """A run's last checkpoint: where the trial wrote it, or in a study's folder that has moved since."""
    folder = Path(str(run))
    places = [folder / "last.ckpt", out / "trials" / folder.name / "last.ckpt"]
    for file in places:
        if file.is_file():
            return file
    raise InputError(
        f"{places[0]}: no such checkpoint of the winner {best.label}; bring the run's folder here from the machine that"
        " trained it"
    )


def _predict(checkpoint: Path, split: CocoSplit, trusted: tuple[str, ...]) -> tuple[Detections, Score | None]:
    """The detections of one model; their score where the split has labels."""
    from catpose.run.checkpoint import load_model
    from catpose.run.evaluation import detect, score

    model, settings = load_model(checkpoint, trusted)
    width, height = settings["data"]["input_size"]
    scored = _has_labels(split)
    detections, _ = detect(model, split, (width, height), _BATCH_SIZE, "auto", labelled_only=scored)
    return detections, score(split, detections, flip_test=model.flip_test) if scored else None


def _has_labels(split: CocoSplit) -> bool:
    return split.has_keypoints and bool(split.visibility[~split.crowd].any())


def _test_ap(split: CocoSplit, found: Sequence[Detections], scores: Sequence[Score | None]) -> MeanAP | None:
    """The mean AP over seeds with its interval, as of validation; None without labels."""
    each = [float(score.values["AP"]) for score in scores if score]
    if not each:
        return None
    evaluations = [evaluate_ap(split, detections) for detections in found]
    mean = estimate_of(evaluations, "AP")
    return MeanAP(mean=mean.value, low=known(mean.low), high=known(mean.high), seeds=each)
