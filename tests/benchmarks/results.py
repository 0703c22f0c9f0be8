"""RESULTS.md's numbers, made again from the files in results/: `python tests/benchmarks/results.py`.

Prints, for each section of RESULTS.md, what committed files say that it says, and the commands of all other numbers in
it, which need a training or a benchmark. Fails where RESULTS.md says something else. A run is kept by

    python tests/benchmarks/results.py --keep NAME RUN [RUN …] --data DATA

as results/NAME/ (several runs are one configuration's seeds, results/NAME/0/, /1/, …), and a study by --keep NAME STUDY
as results/NAME/CONFIGURATION/SEED/, with its figure and, in study.json, its reference:

    matches.npz     which of its detections of the validation images matched what at each OKS threshold (`score.ap`),
                    of which AP, AR, their intervals and differences are made again
    val_score.json  the run's own, with its protocol      metrics.csv     the run's own
    config.yaml     the run's own, without the folders    versions.json   of catpose and its libraries

A table compares those runs of one folder that were scored under one protocol: it stands in RESULTS.md as printed here.
"""

from __future__ import annotations

import argparse
import csv
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import claims

from catpose.analysis.comparison import caption, comparison
from catpose.analysis.configurations import Configuration, Design, Training
from catpose.analysis.evaluations import estimate_of
from catpose.analysis.report import Report, report
from catpose.data.coco import read_split
from catpose.data.coco_split import split_hash
from catpose.errors import InputError, command
from catpose.files import read_json, write_json
from catpose.plain_yaml import dump_yaml, read_yaml
from catpose.run.directory import RunDirectory
from catpose.run.scoring import read_results
from catpose.score.ap import SIZES, Matches, average_precision, match
from catpose.score.bootstrap import Bootstrap, image_weights
from catpose.score.full import Evaluation
from catpose.score.protocol import Score
from catpose.study.directory import StudyDirectory
from catpose.study.record import StudyRecord
from catpose.text import fraction, interval, markdown_table

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "results"
DRAWS = 1000
#: A block of code, or code within a line.
CODE = re.compile(r"```sh\n(.*?)```|`([^`]+)`", re.DOTALL)


@dataclass(frozen=True)
class Kept:
    """A run's folder in results/."""

    folder: Path
    matches: Matches
    score: Score
    epochs: list[dict[str, float]]  # val/AP, epoch_seconds and so on of each
    versions: dict[str, str]

    @property
    def best(self) -> dict[str, float]:
        """The epoch of the highest AP."""
        return max(self.epochs, key=lambda row: row.get("val/AP", -1.0))

    @property
    def minutes(self) -> float:
        return sum(row["epoch_seconds"] for row in self.epochs) / 60


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", nargs="+", metavar=("NAME", "RUN"), help="keep these runs as results/NAME")
    parser.add_argument("--data", type=Path, help="the data folder that they were validated on")
    arguments = parser.parse_args(argv)
    if arguments.keep:
        name, *runs = arguments.keep
        if not runs or arguments.data is None:
            raise InputError("--keep: give NAME, the folders of its runs, and --data")
        study = StudyDirectory(Path(runs[0]))
        if len(runs) == 1 and (record := StudyRecord.read(study.summary)):
            keep_study(study, record, arguments.data, RESULTS / name)
            return
        for i, run in enumerate(runs):
            keep(Path(run), arguments.data, RESULTS / name / (str(i) if len(runs) > 1 else ""))
        return
    sections, made = read_sections(REPOSITORY / "RESULTS.md"), remade(RESULTS)
    for heading, text in sections.items():
        print("\n".join(told(heading, text, made)))
    missing = [f"    {source}: {each}" for source, texts in made for each in texts if not standing(each, sections)]
    if missing:
        print("\n".join(["\nRESULTS.md lacks what these files say:", *missing]))
        raise InputError(f"RESULTS.md: lacks {len(missing)} lines that results/ has (above); mend it")


def keep(run: Path, data: Path, folder: Path) -> None:
    """Write a run's small folder.

    Raises:
        InputError: a file of the run is missing or damaged, or this isn't the data that it was validated on.
    """
    source = RunDirectory(run)
    split = read_split(data, "val", "file" if source.settings.get("data.area") == "file" else "box")
    score = Score.read(source.val_score)
    matches = match(split, read_results(source.val_results, split))
    found = average_precision(matches)
    if split_hash(split) != score.protocol.split_hash or not np.isclose(found["AP"], score.values["AP"], atol=1e-9):
        raise InputError(f"{run}: was validated on another split than {split.file}; give its own with --data")
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = vars(matches)
    np.savez_compressed(folder / "matches.npz", **arrays)
    for file in (source.val_score, source.metrics):
        shutil.copyfile(file, folder / file.name)
    (folder / "config.yaml").write_text(dump_yaml(without_folders(read_yaml(source.config, "restore it"))))
    write_json(folder / "versions.json", source.versions)
    print(f"{folder}: AP {found['AP']:.4f}, {sum(file.stat().st_size for file in folder.iterdir()) / 1000:.0f} kB")


def keep_study(study: StudyDirectory, record: StudyRecord, data: Path, folder: Path) -> None:
    """Write the small folders of a study's complete trials; raises as `keep`."""
    for each in record.trainings:
        if each.state == "complete" and each.run and each.label:
            keep(study.trials / Path(each.run).name, data, folder / named(each.label) / str(each.seed))
    write_json(folder / "study.json", {"reference": record.reference and named(record.reference)})
    shutil.copyfile(study.path / "report.png", folder / "report.png")


def named(label: str) -> str:
    """The folder of a configuration."""
    return re.sub(r"[^\w.×+ -]+", "-", label)


def without_folders(settings: Any) -> Any:
    """The same with the names alone of files that it gives by their whole path."""
    if isinstance(settings, dict):
        return {key: without_folders(value) for key, value in settings.items()}
    if isinstance(settings, list):
        return [without_folders(value) for value in settings]
    return Path(settings).name if isinstance(settings, str) and Path(settings).is_absolute() else settings


def kept(folder: Path) -> Kept:
    """A run that `keep` wrote."""
    with np.load(folder / "matches.npz") as arrays:
        matches = Matches(**{key: arrays[key] for key in arrays.files})
    matches = replace(matches, questions=tuple(map(str, matches.questions)))
    return Kept(
        folder,
        matches,
        Score.read(folder / "val_score.json"),
        epochs(folder / "metrics.csv"),
        read_json(folder / "versions.json"),
    )


def epochs(metrics: Path) -> list[dict[str, float]]:
    """The rows of a metrics.csv of epochs that ended; one that ended without a validation has no AP."""
    with metrics.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["epoch_seconds"]]
    return [{key: float(value) for key, value in row.items() if value} for row in rows]


def evaluation(matches: Matches) -> Evaluation:
    """AP and its relatives on the resamples that every evaluation takes, keypoints' own left out."""
    n, n_images = len(SIZES), matches.instances.shape[-1]
    asked = {"questions": matches.questions[:n], "true": matches.true[:n], "counted": matches.counted[:n]}
    whole = replace(matches, **asked, instances=matches.instances[:n])
    counts = dict(zip(whole.questions, whole.instances.sum(axis=(1, 2)).tolist(), strict=True))
    draws = Bootstrap(whole, image_weights(n_images, DRAWS))
    return Evaluation(
        {key: float(value) for key, value in average_precision(whole).items()},
        draws,
        n_images,
        {key: counts.get(f"AP{key[2:]}", counts["AP"]) for key in draws},
    )


def remade(results: Path) -> list[tuple[str, list[str]]]:
    """What RESULTS.md has to say, by the folder that says so: the lines of tables."""
    made = [(f"results/{name}", lines) for name, lines in tables(results)]
    return [*made, ("results/claims", list(cells(results / "claims")))]


def cells(folder: Path) -> Iterator[str]:
    """The lines of the table that `claims.py` makes, of the cells that are kept."""
    for name in claims.CELLS:
        if (file := folder / claims.file_of(name)).is_file():
            yield claims.row(name, read_json(file))


def grouped(results: Path) -> dict[tuple[Path, str], dict[Path, list[Kept]]]:
    """The kept runs below a folder: by the folder that they stand in and their protocol, by configuration."""
    groups: dict[tuple[Path, str], dict[Path, list[Kept]]] = {}
    for run in (kept(file.parent) for file in sorted(results.rglob("matches.npz"))):
        of = run.folder.parent if run.folder.name.isdecimal() else run.folder
        groups.setdefault((of.parent, repr(run.score.protocol)), {}).setdefault(of, []).append(run)
    return groups


def tables(results: Path) -> Iterator[tuple[str, list[str]]]:
    """A table for the kept runs of each folder and protocol, with what they are from: caption and lines."""
    for (parent, _), runs in grouped(results).items():
        name = str(parent.relative_to(results))
        study = parent / "study.json"
        reference = read_json(study)["reference"] if study.is_file() else None
        yield name if name != "." else ", ".join(of.name for of in runs), compared(runs, reference)


def reported(configurations: dict[Path, list[Kept]], reference: str | None = None) -> Report:
    """The report of configurations, by their folders; `reference` is one of the folders' names."""
    trained = [
        Configuration(
            folder.name,
            tuple(
                Training(i, seed, "complete", folder.name, evaluation=evaluation(run.matches))
                for seed, run in enumerate(runs)
            ),
            index=i,
        )
        for i, (folder, runs) in enumerate(configurations.items())
    ]
    return report(Design("", labels=tuple(each.label for each in trained), reference=reference), trained)


def compared(configurations: dict[Path, list[Kept]], reference: str | None = None) -> list[str]:
    """The comparison of configurations as Markdown; the arguments are `reported`'s."""
    made = reported(configurations, reference)
    header, rows = comparison(made)
    more = ("AP50", "AP75", "AR", "95 % interval", "PCK@0.1", "best epoch's AP", "minutes a run", "torch")
    lines = []
    for place, row in zip(made.evaluated, rows, strict=True):
        each = made.rows[place].configuration
        runs = next(runs for folder, runs in configurations.items() if folder.name == each.label)
        values = [fraction(np.mean([e.values[key] for e in each.evaluations])) for key in ("AP50", "AP75", "AR")]
        best = fraction(np.mean([run.best["val/AP"] for run in runs]))
        cells = (
            *values,
            interval(estimate_of(each.evaluations, "AR")),
            fraction(np.mean([run.score.values["PCK@0.1"] for run in runs])),
            f"{best} (epoch {runs[0].best['epoch']:.0f})" if len(runs) == 1 else best,
            f"{np.mean([run.minutes for run in runs]):.0f}",
            ", ".join(dict.fromkeys(run.versions["torch"] for run in runs)),
        )
        lines.append((*row, *cells))
    split = next(iter(configurations.values()))[0].score.protocol.split
    return [caption(made, split), *markdown_table(lines, (*header, *more)).splitlines()]


def read_sections(file: Path) -> dict[str, str]:
    """The text below each heading of the second level; what is above the first is no result."""
    parts = re.split(r"^## (.*)\n", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def standing(text: str, sections: dict[str, str]) -> list[str]:
    """The headings below which it stands, wherever its lines break."""
    return [heading for heading, whole in sections.items() if _flat(text) in _flat(whole)]


def told(heading: str, text: str, made: list[tuple[str, list[str]]]) -> Iterator[str]:
    """A section's numbers made again, and the commands of the others."""
    yield f"\n## {heading}"
    rest = _flat(CODE.sub("", text))
    for source, texts in made:
        here = [each for each in texts if standing(each, {heading: text})]
        if here:
            yield from (f"{source}:", *(f"    {each}" for each in here))
        for each in here:
            rest = rest.replace(_flat(each), "")
    others = commands(text)
    numbers = re.findall(r"(?<![\w.])\d+(?:\.\d+)?", rest)
    yield f"{len(numbers)} other numbers, by" if others else f"{len(numbers)} other numbers"
    yield from (f"    {each}" for each in others)


def commands(text: str) -> list[str]:
    """The commands in a section, each once."""
    code = [line for block, inline in CODE.findall(text.replace("\\\n", "")) for line in [*block.splitlines(), inline]]
    return [*dict.fromkeys(_flat(line) for line in code if re.search(r"python (-m|tests/)", _flat(line)))]


def _flat(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    main()
