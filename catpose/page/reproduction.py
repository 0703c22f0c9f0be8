"""The report's section on reproducibility: where each number comes from."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from catpose.analysis.configurations import Configuration
from catpose.page.html import Code, Fold, Section, Table, Text
from catpose.page.run_folder import Run, Runs, runs_of
from catpose.run.provenance import Start
from catpose.score.protocol import EvaluationProtocol
from catpose.text import counted

SHOWN = ("torch", "lightning", "timm")  # packages


def reproduction(configurations: Sequence[Configuration], runs: Runs, command: Sequence[str]) -> Section:
    """The section that gives versions, settings, protocol and commands of each finished training."""
    both = [(each, run) for each in configurations for run in runs_of(each, runs)]
    protocols = [training.protocol for each in configurations for training in each.finished]
    hashes = dict.fromkeys(str(protocol["split_hash"]) for protocol in protocols)
    return Section(
        "reproduce",
        "Reproducibility",
        [
            Text("Each run, by its command, on the code and packages named below. This report:"),
            Code(shlex.join(["python", "-m", "catpose.report", *command])),
            Fold(
                f"The {counted(len(both), 'run')}: commands, versions, machines",
                [
                    Code("\n".join(run.command for _, run in both)),
                    Table(
                        "What each run was made with, in the order of the commands",
                        ("model", "seed", "git revision", "started", "starts", "Python", *SHOWN, "machine, precision"),
                        [(each.name, *_facts(run)) for each, run in both],
                    ),
                ],
            ),
            Fold(
                "The evaluation protocol of every score here",
                [
                    Table(
                        "What must be alike before two scores may be compared",
                        ("what", "here"),
                        _protocol_rows(EvaluationProtocol(**protocols[0]), [*hashes]),
                    )
                ],
            ),
        ],
    )


def _protocol_rows(protocol: EvaluationProtocol, hashes: Sequence[str]) -> list[tuple[str, str]]:
    """The evaluation protocol as rows of a table; `hashes` are those of the splits, of which there may be several."""
    return [
        ("split", protocol.split),
        ("annotations, sha256", " ".join(hashes)),
        *([("train and val that were divided, sha256", protocol.pool)] if protocol.pool else []),
        ("area in OKS", protocol.area_rule),
        ("boxes", protocol.box_source),
        ("flip test", protocol.flip),
        ("a detection's score", protocol.score_rule),
        ("area in OKS-NMS", protocol.nms_area),
        ("OKS sigmas", " ".join(f"{sigma:g}" for sigma in protocol.sigmas)),
        ("AP", "OKS 0.50:0.05:0.95, 101 recalls, at most 20 detections a picture, as pycocotools has it"),
    ]


def _facts(run: Run) -> tuple[str, ...]:
    first = run.starts[0] if run.starts else Start()
    revision = first.git.revision[:10] + (" with changes" if first.git.changed else "") if first.git else "unknown"
    machine = first.machine
    cpus = f"{'?' if machine.cpus is None else machine.cpus} CPUs"
    return (
        str(run.seed),
        revision,
        first.time,
        str(len(run.starts)),
        first.python,
        *(first.packages.get(name, "") for name in SHOWN),
        ", ".join(filter(None, [cpus, *(machine.gpus or ["no GPU"]), first.precision])),
    )
