"""The data side of a run: splits, crops and loaders, as settings."""

from __future__ import annotations

import atexit
import filecmp
import gc
import multiprocessing
import multiprocessing.util
import signal
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from catpose.data.augment import Augmentation
from catpose.data.cache import Cache, Pictures, open_pictures
from catpose.data.coco import DEFAULT_ROOT, read_split
from catpose.data.coco_split import CocoSplit, Image, labelled
from catpose.data.dataset import ANY_EPOCH, CropDataset, collate
from catpose.data.training import TrainingSet, TrainSampler, first_pictures
from catpose.errors import InputError, whole_between
from catpose.geometry import INPUT_SIDES
from catpose.instances import AreaRule
from catpose.machine import usable_cores

MOST_WORKERS = 8
PUBLISHED = Augmentation()
#: Small changes, for a run's last epochs.
LIGHT = Augmentation(rotation_factor=15.0, scale_factor=0.15, half_body_probability=0.0)


class CatDataModule(LightningDataModule):
    """Crops of ROOT/annotations/{train,val,test}.json and ROOT/images/ in batches.

    Training takes the labelled instances of train.json, validation those of val.json; test and prediction take all
    boxes of the test split. `train_split`, `val_split` and `test_split` hold what was read, once `setup` has run. A
    batch is the dict that `catpose.data.dataset.collate` makes of `Sample`s.

    Every sample depends on (seed, epoch, place in the split) alone: the number of workers changes nothing. Of several
    processes each takes every n-th sample, and where that leaves some with one fewer, samples come again at the end:
    whoever scores must count an annotation once. Training leaves nothing out, except a last batch of a single sample,
    since normalisation over the batch can't learn from one (the order, and so the sample, differs between epochs).

    Args:
        root: The data folder.
        input_size: Width and height of the crops, px.
        batch_size: Samples in a batch on each device.
        num_workers: Loading processes for each device; null is none on the CPU, else one for each core that is the
            run's (a study's workers share the machine's) and at most 8.
        cache: Where decoded pictures of train and val are kept: "disk" (3 bytes a pixel, in one file that all
            processes share, filled as pictures are first used), "memory" (4 bytes a pixel, decoded at the start, once
            for each device's process) or "off" (decoded each time).
        cache_dir: The disk cache's folder; null is `catpose` in $XDG_CACHE_HOME or ~/.cache.
        area: An instance's area in OKS: "box", its box's width × height, or "file", the annotations' `area`, which
            must then be 5 to 105 % of the box's.
        augment: Random changes of training samples.
        late_from: The epoch, from 1, at whose start `late_augment` takes the place of `augment`; null is never.
        late_augment: Changes in a run's last epochs, which leave pictures nearly as they are
            (Ge et al., "YOLOX", 2021; RTMPose's second stage).
        train_images: Train on so many of train.json's pictures with a labelled animal, the first of an order that the
            seed draws, so that fewer are part of more; null is all.
        also: Other data folders of the same keypoints whose train.json is trained on too, each with how often an epoch
            has each of its instances: 1 once, 0.5 every other, in each epoch others. Validation is `root`'s alone.
        seed: Seed of order and augmentation.

    Raises:
        InputError: a value that can't be, named `data.KEY`.
    """

    train_split: CocoSplit
    val_split: CocoSplit
    test_split: CocoSplit
    splits: Mapping[str, CocoSplit] = MappingProxyType({})  # of `root`, that were read and checked before, by name
    first_epoch = 0  # of training: how many the checkpoint has finished that a run goes on from; set before `fit`

    def __init__(
        self,
        root: str = DEFAULT_ROOT,
        input_size: tuple[int, int] = (256, 256),
        batch_size: int = 32,
        num_workers: int | None = None,
        cache: Cache = "disk",
        cache_dir: str | None = None,
        area: AreaRule = "box",
        augment: Augmentation = PUBLISHED,
        late_from: int | None = None,
        late_augment: Augmentation = LIGHT,
        train_images: int | None = None,
        also: dict[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.root = root
        self.input_size = (
            whole_between("data.input_size", input_size[0], *INPUT_SIDES),
            whole_between("data.input_size", input_size[1], *INPUT_SIDES),
        )
        self.batch_size = whole_between("data.batch_size", batch_size, 1, 2**20)
        self.num_workers = None if num_workers is None else whole_between("data.num_workers", num_workers, 0, 64)
        if cache not in ("disk", "memory", "off"):
            raise InputError(f"data.cache: must be disk, memory or off, not {cache!r}")
        self.cache: Cache = cache
        self.cache_dir = cache_dir
        if area not in ("box", "file"):
            raise InputError(f"data.area: must be box or file, not {area!r}")
        self.area: AreaRule = area
        self.augment = augment
        self.late_from = None if late_from is None else whole_between("data.late_from", late_from, 1, 2**31)
        self.late_augment = late_augment
        self.train_images = None if train_images is None else whole_between("data.train_images", train_images, 1, 2**31)
        self.also = also or {}
        for other, times in self.also.items():
            if not 0 < times <= 1000:
                raise InputError(f"data.also.{other}: must be a number above 0, at most 1000, not {times!r}")
        self.seed = whole_between("data.seed", seed, 0, 2**32 - 1)

    def prepare_data(self) -> None:
        """Create the disk cache in one process of each machine, before the others look for it."""
        if self.cache == "disk" and self.trainer is not None and self.trainer.state.fn == "fit":
            self.setup("fit")

    def setup(self, stage: str) -> None:
        """Read the splits that a stage ("fit", "validate", "test", "predict") needs, and open their pictures.

        Raises:
            InputError: as `read_split` and `open_pictures`, or no labelled instance.
        """
        if stage == "fit":
            self.train_split = self._split("train")
            self._train = self._training_set()
        if stage in ("fit", "validate"):
            self.val_split = self._split("val")
            self._val = self._crops(self.val_split, _some_labelled(self.val_split), self.cache)
        if stage in ("test", "predict"):
            self.test_split = read_split(self.root, "test", self.area)
            self._test = self._crops(self.test_split, np.arange(len(self.test_split)), "off")

    def on_before_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """The batch, after checking that it belongs to the current epoch.

        Raises:
            RuntimeError: it belongs to another epoch: a loader was started twice, or with a wrong first epoch.
        """
        trainer = self.trainer
        if trainer is not None and trainer.training:
            overfits = trainer.overfit_batches  # type: ignore[attr-defined]
            epoch = ANY_EPOCH if overfits else trainer.current_epoch
            if not (batch["epoch"] == epoch).all():
                found = sorted(set(batch["epoch"].tolist()))
                raise RuntimeError(f"epoch {epoch} was given a batch of epoch {found}; its samples would be wrong ones")
        return batch

    def train_dataloader(self) -> DataLoader:
        rank, world = self._place()
        sampler = TrainSampler(self._train, self.seed, rank, world, self.first_epoch)
        lone = self.batch_size > 1 and len(sampler) > 1 and len(sampler) % self.batch_size == 1
        return self._loader(self._train, sampler, drop_last=lone)

    def val_dataloader(self) -> DataLoader:
        return self._in_order(self._val)

    def test_dataloader(self) -> DataLoader:
        return self._in_order(self._test)

    def predict_dataloader(self) -> DataLoader:
        return self.test_dataloader()

    def _split(self, name: str) -> CocoSplit:
        return self.splits[name] if name in self.splits else read_split(self.root, name, self.area)

    def _training_set(self) -> TrainingSet:
        """The training samples of `root` and of `also`, under `augment` and later `late_augment`."""
        instances = _some_labelled(self.train_split)
        if self.train_images is not None:
            images = self.train_split.image_index[instances]
            if self.train_images > (n := len(np.unique(images))):
                raise InputError(
                    f"data.train_images: {self.train_images} are asked for, but {self.train_split.file}"
                    f" has {n} with a labelled animal; give {n} or fewer"
                )
            instances = instances[first_pictures(images, self.train_images, self.seed)]
        sources, counts = [(self.train_split, instances)], [len(instances)]
        for other, times in self.also.items():
            split = read_split(other, "train", self.area)
            if split.skeleton.names != self.train_split.skeleton.names:
                raise InputError(
                    f"data.also: {split.file} has other keypoints than {self.train_split.file}; "
                    "bring it to the same with `python -m catpose.prepare`"
                )
            sources.append((split, _some_labelled(split)))
            counts.append(max(1, round(times * len(sources[-1][1]))))
        opened = [
            self._pictures(split, these if self.cache == "memory" else labelled(split), self.cache)
            for split, these in sources
        ]  # on the disk one file for whichever `train_images`, or runs of others would take it from one another
        scored = [self._split("val"), *(self.splits[name] for name in ("test",) if name in self.splits)]
        for split, these in sources[1:]:
            _refuse_scored(split, these, scored)

        def under(changes: Augmentation) -> list[CropDataset]:
            return [
                CropDataset(split, these, pictures, self.input_size, changes, self.seed)
                for (split, these), pictures in zip(sources, opened, strict=True)
            ]

        phases = [(0, under(self.augment))]
        if self.late_from is not None:
            phases.append((self.late_from, under(self.late_augment)))
        return TrainingSet(phases, counts, self.seed)

    def _crops(self, split: CocoSplit, instances: np.ndarray, cache: Cache) -> CropDataset:
        return CropDataset(split, instances, self._pictures(split, instances, cache), self.input_size)

    def _pictures(self, split: CocoSplit, instances: np.ndarray, cache: Cache) -> Pictures:
        return open_pictures(split, split.image_index[instances].tolist(), cache, self.cache_dir)

    def _in_order(self, crops: CropDataset) -> DataLoader:
        rank, world = self._place()
        return self._loader(crops, DistributedSampler(crops, num_replicas=world, rank=rank, shuffle=False))

    def _loader(
        self, crops: CropDataset | TrainingSet, sampler: DistributedSampler, drop_last: bool = False
    ) -> DataLoader:
        device, local_devices = self._device()
        workers = default_workers(device, local_devices) if self.num_workers is None else self.num_workers
        persistence: dict[str, Any] = {"persistent_workers": True, "prefetch_factor": 4} if workers else {}
        return DataLoader(
            crops,
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=collate,
            pin_memory=device == "cuda",
            drop_last=drop_last,
            **for_workers(workers),
            **persistence,
        )

    def _place(self) -> tuple[int, int]:
        """This process's number among all that take part, and how many they are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _device(self) -> tuple[str, int]:
        """The type of device that batches go to, and how many of them this machine has in the run."""
        if self.trainer is None:
            return "cpu", 1
        return self.trainer.strategy.root_device.type, max(1, self.trainer.num_devices)


def default_workers(device: str, local_devices: int = 1) -> int:
    """Loading processes for each of a machine's devices of a type ("cpu", "cuda", …)."""
    return 0 if device == "cpu" else min(MOST_WORKERS, max(1, usable_cores() // local_devices))


def for_workers(n: int) -> dict[str, Any]:
    """A `DataLoader`'s arguments for `n` loading processes."""
    if not n:
        return {"num_workers": 0}
    fork = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    return {"num_workers": n, "worker_init_fn": _start_worker, "multiprocessing_context": fork}


def _start_worker(_: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # SLURM and others tell all processes; its parent ends this one
    gc.freeze()  # a collection would write to all that was forked, and so copy the annotations' objects
    cv2.setNumThreads(0)  # torch keeps to one thread here by itself; OpenCV's pool of threads does not survive a fork


def _end_workers() -> None:
    """At exit: kill loading processes that an error left running; multiprocessing would wait for them for ever."""
    for worker in multiprocessing.active_children():
        worker.kill()


atexit.register(_end_workers)  # registered after multiprocessing's own handler, so it runs before it


def _some_labelled(split: CocoSplit) -> np.ndarray:
    instances = labelled(split)
    if not len(instances):
        raise InputError(
            f"{split.file}: no instance has a labelled keypoint, so there is nothing to train on or to score; "
            f"see `python -m catpose.check`"
        )
    return instances


def _refuse_scored(train: CocoSplit, instances: np.ndarray, scored: Sequence[CocoSplit]) -> None:
    """InputError where pictures of training instances (N,) are, byte for byte, some that a score is of."""
    sizes: dict[int, list[Image]] = defaultdict(list)
    for image in (image for split in scored for image in split.images if image.path.is_file()):
        sizes[image.path.stat().st_size].append(image)
    for place in np.unique(train.image_index[instances]).tolist():
        image = train.images[place]
        for other in sizes[image.path.stat().st_size] if image.path.is_file() else ():
            if filecmp.cmp(image.path, other.path, shallow=False):
                raise InputError(
                    f"data.also: {train.file}: image {image.id} ({image.file_name}) is {other.path}, so that the score"
                    " would no longer be honest; keep it in one"
                )
