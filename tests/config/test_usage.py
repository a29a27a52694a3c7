"""Bindings that nothing read are refused after building, and text of a configuration reads as the same one."""

from __future__ import annotations

import gin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.config.parts import Car, ElectricEngine, Engine, build_garage
from tfdet import config
from tfdet.errors import UserError


def unread(configured, not_built=()) -> str:
    """The error of the check, in one line."""
    with pytest.raises(UserError) as caught:
        configured.now.check_all_bindings_used(not_built)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_everything_read(configured):
    configured([], ["Car.engine = @front/Engine()", "front/Engine.power = 3", "Car.doors = 2"])
    Car()
    configured.now.check_all_bindings_used()


def test_a_part_that_is_not_built_names_the_one_that_was(configured, tmp_path):
    file = tmp_path / "car.gin"
    file.write_text("Car.engine = @ElectricEngine()\n\nEngine.power = 3\n")
    configured([str(file)])
    Car()
    message = unread(configured)
    assert message.startswith(f"{file}:3: Engine.power is never read: this run builds no Engine.")


def test_the_nearest_built_part_with_the_parameter_is_suggested(configured):
    configured([], ["Car.engine = @ElectricEngine()", "build_garage.height = 3", "Engine.cylinders = 6"])

    @config.configurable
    class Engines:
        def __init__(self, cylinders: int = 3):
            pass

    Engines(), Car(), build_garage(3)
    assert "Did you mean 'Engines'?" in unread(configured)


def test_a_parameter_the_program_passes_itself(configured):
    configured([], ["Car.doors = 2"])
    Car(doors=3)
    assert "the program sets doors of Car itself" in unread(configured)


def test_a_scope_used_for_another_part(configured):
    configured([], ["Car.engine = @front/Engine()", "front/Car.doors = 2"])
    Car()
    assert "Car is not built in the scope 'front'" in unread(configured)


def test_bindings_shadowed_by_a_scope_count_as_read(configured):
    configured([], ["Car.engine = @front/Engine()", "Engine.power = 2", "front/Engine.power = 3"])
    assert Car().engine.power == 3
    configured.now.check_all_bindings_used()


def test_leftovers_of_an_override_are_excused_with_all_below_them(configured):
    lines = ["Car.engine = @front/Engine()", "front/Engine.power = 3", "Engine.cylinders = 6"]
    configured([], [*lines, "Car.engine = @ElectricEngine()", "ElectricEngine.cells = 3"])
    Car()
    configured.now.check_all_bindings_used()


def test_parts_this_run_leaves_out_and_what_only_they_refer_to(configured):
    configured([], ["Car.engine = @Engine()", "Engine.power = 3", "build_garage.size = 3"])
    build_garage()
    assert "Car.engine" in unread(configured) and "Engine.power" in unread(configured)
    configured.now.check_all_bindings_used(["Car"])
    configured.now.check_all_bindings_used(["tests.config"])


def test_many_unread_bindings_are_counted(configured):
    configured([], [f"Car.{name} = 3" for name in ("doors", "seats")] + ["Engine.power = 1", "Engine.cylinders = 3"])
    message = unread(configured)
    assert message.count("is never read") == 3 and message.endswith("and 1 more.")


def test_only_bindings_of_other_commands_packages_are_excused_by_default(configured):
    @config.configurable(module="tfdet.export.tests")
    def build_only_for_export(size: int = 1):
        return size

    configured([], ["build_only_for_export.size = 3"])
    configured.now.check_all_bindings_used()


def test_config_str_reads_as_the_same_configuration(configured, tmp_path):
    file = tmp_path / "car.gin"
    file.write_text(
        "DOORS = 2\nLONG = 'a text that is long enough for more than one line, with \"quotes\" and more words in it'\n"
        "Car.doors = %DOORS\nCar.name = %LONG\nCar.engine = @front/Engine()\nfront/Engine.power = 3\n"
        "Car.make_wheel = @build_garage\nbuild_garage.size = 3\nCar.sizes = (1, 2)\nCar.prices = {'a': 1.5}\n"
    )
    configured([str(file)])
    first, car = configured.now.text(), Car()
    file.write_text(first)
    configured([str(file)])
    assert configured.now.text() == first
    again = Car()
    assert again.engine.power == car.engine.power == 3 and again.make_wheel() == (3, 2.5)
    assert {**vars(again), "engine": 0, "make_wheel": 0} == {**vars(car), "engine": 0, "make_wheel": 0}


def test_config_str_leaves_out_what_an_override_left_behind(configured):
    lines = ["DOORS = 2", "Car.doors = %DOORS", "Car.engine = @front/Engine()", "front/Engine.power = 3"]
    configured([], [*lines, "Engine.cylinders = 2", "Car.doors = 3", "Car.engine = @ElectricEngine()"])
    text = configured.now.text()
    configured([], [text])
    car = Car()
    configured.now.check_all_bindings_used()
    assert car.doors == 3 and isinstance(car.engine, ElectricEngine)
    assert "front" not in text and "DOORS" not in text and "cylinders" not in text


def test_config_str_keeps_what_nothing_read_and_what_only_code_scopes_open(configured):
    configured([], ["Engine.power = 3", "winter/Car.doors = 2"])
    configured([], [configured.now.text()])
    assert Engine().power == 3
    with gin.config_scope("winter"):
        assert Car().doors == 2


def test_config_str_keeps_a_part_that_an_override_still_uses(configured):
    configured([], ["Car.engine = @Engine()", "Engine.power = 3", "Car.engine = @front/Engine()"])
    configured([], [configured.now.text()])
    assert Car().engine.power == 3


def test_operative_config_str_has_defaults_and_can_be_parsed(configured):
    configured([], ["Car.engine = @front/Engine()", "front/Engine.power = 3"])
    Car()
    text = configured.now.operative_text()
    assert "Car.doors = 4" in text and "front/Engine.cylinders = 4" in text
    configured([], [text])
    assert Car().engine.power == 3


_LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(value=_LITERALS)
def test_any_literal_survives_the_text(value):
    text = config.parse([], [f"build_anything.value = {value!r}"]).text()
    assert config.parse([], [text]).bound["", "tests.config.parts.build_anything"]["value"] == value


def test_several_configurations_live_beside_each_other():
    two, three = (config.parse([], [f"Car.doors = {doors}"]) for doors in (2, 3))
    with two.active():
        assert Car().doors == 2
        with three.active():
            assert Car().doors == 3
        assert Car().doors == 2
    assert Car().doors == 4 and three.build(Car).doors == 3 and two.build("Car").doors == 2


def test_gin_is_as_it_was_also_where_parsing_fails():
    gin.bind_parameter("Car.doors", 7)
    try:
        config.parse([], ["Car.doors = 2"])
        with pytest.raises(UserError):
            config.parse([], ["Car.seats = 2", "Car.dors = 2"])
        assert Car().doors == 7 and Car().seats == 5
    finally:
        gin.clear_config()


def test_values_and_defaults_without_building():
    chosen = config.parse([], ["DOORS = 2", "Car.doors = %DOORS"])
    assert chosen.value("Car.doors") == 2 and chosen.value("Car.name") == "car"
    assert chosen.is_bound("Car.doors") and not chosen.is_bound("Car.name")
    with pytest.raises(UserError, match="Did you mean 'doors'"):
        chosen.value("Car.dors")
    with pytest.raises(UserError, match="build_garage.size has no value"):
        chosen.value("build_garage.size")
    with pytest.raises(UserError, match="build_garage.size has no value"):
        chosen.build("build_garage")
