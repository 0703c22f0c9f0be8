"""`compare`: results of any program, keypoints or boxes, on any COCO file."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refused import refused
from skeletons import HEAD, KEYPOINTS

from catpose.analysis.statistics import ENOUGH
from catpose.compare import compare_files, main
from catpose.errors import InputError
from catpose.score.cocoeval import cocoeval, cocoeval_boxes
from catpose.skeleton import COCO_PERSON, skeleton_of

WIDTH, HEIGHT = 640, 480
Coco = dict[str, Any]
Results = list[dict[str, Any]]


def made_truth(names: tuple[str, ...] = KEYPOINTS, n_images: int = 30, seed: int = 0) -> Coco:
    """One to three animals an image, cats and dogs, some crowds, some unlabelled, of sizes from 20 to 200 px, with
    areas of their own."""
    rng = np.random.default_rng(seed)
    annotations = []
    for image_id in range(1, n_images + 1):
        for _ in range(rng.integers(1, 4)):
            side = float(rng.choice([20, 60, 200]))
            x, y = rng.uniform(0, 250, 2).round(1).tolist()
            visibility = 2 * (rng.random(len(names)) < rng.choice([0, 0.7, 1], p=[0.1, 0.5, 0.4]))
            points = (rng.random((len(names), 2)) * side + [x, y]).round(1)
            entry = {"id": len(annotations) + 1, "image_id": image_id, "category_id": int(rng.choice([3, 3, 7]))}
            triples = np.column_stack([points * (visibility[:, None] > 0), visibility])
            entry |= {"bbox": [x, y, side, side], "area": 0.7 * side**2, "iscrowd": int(rng.random() < 0.05)}
            annotations.append(entry | {"keypoints": triples.ravel().tolist()})
    images = [{"id": i, "file_name": f"{i}.jpg", "width": WIDTH, "height": HEIGHT} for i in range(1, n_images + 1)]
    categories = [{"id": id_, "name": name, "keypoints": list(names)} for id_, name in ((3, "cat"), (7, "dog"))]
    return {"images": images, "annotations": annotations, "categories": categories}


def made_results(truth: Coco, spread: float, seed: int, boxes: bool = False) -> Results:
    """A detection of each instance, off by so much of its size."""
    rng, results = np.random.default_rng(seed), []
    for each in truth["annotations"]:
        x, y, side, _ = each["bbox"]
        entry = {"image_id": each["image_id"], "category_id": each["category_id"], "score": float(rng.random())}
        if boxes:
            moved = [x, y, side, side] + spread * side * rng.normal(size=4)
            results.append(entry | {"bbox": moved.tolist()})
            continue
        triples = np.reshape(each["keypoints"], (-1, 3))
        points = np.where(triples[:, 2:] > 0, triples[:, :2], [x, y]) + spread * side * rng.normal(
            size=(len(triples), 2)
        )
        results.append(entry | {"keypoints": np.column_stack([points, rng.random(len(triples))]).ravel().tolist()})
    return results


def written(folder: Path, name: str, content: object) -> Path:
    file = folder / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize("names", [KEYPOINTS, HEAD.names, tuple(COCO_PERSON)], ids=["AP-10K", "head", "COCO"])
def test_keypoints_of_any_skeleton_are_scored_as_pycocotools_scores_them(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    truth = made_truth(names)
    file = written(tmp_path, "truth", truth)
    results = [made_results(truth, spread, seed) for seed, spread in enumerate((0.03, 0.06))]
    made = compare_files(
        {"a": [written(tmp_path, "a", results[0])], "b": [written(tmp_path, "b", results[1])]}, file, draws=50
    )
    assert [method.name for method in made.methods] == ["a", "b"]
    assert made.best == 0
    for method, entries in zip(made.methods, results, strict=True):
        reference = cocoeval(truth, entries, skeleton_of(names), area="file")
        for key in ("AP", "AP50", "AP75", "AR", "AP_M", "AP_L"):
            assert method.estimate(key).value == pytest.approx(reference[key], abs=1e-10)


def test_boxes_are_scored_as_pycocotools_scores_them_by_size_and_category(tmp_path: Path) -> None:
    truth = made_truth()
    file = written(tmp_path, "truth", truth)
    results = [made_results(truth, spread, seed, boxes=True) for seed, spread in enumerate((0.1, 0.05))]
    made = compare_files(
        {"a": [written(tmp_path, "a", results[0])], "b": [written(tmp_path, "b", results[1])]}, file, draws=50
    )
    assert made.methods[made.best].name == "b"
    for method, entries in zip(made.methods, results, strict=True):
        reference = cocoeval_boxes(truth, entries, area="file")
        for key in ("AP", "AP50", "AP75", "AR", "AP_S", "AP_M", "AP_L"):
            assert method.estimate(key).value == pytest.approx(reference[key], abs=1e-10)
        for id_, name in ((3, "cat"), (7, "dog")):
            alone = truth | {"categories": [each for each in truth["categories"] if each["id"] == id_]}
            own = [each for each in entries if each["category_id"] == id_]
            assert method.estimate(f"AP/{name}").value == pytest.approx(
                cocoeval_boxes(alone, own, "file")["AP"], abs=1e-10
            )


@pytest.mark.slow
def test_seeds_are_a_method_and_chance_is_corrected_for(tmp_path: Path) -> None:
    truth = made_truth(n_images=60)
    file = written(tmp_path, "truth", truth)
    spreads = {"a": 0.04, "b": 0.04, "c": 0.08}
    methods = {
        name: [written(tmp_path, f"{name}/{seed}", made_results(truth, spread, 10 * i + seed)) for seed in range(3)]
        for i, (name, spread) in enumerate(spreads.items())
    }
    made = compare_files(methods, file, draws=200)
    one, other = made.methods[made.best], made.against("AP")
    assert one.name != "c"
    assert one.seeds == (0, 1, 2)
    for i, tested in other.items():
        each = tested.difference
        assert each.value == pytest.approx(one.mean - made.methods[i].mean)
        assert each.low < each.value < each.high
        assert each.p <= tested.p <= 3 * each.p + 1e-12
    assert other[2].p < 0.05 < other[next(i for i in other if i != 2)].p
    tested = {key for key, parts in made.parts.items() if not np.isnan(parts[2].p)}
    assert not {"AP50", "AP75", "AR"} & tested
    assert all(one.evaluations[0].rests_on[key] >= ENOUGH for key in tested)
    assert {"AP_M", "AP_L", "AP/cat", "AP/dog"} <= tested


@pytest.mark.slow
def test_what_is_said_of_files_is_what_a_study_of_them_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = made_truth(n_images=60)
    arguments = []
    for i, (name, spread) in enumerate({"a": 0.04, "b": 0.04, "c": 0.08}.items()):
        for seed in range(3):
            written(tmp_path, f"{name}/{seed}", made_results(truth, spread, 10 * i + seed))
        arguments.append(str(tmp_path / name))
    main([*arguments, "--truth", str(written(tmp_path, "truth", truth)), "--draws", "50"])
    said = " ".join(capsys.readouterr().out.split())
    assert "has the highest mean AP: 0." in said
    assert "; corrected for its being the highest of 3, 0." in said
    assert "(p corrected for all pairs of configurations, since these very numbers chose the winner)." in said
    assert "This study detects, with 80 % power and with 3 seeds each, a difference of about 0." in said
    assert "a configuration's expected AP over training seeds and over images like these 60" in said


def test_a_folder_or_a_list_is_the_seeds_of_a_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = made_truth()
    file = written(tmp_path, "truth", truth)
    seeds = [str(written(tmp_path, f"a/{seed}", made_results(truth, 0.05, seed))) for seed in range(2)]
    other = str(written(tmp_path, "other", made_results(truth, 0.05, 5)))
    texts = []
    for arguments in ([f"a={','.join(seeds)}"], [f"a={tmp_path / 'a'}"], [str(tmp_path / "a")]):
        main([*arguments, other, "--truth", str(file), "--draws", "20"])
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] == texts[2]
    assert "a           2" in texts[0]
    assert "pycocotools agrees" in texts[0]
    said = " ".join(texts[0].split())
    assert "With one seed, other can't show a spread between seeds: that of the others is taken for it" in said
    assert "with less confidence than 95 %, since two seeds hardly show their spread" in said
    main([other, str(written(tmp_path, "third", made_results(truth, 0.05, 7))), "--truth", str(file), "--draws", "20"])
    said = " ".join(capsys.readouterr().out.split())
    assert "The one model trained with" in said
    assert "not of their recipes, which other seeds might put in another order" in said


def test_without_areas_those_of_the_boxes_are_taken(tmp_path: Path) -> None:
    truth = made_truth()
    del truth["annotations"][3]["area"]
    results = made_results(truth, 0.05, 0)
    made = compare_files({"a": [written(tmp_path, "a", results)]}, written(tmp_path, "truth", truth), draws=20)
    reference = cocoeval(truth, results, area="box")
    assert made.methods[0].estimate("AP").value == pytest.approx(reference["AP"], abs=1e-10)
    assert made.against("AP") == {}


def test_no_detection_at_all_is_an_ap_of_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, "truth", made_truth())
    main([str(written(tmp_path, "none", [])), "--truth", str(file), "--draws", "20"])
    assert "0 detections" in capsys.readouterr().out


def test_limbs_of_other_keypoints_than_the_files_own_are_no_matter(tmp_path: Path) -> None:
    """As CrowdPose's annotations have them, whose 14 keypoints come with COCO's limbs."""
    truth = made_truth()
    a = written(tmp_path, "a", made_results(truth, 0.05, 0))
    plain = compare_files({"a": [a]}, written(tmp_path, "truth", truth), draws=20)
    truth["categories"] = [each | {"skeleton": [[16, 14], [99, 1]]} for each in truth["categories"]]
    made = compare_files({"a": [a]}, written(tmp_path, "limbs", truth), draws=20)
    assert made.methods[0].mean == plain.methods[0].mean


def test_an_ap_of_few_animals_has_no_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = made_truth(n_images=2)
    file, a = written(tmp_path, "truth", truth), written(tmp_path, "a", made_results(truth, 0.05, 0))
    assert len(truth["annotations"]) < ENOUGH
    main([str(a), "--truth", str(file), "--draws", "20"])
    assert re.search(r"^AP of a: \d\.\d{3}\.$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("boxes", [False, True])
def test_what_a_results_file_may_leave_out_is_no_matter(boxes: bool, tmp_path: Path) -> None:
    """The category, where the truth has instances of one; keypoints' box, or null in its place."""
    truth = made_truth()
    truth["annotations"] = [each | {"category_id": 3} for each in truth["annotations"]]
    results = made_results(truth, 0.05, 0, boxes=boxes)
    bare = [{key: value for key, value in each.items() if key != "category_id"} for each in results]
    if not boxes:
        bare[0]["bbox"] = None
    file = written(tmp_path, "truth", truth)
    values = [
        compare_files({"a": [written(tmp_path, name, each)]}, file, draws=20).methods[0].estimate("AP").value
        for name, each in (("whole", results), ("bare", bare))
    ]
    assert values[0] == values[1] > 0


def shifted(results: Results) -> Results:
    return [each | {"keypoints": (np.array(each["keypoints"]) + 3000).tolist()} for each in results]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda truth, a, b: (a, made_results(truth, 0.05, 1, boxes=True)), ["boxes", "keypoints", "one kind"]),
        (lambda truth, a, b: (a, [each | {"image_id": each["image_id"] + 500} for each in b]), ["image_id", "b.json"]),
        (lambda truth, a, b: (a, [each | {"category_id": 4} for each in b]), ["category_id", "4"]),
        (lambda truth, a, b: (a, [each | {"annotation_id": 1} for each in b]), ["annotation 1", "another truth"]),
        (lambda truth, a, b: (a, shifted(b)), ["outside of the pictures"]),
        (lambda truth, a, b: (a, copy.deepcopy(a)), ["b.json", "a copy of"]),
        (
            lambda truth, a, b: ([e for e in a if e["image_id"] < 9], [e for e in b if e["image_id"] > 9]),
            ["no image has detections of both"],
        ),
        (lambda truth, a, b: (a, truth), ["COCO file, not results"]),
        (lambda truth, a, b: (a, {"x": 1}), ["no list of COCO results"]),
        (lambda truth, a, b: (a, [{"image_id": 1, "category_id": 3, "score": 1.0}]), ["entry 0", "keypoints"]),
        (
            lambda truth, a, b: (a, [each | {"bbox": [9, 9, -5, -5]} for each in b]),
            ["entry 0", "bbox", "width, height"],
        ),
        (lambda truth, a, b: (a, [each | {"keypoints": [1, 2, 3]} for each in b]), ["keypoints", "51"]),
    ],
    ids=["kinds", "ids", "categories", "annotations", "elsewhere", "a copy", "none common", "a truth", "an object",
         "neither", "negative sides", "few keypoints"],
)  # fmt: skip
def test_bad_input_is_one_line(
    change: Callable[[Coco, Results, Results], tuple[object, object]],
    said: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    truth = made_truth()
    contents = change(truth, made_results(truth, 0.05, 0), made_results(truth, 0.05, 1))
    a, b = (written(tmp_path, name, content) for name, content in zip("ab", contents, strict=True))
    line = refused(main, [a, b, "--truth", written(tmp_path, "truth", truth)], capsys, tmp_path)
    assert all(word in line for word in said), line


def test_arguments_that_cannot_be_meant_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = made_truth()
    file, a = written(tmp_path, "truth", truth), written(tmp_path, "a", made_results(truth, 0.05, 0))
    (tmp_path / "empty").mkdir()
    for arguments, said in (
        ([a, a], "twice"),
        ([f"x={a},{a}"], "twice"),
        ([f"x={a}", f"x={a}"], "twice"),
        ([f"x={a}", "x=b.json"], "another method"),
        ([f"={a}"], "names no method"),
        ([tmp_path / "empty"], "holds no .json"),
        ([tmp_path / "absent.json"], "absent.json"),
    ):
        assert said in refused(main, [*arguments, "--truth", file], capsys, tmp_path)
    with pytest.raises(InputError, match="--draws"):
        compare_files({"a": [a]}, file, draws=10**9)


@pytest.mark.slow
def test_it_starts_without_torch_in_twice_the_time_of_numpy_and_scipy() -> None:
    """In seconds of the processor; the least of some tries."""
    line = "import sys, time; {}; print(time.process_time(), 'torch' in sys.modules)"
    seconds: dict[str, list[float]] = {"import numpy, scipy.stats": [], "import catpose.compare": []}
    for _ in range(5):
        for what, each in seconds.items():
            done = subprocess.run([sys.executable, "-c", line.format(what)], capture_output=True, text=True, check=True)
            took, torch = done.stdout.split()
            assert torch == "False"
            each.append(float(took))
    assert min(seconds["import catpose.compare"]) < 2 * min(seconds["import numpy, scipy.stats"])
