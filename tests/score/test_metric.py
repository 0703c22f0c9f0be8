"""The metric: the same figures from any number of processes, from its written results, and from pycocotools."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing
from cases import assert_agrees
from skeletons import KEYPOINTS, similarity
from torch import Tensor

from catpose.geometry import box_to_center_size
from catpose.instances import Instances
from catpose.score.cocoeval import cocoeval
from catpose.score.detections import Detections
from catpose.score.full import evaluate
from catpose.score.metric import KeypointAP, keys
from catpose.skeleton import AP10K

N_IMAGES = 40


def made_up(seed: int = 0) -> tuple[dict[str, Any], Tensor, Tensor, Tensor]:
    """A COCO file with ids in no order, and predictions for its instances: keypoints, confidence, annotation ids."""
    rng = np.random.default_rng(seed)
    annotations, keypoints = [], []
    image_ids = rng.permutation(1000)[:N_IMAGES].tolist()
    numbers = iter(rng.permutation(1000).tolist())
    for image_id in image_ids:
        for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
            side = float(rng.uniform(20, 300))
            points, visible = rng.random((17, 2)) * side, 2 * (rng.random(17) < 0.6)
            annotations.append(
                {
                    "id": next(numbers),
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [0.0, 0.0, side, side],
                    "area": side * side,
                    "iscrowd": 0,
                    "num_keypoints": int((visible > 0).sum()),
                    "keypoints": np.column_stack([points, visible]).ravel().tolist(),
                }
            )
            keypoints.append(points + rng.normal(size=(17, 2)) * side * rng.gamma(2, 0.04))
    confidence = rng.choice([0.1, 0.3, 0.5, 0.9], (len(keypoints), 17))  # few values: scores that are equal
    coco = {"images": [{"id": i} for i in image_ids], "annotations": annotations, "categories": [{"id": 1}]}
    ids = torch.tensor([a["id"] for a in annotations])
    return coco, torch.tensor(np.array(keypoints)).float(), torch.tensor(confidence).float(), ids


def feed(metric: KeypointAP, share: list[int], batch_size: int = 7) -> None:
    _, keypoints, confidence, ids = made_up()
    for start in range(0, len(share), batch_size):
        some = share[start : start + batch_size]
        metric.update(keypoints[some], confidence[some], ids[some])


def whole() -> KeypointAP:
    metric = KeypointAP(Instances.from_coco(made_up()[0]))
    feed(metric, list(range(len(made_up()[3]))))
    return metric


def test_metric_results_and_pycocotools_agree_exactly():
    coco = made_up()[0]
    metric, truth = whole(), Instances.from_coco(coco)
    values = metric.compute()
    assert metric.detections is not None
    results = json.loads(json.dumps(metric.detections.to_results()))
    read = evaluate(truth, Detections.from_results(results, truth), draws=0).values
    assert all(values[key] == read[key] for key in keys(AP10K))
    reference = cocoeval(coco, results, per_keypoint=True)
    assert_agrees(read, reference)
    assert values["AP"] == reference["AP"]
    assert 0.2 < values["AP"] < 0.9
    assert tuple(values) == keys(AP10K)
    assert values["n"] == len(truth)
    assert all(f"AP/{name}" in values for name in KEYPOINTS)
    assert [r["annotation_id"] for r in results] == [
        a["id"] for a in sorted(coco["annotations"], key=lambda a: (a["image_id"], a["id"]))
    ]


def test_order_batches_and_repeats_change_nothing():
    expected = whole().compute()
    n = len(made_up()[3])
    for seed in range(5):
        share = np.random.default_rng(seed).permutation([*range(n), *range(n // 2)]).tolist()
        metric = KeypointAP(Instances.from_coco(made_up()[0]))
        feed(metric, share, batch_size=1 + 3 * seed)
        assert metric.compute() == expected


def test_a_repeat_keeps_the_first():
    coco, keypoints, confidence, ids = made_up()
    metric = KeypointAP(Instances.from_coco(coco))
    metric.update(keypoints, confidence, ids)
    expected = metric.compute()
    metric.update(keypoints + 100, confidence, ids)
    assert metric.compute() == expected
    twice = KeypointAP(Instances.from_coco(coco))
    twice.update(torch.cat([keypoints, keypoints + 100]), torch.cat([confidence] * 2), torch.cat([ids] * 2))
    assert twice.compute() == expected


def test_a_batch_costs_what_it_holds_not_what_the_split_does():
    metric = KeypointAP(Instances.from_coco(made_up()[0]))
    state = metric.rows.data_ptr()
    feed(metric, list(range(len(made_up()[3]))))
    assert metric.rows.data_ptr() == state  # filled in place, never copied whole


def test_near_duplicates_are_dropped():
    coco, keypoints, confidence, ids = made_up()
    together = [i for i, a in enumerate(coco["annotations"]) if a["image_id"] == coco["annotations"][-1]["image_id"]]
    keypoints[together] = keypoints[together[0]].clone()
    metric = KeypointAP(Instances.from_coco(coco))
    metric.update(keypoints, confidence, ids)
    metric.compute()
    assert metric.detections is not None
    assert len(metric.detections) <= len(ids) - len(together) + 1
    apart = whole()
    apart.compute()
    assert apart.detections is not None
    assert len(apart.detections) == len(ids)


def test_what_never_came_is_missed():
    metric = KeypointAP(Instances.from_coco(made_up()[0]))
    with pytest.warns(UserWarning, match="before"):
        nothing = metric.compute()
    assert (nothing["AP"], nothing["AR"]) == (0, 0)
    feed(metric, [0, 1, 2])
    assert 0 <= metric.compute()["AP"] < whole().compute()["AP"]
    metric.reset()
    assert metric.detections is None
    feed(metric, list(range(len(made_up()[3]))))
    assert metric.compute() == whole().compute()


def test_a_model_that_diverged_scores_nothing_and_can_be_written():
    coco, keypoints, confidence, ids = made_up()
    metric = KeypointAP(Instances.from_coco(coco))
    keypoints[0] = torch.nan
    confidence[1] = torch.inf
    metric.update(keypoints, confidence, ids)
    assert 0 < metric.compute()["AP"] < 1
    assert metric.detections is not None
    json.dumps(metric.detections.to_results(), allow_nan=False)
    metric.reset()
    metric.update(torch.full_like(keypoints, torch.nan), confidence, ids)
    values = metric.compute()
    assert values["AP"] == values["PCK@0.2"] == values["AUC"] == 0
    assert math.isnan(values["EPE"])  # nothing has a place, and so no distance to (0, 0) either
    assert math.isnan(values["NME"])


def test_duplicates_are_told_on_the_area_of_the_crop_where_its_shape_is_known():
    """As in MMPose: the padded box in the shape of the input, larger than the box, so that more are alike."""
    box = [0.0, 0.0, 60.0, 20.0]
    points = np.column_stack([np.linspace(1, 59, 17), np.full(17, 10.0), np.full(17, 2.0)])
    annotations = [
        {"id": i, "image_id": 1, "category_id": 1, "bbox": box, "keypoints": points.ravel().tolist()} for i in (1, 2)
    ]
    coco = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": annotations}
    truth = Instances.from_coco(coco)
    offset = np.stack([points[:, :2], points[:, :2] + [2.0, 0]])
    similar = {}
    for size in (None, (64, 64), (64, 192)):
        metric = KeypointAP(truth, size)
        metric.update(torch.tensor(offset), torch.tensor([[0.9] * 17, [0.8] * 17]), torch.tensor([1, 2]))
        metric.compute()
        assert metric.detections is not None
        area = 1200.0 if size is None else float(np.prod(box_to_center_size(np.array(box), size)[1]))
        each = similarity(offset[1], offset[0], np.array(area))
        similar[size] = float(each.mean())
        assert (len(metric.detections) == 2) == (similar[size] <= 0.9)
    assert similar[None] < 0.9 < similar[64, 64] < similar[64, 192]


def test_a_stranger_is_a_bug():
    coco, keypoints, confidence, ids = made_up()
    with pytest.raises(KeyError):
        KeypointAP(Instances.from_coco(coco)).update(keypoints[:1], confidence[:1], ids[:1] + 100000)


def test_half_precision_float64_copies_and_inference_mode():
    coco, keypoints, confidence, ids = made_up()
    metric = KeypointAP(Instances.from_coco(coco))
    metric.update(keypoints.half(), confidence.bfloat16(), ids)
    assert 0 < metric.compute()["AP"] < 1
    with torch.inference_mode():  # as Lightning validates
        metric.reset()
    metric.update(keypoints, confidence, ids)
    assert copy.deepcopy(metric).compute() == metric.compute() == whole().compute()
    exact = KeypointAP(Instances.from_coco(coco)).set_dtype(torch.float64)
    exact.update(keypoints.double() + 1e-9, confidence.double(), ids)
    exact.compute()
    assert exact.detections is not None
    order = torch.tensor([ids.tolist().index(i) for i in exact.detections.annotation_id.tolist()])
    np.testing.assert_array_equal(exact.detections.keypoints, keypoints[order].double().numpy() + 1e-9)


# Two processes

N = len(made_up()[3])
SHARES = {
    "padded, as by a distributed sampler": ([*range(0, N, 2), *([] if N % 2 == 0 else [N - 1])], [*range(1, N, 2), 0]),
    "in halves": (list(range(N // 2)), list(range(N // 2, N))),
    "uneven and overlapping": (list(range(N - 3, -1, -1)), list(range(N - 5, N))),
    "none for the first": ([], list(range(N))),
    "none for the second": (list(range(N)), []),
}


def one_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    answers = {}
    for name, shares in SHARES.items():
        metric = KeypointAP(Instances.from_coco(made_up()[0]))
        for _ in range(2):  # two epochs
            metric.reset()
            feed(metric, shares[rank])
            values = metric.compute()
        assert metric.detections is not None
        answers[name] = (values, metric.detections.to_results())
    (Path(folder) / f"{rank}.json").write_text(json.dumps(answers))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path: Path):
    assert sorted({*SHARES["padded, as by a distributed sampler"][0], *range(1, N, 2)}) == list(range(N))
    torch.multiprocessing.spawn(one_process, (str(tmp_path),), nprocs=2)
    alone = whole()
    expected = alone.compute()
    assert alone.detections is not None
    assert not any(math.isnan(value) for value in expected.values())
    for rank in range(2):
        answers = json.loads((tmp_path / f"{rank}.json").read_text())
        for name in SHARES:
            values, results = answers[name]
            assert values == expected, name
            assert results == alone.detections.to_results(), name
