"""The winner on the test split, once: an honest last number, made after everything has been decided on validation."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from catpose.data.coco import CocoSplit, read_split, split_hash
from catpose.errors import InputError, one_line
from catpose.files import require_writable, write_json
from catpose.score.ap import match
from catpose.score.bootstrap import bootstrap_ap, image_weights
from catpose.score.instances import Detections, Truth
from catpose.study.arms import ArmResult, gather, winner
from catpose.study.statistics import Sample, estimate
from catpose.study.words import ap

if TYPE_CHECKING:
    from catpose.score.contract import Score
    from catpose.study.file import Study
    from catpose.study.ledger import Trial


@dataclass(frozen=True)
class Final:
    """What `final.json` holds, and whether it had been there before."""

    file: Path
    content: dict[str, Any]
    before: bool

    def text(self) -> str:
        """In words, for the terminal."""
        content = self.content
        seeds = f"{len(content['seeds'])} seed{'s' if len(content['seeds']) > 1 else ''}"
        when = f"on {content['time'][:16].replace('T', ' ')}"
        said = f"The winner {content['arm']} ({seeds}) predicted the test split {when}"
        said += ", once; it isn't done again." if self.before else "."
        if content["AP"]:
            score = content["AP"]
            of = "these trained models" if len(content["seeds"]) == 1 else "the arm"
            interval = f"95 % interval [{ap(score['low'])}, {ap(score['high'])}]"
            said += f" Test AP of {of}: {ap(score['mean'])}, {interval}."
        else:
            said += f" {content['file']} has no labels, so there is no score: send in the predictions."
        return f"{said}\nfiles: {self.file.parent}/"


def final(
    study: Study,
    trials: Sequence[Trial],
    out: Path,
    root: Path,
    accelerator: str = "auto",
    batch_size: int = 32,
    trusted: tuple[str, ...] = (),
) -> Final:
    """Predict the test split with the last checkpoint of each of the winner's seeds; score it where it has labels.

    Writes OUT/final/results_seedN.json (COCO results), score_seedN.json, and last of all final.json, by which a second
    call knows that it was done.

    Args:
        study, trials: the study and all of its trials.
        out: the study's folder.
        root: the data folder.
        accelerator, batch_size: as of `test`.
        trusted: modules outside of catpose whose classes a checkpoint may name.

    Raises:
        InputError: trials are still to come, no arm is complete, a checkpoint is missing, or the test split was
            predicted before with other models than the winner's now.
    """
    folder = out / "final"
    arm = _decided(study, trials)
    done = _before(folder / "final.json", arm)
    if done is not None:
        return Final(folder / "final.json", done, before=True)
    checkpoints = [_checkpoint(outcome, out, arm) for outcome in arm.outcomes]
    split = read_split(root, "test")
    require_writable(folder, "--out", folder=True)
    found, scores = zip(*(_predict(file, split, accelerator, batch_size, trusted) for file in checkpoints), strict=True)
    for seed, detections, score in zip(arm.seeds, found, scores, strict=True):
        write_json(folder / f"results_seed{seed}.json", detections.to_results(), indent=None)
        if score:
            score.write(folder / f"score_seed{seed}.json")
    content = {
        "study": study.name,
        "arm": arm.label,
        "params": arm.params,
        "seeds": list(arm.seeds),
        "runs": [outcome.get("run") for outcome in arm.outcomes],
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "file": str(split.file),
        "split_hash": split_hash(split),
        "contract": dict(vars(scores[0].contract)) if scores[0] else None,
        "AP": _summary(split, found, scores),
        "values": [{k: None if np.isnan(v) else v for k, v in score.values.items()} for score in scores if score],
        "validation_AP": arm.ap.tolist(),
    }
    write_json(folder / "final.json", content)
    return Final(folder / "final.json", content, before=False)


def _decided(study: Study, trials: Sequence[Trial]) -> ArmResult:
    """The winner, once nothing can change it any more."""
    open_states = ("running",) if study.time_limit else ("running", "waiting")
    to_come = sum(trial.state in open_states for trial in trials)
    if to_come:
        raise InputError(
            f"{study.name}: {to_come} of {len(trials)} trials are still to come, so the winner isn't decided; run the"
            " study to its end before --final"
        )
    arm = winner(gather(study, trials))
    if arm is None:
        raise InputError(
            f"{study.name}: no arm is complete in all its seeds, so there is no winner; see --report, and try"
            " the failed trials again with --retry-failed"
        )
    return arm


def _before(file: Path, arm: ArmResult) -> dict[str, Any] | None:
    """What an earlier call wrote; None where there was none.

    Raises:
        InputError: the file is damaged, or other models than the winner's now have seen the test split.
    """
    if not file.exists():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        then = f"{content['arm']} (seeds {', '.join(map(str, content['seeds']))})"
        same = (content["arm"], content["params"], content["seeds"], content["validation_AP"]) == (
            arm.label,
            json.loads(json.dumps(arm.params)),
            list(arm.seeds),
            arm.ap.tolist(),
        )
        Final(file, content, before=True).text()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{file}: is damaged ({one_line(error)[:80]}); restore it") from None
    if not same:
        now = f"{arm.label} (seeds {', '.join(map(str, arm.seeds))})"
        raise InputError(
            f"{file}: the test split was predicted with {then}, and the winner is now {now} or was trained anew; a test"
            f" split looked at twice is a validation split. If it must be, move {file.parent} away, and report both"
        )
    return content


def _checkpoint(outcome: dict[str, Any], out: Path, arm: ArmResult) -> Path:
    """A run's last checkpoint: where the trial wrote it, or in a study's folder that has moved since."""
    run = Path(str(outcome.get("run")))
    places = [run / "last.ckpt", out / "trials" / run.name / "last.ckpt"]
    for file in places:
        if file.is_file():
            return file
    raise InputError(
        f"{places[0]}: no such checkpoint of the winner {arm.label}; bring the run's folder here from the machine that"
        " trained it"
    )


def _predict(
    checkpoint: Path, split: CocoSplit, accelerator: str, batch_size: int, trusted: tuple[str, ...]
) -> tuple[Detections, Score | None]:
    """The detections of one model; their score where the split has labels."""
    from catpose.run.checkpoint import load_model
    from catpose.run.evaluation import detect, score

    model, settings = load_model(checkpoint, trusted)
    width, height = settings["data"]["input_size"]
    scored = _has_labels(split)
    detections, _ = detect(model, split, (width, height), batch_size, accelerator, labelled_only=scored)
    return detections, score(split, detections, flip_test=model.flip_test) if scored else None


def _has_labels(split: CocoSplit) -> bool:
    return split.has_keypoints and bool(split.visibility[~split.crowd].any())


def _summary(
    split: CocoSplit, found: Sequence[Detections], scores: Sequence[Score | None]
) -> dict[str, float | list[float]] | None:
    """The mean AP over seeds with its interval, as of validation; None without labels."""
    each = [float(score.values["AP"]) for score in scores if score]
    if not each:
        return None
    truth = Truth.from_coco(split.coco, str(split.file))
    weights = image_weights(len(truth.images))
    draws = np.stack([bootstrap_ap(match(truth, detections), weights) for detections in found], axis=1)
    made = estimate(Sample(np.array(each), draws, len(truth.images)))
    return {"mean": made.value, "low": made.low, "high": made.high, "seeds": each}
