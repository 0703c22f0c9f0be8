"""Command-line options that several commands share; nothing heavy is imported, so that --help is quick."""

from __future__ import annotations

import argparse

from catpose.errors import natural


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """How a checkpoint's model is built and run: --batch-size, --device, --import (as `trusted`)."""
    parser.add_argument("--batch-size", type=natural, default=32, help="crops at once (%(default)s)")
    parser.add_argument("--device", "--accelerator", default="auto", help="auto, cpu, gpu, cuda:1, … (%(default)s)")
    add_import_option(parser)


def add_import_option(parser: argparse.ArgumentParser) -> None:
    """Modules of one's own that a checkpoint may name: --import (as `trusted`)."""
    parser.add_argument("--import", dest="trusted", action="append", default=[], metavar="MODULE",
                        help="a module of your own that holds the model's class")  # fmt: skip
