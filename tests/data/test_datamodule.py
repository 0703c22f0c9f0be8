"""Whole loaders: the same batches with any number of workers, after a resumption, and shared out among processes."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import made_up
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, DistributedSampler

from catpose.data import cache
from catpose.data.augment import Augmentation
from catpose.data.datamodule import CatDataModule, for_workers
from catpose.data.images import read_image
from catpose.errors import InputError

Batch = dict[str, torch.Tensor]
EVERYTHING = Augmentation(
    translation_factor=0.1,
    photometric_probability=0.5,
    color_probability=0.5,
    blur_probability=0.5,
    noise_probability=0.5,
    dropout_probability=0.5,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 images with 16 instances to train on, 5 with 6 for validation, 4 for the test."""
    return made_up.data_set(tmp_path_factory.mktemp("data") / "cats", (12, 5, 4))


def data_module(root: Path, **settings: Any) -> CatDataModule:
    defaults: dict[str, Any] = {"input_size": (48, 64), "batch_size": 5, "cache": "memory", "augment": EVERYTHING}
    return CatDataModule(str(root), **{**defaults, **settings})


def epochs(root: Path, count: int = 2, **settings: Any) -> list[list[Batch]]:
    data = data_module(root, **settings)
    data.setup("fit")
    loader = data.train_dataloader()
    batches = []
    for _ in range(count):
        batches.append(list(loader))
    return batches


def assert_same(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("cache", ["disk", *(pytest.param(each, marks=pytest.mark.slow) for each in ("memory", "off"))])
def test_any_number_of_workers_gives_the_same_batches(root: Path, tmp_path: Path, cache: str) -> None:
    settings = {"cache": cache, "cache_dir": str(tmp_path)}
    alone = epochs(root, num_workers=0, **settings)
    assert [len(batch["crop"]) for batch in alone[0]] == [5, 5, 5]  # the sixteenth would be a batch of its own
    assert not torch.equal(alone[0][0]["crop"], alone[1][0]["crop"])
    for workers in (1, 3):
        for one, other in zip(alone, epochs(root, num_workers=workers, **settings), strict=True):
            assert_same(one, other)
    assert_same(alone[0], epochs(root, count=1, num_workers=0, cache="memory")[0])


class Frozen(torch.utils.data.Dataset):
    """How many objects the process that loads has set aside from collections."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        return gc.get_freeze_count()


def test_a_worker_collects_nothing_that_it_was_forked_with() -> None:
    """A collection writes to each object that it looks at, and so gives each worker a copy of all annotations."""
    assert int(next(iter(DataLoader(Frozen(), **for_workers(1))))) > 10_000


def test_runs_of_other_numbers_of_pictures_share_one_cache_file(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and one after another: a study of learning curves has many, each seed with pictures of its own."""
    decoded: list[Path] = []
    monkeypatch.setattr(cache, "read_image", lambda path: (decoded.append(path), read_image(path))[1])
    runs = [
        data_module(root, cache="disk", cache_dir=str(tmp_path), train_images=n, seed=seed)
        for n, seed in ((2, 0), (3, 0), (3, 1), (None, 0))
    ]
    for data in runs:
        data.setup("fit")
    (file,) = tmp_path.glob("train-*")
    for data in (*runs, *runs):
        assert len([*data.train_dataloader()]) > 0
    assert decoded
    assert len(decoded) == len(set(decoded))
    assert [*tmp_path.glob("train-*")] == [file]


def test_the_seed_changes_order_and_augmentation(root: Path) -> None:
    one, other = (epochs(root, count=1, seed=seed, batch_size=16)[0][0] for seed in (0, 1))
    assert one["annotation_id"].tolist() != other["annotation_id"].tolist()
    place = {int(i): k for k, i in enumerate(other["annotation_id"])}
    again = torch.stack([other["crop"][place[int(i)]] for i in one["annotation_id"]])
    assert (again != one["crop"]).flatten(1).any(dim=1).all()


def test_validation_is_in_order_and_unchanged(root: Path) -> None:
    data = data_module(root)
    data.setup("validate")
    first, second = list(data.val_dataloader()), list(data.val_dataloader())
    assert_same(first, second)
    ids = torch.cat([batch["annotation_id"] for batch in first])
    assert ids.tolist() == data.val_split.ids[data.val_split.by_id].tolist()


@pytest.mark.parametrize(
    ("batch_size", "expected"), [(5, [5, 5, 5]), (15, [15]), (16, [16]), (3, [3] * 5), (6, [6, 6, 4]), (1, [1] * 16)]
)
def test_only_a_last_batch_of_one_is_left_out(root: Path, batch_size: int, expected: list[int]) -> None:
    (batches,) = epochs(root, count=1, batch_size=batch_size)
    assert [len(batch["crop"]) for batch in batches] == expected


class Recorder(lightning.LightningModule):
    """Learns one number, keeps what it was shown, and may be struck down in the middle of an epoch."""

    def __init__(self, strike: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.strike = strike
        self.seen: dict[tuple[int, int], Batch] = {}
        self.validated: list[int] = []

    def training_step(self, batch: Batch, i: int) -> torch.Tensor:
        if (self.current_epoch, i) == self.strike:
            raise RuntimeError("struck")
        self.seen[self.current_epoch, i] = batch
        return (self.weight - batch["crop"].float().mean()).square().sum()

    def validation_step(self, batch: Batch, i: int) -> None:
        self.validated += batch["annotation_id"].tolist()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-3)


def train(
    root: Path,
    folder: Path,
    max_epochs: int,
    model: Recorder,
    workers: int = 0,
    first_epoch: int | None = None,
    **options: Any,
) -> None:
    """Train up to an epoch, from the folder's checkpoint where there is one.

    Args:
        first_epoch: what the data are told; None: as the checkpoint has it.
    """
    last, data = folder / "last.ckpt", data_module(root, num_workers=workers)
    if last.exists():
        finished = torch.load(last, weights_only=True)["epoch"] + 1
        data.first_epoch = finished if first_epoch is None else first_epoch
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[ModelCheckpoint(folder, filename="last", save_on_train_epoch_end=True)],
        **{"num_sanity_val_steps": 0, **options},
    )
    trainer.fit(model, data, ckpt_path=last if last.exists() else None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("strike", [None, (2, 1)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        *(
            pytest.param(options, marks=pytest.mark.slow)
            for options in (
                {"num_sanity_val_steps": 2},
                {"limit_train_batches": 2},
                {"accumulate_grad_batches": 2},
                {"val_check_interval": 1},
            )
        ),
    ],
    ids=lambda options: "_".join(options),
)
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(
    root: Path, tmp_path: Path, workers: int, strike: tuple[int, int] | None, options: dict[str, Any]
) -> None:
    """Stopped after its second epoch, or struck down in the third, and taken up from the second's checkpoint."""
    whole = Recorder()
    train(root, tmp_path / "whole", 4, whole, **options)
    first, second = Recorder(strike), Recorder()
    if strike:
        with pytest.raises(RuntimeError, match="struck"):
            train(root, tmp_path / "parts", 4, first, workers, **options)
    else:
        train(root, tmp_path / "parts", 2, first, workers, **options)
    train(root, tmp_path / "parts", 4, second, workers, **options)
    assert {epoch for epoch, _ in second.seen} == {2, 3}
    for key, batch in second.seen.items():
        assert_same([batch], [whole.seen[key]])
    assert first.seen.keys() | second.seen.keys() == whole.seen.keys()
    assert torch.equal(second.weight, whole.weight)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("told", [0, 3])
def test_a_batch_of_another_epoch_is_an_error(root: Path, tmp_path: Path, workers: int, told: int) -> None:
    train(root, tmp_path, 2, Recorder(), workers)
    with pytest.raises(RuntimeError, match=rf"^epoch 2 was given a batch of epoch \[{told}\]"):
        train(root, tmp_path, 4, Recorder(), workers, told)


@pytest.mark.filterwarnings("ignore")
def test_overfitting_sees_the_same_batches_in_each_epoch(root: Path, tmp_path: Path) -> None:
    model = Recorder()
    train(root, tmp_path, 2, model, overfit_batches=1)
    assert model.seen.keys() == {(0, 0), (1, 0)}
    assert_same([model.seen[0, 0]], [model.seen[1, 0]])


def shard(root: str, rank: int, world: int, port: int, folder: str) -> None:
    """One of several processes of a real trainer; keeps the annotation ids it was shown."""
    names = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": str(rank), "LOCAL_RANK": "0"}
    os.environ.update(names | {"WORLD_SIZE": str(world)})
    model = Recorder()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        strategy="ddp",
        devices=1,
        num_nodes=world,  # Lightning's own sampler is not asked to stay away: ours has to hold its place
    )
    trainer.fit(model, data_module(Path(root), batch_size=3, cache="disk", cache_dir=folder))
    seen = {key: batch["annotation_id"] for key, batch in model.seen.items()}
    torch.save({"seen": seen, "validated": model.validated}, Path(folder) / f"{rank}.pt")


@pytest.mark.slow
def test_two_processes_share_the_samples(root: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=shard, args=(str(root), rank, 2, port, str(tmp_path))) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    assert [process.exitcode for process in processes] == [0, 0]
    shares = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    alone = epochs(root, batch_size=6)
    for epoch in range(2):
        for i, batch in enumerate(alone[epoch]):
            together = [share["seen"][epoch, i] for share in shares]
            assert sorted(torch.cat(together).tolist()) == sorted(batch["annotation_id"].tolist())
    data = data_module(root)
    data.setup("validate")
    truth = set(data.val_split.ids.tolist())
    assert set(shares[0]["validated"]) | set(shares[1]["validated"]) == truth
    assert len(shares[0]["validated"]) == len(shares[1]["validated"])


@pytest.mark.parametrize("world", [2, 3, 4])
def test_shares_together_hold_what_one_process_holds(root: Path, world: int) -> None:
    """Validation: no sample is missing, all have equally many, and only the padding is there twice."""
    data = data_module(root)
    data.setup("validate")
    dataset = data.val_dataloader().dataset
    shares = [list(DistributedSampler(dataset, world, rank, shuffle=False)) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    assert {place for share in shares for place in share} == set(range(len(dataset)))
    assert sum(map(len, shares)) < len(dataset) + world


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("data.batch_size", {"batch_size": 0}),
        ("data.batch_size", {"batch_size": 2.5}),
        ("data.num_workers", {"num_workers": -1}),
        ("data.input_size", {"input_size": (256, 0)}),
        ("data.input_size", {"input_size": (1e3, 256)}),
        ("data.cache", {"cache": "ram"}),
        ("data.area", {"area": "mask"}),
        ("data.seed", {"seed": -3}),
        ("data.seed", {"seed": 2**32}),
    ],
)
def test_values_that_can_not_be(key: str, settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"^{key}: must be .*, not [^\n]*$"):
        CatDataModule(**settings)


def test_areas_are_the_boxes_or_the_files(tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats")
    file = root / "annotations" / "val.json"
    content = json.loads(file.read_text())
    for entry in content["annotations"]:
        entry["area"] *= 0.25
    file.write_text(json.dumps(content))
    areas = {}
    for rule in ("box", "file"):
        data = data_module(root, area=rule)
        data.setup("validate")
        areas[rule] = torch.cat([batch["area"] for batch in data.val_dataloader()])
        boxes = torch.cat([batch["box"] for batch in data.val_dataloader()])
    assert areas["box"].tolist() == (boxes[:, 2] * boxes[:, 3]).tolist()
    assert areas["file"].tolist() == (areas["box"] / 4).tolist()
    content["annotations"][0]["area"] = 1
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"val.json: annotation {content['annotations'][0]['id']}: 'area' is 1, not"):
        data_module(root, area="file").setup("validate")


def test_missing_data_say_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"catpose\.prepare"):
        data_module(tmp_path / "nowhere").setup("fit")


def test_nothing_labelled(root: Path, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    text = (root / "annotations" / "train.json").read_text()
    for split in ("train", "val"):
        (tmp_path / "annotations" / f"{split}.json").write_text(text.replace('"iscrowd": 0', '"iscrowd": 1'))
    with pytest.raises(InputError, match=r"train\.json: .* have iscrowd 1, so none is trained on"):
        data_module(tmp_path).setup("fit")


def test_crowds_and_unlabelled_instances_are_left_out_of_training_only(root: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        content = json.loads((root / "annotations" / "train.json").read_text())
        content["annotations"][0]["iscrowd"] = 1
        content["annotations"][1] |= {"keypoints": [0] * 51, "num_keypoints": 0}
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"{split}.json").write_text(json.dumps(content))
    (tmp_path / "annotations" / "val.json").write_text((root / "annotations" / "val.json").read_text())
    (tmp_path / "images").symlink_to(root / "images")
    data = data_module(tmp_path)
    data.setup("fit")
    data.setup("test")
    everything = {entry["id"] for entry in content["annotations"]}
    left_out = {entry["id"] for entry in content["annotations"][:2]}
    taken = {int(i) for batch in data.train_dataloader() for i in batch["annotation_id"]}
    assert taken <= everything - left_out
    assert len(taken) >= len(everything) - 3
    for loader in (data.test_dataloader(), data.predict_dataloader()):
        assert {int(i) for batch in loader for i in batch["annotation_id"]} == everything


def test_a_test_split_of_boxes_only(root: Path, tmp_path: Path) -> None:
    content = json.loads((root / "annotations" / "test.json").read_text())
    for entry in content["annotations"]:
        del entry["keypoints"], entry["num_keypoints"]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "test_info.json").write_text(json.dumps(content))
    (tmp_path / "images").symlink_to(root / "images")
    data = data_module(tmp_path)
    data.setup("predict")
    batches = list(data.predict_dataloader())
    assert sum(len(batch["crop"]) for batch in batches) == len(content["annotations"])
    assert all(not batch["visibility"].any() and not batch["keypoints_crop"].any() for batch in batches)


def test_the_defaults_are_the_reports(root: Path) -> None:
    data = CatDataModule()
    assert data.input_size == (256, 256)
    assert data.augment == Augmentation()
    assert np.isclose(data.augment.rotation_factor, 40)


LEFT_AT_WORK = """
import sys
from torch.utils.data import DataLoader
from catpose.data.datamodule import for_workers
at_work = iter(DataLoader(range(1000), persistent_workers=True, **for_workers(2)))
next(at_work)
sys.exit(3)
"""


@pytest.mark.slow
def test_loaders_that_an_error_left_at_work_end_with_their_process() -> None:
    assert subprocess.run([sys.executable, "-c", LEFT_AT_WORK], timeout=300).returncode == 3
