"""What a study varies: dimensions, the configurations that they span, and a configuration as arguments of `fit`."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catpose.errors import InputError, one_line
from catpose.plain_yaml import argument
from catpose.text import setting

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Scalar = str | int | float | bool | None
RANGE_KEYS = ("low", "high", "log", "step")
MOST_CONFIGURATIONS = 10_000
#: Up to so many configurations are all tried before a study begins.
MOST_SAMPLES = 64
#: What would make configurations incomparable: each is a part of what an AP means.
NOT_VARIED = {
    "model.flip_test": "an AP with and one without flip test are measured under two protocols",
    "data.root": "an AP on other images is another figure; make it two studies",
    "data.area": "an AP under one area rule and one under the other are measured under two protocols",
}


class NotInSpace(InputError):
    """A configuration that the space doesn't have."""


@dataclass(frozen=True)
class Configuration:
    """One point of a study's space."""

    label: str  # for people
    params: dict[str, Scalar]  # by dimension
    args: tuple[str, ...]  # of `fit`'s command line


@dataclass(frozen=True)
class Choices:
    """A few options, each with the settings that it stands for; `options` are by what Optuna and tables call them."""

    name: str
    options: Mapping[Scalar, tuple[str, ...]]

    def distribution(self) -> BaseDistribution:
        """The same as Optuna's distribution."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(list(self.options))

    def has(self, value: Scalar) -> bool:
        """Whether a value belongs to it."""
        return any(value == option and type(value) is type(option) for option in self.options)

    def args(self, value: Scalar) -> tuple[str, ...]:
        """Command-line arguments that set a value."""
        return self.options[value]


@dataclass(frozen=True)
class Range:
    """All numbers from low to high, both included; whole ones where both are whole."""

    name: str
    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int) and isinstance(self.step, int | None)

    def distribution(self) -> BaseDistribution:
        """The same as Optuna's distribution."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def has(self, value: Scalar) -> bool:
        """Whether a value is a number of its kind that lies in it."""
        known = isinstance(value, int if self.whole else int | float) and not isinstance(value, bool)
        return known and self.low <= value <= self.high  # type: ignore[operator]

    def args(self, value: Scalar) -> tuple[str, ...]:
        """The command-line argument that sets a value."""
        return (argument(self.name, value),)


@dataclass(frozen=True)
class Space:
    """The dimensions of a study, in the order of its file."""

    dimensions: tuple[Choices | Range, ...]

    @property
    def is_grid(self) -> bool:
        """Whether the configurations can be counted."""
        return all(isinstance(dimension, Choices) for dimension in self.dimensions)

    @property
    def keys(self) -> set[str]:
        """The settings that are varied, as the command line names them."""
        groups = [g for d in self.dimensions for g in ([d.args(None)] if isinstance(d, Range) else d.options.values())]
        return {arg.split("=")[0].removeprefix("--") for group in groups for arg in group}

    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's view, by dimension."""
        return {dimension.name: dimension.distribution() for dimension in self.dimensions}

    def configuration(self, params: Mapping[str, Scalar]) -> Configuration:
        """The configuration of these parameters, one a dimension."""
        labels = [setting(params[dimension.name]) for dimension in self.dimensions]
        if len(labels) > 1:
            names = [dimension.name.rsplit(".", 1)[-1] for dimension in self.dimensions]
            labels = [f"{name} {text}" for name, text in zip(names, labels, strict=True)]
        args = tuple(arg for dimension in self.dimensions for arg in dimension.args(params[dimension.name]))
        return Configuration(", ".join(labels), dict(params), args)

    def stored(self, params: Mapping[str, Scalar], args: Sequence[str] | None) -> Configuration:
        """The configuration of parameters that a storage holds. Its settings are this space's; none are the storage's.

        Raises:
            NotInSpace: the space has no such configuration, or `args`, the storage's, are others.
        """
        if {*params} != {dimension.name for dimension in self.dimensions}:
            raise NotInSpace(f"has {one_line(', '.join(params))[:80]} for what the study varies")
        for dimension in self.dimensions:
            if not dimension.has(params[dimension.name]):
                value = one_line(ascii(params[dimension.name]))[:60]
                raise NotInSpace(f"has {value} for {dimension.name}, which isn't in the study's space")
        configuration = self.configuration(params)
        if args is not None and (*args,) != configuration.args:
            raise NotInSpace("has other settings than the study's file makes of it")
        return configuration

    def configurations(self) -> list[Configuration]:
        """All points of a grid, the last dimension varying fastest."""
        names = [dimension.name for dimension in self.dimensions]
        options = [list(dimension.options) for dimension in self.dimensions if isinstance(dimension, Choices)]
        return [self.configuration(dict(zip(names, values, strict=True))) for values in itertools.product(*options)]

    def samples(self) -> list[Configuration]:
        """Configurations to try before the study begins: all where they are few, else each option and each end once.

        The first holds the first of each dimension, the last the last.
        """
        ends: list[list[Scalar]] = [[d.low, d.high] if isinstance(d, Range) else [*d.options] for d in self.dimensions]
        names = [dimension.name for dimension in self.dimensions]
        if self.is_grid and math.prod(map(len, ends)) <= MOST_SAMPLES:
            return self.configurations()
        first = dict(zip(names, (values[0] for values in ends), strict=True))
        last = dict(zip(names, (values[-1] for values in ends), strict=True))
        each = [first | {name: value} for name, values in zip(names, ends, strict=True) for value in values[1:]]
        every = {repr(params): params for params in (first, *each, last)}
        return [self.configuration(params) for params in every.values()]


def read_space(described: object, where: str) -> Space:
    """The `space` of a sweep file.

    Args:
        described: what YAML made of it. where: the file and the key, for messages.

    Raises:
        InputError: it is no mapping of dimensions, or one of them is none of the three kinds.
    """
    if not isinstance(described, dict) or not described:
        raise InputError(
            f"{where}: is no list of dimensions; write KEY: [VALUE, VALUE], such as model.lr: [1e-5, 1e-4]"
        )
    dimensions = tuple(_dimension(str(name), values, f"{where}.{name}") for name, values in described.items())
    space = Space(dimensions)
    lists = [d for d in dimensions if isinstance(d, Choices)]
    if space.is_grid and math.prod(len(d.options) for d in lists) > MOST_CONFIGURATIONS:
        raise InputError(
            f"{where}: spans more than {MOST_CONFIGURATIONS} configurations; leave some out, or give a range"
        )
    if len(set(space.keys)) < sum(len(Space((d,)).keys) for d in dimensions):
        raise InputError(f"{where}: two dimensions vary the same setting; give it to one of them")
    return space


def _dimension(name: str, values: object, where: str) -> Choices | Range:
    if isinstance(values, dict) and values and all(isinstance(group, dict) and group for group in values.values()):
        options: dict[Scalar, tuple[str, ...]] = {
            setting(key): tuple(argument(k, v) for k, v in group.items()) for key, group in values.items()
        }
        _refuse_few(options, len(values), where)
        bad = next((k for group in values.values() for k in group if not _is_key(k)), None)
        if bad is not None:
            raise InputError(f"{where}: {one_line(bad)} is no setting; name one as on fit's command line (model.lr)")
        return Choices(name, options)
    if name in NOT_VARIED:
        raise InputError(f"{where}: can't be varied: {NOT_VARIED[name]}")
    if not _is_key(name):
        raise InputError(f"{where}: is no setting of fit; give choices by name ({{NAME: {{model.lr: 1e-4}}, …}})")
    if isinstance(values, dict):
        return _range(name, values, where)
    if not isinstance(values, list):
        raise InputError(f"{where}: give a list of values, {{low: …, high: …}}, or choices by name")
    args = [argument(name, value) for value in values]  # refuses what has no text
    listed = {_scalar(value): (arg,) for value, arg in zip(values, args, strict=True)}
    _refuse_few(listed, len(values), where)
    return Choices(name, listed)


def _refuse_few(options: Mapping[Scalar, tuple[str, ...]], count: int, where: str) -> None:
    if len({setting(option) for option in options}) < count:
        raise InputError(f"{where}: holds a choice twice; give each once")
    if count < 2:
        raise InputError(f"{where}: needs two choices or more; to fix a setting, write it under settings")


def _is_key(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(r"(model|data|trainer)(\.\w+)*", name) is not None


def _scalar(value: Any) -> Scalar:
    """A value as Optuna can keep it: lists and mappings by their text."""
    if isinstance(value, list) and value and all(isinstance(part, int) for part in value):
        return "×".join(map(str, value))
    return value if isinstance(value, str | int | float | bool | None) else json.dumps(value)


def _range(name: str, described: dict[str, Any], where: str) -> Range:
    unknown = next((key for key in described if key not in RANGE_KEYS), None)
    if unknown is not None:
        raise InputError(f"{where}: {one_line(unknown)} is not known; a range has {', '.join(RANGE_KEYS)}")
    low, high, step = described.get("low"), described.get("high"), described.get("step")
    for key, value in (("low", low), ("high", high), *([("step", step)] if "step" in described else [])):
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e300:
            raise InputError(f"{where}.{key}: {one_line(value)} is no number; a range needs low and high")
    log = described.get("log", False)
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    if not isinstance(log, bool):
        raise InputError(f"{where}.log: is true or false")
    if low >= high or (log and low <= 0) or (step is not None and (step <= 0 or log)):
        raise InputError(f"{where}: needs low < high (above 0 where log is true), and a step above 0 only without log")
    if step is not None and not math.isclose((high - low) / step, max(round((high - low) / step), 1), rel_tol=1e-9):
        raise InputError(f"{where}: high is no whole number of steps above low, and would never be tried; change it")
    if isinstance(low, int) and isinstance(high, int) and high - low < 2 and step is None:
        raise InputError(f"{where}: holds the whole numbers {low} and {high} alone; write {low}.0 for all between them")
    return Range(name, low, high, log, step)
