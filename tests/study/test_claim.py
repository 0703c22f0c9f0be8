"""The files of claims: nothing in common, copies rather than links, the newest one known to all."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from catpose.fence import CLAIM, SUPERSEDED, newest_claims
from catpose.files import atomic_write, write_json
from catpose.study.claim import TAKEN_UP, Claim
from catpose.study.directory import StudyDirectory


@pytest.fixture
def first(tmp_path: Path) -> Claim:
    return Claim(StudyDirectory(tmp_path), "000-0.001-seed0", 1, "study")


def claims(first: Claim, *tokens: int) -> list[Claim]:
    return [dataclasses.replace(first, token=token) for token in tokens]


def trained(claim: Claim, epochs: int) -> Claim:
    claim.folder.mkdir(parents=True)
    for name in TAKEN_UP:
        (claim.folder / name).write_text(f"{name} of {claim.token}")
    torch.save({"catpose": "", "state_dict": {}, "epoch": epochs - 1}, claim.folder / "last.ckpt")
    return claim


def test_no_two_claims_share_a_file_but_the_mark(first: Claim) -> None:
    several = claims(first, 1, 2, 3, 1_000_001)
    for what in ("folder", "log", "reason"):
        assert len({getattr(claim, what) for claim in several}) == len(several)
    assert len({claim.mark for claim in several}) == 1
    assert first.folder.name == first.name


def test_the_newest_claim_stands_whoever_was_last_to_say_so(first: Claim) -> None:
    one, two, three = claims(first, 1, 2, 3)
    assert one.stands()
    assert three.stands()
    assert not one.stands()
    assert not two.stands()
    one.mark.write_text("study:1")  # it was frozen just before it wrote
    assert three.stands()
    assert not one.stands()
    other = dataclasses.replace(one, study_id="another storage")  # the one before is lost, with its tokens
    assert other.stands()


@pytest.mark.parametrize("text", ["", "x", "study:", "study:x", ":", "study:9" * 1000, "2"])
def test_a_damaged_mark_stops_nobody(first: Claim, text: str) -> None:
    first.mark.parent.mkdir(parents=True)
    first.mark.write_text(text)
    assert first.stands()


def test_what_was_taken_over_writes_nothing(first: Claim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in first.environment.items():
        monkeypatch.setenv(key, value)
    file = tmp_path / "file"
    assert first.stands()
    write_json(file, 1)

    def overtaken() -> None:
        with atomic_write(file) as temporary:
            temporary.write_text("2")
            assert claims(first, 2)[0].stands()

    with pytest.raises(SystemExit) as stop:
        overtaken()
    assert stop.value.code == SUPERSEDED
    with pytest.raises(SystemExit):
        write_json(tmp_path / "another", 1)
    assert file.read_text() == "1\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "logs"]
    monkeypatch.setenv(CLAIM, claims(first, 2)[0].environment[CLAIM])
    write_json(file, 3)
    assert file.read_text() == "3\n"


def test_the_one_that_came_farthest_is_gone_on_from(first: Claim) -> None:
    one, two, three, four = claims(first, 1, 2, 3, 4)
    for claim, epochs in ((one, 5), (two, 3), (four, 9)):
        trained(claim, epochs)
    trained(dataclasses.replace(first, name=first.name + "0"), 20)  # seed 00 is another trial
    assert three.earlier() == [one, two]
    assert three.take_up(one)
    for name in TAKEN_UP:
        ours, theirs = three.folder / name, one.folder / name
        assert ours.read_bytes() == theirs.read_bytes()
        assert not ours.samefile(theirs)
        assert not ours.is_symlink()


@pytest.mark.parametrize("missing", ["last.ckpt", "config.yaml", "run.json"])
def test_a_copy_is_whole_or_not_made(first: Claim, missing: str) -> None:
    (trained(first, 3).folder / missing).unlink()
    two = claims(first, 2)[0]
    assert not two.take_up(first)
    assert not two.folder.exists()
    assert [*first.directory.logs.glob("*")] == []


def test_what_is_replaced_leaves_its_wandb_files(first: Claim) -> None:
    two = trained(claims(first, 2)[0], 3)
    offline = trained(first, 2).folder / "wandb" / "offline-run-1-abc"
    offline.mkdir(parents=True)
    (offline / "run-abc.wandb").write_text("of 1")
    halves = [claim._copying for claim in claims(first, 2, 3)]  # a third claim may be at it already
    for half in halves:
        half.mkdir(parents=True)
    claims(first, 3)[0].replace([])
    assert [half.exists() for half in halves] == [False, True]
    two.replace([first])
    assert not first.folder.exists()
    assert (two.folder / "wandb" / offline.name / "run-abc.wandb").read_text() == "of 1"


def test_a_trial_is_the_folder_of_its_newest_claim(tmp_path: Path) -> None:
    names = ["a-seed0", "a-seed0-claim10", "a-seed0-claim9", "b-seed0-claim2", "c-seed0"]
    found = newest_claims(tmp_path / name for name in names)
    assert [folder.name for folder in found] == ["a-seed0-claim10", "b-seed0-claim2", "c-seed0"]
