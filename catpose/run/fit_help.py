"""What `fit --help` says: examples, the settings of models, data and W&B, and the usual ones of Lightning's Trainer."""

from __future__ import annotations

import argparse

from lightning.pytorch.cli import LightningArgumentParser

HEAD = """\
usage: catpose fit [--config EXPERIMENT] [--out DIR] [--model NAME]
                   [--model.KEY VALUE ...] [--data.KEY VALUE ...]
                   [--wandb.KEY VALUE ...] [--trainer.KEY VALUE ...]

Train a cat pose model. EXPERIMENT is the name of one that comes with catpose,
or a file; each setting of it is an option, too. The same command on the same
folder goes on where it was interrupted. --import MODULE, which may come again,
is one of your own; --model.help NAME lists the settings of another model.

  catpose fit --config mobilenet --data.root data/cats
  catpose fit --config hrnet --model.lr 2e-4 --out runs/slower

"""
TAIL = """
Lightning's Trainer:
  --trainer.max_epochs N          the run's length
  --trainer.devices N             GPUs, each with data.batch_size crops
  --trainer.accelerator NAME      auto, cpu, gpu
  --trainer.precision NAME        32-true, bf16-mixed, 16-mixed
  --trainer.accumulate_grad_batches N
                                  batches of one optimiser step
  --trainer.gradient_clip_val X   the largest norm of the gradient
  --trainer.max_time DD:HH:MM:SS  the run ends with the epoch that it is in then
  --trainer.enable_progress_bar false
  --trainer.callbacks+ NAME       any of Lightning's; --trainer.callbacks.KEY
All others: https://lightning.ai/docs/pytorch/stable/common/trainer.html
"""


def full_help(groups: str, model: type, skip: set[str]) -> str:
    """The whole text.

    Args:
        groups: argparse's, of all settings but the model's and the Trainer's.
        model: the class whose settings stand for all models'.
        skip: arguments of it that are no settings.
    """
    parser = LightningArgumentParser(add_help=False, usage=argparse.SUPPRESS)
    parser.add_class_arguments(model, "model", skip=skip)
    return f"{HEAD}{parser.format_help()}\n{groups}{TAIL}"
