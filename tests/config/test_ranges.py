"""Choices and ranges: refused where they are bound, and by every call from Python."""

from __future__ import annotations

import inspect
import timeit
from dataclasses import dataclass
from typing import Annotated, Literal

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet import config
from tfdet.config.ranges import FiniteFloat, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, Range
from tfdet.errors import ParameterError

Kind = Literal["oak", "elm", "beech"]


@config.configurable
class Tree:
    """Has a parameter of every kind."""

    def __init__(
        self,
        kind: Kind = "oak",
        leaves: Fraction = 0.5,
        age: PositiveInt | None = None,
        lean: FiniteFloat = 0.0,
        rings: tuple[PositiveFloat, ...] = (1.0,),
        grove: dict[str, NonNegativeFloat] | None = None,
        corner: tuple[PositiveInt, Fraction] = (1, 0.5),
        depth: Literal[18, 50] = 18,
        slope: Annotated[float, Range(above=0, below=1)] = 0.5,
        step: Annotated[float, Range(above=0, most=1)] = 1,
        ring: Annotated[int, Range(least=2, below=5)] = 2,
        odd: PositiveInt = None,  # noqa: RUF013 - a default that breaks its own annotation
        owner: NobodyKnows = None,  # noqa: F821 - a name for type checkers only
    ):
        self.kind, self.leaves, self.age = kind, leaves, age


@config.configurable
@dataclass(frozen=True)
class Seed:
    """A data class."""

    weight: PositiveFloat = 1.0


@config.configurable
def build_forest(trees: PositiveInt, tree: Tree | None = None):
    """A function."""
    return trees, tree


@config.configurable
class Leaf:
    """Has __new__ alone."""

    def __new__(cls, area: PositiveFloat = 1.0):
        self = super().__new__(cls)
        self.area = area
        return self


@config.configurable
class LeafLayer(keras.layers.Layer):
    """A layer of Keras."""

    def __init__(self, rate: Fraction = 0.5, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


WRONG = [
    ("Tree.kind", "'oka'", "expected one of 'oak', 'elm', 'beech'. Did you mean 'oak'?"),
    ("Tree.kind", "None", "expected one of 'oak', 'elm', 'beech'."),
    ("Tree.leaves", "1.5", "expected a float from 0 to 1, got 1.5."),
    ("Tree.leaves", "-1", "expected a float from 0 to 1, got -1."),
    ("Tree.leaves", "'half'", "expected a float, got the str 'half'."),
    ("Tree.leaves", "True", "expected a float, got the bool True."),
    ("Tree.age", "0", "expected an int from 1 up, got 0."),
    ("Tree.age", "1.0", "expected an int, got the float 1.0. Write 1."),
    ("Tree.rings", "(1.0, 0.0)", "expected a float above 0, got 0.0."),
    ("Tree.rings", "1.0", "expected a tuple, got the float 1.0. Write (1.0,)."),
    ("Tree.grove", "{'a': -0.5}", "expected a float from 0 up, got -0.5."),
    ("Tree.corner", "(1, 2.0)", "expected a float from 0 to 1, got 2.0."),
    ("Tree.corner", "(1,)", "expected 2 values, got 1."),
    ("Tree.depth", "34", "expected one of 18, 50."),
    ("Tree.depth", "18.0", "expected one of 18, 50."),
    ("Tree.slope", "1", "expected a float above 0 and below 1, got 1."),
    ("Tree.step", "1.01", "expected a float above 0 and up to 1, got 1.01."),
    ("Tree.ring", "5", "expected an int from 2 and below 5, got 5."),
    ("Tree.odd", "-1", "expected an int from 1 up, got -1."),
    ("Seed.weight", "0.0", "expected a float above 0, got 0.0."),
    ("build_forest.trees", "0", "expected an int from 1 up, got 0."),
    ("Leaf.area", "-1.0", "expected a float above 0, got -1.0."),
    ("LeafLayer.rate", "7.0", "expected a float from 0 to 1, got 7.0."),
]
PARTS = {"Tree": Tree, "Seed": Seed, "build_forest": build_forest, "Leaf": Leaf, "LeafLayer": LeafLayer}


@pytest.mark.parametrize("name, value, expected", WRONG, ids=[f"{name}={value}" for name, value, _ in WRONG])
def test_refused_with_the_place_and_by_a_call(tmp_path, refused, name, value, expected):
    file = tmp_path / "forest.gin"
    file.write_text(f"\n{name} = {value}\n")
    assert refused(files=[str(file)]) == f"{file}:2: {name} = {value}: {expected}"
    part, parameter = name.split(".")
    with pytest.raises(ParameterError) as caught:
        PARTS[part](**{parameter: eval(value)})
    assert str(caught.value) == f"{name} = {value}: {expected}"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float32("nan")])
def test_what_is_not_finite_is_in_no_range(value):
    for name in ("leaves", "lean", "slope"):
        with pytest.raises(ParameterError, match=f"Tree.{name} = .*: expected a float "):
            Tree(**{name: value})


def test_positional_arguments_are_checked():
    with pytest.raises(ParameterError, match=r"Tree.leaves = 2.0: expected a float from 0 to 1, got 2.0"):
        Tree("elm", 2.0)


def test_values_that_fit(configured):
    values = {"kind": "elm", "leaves": 1, "age": None, "lean": -3.5, "rings": [1, 2.5], "grove": {"a": 0}, "depth": 50}
    configured([], [f"Tree.{name} = {value!r}" for name, value in values.items()])
    assert Tree().kind == "elm"
    Tree(**values)
    Tree(odd=None, corner=[3, 0.0], step=1, ring=4, owner="anybody")
    Tree(np.str_("elm"), np.float32(0.25), np.int64(3), depth=np.int64(50))


def test_what_is_no_literal_is_left_alone(configured):
    for value in (tf.constant(5.0), np.ones(3), lambda: 5.0, object()):
        Tree(leaves=value, kind=value, rings=value)
    configured([], ["build_forest.tree = @Tree()", "build_forest.trees = %TREES", "TREES = 3"])
    assert build_forest()[0] == 3 and isinstance(build_forest(gin.REQUIRED)[1], Tree)


def test_a_value_of_gin_that_no_parse_has_seen_is_checked_by_the_call(configured):
    configured([], [])
    with gin.unlock_config():
        gin.bind_parameter("Tree.leaves", 3.0)
    with pytest.raises(ParameterError) as caught:
        Tree()
    assert str(caught.value) == "Tree.leaves = 3.0: expected a float from 0 to 1, got 3.0."


def test_leftovers_of_a_replaced_part_may_share_a_macro_with_it(refused):
    """The depths of one backbone are not those of another that takes its place."""
    family = ["AGE = 3", "build_forest.trees = 1", "build_forest.tree = @Tree()", "Tree.ring = %AGE"]
    other = ["build_forest.tree = @Seed()", "Seed.weight = %AGE"]
    assert "expected an int from 2 and below 5, got 26" in refused(*family, "AGE = 26")
    assert config.parse([], [*family, *other, "AGE = 26"]).value("Seed.weight") == 26


def test_an_error_from_within_a_reference_is_one_line(configured):
    configured([], ["build_forest.trees = 1", "build_forest.tree = @Tree()"])
    with gin.unlock_config():
        gin.bind_parameter("Tree.kind", "fir")
    with pytest.raises(ParameterError, match=r"\ATree.kind = 'fir': .*\.\Z"):
        build_forest()


def test_signatures_stay_visible():
    assert list(inspect.signature(Tree).parameters)[:2] == ["kind", "leaves"]
    assert list(inspect.signature(build_forest).parameters) == ["trees", "tree"]
    assert inspect.signature(Seed).parameters["weight"].default == 1.0
    layer = LeafLayer(rate=0.25)
    assert LeafLayer.from_config(layer.get_config()).rate == 0.25
    assert Leaf(2.0).area == 2.0


def test_a_check_costs_microseconds():
    each = min(timeit.repeat(lambda: Tree("elm", 0.25, age=3, rings=(1.0, 2.0)), number=100, repeat=5)) / 100
    assert each < 500e-6
