"""The pose model around a tiny backbone of one's own: loss, prediction, training, settings."""

from __future__ import annotations

import importlib
import inspect
import logging
import pkgutil
import shutil

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from skeletons import FLIP
from torch import nn
from torch._dynamo.utils import counters
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

import catpose.model
from catpose.errors import InputError
from catpose.model.backbones.pyramid import FeaturePyramid
from catpose.model.codec import MSRAHeatmap, UDPHeatmap
from catpose.model.head import DeconvolutionHead
from catpose.model.pose import PoseModel, apply_affines
from catpose.model.schedule import lr_factor
from catpose.skeleton import AP10K

for module in pkgutil.iter_modules(catpose.model.__path__):
    importlib.import_module(f"catpose.model.{module.name}")


class Tiny(PoseModel):
    """A backbone of one's own: two convolutions with dropout, at stride 4."""

    def __init__(self, width: int = 8, dropout: float = 0.0, weights: str | None = None, **kwargs):
        backbone = nn.Sequential(
            nn.Conv2d(3, width, kernel_size=3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, kernel_size=3, stride=2, padding=1),
            nn.Dropout(dropout),
        )
        super().__init__(backbone, DeconvolutionHead(width, stride=4), weights=weights, **kwargs)


def tiny(**arguments):
    torch.manual_seed(0)
    return Tiny(**{"codec": UDPHeatmap(1.0), **arguments})


def samples(n, size=32, seed=0):
    random = np.random.default_rng(seed)
    visibility = random.integers(0, 3, (n, 17))
    points = random.uniform(3, size - 4, (n, 17, 2)).astype(np.float32) * (visibility > 0)[..., None]
    affine = np.array([[2.5, 0.5, 300.25], [-0.5, 2.5, 1000.5]], np.float32)
    return [
        {
            "crop": random.integers(0, 256, (size, size, 3), dtype=np.uint8),
            "keypoints_crop": points[i],
            "visibility": visibility[i],
            "crop_to_image": affine * (1 + i / 10),
            "annotation_id": 100 + i,
            "image_id": i,
            "category_id": 1,
            "box": np.array([1, 2, 30, 40], np.float32),
            "area": np.float32(1200),
        }
        for i in range(n)
    ]


def loader(n, batch_size=4, size=32, seed=0):
    return DataLoader(samples(n, size, seed), batch_size=batch_size)


def one_batch(n=3, size=32):
    return next(iter(loader(n, n, size)))


def trainer(tmp_path, **arguments):
    return pl.Trainer(
        **{
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "default_root_dir": tmp_path,
            **arguments,
        }
    )


# The loss


def test_the_loss_is_the_weighted_mean_square_as_loops_have_it():
    random = np.random.default_rng(0)
    heatmaps, target = random.normal(size=(2, 2, 17, 4, 5)).astype(np.float32)
    weight = random.integers(0, 2, (2, 17)).astype(np.float32)
    total = 0.0
    for b in range(2):
        for k in range(17):
            for y in range(4):
                for x in range(5):
                    total += weight[b, k] * (heatmaps[b, k, y, x] - target[b, k, y, x]) ** 2
    ours = MSRAHeatmap().loss(torch.tensor(heatmaps), torch.tensor(target), torch.tensor(weight))
    assert ours.item() == pytest.approx(total / (2 * 17 * 4 * 5), rel=1e-5)


def test_keypoints_that_are_not_labelled_teach_nothing():
    model, batch = tiny(), one_batch()
    heatmaps = model(batch["crop"]).detach().requires_grad_()
    model.loss(heatmaps, batch).backward()
    taught = heatmaps.grad.abs().amax((2, 3)) > 0
    assert torch.equal(taught, batch["visibility"] > 0)


def test_keypoints_count_by_their_weights():
    batch, model = one_batch(), tiny()
    weighted = tiny(keypoint_weights={"nose": 3.0, "neck": 0.0})
    heatmaps = model(batch["crop"])
    each = []
    for k in range(17):
        alone = batch | {"visibility": torch.where(torch.arange(17) == k, batch["visibility"], 0)}
        each.append(model.loss(heatmaps, alone))
    factors = [{"nose": 3.0, "neck": 0.0}.get(name, 1.0) for name in AP10K.names]
    expected = sum(factor * loss for factor, loss in zip(factors, each, strict=True))
    torch.testing.assert_close(weighted.loss(heatmaps, batch), expected)


def test_the_loss_of_perfect_heatmaps_is_0():
    model, batch = tiny(), one_batch()
    heatmaps, _ = model.codec.encode(batch["keypoints_crop"], batch["visibility"], (32, 32), (8, 8))
    assert model.loss(heatmaps, batch).item() == 0


# Prediction


def test_crops_are_normalised_as_imagenets_weights_expect():
    crop = one_batch()["crop"]
    seen = []
    model = tiny()
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(crop)
    expected = (crop.double() / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(seen[0], expected.permute(0, 3, 1, 2).float())


class Oracle(PoseModel):
    """Gives the heatmaps it is told, whatever it sees."""

    def __init__(self, heatmaps: torch.Tensor | None = None, weights: str | None = None, **kwargs):
        super().__init__(nn.Identity(), nn.Identity(), weights=weights, **kwargs)
        self.heatmaps = heatmaps

    def features(self, picture):
        return self.heatmaps


@pytest.mark.parametrize("step", ["validation_step", "test_step", "predict_step"])
def test_predictions_are_in_image_px_and_carry_who_they_belong_to(step):
    batch = one_batch(size=64)
    batch["visibility"] = torch.full_like(batch["visibility"], 2)
    batch["keypoints_crop"] = 12 + 40 * torch.rand(3, 17, 2)
    heatmaps, _ = UDPHeatmap(1.0).encode(batch["keypoints_crop"], batch["visibility"], (64, 64), (16, 16))
    model = Oracle(heatmaps, codec=UDPHeatmap(1.0), flip_test=False)
    model.log = lambda *_, **__: None  # there is no trainer here
    poses = getattr(model, step)(batch, 0)
    for b in range(3):
        for k in range(17):
            x, y = batch["keypoints_crop"][b, k].tolist()
            expected = batch["crop_to_image"][b].double() @ torch.tensor([x, y, 1.0]).double()
            np.testing.assert_allclose(poses["keypoints"][b, k], expected, atol=0.2)
    assert torch.equal(poses["confidence"], heatmaps.amax((2, 3)))
    for name in ("annotation_id", "image_id", "category_id", "box", "area"):
        assert torch.equal(poses[name], batch[name])


def test_the_flip_test_sees_a_cat_and_its_mirror_image_alike():
    batch = one_batch(size=64)
    seen = []
    model = tiny(flip_test=True).eval()
    model.codec.decode = lambda heatmaps, size: seen.append(heatmaps) or UDPHeatmap(1.0).decode(heatmaps, size)
    with torch.no_grad():
        model.predict_step(batch)
        model.predict_step(batch | {"crop": batch["crop"].flip(2)})
        once = model(batch["crop"])
    torch.testing.assert_close(model.codec.unflip(seen[1], FLIP), seen[0])
    assert not torch.allclose(once, seen[0])


def test_the_flip_test_averages_with_the_codecs_own_shift():
    model = tiny(codec=MSRAHeatmap(1.0)).eval()
    batch = one_batch()
    with torch.no_grad():
        straight, mirrored = model(batch["crop"]), model(batch["crop"].flip(2))
        aligned = mirrored.flip(-1)[:, list(FLIP)]
        aligned[..., 1:] = aligned[..., :-1].clone()
        expected, confidence = model.codec.decode((straight + aligned) / 2, (32, 32))
        poses = model.predict_step(batch)
    torch.testing.assert_close(poses["keypoints"], apply_affines(batch["crop_to_image"], expected))
    torch.testing.assert_close(poses["confidence"], confidence)


def test_mixed_precision_leaves_loss_and_keypoints_in_float32():
    """Where autocast reached the affine, keypoints at 1000 px would be off by pixels."""
    batch = one_batch(size=64)
    heatmaps, _ = UDPHeatmap(1.0).encode(12 + 40 * torch.rand(3, 17, 2), torch.full((3, 17), 2), (64, 64), (16, 16))
    model = Oracle(heatmaps, codec=UDPHeatmap(1.0))
    expected = model.predict_step(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        poses = model.predict_step(batch)
        loss = tiny().loss(heatmaps.bfloat16()[..., ::2, ::2], one_batch())
    assert poses["keypoints"].dtype == poses["confidence"].dtype == loss.dtype == torch.float32
    assert torch.equal(poses["keypoints"], expected["keypoints"])


def test_a_crop_size_that_is_no_multiple_of_32_is_refused():
    with pytest.raises(InputError, match=r"data\.input_size: 100 x 128 px"):
        tiny()(torch.zeros(1, 128, 100, 3, dtype=torch.uint8))


# Training


@pytest.mark.slow
def test_it_learns_a_batch_by_heart(tmp_path):
    torch.manual_seed(0)
    model = Tiny(width=32, lr=3e-3, warmup_iterations=10, milestones=(), codec=UDPHeatmap(1.0))
    data = loader(2, 2, 32)
    before = model.loss(model(next(iter(data))["crop"]), next(iter(data))).item()
    run = trainer(tmp_path, max_epochs=150)
    run.fit(model, data)
    assert run.callback_metrics["train/loss"].item() < before


@pytest.mark.one_in(4)
@pytest.mark.parametrize("schedule", ["multistep", "cosine"])
@pytest.mark.parametrize(("accumulate", "steps_per_epoch"), [(1, 3), (2, 2)])
def test_every_step_has_its_learning_rate(tmp_path, schedule, accumulate, steps_per_epoch):
    model = tiny(lr=0.01, warmup_iterations=4, warmup_ratio=0.1, schedule=schedule, milestones=(2, 3))
    seen = []

    class Watch(pl.Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            seen.append(optimizer.param_groups[0]["lr"])

    run = trainer(tmp_path, max_epochs=4, accumulate_grad_batches=accumulate, callbacks=[Watch()])
    run.fit(model, loader(10))
    expected = [
        0.01
        * lr_factor(
            step,
            steps_per_epoch=steps_per_epoch,
            total_steps=4 * steps_per_epoch,
            warmup_iterations=4,
            warmup_ratio=0.1,
            schedule=schedule,
            milestones=(2, 3),
            gamma=0.1,
        )
        for step in range(4 * steps_per_epoch)
    ]
    assert seen == pytest.approx(expected)


def test_a_cosine_ends_with_max_steps(tmp_path):
    model = tiny(lr=1.0, warmup_iterations=0, schedule="cosine")
    run = trainer(tmp_path, max_steps=7, max_epochs=-1)
    run.fit(model, loader(10))
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_a_cosine_without_an_end_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"model\.schedule: cosine"):
        trainer(tmp_path, max_epochs=-1, max_time="00:00:01:00").fit(tiny(schedule="cosine"), loader(10))


def test_losses_are_means_over_samples_and_not_over_batches(tmp_path):
    model = tiny(lr=1e-12, warmup_iterations=0)
    run = trainer(tmp_path, max_epochs=1)
    run.fit(model, loader(10, 4), loader(7, 3, seed=1))
    for name, data in (("train/loss", loader(10, 10)), ("val/loss", loader(7, 7, seed=1))):
        batch = next(iter(data))
        assert run.callback_metrics[name].item() == pytest.approx(model.loss(model(batch["crop"]), batch).item())


def test_a_loss_that_is_not_a_number_shows(tmp_path):
    model = tiny()
    nn.init.constant_(model.head.final.bias, float("nan"))
    run = trainer(tmp_path, max_epochs=1)
    run.fit(model, loader(4))
    assert run.callback_metrics["train/loss"].isnan()


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["multistep", "cosine"])
def test_a_run_resumed_at_an_epochs_end_is_the_run_left_alone(tmp_path, monkeypatch, schedule):
    """With dropout, bit for bit, whatever else drew random numbers in between."""
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    settings = {"dropout": 0.5, "lr": 0.01, "warmup_iterations": 8, "schedule": schedule, "milestones": (3,)}
    whole = tiny(**settings)
    trainer(tmp_path, max_epochs=4).fit(whole, loader(10))

    class SaveEach(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch}.ckpt")

    trainer(tmp_path, max_epochs=4, callbacks=[SaveEach()]).fit(tiny(**settings), loader(10))
    torch.manual_seed(999)
    resumed = Tiny(codec=UDPHeatmap(1.0), **settings)
    trainer(tmp_path, max_epochs=4).fit(resumed, loader(10), ckpt_path=tmp_path / "1.ckpt", weights_only=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_training_is_the_same_training(tmp_path, monkeypatch):
    """Only whole batches are compiled, once; the last one of two crops and the validation aren't."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    names, losses = [], []
    for is_compiled in (False, True):
        counters.clear()
        model = tiny(lr=0.01, warmup_iterations=0, compile=is_compiled)
        run = trainer(tmp_path, max_epochs=2)
        run.fit(model, loader(10), loader(7, 3, seed=1))
        assert counters["stats"]["unique_graphs"] == is_compiled
        names.append([*model.state_dict()])
        losses.append([run.callback_metrics[name].item() for name in ("train/loss", "val/loss")])
    assert names[0] == names[1]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_another_seed_drops_others(tmp_path, monkeypatch):
    ends = []
    for seed in ("1", "1", "2"):
        monkeypatch.setenv("PL_GLOBAL_SEED", seed)
        model = tiny(dropout=0.5, lr=0.01, warmup_iterations=0)
        trainer(tmp_path, max_epochs=1).fit(model, loader(4))
        ends.append(model.state_dict()["backbone.0.weight"])
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


@pytest.mark.parametrize(("scale_lr", "expected", "words"), [(False, 0.01, "left as it is"), (True, 0.02, "scaled to")])
def test_another_global_batch_is_said_and_scaled_only_on_request(tmp_path, caplog, scale_lr, expected, words):
    """4 a device, two batches accumulated, against the 4 that the rate belongs to."""
    model = tiny(lr=0.01, warmup_iterations=0, global_batch_size=4, scale_lr=scale_lr)
    run = trainer(tmp_path, max_epochs=1, accumulate_grad_batches=2)
    with caplog.at_level(logging.INFO, logger="lightning.pytorch"):
        run.fit(model, loader(8))
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(expected)
    assert sum("global batch of 4, this run's is 8" in message and words in message for message in caplog.messages) == 1


def test_the_global_batch_that_the_rate_belongs_to_is_not_worth_a_word(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="lightning.pytorch"):
        trainer(tmp_path, max_epochs=1).fit(tiny(global_batch_size=4), loader(8))
    assert not any("global batch" in message for message in caplog.messages)


class HalfEach(torch.utils.data.Sampler):
    """Two processes' shares of 7 samples: 4 and 3, none twice."""

    def __iter__(self):
        return iter(range(torch.distributed.get_rank(), 7, torch.distributed.get_world_size()))

    def __len__(self):
        return len(list(iter(self)))


class TwoProcesses(pl.LightningDataModule):
    def train_dataloader(self):
        return loader(4, 2)

    def val_dataloader(self):
        return DataLoader(samples(7, seed=1), batch_size=3, sampler=HalfEach())


@pytest.mark.slow
def test_two_processes_have_one_processs_validation_loss(tmp_path):
    model = tiny(lr=1e-12, warmup_iterations=0)
    run = trainer(tmp_path, max_epochs=1, devices=2, strategy="ddp_spawn", use_distributed_sampler=False)
    run.fit(model, TwoProcesses())
    batch = next(iter(loader(7, 7, seed=1)))
    assert run.callback_metrics["val/loss"].item() == pytest.approx(model.loss(model(batch["crop"]), batch).item())


# Settings


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lr", 0.0),
        ("lr", -1e-4),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("weight_decay", -0.1),
        ("warmup_iterations", -1),
        ("warmup_ratio", 1.5),
        ("warmup_ratio", -0.1),
        ("gamma", 0.0),
        ("gamma", 1.5),
        ("milestones", (200, 170)),
        ("milestones", (0, 10)),
        ("milestones", (10, 10)),
        ("milestones", (0.5, 10)),
        ("milestones", (1.5,)),
        ("warmup_iterations", 1.5),
        ("global_batch_size", 0),
        ("optimizer", "sgd"),
        ("schedule", "step"),
        ("layer_decay", 0.0),
        ("layer_decay", 1.5),
        ("cosine_from", 1.0),
        ("cosine_from", 0.5),  # with milestones
        ("keypoint_weights", {"whiskers": 1.0}),
        ("keypoint_weights", {"neck": -1.0}),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_line_with_its_key(key, value):
    with pytest.raises(InputError, match=rf"^model\.{key}[.:]") as caught:
        tiny(**{key: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "cls"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("adamax", torch.optim.Adamax)]
)
def test_the_optimiser_is_the_one_named(tmp_path, name, cls):
    run = trainer(tmp_path, max_epochs=1)
    run.fit(tiny(optimizer=name, weight_decay=0.03, lr=0.02, warmup_iterations=0), loader(4))
    (optimizer,) = run.optimizers
    assert type(optimizer) is cls
    assert optimizer.param_groups[0]["weight_decay"] == 0.03
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02)


@pytest.mark.parametrize(
    "backbone", [each for each in PoseModel.__subclasses__() if each.__module__.startswith("catpose.")]
)
def test_signatures_are_the_settings(backbone):
    """jsonargparse, which reads them for the command line, finds every argument of PoseModel through `**kwargs`."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(backbone, "model")
    found = set(parser.get_defaults(skip_validation=True).model.as_dict())
    common = {"codec", "weights", "optimizer", "lr", "weight_decay", "warmup_iterations", "warmup_ratio", "schedule"}
    common |= {"milestones", "gamma", "global_batch_size", "scale_lr", "freeze_norm_statistics", "flip_test", "compile"}
    assert common <= found
    assert not {"backbone", "head", "kwargs"} & found


def test_a_model_is_built_from_its_settings():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(PoseModel, "model")
    words = [
        "--model=catpose.model.backbones.hrnet.HRNet",
        "--model.width=18",
        "--model.weights=null",
        "--model.lr=5e-4",
    ]
    words += ["--model.codec=catpose.model.codec.MSRAHeatmap", "--model.codec.sigma=3", "--model.milestones=[10,15]"]
    settings = parser.parse_args(words)
    text = parser.dump(settings, skip_none=False)
    assert parser.dump(parser.parse_string(text), skip_none=False) == text
    model = parser.instantiate_classes(settings).model
    assert type(model).__name__ == "HRNet"
    assert (model.lr, model.milestones, model.codec.sigma) == (5e-4, (10, 15), 3.0)
    assert model.timm_name == "hrnet_w18.ms_in1k"
    assert type(model.codec) is MSRAHeatmap


def test_the_default_codec_is_a_setting_too():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(PoseModel, "model")
    settings = parser.parse_args(
        ["--model=catpose.model.backbones.resnet.ResNet", "--model.codec.sigma=1", "--model.weights=null"]
    )
    model = parser.instantiate_classes(settings).model
    assert type(model.codec) is type(inspect.signature(PoseModel).parameters["codec"].default)
    assert model.codec.sigma == 1


def test_frozen_statistics_stay_and_the_rest_learns():
    """Of the backbone's BatchNorm alone; after a validation, too."""
    model = FeaturePyramid("test_resnet", weights=None, freeze_norm_statistics=True)
    norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    for mode in (True, False, True):
        model.train(mode)
    ours = {name for name, module in norms.items() if not module.training}
    assert ours == {name for name in norms if name.startswith("backbone.")} != set()
    assert all(norm.weight.requires_grad and norm.bias.requires_grad for norm in norms.values())
    before = {name: norms[name].running_mean.clone() for name in norms}
    model(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8))
    assert {name for name in norms if torch.equal(norms[name].running_mean, before[name])} == ours
