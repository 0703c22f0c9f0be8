"""Command-line options that several commands share, and the modules that --import names: code that one trusts, imported
as Python does. Nothing heavy is imported, so that --help is quick."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from catpose.errors import InputError, natural, one_line


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """How a checkpoint's model is built and run: --batch-size, --device, --import (as `trusted`)."""
    parser.add_argument("--batch-size", type=natural, default=32, help="crops at once (%(default)s)")
    parser.add_argument("--device", "--accelerator", default="auto", help="auto, cpu, gpu, cuda:1, … (%(default)s)")
    add_import_option(parser)


def add_scales_option(parser: argparse.ArgumentParser) -> None:
    """Sizes of crops whose heatmaps are averaged: --scales, a tuple of floats."""
    parser.add_argument("--scales", type=_scales, default=(1.0,), metavar="S,S,…",
                        help="average the heatmaps of crops so many times as wide: 0.875,1,1.125 (1)")  # fmt: skip


def _scales(text: str) -> tuple[float, ...]:
    """Numbers with commas between, as an option's `type`."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{one_line(text)[:40]} isn't numbers such as 0.875,1,1.125") from None


def add_import_option(parser: argparse.ArgumentParser) -> None:
    """Modules of one's own that a checkpoint may name: --import (as `trusted`)."""
    parser.add_argument("--import", dest="trusted", action="append", default=[], metavar="MODULE",
                        help="a module of your own that holds the model's class")  # fmt: skip


def import_modules(modules: Sequence[str]) -> None:
    """Import modules, from the folder one works in (as `python -m` does) or wherever else Python looks for them.

    Raises:
        InputError: one can't be imported.
    """
    folder = os.getcwd()
    if modules and not {folder, ""} & {*sys.path}:
        sys.path.insert(0, folder)
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever the module raises
            why = one_line(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {one_line(error)}"
            raise InputError(f"--import {one_line(module)[:100]}: {why[:200]}; name a module without .py") from None


def split_imports(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """The modules that a command line names with --import, and its other words.

    Raises:
        InputError: the last --import names none.
    """
    modules, rest = [], []
    remaining = iter(args)
    for arg in remaining:
        if arg == "--import":
            module = next(remaining, "")
        elif arg.startswith("--import="):
            module = arg.removeprefix("--import=")
        else:
            rest.append(arg)
            continue
        if not module:
            raise InputError("--import: names no module; write --import my_net")
        modules.append(module)
    return modules, rest
