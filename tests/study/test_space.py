from __future__ import annotations

import datetime
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from catpose.errors import InputError
from catpose.study.space import Configuration, Space, read_space

SIZES = {"small": {"data.input_size": [128, 128], "model.lr": 1e-3}, "large": {"data.input_size": [192, 256]}}


def space(**dimensions: object) -> Space:
    return read_space({name.replace("__", "."): values for name, values in dimensions.items()}, "a.yaml: space")


@given(st.lists(st.integers(2, 4), min_size=1, max_size=3))
def test_a_grid_has_every_combination_once(lengths: list[int]) -> None:
    made = space(**{f"model__a{i}": list(range(n)) for i, n in enumerate(lengths)})
    configurations = made.configurations()
    assert len({each.args for each in configurations}) == math.prod(lengths)
    assert len({each.label for each in configurations}) == math.prod(lengths)
    assert all(made.configuration(each.params) == each for each in configurations)


def test_a_configuration_gives_its_settings_as_fit_takes_them() -> None:
    made = space(data__input_size=[[128, 128], [192, 256]], model__weights=[None, "imagenet"], model__lr=[1e-5, 0.5])
    assert made.configurations()[1] == Configuration(
        label="input_size 128×128, weights none, lr 0.5",
        params={"data.input_size": "128×128", "model.weights": None, "model.lr": 0.5},
        args=("--data.input_size=[128, 128]", "--model.weights=null", "--model.lr=0.5"),
    )


def test_settings_that_belong_together_are_one_choice() -> None:
    made = space(size=SIZES)
    assert [each.label for each in made.configurations()] == ["small", "large"]
    assert made.configurations()[0].args == ("--data.input_size=[128, 128]", "--model.lr=0.001")
    assert made.keys == {"data.input_size", "model.lr"}


def test_ranges_are_optunas_distributions() -> None:
    made = space(
        model__lr={"low": 1e-5, "high": 1e-2, "log": True},
        data__batch_size={"low": 8, "high": 64, "step": 8},
        model__codec=["MSRAHeatmap", "UDPHeatmap"],
    )
    assert not made.is_grid
    assert made.distributions() == {
        "model.lr": FloatDistribution(1e-5, 1e-2, log=True),
        "data.batch_size": IntDistribution(8, 64, step=8),
        "model.codec": CategoricalDistribution(["MSRAHeatmap", "UDPHeatmap"]),
    }
    configuration = made.configuration({"model.lr": 0.01, "data.batch_size": 16, "model.codec": "MSRAHeatmap"})
    assert configuration.args == ("--model.lr=0.01", "--data.batch_size=16", "--model.codec=MSRAHeatmap")


@pytest.mark.parametrize(
    ("described", "named"),
    [
        (None, "space"),
        ([], "space"),
        ({}, "space"),
        ({"model.lr": 1e-4}, "space.model.lr"),
        ({"model.lr": [1e-4]}, "two choices"),
        ({"model.lr": [1e-4, 0.0001]}, "twice"),
        ({"lr": [1e-4, 1e-3]}, "space.lr"),
        ({"seed_everything": [1, 2]}, "space.seed_everything"),
        ({"model.lr": {"low": 1, "hight": 2}}, "hight"),
        ({"model.lr": {"low": 1}}, "high"),
        ({"model.lr": {"low": 2, "high": 1}}, "low < high"),
        ({"model.lr": {"low": 0, "high": 1, "log": True}}, "above 0"),
        ({"model.lr": {"low": math.nan, "high": 1}}, "low"),
        ({"model.lr": {"low": 1, "high": 2, "log": "yes"}}, "log"),
        ({"model.lr": {"low": 1, "high": 2, "step": 0}}, "step"),
        ({"data.batch_size": {"low": 1, "high": 8, "step": 5}}, "would never be tried"),
        ({"data.batch_size": {"low": 1, "high": 8, "step": 50}}, "would never be tried"),
        ({"model.lr": {"low": 0.1, "high": 0.35, "step": 0.1}}, "would never be tried"),
        ({"a": {"x": {"lr": 1}, "y": {"lr": 2}}}, "lr"),
        ({"a": {"x": {"model.lr": 1}}}, "two choices"),
        ({"model.lr": [1, 2], "size": SIZES}, "same setting"),
        ({"model.lr": {"low": 0, "high": 1}}, "0.0"),
        ({"model.lr": {"low": 1, "high": 10**400}}, "high"),
        ({"model.flip_test": [True, False]}, "two protocols"),
        ({f"model.a{i}": list(range(100)) for i in range(3)}, "10000"),
    ],
)
def test_what_is_no_space_is_said_in_one_line(described: object, named: str) -> None:
    with pytest.raises(InputError, match=r"^a\.yaml: space") as error:
        read_space(described, "a.yaml: space")
    assert named in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [datetime.date(2026, 1, 1), b"x", {1, 2}, [math.nan], object()])
def test_what_yaml_makes_but_no_command_line_can_say_is_refused(value: object) -> None:
    with pytest.raises(InputError, match=r"model\.lr"):
        read_space({"model.lr": [value, 1]}, "a.yaml: space")
