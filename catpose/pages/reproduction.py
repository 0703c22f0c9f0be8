"""The report's section on where each number comes from, so that it can be made again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from catpose.score.contract import Contract
from catpose.show.page import Code, Section, Table, Text
from catpose.study.models import Model, Run

SHOWN = ("torch", "lightning", "timm")  # packages


def reproduction(models: Sequence[Model], command: Sequence[str]) -> Section:
    runs = [(model, run) for model in models for run in model.runs]
    commands = [fit_command(run) for _, run in runs]
    return Section(
        "reproduce",
        "How to make each number again",
        [
            Text("Each run, by the command that was given, on the code and packages named below. This report:"),
            Code(shlex.join(["python", "-m", "catpose.report", *command])),
            Text("The runs, in the order of the table:"),
            Code("\n".join(commands)),
            Table(
                "What each run was made with",
                (
                    "model",
                    "seed",
                    "git revision",
                    "started",
                    "starts",
                    "Python",
                    "torch",
                    "lightning",
                    "timm",
                    "machine",
                ),
                [(model.label, *_facts(run)) for model, run in runs],
            ),
            Table(
                "The contract of every score here: what must be alike before two may be compared",
                ("what", "here"),
                contract_rows(runs[0][1].contract),
            ),
        ],
    )


def fit_command(run: Run) -> str:
    words = run.starts[0].get("command") if run.starts else None
    return shlex.join(["python", "-m", "catpose.fit", *map(str, words or [])])


def contract_rows(contract: Contract) -> list[tuple[str, str]]:
    return [
        ("split", contract.split),
        ("annotations, sha256", contract.split_hash),
        ("area in OKS", contract.area_rule),
        ("boxes", contract.box_source),
        ("flip test", contract.flip),
        ("a detection's score", contract.score_rule),
        ("OKS sigmas", " ".join(f"{sigma:g}" for sigma in contract.sigmas)),
        ("AP", "OKS 0.50:0.05:0.95, 101 recalls, at most 20 detections a picture, as pycocotools has it"),
    ]


def _facts(run: Run) -> tuple[str, ...]:
    first = run.starts[0] if run.starts else {}
    git = first.get("git") or {}
    revision = str(git.get("revision") or "")[:10] + (" with changes" if git.get("changed") else "")
    packages, machine = first.get("packages") or {}, first.get("machine") or {}
    gpus = machine.get("gpus") or []
    return (
        str(run.seed),
        revision or "unknown",
        str(first.get("time") or ""),
        str(len(run.starts)),
        str(first.get("python") or ""),
        *(str(packages.get(name) or "") for name in SHOWN),
        f"{machine.get('cpus', '?')} CPUs, " + (", ".join(map(str, gpus)) or "no GPU"),
    )
