"""The command that looks for faults: table and exit code."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import made_up
import numpy as np
import pytest
from refused import refused, says

from catpose.check import main
from catpose.data.coco import read_split
from catpose.prepare import main as prepare
from catpose.score.detections import Detections


def checked(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    try:
        main([str(word) for word in argv])
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    output = capsys.readouterr()
    return code, output.out, output.err


def change(root: Path, split: str, **values: object) -> None:
    """Change all annotations but the last: a fault of all would be told once."""
    file = root / "annotations" / f"{split}.json"
    content = json.loads(file.read_text())
    for entry in content["annotations"][:-1]:
        entry.update(values)
    file.write_text(json.dumps(content))


def test_sound_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = made_up.data_set(tmp_path / "cats")
    counts = "train: 4 images, 5 instances\nval: 3 images, 4 instances\ntest: 3 images, 4 instances\n"
    assert checked(capsys, "--data", root) == (0, f"{counts}{root}: 0 errors, 0 warnings\n", "")
    change(root, "val", iscrowd=1)
    (root / "annotations" / "zoo.json").write_text("[")
    _, out, _ = checked(capsys, "--data", root)
    assert "val: 3 images, 1 instance; left out: 3 crowds\n" in out
    assert "not looked at: zoo.json (only train, val, test, test_info are)\n" in out


def test_warnings_alone_pass_and_errors_do_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = made_up.data_set(tmp_path / "cats", (9, 3, 3))
    change(root, "train", keypoints=[0] * 51, num_keypoints=0)
    code, out, _ = checked(capsys, "--data", root)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("warning: train: annotation ")
    assert lines[0].endswith(": has no labelled keypoint, so it neither trains nor scores anything")
    assert sum(line.startswith("warning: train: annotation") for line in lines) == 5
    assert "warning: train: 6 more of 'no labelled keypoint' (--all lists them)" in lines
    assert lines[-6].split() == ["kind", "split", "count", "for", "example"]
    assert lines[-5] == "warning  no labelled keypoint  train     11  annotation 998, annotation 996, annotation 994"
    assert lines[-1] == f"{root}: 0 errors, 11 warnings"
    (root / "images" / "14.png").write_bytes(b"")
    code, out, _ = checked(capsys, "--data", root, "--all")
    assert code == 2
    lines = out.splitlines()
    assert lines[0].startswith("error: test: image 14: ")
    assert sum(line.startswith("warning: train: annotation") for line in lines) == 11
    assert lines[-1] == f"{root}: 1 error, 11 warnings"
    assert [line.split()[0] for line in lines[-6:-4]] == ["error", "warning"]


def test_without_data(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, error = checked(capsys)
    assert code == 2
    assert out == ""
    assert error.count("\n") == 1
    assert "data/cats/annotations: no such folder" in error
    assert "python -m catpose.prepare" in error
    assert "Did you mean --data?" in checked(capsys, "--dat", "x")[2]


def results(root: Path, split: str, file: Path, moved: tuple[int, int] | None = None) -> Path:
    """A model that finds every keypoint and is sure of some; `moved`: one that it puts elsewhere, by row and number."""
    truth = read_split(root, split)
    rng = np.random.default_rng(0)
    confidence, points = rng.uniform(0.3, 0.9, truth.labelled.shape), truth.keypoints.copy()
    if moved:
        points[moved] += 30
        confidence[moved] = 0.95
    scores = np.ones(len(truth))
    detections = Detections(truth.image_id, truth.category_id, points, confidence, scores, truth.ids)
    file.write_text(json.dumps(detections.to_results()))
    return file


def test_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = made_up.data_set(tmp_path / "cats", (9, 3, 3)), tmp_path / "new" / "report"
    change(root, "train", num_keypoints=20)
    code, said, _ = checked(capsys, "--data", root, "--report", out)
    assert code == 0
    assert said.splitlines()[-2] == f"{root}: 0 errors, 1 warning"
    files = {str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()}
    assert said.splitlines()[-1] == f"written: {out / 'report.md'} and {len(files) - 1} files that it shows"
    named = set(re.findall(r"\]\(([^)]*)\)", (out / "report.md").read_text()))
    assert {"report.md", "data.json", "contact_sheet.jpg", *named} <= files
    assert not {file for file in files if "label_issues" in file}
    data = json.loads((out / "data.json").read_text())
    assert list(data["splits"]) == ["train", "val"]
    assert data["together"]["images"] == 12
    assert data["slices"]["several cats"] == {"yes": {"train": 6, "val": 2}, "no": {"train": 6, "val": 2}}


@pytest.mark.slow
def test_suspects_of_a_split_without_torch(tmp_path: Path) -> None:
    root, out = made_up.data_set(tmp_path / "cats", (30, 3, 3)), tmp_path / "report"
    predictions = results(root, "train", tmp_path / "r.json", moved=(4, 2))
    words = ["--data", root, "--report", out, "--predictions", predictions, "--split", "train"]
    code = "import sys; from catpose.check import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, *map(str, words)], check=True, capture_output=True)
    rows = list(csv.DictReader((out / "label_issues.csv").open()))
    first = read_split(root, "train").ids[4]
    assert [(row["annotation_id"], row["kind"], row["keypoints"]) for row in rows] == [(str(first), "far off", "nose")]
    assert "1 of 1 suspected instances in train" in (out / "report.md").read_text()
    assert (out / "label_issues.jpg").stat().st_size > 1000
    split = read_split(root, "train")
    for name in ("cvat.json", "label_studio.json"):
        written = json.loads((out / "label_issues" / name).read_text())
        image = split.images[split.image_index[4]]
        assert [entry["file_name"] for entry in written["images"]] == [image.file_name]
    before = (root / "annotations" / "train.json").read_bytes()
    prepare(["coco", str(out / "label_issues" / "cvat.json"), "--onto", str(root)])  # as they were: nothing changes
    assert (root / "annotations" / "train.json").read_bytes() == before


@pytest.mark.slow
def test_a_model_that_is_mostly_wrong_judges_no_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = made_up.data_set(tmp_path / "cats", (30, 3, 3)), tmp_path / "report"
    predictions = results(root, "train", tmp_path / "r.json")
    content = json.loads(predictions.read_text())
    for n, entry in enumerate(content):
        entry["keypoints"] = [value + 30 * (n % 2) * (k % 3 == 0) for k, value in enumerate(entry["keypoints"])]
    predictions.write_text(json.dumps(content))
    _, printed, _ = checked(capsys, "--data", root, "--report", out, "--predictions", predictions, "--split", "train")
    assert "PCK@0.1 0.500 (0.7 or more is needed): not fit to judge labels: no label issue is ranked" in printed
    assert "not fit to judge labels" in (out / "report.md").read_text()
    assert not [path for path in out.rglob("*") if "label_issues" in path.name]


def test_a_report_that_cannot_be_is_refused_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = made_up.data_set(tmp_path / "cats")
    there, broken = tmp_path / "file", tmp_path / "broken.json"
    there.write_text("mine")
    broken.write_text("[{")
    report = ["--data", root, "--report", tmp_path / "report"]
    says(refused(main, ["--data", root, "--report", there], capsys, tmp_path), "--report", "is a file", "folder")
    says(refused(main, ["--data", root, "--report", there / "x"], capsys, tmp_path), "--report", "another place")
    says(refused(main, [*report, "--predictions", broken], capsys, tmp_path), "broken.json", "not JSON")
    says(refused(main, [*report, "--predictions", tmp_path / "no"], capsys, tmp_path), "HERE/no", "no such file")
    says(refused(main, [*report, "--split", "val"], capsys, tmp_path), "--split", "--predictions")
    says(refused(main, ["--data", root, "--split", "val"], capsys, tmp_path), "--split", "--report")
    says(refused(main, ["--data", root, "--predictions", broken], capsys, tmp_path), "--predictions", "--report")


def test_results_that_do_not_belong_to_the_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = made_up.data_set(tmp_path / "cats")
    predictions = results(root, "train", tmp_path / "r.json")
    report = ["--data", root, "--report", tmp_path / "report", "--predictions", predictions]
    says(refused(main, report, capsys, tmp_path), "HERE/r.json", "image_id", "give the annotations")
    says(refused(main, [*report, "--split", "test_info"], capsys, tmp_path), "no test_info.json", "splits there")
    predictions.write_text("{}")
    says(refused(main, report, capsys, tmp_path), "HERE/r.json", "list of detections")


@pytest.mark.slow
def test_errors_in_the_data_end_a_report_in_one_line_or_leave_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = made_up.data_set(tmp_path / "cats")
    (root / "images" / "1.png").rename(root / "images" / "1.gone")
    (root / "images" / "1.png").write_bytes((root / "images" / "5.png").read_bytes())  # one picture in two splits
    code, out, _ = checked(capsys, "--data", root, "--report", tmp_path / "report")
    assert code == 2
    assert f"{root}: 1 error, " in out
    assert (tmp_path / "report" / "report.md").exists()
    (root / "images" / "1.png").write_bytes(b"")
    code, out, error = checked(capsys, "--data", root, "--report", tmp_path / "another")
    assert code == 2
    assert f"{root}: 1 error, " in out
    assert error.count("\n") == 1
    assert "1.png" in error
    assert not (tmp_path / "another").exists()


@pytest.mark.slow
def test_a_folder_of_other_splits_is_shown_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = made_up.data_set(tmp_path / "cats")
    for name in ("train", "val", "test"):
        (root / "annotations" / f"{name}.json").rename(root / "annotations" / f"some_{name}.json")
    assert checked(capsys, "--data", root, "--report", tmp_path / "report")[0] == 0
    assert list(json.loads((tmp_path / "report" / "data.json").read_text())["splits"]) == [
        "some_test", "some_train", "some_val",
    ]  # fmt: skip


@pytest.mark.realdata
def test_the_real_cats(cats17: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = checked(capsys, "--data", cats17)
    assert code == 2
    assert out.splitlines()[-1] == f"{cats17}: 9 errors, 36 warnings"
