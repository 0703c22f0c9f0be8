"""The command that writes a data set: what users type, and what is there afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import made_up
import numpy as np
import pytest

from catpose.data.checks import all_findings
from catpose.data.coco import read_split
from catpose.data.images import read_image
from catpose.prepare import draw_release, main
from catpose.skeleton import AP10K


def prepared(*argv: object) -> None:
    main([str(word) for word in argv])


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    with pytest.raises(SystemExit) as caught:
        prepared(*argv)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_drawn_cats_fill_their_pictures(tmp_path: Path) -> None:
    release = draw_release(tmp_path, 4, 0)
    assert [image["id"] for image in release.images] == [1, 2, 3, 4]
    assert {entry["image_id"] for entry in release.annotations} == {1, 2, 3, 4}
    for image in release.images:
        height, width = read_image(tmp_path / image["file_name"]).shape[:2]
        assert (image["width"], image["height"]) == (width, height)
    for entry in release.annotations:
        assert len(entry["keypoints"]) == 51
        assert entry["num_keypoints"] == np.count_nonzero(entry["keypoints"][2::3])
        assert entry["area"] == entry["bbox"][2] * entry["bbox"][3] > 0


def test_ap10k(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_up.ap10k_release(tmp_path / "ap-10k")
    root = tmp_path / "cats"
    prepared("ap10k", tmp_path / "ap-10k", "--sizes", 5, 1, 2, "--out", root)
    assert "train           5 images      5 instances" in capsys.readouterr().out
    assert sum(len(read_split(root, split).images) for split in ("train", "val", "test")) == 8
    assert len(list((root / "images").iterdir())) == 8
    assert all_findings(root) == []
    before = contents(root)
    prepared("ap10k", tmp_path / "ap-10k", "--sizes", 5, 1, 2, "--out", root)
    assert "already there" in capsys.readouterr().out
    for other in (["--sizes", 4, 2, 2], ["--sizes", 5, 1, 2, "--seed", 1], ["--sizes", 8, 1, 2, "--species", "all"]):
        error = refused(capsys, "ap10k", tmp_path / "ap-10k", *other, "--out", root)
        assert f"{root}: is there already with other data; remove it or give another folder with --out" in error
    assert contents(root) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ap-10k", "cats"]  # nothing half is left


def test_sizes_that_do_not_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_up.ap10k_release(tmp_path / "ap-10k")
    error = refused(capsys, "ap10k", tmp_path / "ap-10k", "--sizes", 1000, 128, 200, "--out", tmp_path / "cats")
    assert "--split 1000 128 200: adds up to 1328, but there are 8 images; --split 6 1 1 would fit" in error
    error = refused(capsys, "ap10k", tmp_path / "ap-10k", "--sizes", 5, "two", 1, "--out", tmp_path / "cats")
    assert "'two' is neither a number of images, a share from 0 to 1 nor 'rest'" in error
    assert not (tmp_path / "cats").exists()


@pytest.mark.parametrize("source", ["drawn", "ap10k", "coco"])
@pytest.mark.parametrize("seed", ["-1", "x", "0.5"])
def test_a_seed_is_a_whole_number_from_0(
    source: str, seed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [source, *([tmp_path] if source != "drawn" else []), "--seed", seed, "--out", tmp_path / "cats"]
    assert f"--seed: {seed} is no whole number from 0" in refused(capsys, *words)
    assert not list(tmp_path.iterdir())


def test_two_people_get_the_same(tmp_path: Path) -> None:
    made_up.ap10k_release(tmp_path / "ap-10k")
    for name in ("mine", "yours"):
        prepared("ap10k", tmp_path / "ap-10k", "--sizes", "rest", 1, 2, "--out", tmp_path / name, "--seed", 7)
    prepared("ap10k", tmp_path / "ap-10k", "--sizes", "rest", 1, 2, "--out", tmp_path / "linked", "--seed", 7, "--link")
    assert contents(tmp_path / "mine") == contents(tmp_path / "yours") == contents(tmp_path / "linked")
    prepared("ap10k", tmp_path / "ap-10k", "--sizes", "rest", 1, 2, "--out", tmp_path / "other", "--seed", 8)
    records = [json.loads((tmp_path / name / "split.json").read_text()) for name in ("mine", "other")]
    assert records[0]["images_sha256"] == records[1]["images_sha256"]
    assert records[0]["splits"] != records[1]["splits"]


def test_all_for_pretraining(tmp_path: Path) -> None:
    folder = made_up.animal_pose_release(tmp_path / "release")
    root = tmp_path / "animals"
    source = ["animal-pose", folder / "keypoints.json", "--images", folder / "images", "--species", "dog", "cat"]
    prepared(*source, "--sizes", "rest", 0, 0, "--out", root)
    assert [file.name for file in (root / "annotations").iterdir()] == ["train.json"]
    train = read_split(root, "train")
    assert (len(train.images), len(train)) == (12, 13)


def test_withheld_keypoints_make_the_test_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made_up.animal_pose_release(tmp_path / "release", n_withheld=3)
    source = ["animal-pose", folder / "keypoints.json", "--images", folder / "images"]
    prepared(*source, "--sizes", 4, 2, 3, "--out", tmp_path / "cats")
    assert sorted(f.name for f in (tmp_path / "cats" / "annotations").iterdir()) == [
        "test_info.json",
        "train.json",
        "val.json",
    ]
    assert [image.id for image in read_split(tmp_path / "cats", "test").images] == [7, 8, 9]
    assert "note" not in capsys.readouterr().out
    prepared(*source, "--sizes", 6, 2, 1, "--out", tmp_path / "more")
    assert "note: without a keypoint, of no use in training: 2 images outside the test split" in capsys.readouterr().out


def test_animal_pose_with_its_own_keypoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made_up.animal_pose_release(tmp_path / "release")
    source = ["animal-pose", folder / "keypoints.json", "--images", folder / "images", "--sizes", 4, 2, 3]
    prepared(*source, "--skeleton", "own", "--out", tmp_path / "cats")
    skeleton = read_split(tmp_path / "cats", "train").skeleton
    assert skeleton.names == tuple(made_up.ANIMAL_POSE_KEYPOINTS)
    sigmas = dict(zip(skeleton.names, skeleton.sigmas, strict=True))
    assert sigmas["left_front_elbow"] == AP10K.sigmas[AP10K.names.index("left_shoulder")]
    prepared(*source, "--own-keypoints", "--out", tmp_path / "cats")  # as the option was called
    assert "already there" in capsys.readouterr().out
    prepared(*source, "--out", tmp_path / "17")
    assert read_split(tmp_path / "17", "train").skeleton == AP10K
    main_folder = contents(tmp_path / "cats")
    with pytest.raises(SystemExit):
        prepared(*source, "--out", tmp_path / "cats")
    assert contents(tmp_path / "cats") == main_folder


def test_given_test_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made_up.animal_pose_release(tmp_path / "release")
    source = ["animal-pose", folder / "keypoints.json", "--images", folder / "images"]
    (tmp_path / "test.txt").write_text("pic_2.jpg\n7\n")
    prepared(*source, "--sizes", "rest", 2, 2, "--test-ids", tmp_path / "test.txt", "--out", tmp_path / "cats")
    assert [image.id for image in read_split(tmp_path / "cats", "test").images] == [2, 7]
    # A COCO file of the same images, and so the same data set.
    other = ["--test-ids", tmp_path / "cats" / "annotations" / "test.json", "--out", tmp_path / "cats"]
    prepared(*source, "--sizes", "rest", 2, 2, *other)
    assert "already there" in capsys.readouterr().out
    error = refused(capsys, *source, "--sizes", 4, 2, 3, "--test-ids", tmp_path / "test.txt", "--out", tmp_path / "x")
    assert "--split has 3 test images" in error
    assert "names 2" in error
    (tmp_path / "test.txt").write_text("pic_10.jpg\n")  # a dog
    error = refused(capsys, *source, "--sizes", 4, 2, 3, "--test-ids", tmp_path / "test.txt", "--out", tmp_path / "x")
    assert "test.txt: 'pic_10.jpg' is none of the 9 images" in error
    assert not (tmp_path / "x").exists()


def test_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cats", "again"):
        prepared("drawn", "--sizes", 6, 2, 2, "--out", tmp_path / name)
    assert contents(tmp_path / "cats") == contents(tmp_path / "again")
    assert [len(read_split(tmp_path / "cats", split).images) for split in ("train", "val", "test")] == [6, 2, 2]
    assert [finding for finding in all_findings(tmp_path / "cats") if finding.severity == "error"] == []
    capsys.readouterr()
    prepared("drawn", "--sizes", 6, 2, 2, "--out", tmp_path / "cats")
    assert "already there" in capsys.readouterr().out
    assert "other data" in refused(capsys, "drawn", "--sizes", 6, 2, 2, "--seed", 1, "--out", tmp_path / "cats")
    assert "give three numbers" in refused(capsys, "drawn", "--sizes", "rest", 2, 2, "--out", tmp_path / "x")


def test_a_damaged_data_set_is_not_taken_for_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_up.ap10k_release(tmp_path / "ap-10k")
    call = ["ap10k", tmp_path / "ap-10k", "--sizes", 5, 1, 2, "--out", tmp_path / "cats"]
    prepared(*call)
    (tmp_path / "cats" / "annotations" / "val.json").unlink()
    assert "is there already with other data" in refused(capsys, *call)
    (tmp_path / "cats" / "split.json").write_text("{")
    assert "split.json: is not JSON" in refused(capsys, *call)


def test_usage_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "SOURCE" in refused(capsys)
    assert "invalid choice: 'ap-10k'" in refused(capsys, "ap-10k")
    assert "Did you mean --species?" in refused(capsys, "ap10k", tmp_path, "--specie", "cat")
    assert "--images" in refused(capsys, "animal-pose", tmp_path / "keypoints.json")
    assert "keypoints.json: no such file" in refused(
        capsys, "animal-pose", tmp_path / "keypoints.json", "--images", tmp_path
    )
    assert "ap10k-train-split1.json: no such file" in refused(capsys, "ap10k", tmp_path)


def test_killed_in_the_middle_it_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    """The process dies by SIGKILL while it writes pictures; the same call then succeeds."""
    made_up.ap10k_release(tmp_path / "ap-10k")
    root = tmp_path / "cats"
    dies = (
        "import os, signal, shutil, sys; from catpose.prepare import main; copy = shutil.copyfile; n = [0]\n"
        "def copyfile(*a):\n"
        "    n[0] += 1\n"
        "    os.kill(os.getpid(), signal.SIGKILL) if n[0] == 4 else copy(*a)\n"
        "shutil.copyfile = copyfile; main(sys.argv[1:])"
    )
    call = ["ap10k", str(tmp_path / "ap-10k"), "--sizes", "5", "1", "2", "--out", str(root)]
    assert subprocess.run([sys.executable, "-c", dies, *call], check=False).returncode == -9
    assert not root.exists()
    prepared(*call)
    assert all_findings(root) == []


@pytest.mark.one_in(3)
@pytest.mark.parametrize("source", ["ap10k", "animal-pose", "drawn"])
def test_what_is_written_passes_check_whatever_is_copied(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Copies of pictures, exact, encoded anew and scaled, in the release: a drawn split keeps each in one split."""
    call: list[object]
    if source == "drawn":
        call, sizes = ["drawn"], [5, 2, 1]
    else:
        if source == "ap10k":
            folder = made_up.ap10k_release(tmp_path / "release")
            call, pictures = ["ap10k", folder], sorted((folder / "data").iterdir())
        else:
            folder = made_up.animal_pose_release(tmp_path / "release", 11, 0)
            call = ["animal-pose", folder / "keypoints.json", "--images", folder / "images"]
            pictures = sorted((folder / "images").iterdir())
        pictures[1].write_bytes(pictures[0].read_bytes())
        cv2.imwrite(str(pictures[3]), read_image(pictures[4])[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 60])
        sizes = ["rest", 2, 2]
    for seed in range(4):
        root = tmp_path / str(seed)
        prepared(*call, *(["--species", "all"] if source == "ap10k" else []), "--sizes", *sizes, "--seed", seed,
                 "--out", root)  # fmt: skip
        findings = all_findings(root)
        assert [finding for finding in findings if finding.severity == "error"] == []
        assert [finding for finding in findings if "+" in finding.split] == []
        assert json.loads((root / "split.json").read_text())["copies"] == []
    assert "left out" in capsys.readouterr().out or source == "drawn"


def test_copies_of_given_test_images_are_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made_up.animal_pose_release(tmp_path / "release")
    (folder / "images" / "pic_2.jpg").write_bytes((folder / "images" / "pic_7.jpg").read_bytes())
    (tmp_path / "test.txt").write_text("pic_7.jpg\n")
    source = ["animal-pose", folder / "keypoints.json", "--images", folder / "images"]
    prepared(*source, "--sizes", "rest", 2, 1, "--test-ids", tmp_path / "test.txt", "--out", tmp_path / "cats")
    assert "in several splits: 1 picture (2 files)" in capsys.readouterr().out
    record = json.loads((tmp_path / "cats" / "split.json").read_text())
    assert record["copies"] == [{"val": ["pic_2.jpg"], "test": ["pic_7.jpg"]}]
    (known,) = [finding for finding in all_findings(tmp_path / "cats") if "+" in finding.split]
    assert (known.kind, known.severity) == ("known copy in two splits", "warning")
    record["copies"] = [{"val": ["pic_2.jpg"], "test": ["pic_8.jpg"]}]  # another one is not excused
    (tmp_path / "cats" / "split.json").write_text(json.dumps(record))
    (unknown,) = [finding for finding in all_findings(tmp_path / "cats") if "+" in finding.split]
    assert (unknown.kind, unknown.severity) == ("same picture in two splits", "error")


def test_a_source_with_an_error_that_check_would_find_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made_up.animal_pose_release(tmp_path / "release")
    content = json.loads((folder / "keypoints.json").read_text())
    content["annotations"][3]["bbox"] = [500, 500, 560, 560]
    (folder / "keypoints.json").write_text(json.dumps(content))
    source = ["animal-pose", folder / "keypoints.json", "--images", folder / "images"]
    error = refused(capsys, *source, "--sizes", "rest", 2, 2, "--out", tmp_path / "cats")
    assert "annotation 4: 'bbox' 500, 500, 60, 60 lies off its image" in error
    assert "nothing was written" in error
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


@pytest.mark.parametrize("value", ["2", 2.0, None, True, [2], {}])
@pytest.mark.parametrize("key", ["category_id", "image_id"])
@pytest.mark.parametrize("source", ["ap10k", "animal-pose"])
def test_an_annotation_that_belongs_nowhere_is_told_and_not_dropped(
    source: str, key: str, value: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if source == "ap10k":
        folder = made_up.ap10k_release(tmp_path / "release")
        file, call = folder / "annotations" / "ap10k-val-split1.json", ["ap10k", folder]
    else:
        folder = made_up.animal_pose_release(tmp_path / "release")
        file = folder / "keypoints.json"
        call = ["animal-pose", file, "--images", folder / "images"]
    content = json.loads(file.read_text())
    content["annotations"][1][key] = value
    file.write_text(json.dumps(content))
    error = refused(capsys, *call, "--sizes", "rest", 2, 2, "--out", tmp_path / "cats")
    assert f"{file}: annotations[1]: '{key}' is {value!r}, not a whole number" in error
    assert not (tmp_path / "cats").exists()


def test_what_is_left_out_is_counted_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made_up.animal_pose_release(tmp_path / "release", n_withheld=1)
    content = json.loads((folder / "keypoints.json").read_text())
    content["annotations"][4]["category_id"] = 99
    (folder / "keypoints.json").write_text(json.dumps(content))
    source = ["animal-pose", folder / "keypoints.json", "--images", folder / "images"]
    prepared(*source, "--sizes", "rest", 2, 0, "--out", tmp_path / "cats")
    line = capsys.readouterr().out.splitlines()[-2]
    assert line == (
        "kept 7 annotations; left out: 1 of category 99, which the file doesn't list, 4 of dog, 1 without a labelled"
        " keypoint"
    )


def test_help_needs_neither_torch_nor_opencv() -> None:
    for module in ("catpose.prepare", "catpose.check"):
        code = (
            f"import sys, {module} as m\n"
            "try: m.main(['--help'])\nexcept SystemExit as e: assert e.code == 0\n"
            "assert not {'torch', 'cv2', 'PIL'} & set(sys.modules)"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
        assert run.returncode == 0, run.stderr
        assert "usage: catpose" in run.stdout


def test_no_torch_behind_the_commands() -> None:
    code = "import sys, catpose.data.checks, catpose.data.sources, catpose.synthetic; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.realdata
def test_the_real_animal_pose(shared: Path, cats17: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keypoints = shared / "data" / "animal-pose-cats" / "keypoints.json"
    source = ["animal-pose", keypoints, "--images", cats17 / "images"]
    error = refused(capsys, *source, "--split", 1000, 128, 200, "--out", tmp_path / "cats")
    assert "there are 1324 images; --split 1000 124 200 would fit" in error
    given = ["--test-ids", cats17 / "annotations" / "test_info.json"]
    prepared(*source, "--sizes", 1000, 124, 200, *given, "--out", tmp_path / "given")
    prepared(*source, "--out", tmp_path / "drawn")
    for root in (tmp_path / "given", tmp_path / "drawn"):
        ours = {split: read_split(root, split) for split in ("train", "val", "test")}
        theirs = {split: read_split(cats17, split) for split in ("train", "val", "test")}
        assert [len(split.images) for split in ours.values()] == [1000, 124, 200]
        assert len(ours["train"]) + len(ours["val"]) == len(theirs["train"]) + len(theirs["val"]) == 1236
        assert not ours["test"].has_keypoints
        for splits in (["train", "val"], ["test"]):
            pools = [{image.file_name for split in splits for image in of[split].images} for of in (ours, theirs)]
            assert pools[0] == pools[1]
        # Copies of one picture: none in train and val; those of the given test images are known, and not in train.
        findings = all_findings(root)
        assert [f for f in findings if f.severity == "error"] == []
        assert [f.split for f in findings if f.kind == "known copy in two splits"] == ["val+test_info"] * 4


@pytest.mark.parametrize("n_withheld", [0, 3])
def test_the_default_fits_the_release(n_withheld: int, tmp_path: Path) -> None:
    folder = made_up.animal_pose_release(tmp_path / "release", n_withheld=n_withheld)
    prepared("animal-pose", folder / "keypoints.json", "--images", folder / "images", "--out", tmp_path / "cats")
    sizes = [len(read_split(tmp_path / "cats", split).images) for split in ("train", "val", "test")]
    assert sizes == ([7, 1, 1] if not n_withheld else [5, 1, 3])


def test_the_published_split_is_of_the_release_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made_up.animal_pose_release(tmp_path / "release")
    source = ["animal-pose", folder / "keypoints.json", "--images", folder / "images"]
    error = refused(capsys, *source, "--split", "published", "--out", tmp_path / "cats")
    assert "here and not there, or the other way round: 1333 pictures, " in error
    assert not (tmp_path / "cats").exists()


@pytest.mark.realdata
def test_the_published_split_is_that_of_cats17(shared: Path, cats17: Path, tmp_path: Path) -> None:
    """Two people get the same hashes: same images, boxes and keypoints; copies that lie in two splits are known."""
    source = ["animal-pose", shared / "data" / "animal-pose-cats" / "keypoints.json", "--images", cats17 / "images"]
    for name in ("mine", "yours"):
        prepared(*source, "--split", "published", "--out", tmp_path / name)
    records = [(tmp_path / name / "split.json").read_text() for name in ("mine", "yours")]
    assert records[0] == records[1]
    assert len(json.loads(records[0])["copies"]) == 9
    for name in ("train", "val", "test"):
        ours, theirs = (read_split(root, name) for root in (tmp_path / "mine", cats17))
        rows = []
        for split in (ours, theirs):
            names = [split.images[i].file_name for i in split.image_index]
            points = np.nan_to_num(split.keypoints, nan=-1).reshape(len(split), -1)
            rows.append(sorted(zip(names, np.hstack([split.boxes, points]).tolist(), strict=True)))
        assert rows[0] == rows[1]
        assert {image.file_name for image in ours.images} == {image.file_name for image in theirs.images}
    assert [finding for finding in all_findings(tmp_path / "mine") if finding.severity == "error"] == []
