"""Settings of `fit` that can't be used: each is refused in one line, before anything is made for the run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from refused import refused, says

from catpose.fit import main

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where `runs/` would appear
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def arguments(tiny: Path, tmp_path: Path) -> list[object]:
    """A sound command line, to which one setting is added."""
    return ["--config", tiny, "--data.cache", "off", "--out", tmp_path / "runs" / "new"]


#: A few lines that are billions of values once written out.
ALIASES = "{a0: &a0 [1, 2], " + ", ".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)) + "}"

OPTIONS = {
    # misspelt and unknown
    "a misspelt group": ("--modle.lr=1", "unknown setting modle.lr", "Did you mean model.lr?"),
    "a misspelt model setting": (
        "--model.warmup_iteration=3",
        "model.warmup_iteration.",
        "Did you mean model.warmup_it",
    ),
    "a misspelt data setting": ("--data.batchsize=3", "Did you mean data.batch_size?"),
    "a misspelt augmentation": ("--data.augment.rotation=3", "Did you mean data.augment.rotation_factor?"),
    "a misspelt trainer setting": ("--trainer.max_epoch=3", "Did you mean trainer.max_epochs?"),
    "another model's setting": ("--model.width=32", "unknown setting model.width", "--model.help TimmBackbone"),
    "an unknown option": ("--frobnicate=1", "unknown setting frobnicate", "--help"),
    "a stray word": ("hrnet", "unknown setting hrnet", "--help"),
    # classes
    "an unknown model": ("--model=Hrnet", "model", "Hrnet", "Did you mean HRNet?"),
    "a function for a model": ("--model=os.system", "model", "os.system", "HRNet", "ViT"),
    "a codec for a model": ("--model=catpose.model.codec.MSRAHeatmap", "model", "no such class", "HRNet"),
    "a module that isn't there": ("--model=nowhere.Net", "model", "nowhere.Net", "HRNet"),
    "an unknown codec": ("--model.codec=Heat", "model.codec", "Heat", "MSRAHeatmap, UDPHeatmap"),
    "an unknown callback": ("--trainer.callbacks=Foo", "trainer.callbacks", "Foo"),
    "an unknown backbone": ("--model.name=test_resnt", "model.name", "test_resnt", "Did you mean test_resnet?"),
    "an unknown tag": ("--model.name=test_resnet.nope", "model.name", "nope"),
    "a backbone on the hub": ("--model.name=hf-hub:timm/resnet18.a1_in1k", "model.name", "hf-hub"),
    "an option that timm lacks": ("--model.options={foo: 1}", "model.name", "foo"),
    "options that are none": ("--model.options=[1]", "model.options", "mapping"),
    # numbers of the model
    "lr of a wrong type": ("--model.lr=fast", "model.lr", "fast", "a number, such as"),
    "lr negative": ("--model.lr=-1", "model.lr", "-1.0", "above 0"),
    "lr zero": ("--model.lr=0", "model.lr", "above 0"),
    "lr nan": ("--model.lr=nan", "model.lr", "nan", "a number"),
    "lr infinite": ("--model.lr=1e999", "model.lr", "inf", "above 0"),
    "lr null": ("--model.lr=null", "model.lr", "null", "a number, such as"),
    "weight decay negative": ("--model.weight_decay=-0.1", "model.weight_decay", "0 or"),
    "warm-up negative": ("--model.warmup_iterations=-5", "model.warmup_iterations", "0 (no warm-up)"),
    "warm-up of a part of a step": ("--model.warmup_iterations=1.5", "model.warmup_iterations", "below 1"),
    "warm-up ratio above 1": ("--model.warmup_ratio=1.5", "model.warmup_ratio", "from 0 to 1"),
    "milestones that fall": ("--model.milestones=[200, 170]", "model.milestones", "rising"),
    "milestones twice": ("--model.milestones=[5, 5]", "model.milestones", "rising"),
    "milestones at 0": ("--model.milestones=[0, 5]", "model.milestones", "from 1"),
    "milestones of two kinds": ("--model.milestones=[0.5, 5]", "model.milestones", "rising shares"),
    "one milestone": ("--model.milestones=170", "model.milestones", "a list, such as [170, 200]"),
    "gamma zero": ("--model.gamma=0", "model.gamma", "above 0"),
    "gamma above 1": ("--model.gamma=10", "model.gamma", "at most 1"),
    "global batch zero": ("--model.global_batch_size=0", "model.global_batch_size", "from 1"),
    "head channels zero": ("--model.head_channels=0", "model.head_channels", "1 or more"),
    "sigma zero": ("--model.codec.sigma=0", "model.codec.sigma", "above 0"),
    "sigma negative": ("--model.codec.sigma=-2", "model.codec.sigma", "above 0"),
    "sigma nan": ("--model.codec.sigma=.nan", "model.codec.sigma", "nan", "above 0"),
    "sigma huge": ("--model.codec.sigma=1e9", "model.codec.sigma", "at most 100"),
    "head channels huge": ("--model.head_channels=100000", "model.head_channels", "at most 4096"),
    "sigma null": ("--model.codec.sigma=null", "model.codec.sigma", "a number"),
    "no codec": ("--model.codec=null", "model.codec", "MSRAHeatmap, UDPHeatmap"),
    "an unknown optimizer": ("--model.optimizer=sgd", "model.optimizer", "adam, adamw or adamax"),
    "an unknown schedule": ("--model.schedule=step", "model.schedule", "multistep or cosine"),
    "neither true nor false": ("--model.flip_test=maybe", "model.flip_test", "true or false"),
    # the data's settings
    "input size odd": ("--data.input_size=[63, 64]", "data.input_size", "63 x 64", "multiples of 32"),
    "input size no multiple of 32": ("--data.input_size=[48, 48]", "data.input_size", "multiples of 32"),
    "input size of one number": ("--data.input_size=64", "data.input_size", "such as [256, 256]"),
    "input size of three": ("--data.input_size=[64, 64, 3]", "data.input_size", "2 values"),
    "input size of words": ("--data.input_size=[big, big]", "data.input_size", "big", "a whole number"),
    "input size zero": ("--data.input_size=[0, 0]", "data.input_size", "between"),
    "input size absurd": ("--data.input_size=[1000000000, 64]", "data.input_size", "between"),
    "batch zero": ("--data.batch_size=0", "data.batch_size", "between 1"),
    "batch negative": ("--data.batch_size=-8", "data.batch_size", "between 1"),
    "batch of a part": ("--data.batch_size=1.5", "data.batch_size", "a whole number"),
    "workers negative": ("--data.num_workers=-1", "data.num_workers", "between 0"),
    "workers without number": ("--data.num_workers=all", "data.num_workers", "a whole number or null"),
    "an unknown cache": ("--data.cache=ram", "data.cache", "disk, memory or off"),
    "probability above 1": ("--data.augment.flip_probability=50", "data.augment.flip_probability", "between 0 and 1"),
    "rotation nan": ("--data.augment.rotation_factor=.nan", "data.augment.rotation_factor", "between 0 and"),
    "scale negative": ("--data.augment.scale_factor=-0.1", "data.augment.scale_factor", "between 0 and"),
    "holes of none": ("--data.augment.dropout_holes=0", "data.augment.dropout_holes", "between 1 and"),
    # the trainer's
    "no epochs": ("--trainer.max_epochs=0", "trainer.max_epochs", "give more"),
    "epochs of a part": ("--trainer.max_epochs=1.5", "trainer.max_epochs", "a whole number or null"),
    "epochs below -1": ("--trainer.max_epochs=-3", "trainer.max_epochs", "-3"),
    "no steps": ("--trainer.max_steps=0", "trainer.max_steps", "give more"),
    "no batches": ("--trainer.limit_train_batches=0", "trainer.limit_train_batches", "give more"),
    "validation after no batch": ("--trainer.val_check_interval=0", "trainer.val_check_interval", "give more"),
    "validation every 0 epochs": ("--trainer.check_val_every_n_epoch=0", "trainer.check_val_every_n_epoch", "1 or"),
    "accumulation of 0": ("--trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches", "1 or more"),
    "clipping below 0": ("--trainer.gradient_clip_val=-1", "trainer.gradient_clip_val", "0 or more"),
    "an unknown accelerator": ("--trainer.accelerator=gpuu", "trainer.accelerator", "gpuu", "cpu"),
    "99 devices": ("--trainer.devices=99", "trainer.devices", "99", "at most"),
    "no device": ("--trainer.devices=0", "trainer.devices", "0"),
    "devices in words": ("--trainer.devices=many", "trainer.devices", "> 0"),
    "an unknown precision": ("--trainer.precision=17", "trainer.precision", "17", "16-mixed"),
    "an unknown strategy": ("--trainer.strategy=ddpp", "trainer.strategy", "ddpp", "ddp_spawn"),
    "time in words": ("--trainer.max_time=soon", "soon", "DD:HH:MM:SS"),
    "synchronised norms without a GPU": ("--trainer.sync_batchnorm=true", "trainer.sync_batchnorm", "GPUs"),
    "other steps an epoch": (
        "--trainer.callbacks={class_path: GradientAccumulationScheduler, init_args: {scheduling: {1: 2}}}",
        "GradientAccumulationScheduler",
        "trainer.accumulate_grad_batches",
    ),
    "more batches than an epoch has": (
        "--trainer.val_check_interval=999",
        "trainer.val_check_interval",
        "trainer.check_val_every_n_epoch to null",
    ),
    "a negative seed": ("--seed_everything=-1", "seed_everything", "from 0 to 4294967295"),
    "a seed in words": ("--seed_everything=x", "seed_everything", "a whole number"),
    "the data's seed alone": ("--data.seed=3", "data.seed", "seed_everything"),
    "checkpoints before they are due": ("--checkpoint_seconds=-1", "checkpoint_seconds", "0 or more"),
    "an unknown W&B mode": ("--wandb.mode=sometimes", "wandb.mode", "auto, online, offline or disabled"),
    "W&B tags that are no list": ("--wandb.tags=3", "wandb.tags", "a list"),
    "no W&B project of that name": ("--wandb.project=a/b", "wandb", "a/b", "project"),
    "an empty W&B tag": ("--wandb.tags=['']", "wandb", "Tag"),
    # bombs, by which a value on the command line takes a machine down
    "an alias of itself": ("--model.lr=&a [*a]", "model.lr", "a number"),
    "an alias bomb": (f"--model.options={ALIASES}", "model.options", "a mapping"),
    "brackets without end": (f"--model.options={'[' * 100_000}", "model.options", "a mapping"),
    "braces without end": (f"--data.num_workers={'{a: ' * 5_000}", "data.num_workers", "a whole number"),
    "five thousand digits": (f"--model.lr={'9' * 5_000}", "model.lr", "a number"),
    "five thousand hexadecimal digits": (f"--data.batch_size=0x{'f' * 5_000}", "data.batch_size", "a whole number"),
    "four thousand digits": (f"--trainer.max_epochs={'9' * 4_000}", "trainer.max_epochs", "give a smaller one"),
    "twenty digits": (f"--model.warmup_iterations={'9' * 20}", "model.warmup_iterations", "give a smaller one"),
    "a tag": ("--model.lr=!!python/object/apply:os.getcwd []", "model.lr", "a number"),
    # what is named
    "a folder's name too long": (f"--out={'x' * 5_000}", "too long", "shorter"),
    "no such data": ("--data.root=nowhere", "nowhere/annotations", "catpose.prepare"),
    "no such configuration": ("--config=nowhere.yaml", "nowhere.yaml", "experiments/"),
    "a folder for a configuration": ("--config=.", "--config HERE/.", "experiments/"),
    "no value": ("--data.root", "--data.root", "expected one argument"),
}


@pytest.mark.one_in(4)
@pytest.mark.parametrize("kind", OPTIONS)
def test_an_option(kind: str, arguments: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    option, *words = OPTIONS[kind]
    says(refused(main, [*arguments, option], capsys, tmp_path), *words)


def test_an_average_of_eight_bits(arguments: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It would stay where it began: 0.999 times a bfloat16 number, and a thousandth of another, is that number."""
    ema = "--trainer.callbacks={class_path: EMAWeightAveraging}"
    line = refused(main, [*arguments, ema, "--trainer.precision=bf16-true"], capsys, tmp_path)
    says(line, "trainer.precision", "bf16-mixed")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(arguments: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(main, [*arguments, "--trainer.accelerator=gpu"], capsys, tmp_path)
    says(line, "trainer.accelerator", "gpu")


FILES = {
    "empty": ("", "x.yaml", "NAME: VALUE", "experiments/"),
    "only a comment": ("# nothing yet\n", "x.yaml", "NAME: VALUE"),
    "a list": ("[model, data]", "x.yaml", "NAME: VALUE"),
    "a number": ("3", "x.yaml", "NAME: VALUE"),
    "prose": ("train a good model please", "x.yaml", "NAME: VALUE"),
    "no YAML": ("model: {lr: [", "x.yaml", "is no YAML", "line 1"),
    "tabs": ("model:\n\tlr: 1", "x.yaml", "is no YAML", "line 2"),
    "binary": ("\x00\x01\x02", "x.yaml", "is no YAML"),
    "no text": (b"\xff\xfe\x00", "x.yaml", "is no text"),
    "nested without end": ("a: " + "[" * 2000, "x.yaml", "is no YAML"),
    "a key twice": (
        "model: {init_args: {lr: 1e-3}}\nmodel: {init_args: {lr: 1e-4}}",
        "x.yaml",
        "model twice",
        "keep one",
    ),
    "a setting twice": ("data:\n  batch_size: 8\n  batch_size: 16\n", "x.yaml", "batch_size twice"),
    "a number for a name": ("1: 2", "x.yaml", "must be a string"),
    "code": ("model: !!python/object/apply:os.mkdir ['made']", "x.yaml", "python/object"),
    "a misspelt group": ("modle: {class_path: HRNet}", "unknown setting modle", "Did you mean model"),
    "a misspelt setting": ("model: {init_args: {lrr: 1}}", "model.lrr", "Did you mean model.lr?"),
    "a misspelt setting below": ("data: {augment: {flip: 1}}", "Did you mean data.augment.flip_probability?"),
    "a number for data": ("data: 3", "data", "NAME: VALUE"),
    "a list for data": ("data: [batch_size, 8]", "data", "NAME: VALUE"),
    "null for data": ("data: null", "data", "NAME: VALUE"),
    "null for a trainer": ("trainer: null", "trainer", "NAME: VALUE"),
    "a number for W&B": ("wandb: 4", "wandb", "NAME: VALUE"),
    "null for the augmentation": ("data: {augment: null}", "data.augment", "NAME: VALUE"),
    "a list for the augmentation": ("data: {augment: [flip]}", "data.augment", "NAME: VALUE"),
    "a number for a model": ("model: 3", "x.yaml", "model", "HRNet"),
    "a number for a class": ("model: {class_path: 3}", "x.yaml", "model", "class_path", "HRNet"),
    "a list for a model's settings": ("model: {class_path: HRNet, init_args: [1]}", "x.yaml", "model", "init_args"),
    "no width of HRNet": (
        "model: {class_path: HRNet, init_args: {width: 64}}",
        "x.yaml",
        "model.width",
        "18, 32 or 48",
    ),
    "no depth of ResNet": ("model: {class_path: ResNet, init_args: {depth: 18}}", "model.depth", "50, 101 or 152"),
    "null for a number": ("data: {batch_size: null}", "data.batch_size", "null", "a whole number, such as 32"),
    "null for a model's number": ("model: {init_args: {gamma: null}}", "model.gamma", "null", "a number"),
    "a mapping for a list": ("data: {input_size: {width: 64, height: 64}}", "x.yaml", "data.input_size", "[256, 256]"),
    "a class that is none of ours": (
        "model: {init_args: {codec: {class_path: os.system}}}",
        "model.codec",
        "UDPHeatmap",
    ),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", FILES)
def test_a_file(
    kind: str, tiny: Path, arguments: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, *words = FILES[kind]
    file = tmp_path / "x.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    says(refused(main, [*arguments, "--config", file], capsys, tmp_path), *words)


class Hostile:
    """Unpickled, it would make a file."""

    def __reduce__(self) -> tuple[object, ...]:
        return open, ("made by a pickle", "w")


WEIGHTS = {
    "missing": (lambda file: None, "no such file"),
    "a folder": (lambda file: file.mkdir(), "is a folder"),
    "empty": (lambda file: file.touch(), "it is empty"),
    "text": (lambda file: file.write_text("weights"), "not a sound file"),
    "hostile": (lambda file: torch.save({"state_dict": Hostile()}, file), "could run code"),
    "hostile, of old": (
        lambda file: torch.save(Hostile(), file, _use_new_zipfile_serialization=False),
        "Nothing in it was executed",
    ),
    "without tensors": (lambda file: torch.save({"epoch": 3}, file), "holds no named tensors"),
    "of another network": (lambda file: torch.save({"fc.weight": torch.zeros(3)}, file), "another network"),
    "cut short": (
        lambda file: (torch.save({"x": torch.zeros(999)}, file), os.truncate(file, 900)),
        "not a sound file",
    ),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", WEIGHTS)
def test_a_file_of_weights(
    kind: str, arguments: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, word = WEIGHTS[kind]
    file = tmp_path / "weights.pth"
    make(file)
    says(refused(main, [*arguments, "--model.weights", file], capsys, tmp_path), "HERE/weights.pth", word)


@pytest.mark.parametrize("weights", ["imagenet", "r160_in1k"])
def test_weights_from_a_network_that_is_not_there(
    weights: str, arguments: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(main, [*arguments, "--model.weights", weights], capsys, tmp_path)
    says(line, f"model.weights={weights}", "can't be fetched", "--model.weights null")


def test_no_such_tag_of_weights(arguments: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(main, [*arguments, "--model.weights", "best"], capsys, tmp_path)
    says(line, "model.weights=best", "r160_in1k", "--model.weights null")


def test_a_training_that_diverges_leaves_no_run(
    arguments: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that the same command with a lower learning rate starts anew."""
    options = ["--model.lr=1e30", "--model.warmup_iterations=0", "--trainer.gradient_clip_val=1e9"]
    says(refused(main, [*arguments, *options, "--wandb.mode=disabled"], capsys, tmp_path), "training loss", "model.lr")
