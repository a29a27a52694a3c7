"""The decorator on functions, classes and Keras layers; gin's exceptions; where gin files are found."""

from __future__ import annotations

import errno
import inspect
import os

import gin
import keras
import numpy as np
import pytest

from tests.config.parts import Car, Engine, build_garage
from tfdet import config
from tfdet.errors import UserError


@config.configurable
class ScaleLayer(keras.layers.Layer):
    """Multiplies by a number."""

    def __init__(self, factor: float = 2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor


@config.configurable("shifting_model")
class ShiftModel(keras.Model):
    """Adds a number."""

    def __init__(self, shift: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.shift = shift

    def call(self, inputs):
        return inputs + self.shift


class ScaleByThree(ScaleLayer):
    """A layer under a configurable one, with the constructor of its parent."""


def test_keras_layers_and_models_take_bindings(configured):
    configured([], ["ScaleLayer.factor = 3", "shifting_model.shift = 5.0"])
    one = np.ones((1, 2), np.float32)
    assert float(ScaleLayer()(one)[0, 0]) == 3 and float(ShiftModel(name="m")(one)[0, 0]) == 6
    assert float(ScaleLayer(factor=4.0)(one)[0, 0]) == 4
    assert float(ScaleByThree()(one)[0, 0]) == 3
    assert ShiftModel(name="m").name == "m"
    assert list(inspect.signature(ScaleLayer.__init__).parameters) == ["self", "factor", "kwargs"]


def test_gin_alone_still_breaks_keras_layers():
    """When this fails, the signature need not be restored any more."""

    @gin.configurable
    class PlainLayer(keras.layers.Layer):
        def __init__(self, factor=2.0):
            super().__init__()

    with pytest.raises(IndexError):
        PlainLayer()


def test_layer_parameters_are_checked_like_others(refused):
    assert "expected a float, got the str 'x'" in refused("ScaleLayer.factor = 'x'")


def test_a_literal_where_a_layer_is_expected(configured, refused):
    @config.configurable
    def build_around(layer: keras.layers.Layer | None = None, plain: keras.layers.Layer = None):
        return layer, plain

    assert "expected Layer: a reference such as @Name(), got the str 'relu'" in refused("build_around.plain = 'relu'")
    assert "Write @ScaleLayer()." in refused("build_around.layer = @ScaleLayer")
    configured([], ["build_around.layer = @ScaleLayer()"])
    assert isinstance(build_around()[0], ScaleLayer)


def test_functions_and_classes_keep_name_doc_and_identity():
    assert build_garage.__name__ == "build_garage" and build_garage.__doc__
    assert isinstance(Engine(), Engine) and Engine.__doc__ == "A part."
    assert list(inspect.signature(Car).parameters)[0] == "engine"


def test_a_class_without_constructor_of_its_own(configured):
    class Base:
        def __init__(self, size: int = 1):
            self.size = size

    @config.configurable
    class Derived(Base):
        pass

    configured([], ["Derived.size = 3"])
    assert Derived().size == 3 and Base().size == 1


def test_original_exception_sees_through_gins_proxies():
    @config.configurable
    class Failing:
        def __init__(self, error=None):
            raise error

    @config.configurable
    def build_failing(error=None):
        return Failing(error)

    original = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/some/file")
    with pytest.raises(OSError) as caught:
        build_failing(original)
    assert caught.value is not original
    assert config.original_exception(caught.value) is original
    assert config.original_exception(original) is original


def test_explain_names_the_parameter_without_a_value():
    with pytest.raises(TypeError) as caught:
        build_garage()
    assert "build_garage.size has no value" in str(config.explain(caught.value))
    with pytest.raises(RuntimeError) as caught:
        build_garage(gin.REQUIRED)
    assert "build_garage.size has no value" in str(config.explain(caught.value))
    assert config.explain(TypeError("missing something")) is None
    assert config.explain(ValueError("No values supplied by Gin or caller for arguments: ['x']")) is None


def test_a_type_error_inside_a_constructor_is_not_explained_away():
    @config.configurable
    def build_broken(size):
        return size + "x"

    with pytest.raises(TypeError) as caught:
        build_broken(3)
    assert config.explain(caught.value) is None


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A gin_configs folder with two files, and another current folder."""
    folder = tmp_path / "source/gin_configs"
    (folder / "base").mkdir(parents=True)
    (folder / "faster_car.gin").write_text("include 'base/engine.gin'\nCar.doors = 3\n")
    (folder / "base/engine.gin").write_text("Car.engine = @Engine()\n")
    monkeypatch.setattr("tfdet.config.files.gin_configs_folder", lambda: folder)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


@pytest.mark.parametrize("name", ["faster_car.gin", "gin_configs/faster_car.gin", "faster_car", "base/engine.gin"])
def test_shipped_files_are_found_from_any_folder(shipped, name):
    assert config.find_gin_file(name).resolve().parent in (shipped, shipped / "base")


def test_shipped_files_include_each_other_from_any_folder(configured, shipped):
    configured(["faster_car"])
    assert Car().doors == 3 and isinstance(Car().engine, Engine)


def test_a_file_of_ones_own_comes_before_a_shipped_one(configured, shipped, tmp_path):
    (tmp_path / "elsewhere/faster_car.gin").write_text("Car.doors = 9\n")
    configured(["faster_car.gin"])
    assert Car().doors == 9


def test_shipped_files_include_shipped_ones_whatever_the_current_folder_has(configured, shipped, tmp_path):
    (shipped / "examples").mkdir()
    (shipped / "examples/car.gin").write_text("include 'faster_car.gin'\n")
    (tmp_path / "elsewhere/faster_car.gin").write_text("Car.doors = 9\n")
    configured(["examples/car.gin"])
    assert Car().doors == 3


def test_own_files_may_include_shipped_ones(configured, shipped, tmp_path):
    (tmp_path / "elsewhere/mine.gin").write_text("include 'gin_configs/faster_car.gin'\nCar.seats = 2\n")
    configured(["mine.gin"])
    assert (Car().doors, Car().seats) == (3, 2)


@pytest.mark.parametrize(
    "name, near",
    [("fastr_car.gin", "faster_car.gin"), ("gin_configs/faster_cr.gin", "faster_car.gin"), ("engin", "engine")],
)
def test_missing_files_name_the_nearest(shipped, name, near):
    with pytest.raises(UserError, match=f"{name!r} not found .* Did you mean .*{near}"):
        config.find_gin_file(name)


def test_a_folder_or_nothing_in_place_of_a_file(shipped):
    with pytest.raises(UserError, match="It is a folder"):
        config.find_gin_file(str(shipped))
    with pytest.raises(UserError, match="'' not found"):
        config.find_gin_file("")


def test_what_is_like_no_name_gets_no_suggestion():
    with pytest.raises(UserError) as caught:
        config.find_gin_file("nope")
    assert "Did you mean" not in str(caught.value)


def test_the_source_tree_has_its_gin_files():
    assert (config.gin_configs_folder() / "families").is_dir()
