"""The winner and the reference on the test split, once: is the change better, on images that decided nothing?"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from catpose.analysis.configurations import AP, Configuration, Design, Training, gather, reference
from catpose.analysis.report import Report
from catpose.analysis.report import report as report_of
from catpose.analysis.sentences import confirmation
from catpose.data.coco import read_split
from catpose.data.coco_split import CocoSplit, split_hash
from catpose.data.copies import copies_of
from catpose.errors import InputError
from catpose.files import require_writable, write_json
from catpose.instances import AreaRule
from catpose.score.full import evaluate_ap
from catpose.study.directory import StudyDirectory
from catpose.study.final_record import NO_LABELS, Copies, Difference, Final, MeanAP, Models, Record, earlier
from catpose.text import known, listed

if TYPE_CHECKING:
    from catpose.score.detections import Detections
    from catpose.study.file import Study
    from catpose.study.trial import Trial


def final(
    study: Study,
    trials: Sequence[Trial],
    report: Report,
    out: Path,
    root: Path,
    area: AreaRule = "box",
    trusted: tuple[str, ...] = (),
) -> Final:
    """Predict the test split with the last checkpoint of each of the winner's seeds, and where it has labels with the
    reference's, score them, and compare the two.

    Writes OUT/final/results_seedN.json (COCO results) and score_seedN.json, of the reference in OUT/final/reference/,
    and last of all final.json, by which a second call knows that it was done.

    Args:
        study, trials: the study and all of its trials.
        report: what they came to.
        out: the study's folder.
        root: the data folder.
        area: whose area OKS takes.
        trusted: modules outside of catpose whose classes a checkpoint may name.

    Raises:
        InputError: trials are still to come, no configuration is complete, a checkpoint or a picture is missing, or
            the test split was predicted before with other models than those of now.
    """
    folder = StudyDirectory(out).final
    file = folder / "final.json"
    best = _decided(study, trials, report)
    base = reference(report.design, report.configurations)
    base = base if base is not best and base is not None and base.seeds else None
    record = earlier(file, best, base, study.test_copies)
    if record is not None:
        return Final(file, record, before=True)
    compared = [best] if base is None else [best, base]
    checkpoints = [[_checkpoint(training.run, out, each) for training in each.finished] for each in compared]
    split = read_split(root, "test", area)
    require_writable(folder, "--out", folder=True)
    copies = _copies(split, root, area, study.test_copies == "drop")
    scored = _scored_images(split, copies)
    if not _has_labels(scored):
        compared = [best]
    tested = [
        _test(each, files, split, scored, folder / "reference" if each is base else folder, trusted)
        for each, files in zip(compared, checkpoints, strict=False)
    ]
    outcome = _report(report.design, compared, tested) if _has_labels(scored) else None
    record = _record(study, compared, tested, outcome, split, copies)
    if len(report.tied) > 1:
        tied = listed([each.name for each in report.tied])
        record.sentences.insert(0, f"{tied} tie on validation, of which {best.name} is the first.")
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


def _checkpoint(run: str | None, out: Path, configuration: Configuration) -> Path:
    """A run's last checkpoint: in the study's folder, which may have moved since, or where the trial wrote it."""
    folder = Path(str(run))
    places = [StudyDirectory(out).trials / folder.name / "last.ckpt", folder / "last.ckpt"]
    for file in places:
        if file.is_file():
            return file
    raise InputError(
        f"{places[1]}: no such checkpoint of {configuration.name}; bring the run's folder here from the machine that"
        " trained it"
    )


def _copies(split: CocoSplit, root: Path, area: AreaRule, left_out: bool) -> Copies:
    """The test pictures that the study has seen in another split, by training on them or by deciding on them."""
    seen = [image.path for name in ("train", "val") for image in read_split(root, name, area).images]
    found = {*copies_of([image.path for image in split.images], seen)}
    names = [image.file_name for image in split.images if image.path in found]
    return Copies(file_names=names, left_out=left_out)


def _scored_images(split: CocoSplit, copies: Copies) -> CocoSplit:
    """The split without the copies, where they are to be left out."""
    if not copies.left_out:
        return split
    scored = split.without_images({image.id for image in split.images if image.file_name in copies.file_names})
    if _has_labels(split) and not _has_labels(scored):
        raise InputError(
            f"{split.file}: all its labelled pictures are copies of training or validation pictures, so with"
            " test_copies: drop nothing is left to be scored; see python -m catpose.check"
        )
    return scored


def _has_labels(split: CocoSplit) -> bool:
    return split.has_keypoints and bool(split.visibility[~split.crowd].any())


def _test(
    configuration: Configuration,
    checkpoints: Sequence[Path],
    split: CocoSplit,
    scored: CocoSplit,
    folder: Path,
    trusted: tuple[str, ...],
) -> list[Training]:
    """Predict the split with a configuration's models, score the images that are to be, and write both down.

    Returns:
        its finished trainings with their evaluation on these images; with no AP where nothing is labelled.
    """
    from catpose.run.scoring import score

    tested = []
    folder.mkdir(parents=True, exist_ok=True)
    for training, checkpoint in zip(configuration.finished, checkpoints, strict=True):
        found, flip_test = _predict(checkpoint, split, _has_labels(scored), trusted)
        write_json(folder / f"results_seed{training.seed}.json", found.to_results(), indent=None)
        on_test = dataclasses.replace(training, values={}, best_ap=math.nan, protocol={})
        if _has_labels(scored):
            detections = found.subset(np.isin(found.image_id, scored.image_ids))
            own = score(scored, detections, flip_test)
            protocol = dataclasses.replace(own.protocol, copies_left_out=len(split.images) - len(scored.images))
            dataclasses.replace(own, protocol=protocol).write(folder / f"score_seed{training.seed}.json")
            on_test = dataclasses.replace(
                on_test,
                values=own.values,
                evaluation=evaluate_ap(scored, detections),
                protocol=dataclasses.asdict(protocol),
            )
        tested.append(on_test)
    return tested


def _predict(
    checkpoint: Path, split: CocoSplit, labelled_only: bool, trusted: tuple[str, ...]
) -> tuple[Detections, bool]:
    """The detections of one model, and whether they were made with the flip test."""
    from catpose.run.network import Network
    from catpose.run.prediction import detect

    model = Network.load(checkpoint, trusted=trusted)
    return detect(model, split, labelled_only=labelled_only), model.flip_test


def _report(design: Design, compared: Sequence[Configuration], tested: Sequence[Sequence[Training]]) -> Report:
    """What the test split shows of the configurations that were tried there, in AP."""
    design = dataclasses.replace(design, metrics={AP: "maximize"}, published={})
    lost = [training for each in compared for training in each.trainings if training not in each.finished]
    return report_of(design, gather(design, [*lost, *(training for each in tested for training in each)]))


def _record(
    study: Study,
    compared: Sequence[Configuration],
    tested: Sequence[Sequence[Training]],
    outcome: Report | None,
    split: CocoSplit,
    copies: Copies,
) -> Record:
    """What there is to be written down; `outcome` is None without labels, the first configuration the winner."""
    models = [_models(*each, outcome) for each in zip(compared, tested, strict=True)]
    sentences = confirmation(outcome, compared[0].index) if outcome else [NO_LABELS.format(file=split.file)]
    return Record(
        **dict(models[0]),
        study=study.name,
        time=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        file=str(split.file),
        split_hash=split_hash(split),
        protocol=dict(tested[0][0].protocol) or None,
        reference=models[1] if len(models) > 1 else None,
        difference=_difference(outcome) if outcome else None,
        copies=copies,
        sentences=[*sentences, copies.text(len(split.images))],
    )


def _models(configuration: Configuration, tested: Sequence[Training], outcome: Report | None) -> Models:
    rows = outcome.rows if outcome else ()
    mean = next((row.estimate for row in rows if row.configuration.index == configuration.index), None)
    each = [training.ap for training in tested]
    return Models(
        configuration=configuration.label,
        params=dict(configuration.params),
        seeds=list(configuration.seeds),
        runs=[training.run for training in tested],
        AP=MeanAP(mean=mean.value, low=known(mean.low), high=known(mean.high), seeds=each) if mean else None,
        values=[{k: known(v) for k, v in training.values.items()} for training in tested if mean],
        validation_AP=configuration.ap.tolist(),
    )


def _difference(outcome: Report) -> Difference | None:
    """The winner minus the reference; None where they are one."""
    row = next((row for row in outcome.rows if row.difference), None)
    if row is None or row.difference is None or row.p is None:
        return None
    each = row.difference
    return Difference(value=each.value, low=known(each.low), high=known(each.high), p=known(row.p))
