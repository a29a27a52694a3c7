"""Files, includes, syntax, names, macros and scopes: what parse reads and what it refuses."""

from __future__ import annotations

import pytest

from tests.config.parts import Car, ElectricEngine, Engine, build_anything
from tfdet import config
from tfdet.errors import UserError


def test_bindings_reach_the_constructor_and_parameters_override_files(configured, tmp_path):
    file = tmp_path / "car.gin"
    file.write_text("DOORS = 2\nCar.engine = @Engine()\nCar.doors = %DOORS\nEngine:\n  power = 80\n  cylinders = 6")
    configured([str(file)], ["Car.name = 'mine'", "Engine.cylinders = 8"])
    car = Car()
    assert (car.doors, car.name, car.engine.power, car.engine.cylinders) == (2, "mine", 80, 8)


def test_parse_replaces_the_earlier_configuration(configured):
    configured([], ["Car.doors = 2"])
    configured([], ["Car.name = 'x'"])
    assert Car().doors == 4


def test_later_files_override_earlier_ones(configured, tmp_path):
    for doors in (2, 3):
        (tmp_path / f"{doors}.gin").write_text(f"Car.doors = {doors}\n")
    configured([str(tmp_path / "2.gin"), str(tmp_path / "3.gin")])
    assert Car().doors == 3


def test_include_is_relative_to_the_including_file(configured, tmp_path, monkeypatch):
    (tmp_path / "deep/base").mkdir(parents=True)
    (tmp_path / "deep/base/engine.gin").write_text("include 'sizes.gin'\nEngine.cylinders = 3\n")
    (tmp_path / "deep/base/sizes.gin").write_text("Car.doors = 5\n")
    (tmp_path / "deep/car.gin").write_text("include 'base/engine.gin'\nEngine.power = 1.5\n")
    monkeypatch.chdir(tmp_path)
    configured(["deep/car.gin"])
    assert (Car().doors, Engine().cylinders, Engine().power) == (5, 3, 1.5)


def test_include_not_found_names_the_line_and_the_nearest_file(tmp_path, refused):
    (tmp_path / "engine.gin").write_text("")
    (tmp_path / "car.gin").write_text("Car.doors = 2\ninclude 'engin.gin'\n")
    message = refused(files=[str(tmp_path / "car.gin")])
    assert "car.gin:2" in message and "'engin.gin' not found" in message
    assert f"Did you mean {tmp_path / 'engine.gin'}" in message


def test_an_error_in_an_included_file_names_that_file_only(tmp_path, refused):
    (tmp_path / "inner.gin").write_text("\n\nCar.dors = 2\n")
    (tmp_path / "outer.gin").write_text("include 'inner.gin'\n")
    message = refused(files=[str(tmp_path / "outer.gin")])
    assert message.startswith(f"{tmp_path / 'inner.gin'}:3: Car has no parameter 'dors'. Did you mean 'doors'?")


def test_files_that_include_each_other(tmp_path, refused):
    (tmp_path / "a.gin").write_text("include 'b.gin'\n")
    (tmp_path / "b.gin").write_text("include 'a.gin'\n")
    assert "include each other" in refused(files=[str(tmp_path / "a.gin")])


@pytest.mark.parametrize(
    "binding, expected",
    [
        ("Car.dors = 2", "Car has no parameter 'dors'. Did you mean 'doors'?"),
        ("Carr.doors = 2", "nothing configurable is called 'Carr'. Did you mean 'Car'?"),
        ("Car.engine = @Engin()", "nothing configurable is called 'Engin'. Did you mean 'Engine'?"),
        ("Car.sizes = [1, (2, @Engin())]", "nothing configurable is called 'Engin'"),
        ("Carr:\n  doors = 2", "nothing configurable is called 'Carr'"),
        ("build_lock.secret = 3", "build_lock has no parameter 'secret'"),
        ("Car = 3", "Car is configurable: name its parameter too"),
        ("import no_such_module_here", "cannot import no_such_module_here"),
        ("Car.doors", 'Write --gin_param="Name.parameter = value"'),
        ("Car.open_top = true", "Write True."),
        ("Car.engine = null", "Write None."),
        ("Car.name = mine", "A text needs quotes: 'mine'"),
        ("Car.sizes = (1, 2", "a bracket or a string is not closed"),
        ("Car.doors = 2 3", "not gin syntax"),
        ("Car.doors = 1 / 2", "not gin syntax"),
        ("Car..doors = 2", "not gin syntax"),
        ("Car.doors = $", "not gin syntax"),
        ("= 3", "not gin syntax"),
    ],
)
def test_refused_bindings_say_what_to_do(refused, binding, expected):
    message = refused(binding)
    assert message.startswith("the binding ") and expected in message


def test_a_syntax_error_names_file_and_line(tmp_path, refused):
    file = tmp_path / "car.gin"
    file.write_text("# comment\nCar.doors = 2\nCar.name = mine\n")
    message = refused(files=[str(file)])
    assert message.startswith(f"{file}:3: not gin syntax") and "'mine'" in message
    file.write_text("Car.doors = 2\nCar:\nname = 3\n")
    assert f"{file}:3" in refused(files=[str(file)])


def test_a_reference_to_an_unknown_name_in_a_file_names_the_line(tmp_path, refused):
    file = tmp_path / "car.gin"
    file.write_text("Car.doors = 2\nCar.engine = @Engin()\nCar.name = 'x'\n")
    assert refused(files=[str(file)]).startswith(f"{file}:2: nothing configurable is called 'Engin'")


def test_a_file_that_is_no_text(tmp_path, refused):
    file = tmp_path / "car.gin"
    file.write_bytes(b"\xff\xfe\x00\x01")
    assert f"cannot read gin file {file}" in refused(files=[str(file)])


@pytest.mark.parametrize("depth", [101, 300, 3000])
@pytest.mark.parametrize("brackets", ["[]", "()", "{}"])
def test_brackets_that_are_nested_too_deeply_are_one_line(tmp_path, refused, depth, brackets):
    begin, end = {"[]": ("[", "]"), "()": ("(", ",)"), "{}": ("{1: ", "}")}[brackets]
    text = f"Car.sizes = {begin * depth}1{end * depth}"
    file = tmp_path / "car.gin"
    file.write_text(f"Car.doors = 2\n{text}\n")
    assert refused(files=[str(file)]).startswith(f"{file}:2: brackets are nested too deeply")
    assert "brackets are nested too deeply" in (message := refused(text)) and len(message) < 10_000
    assert len(refused(f"Car.sizes = {begin * depth}")) < 10_000, "one that is not closed"


def test_undefined_macro(refused):
    message = refused("DOORS = 2", "Car.seats = %DOORS", "Car.doors = %DOOR")
    assert "the macro %DOOR is not defined. Did you mean 'DOORS'?" in message


def test_undefined_macro_inside_a_list_and_inside_a_macro(refused):
    assert "%SIZE is not defined" in refused("Car.sizes = [1, %SIZE]")
    assert "%OTHER is not defined" in refused("SIZE = %OTHER", "Car.doors = %SIZE")


def test_unused_macro_is_taken_for_a_mistyped_binding(refused):
    assert "'doors' is set but nothing uses %doors" in refused("doors = 3")


def test_macro_defined_through_itself(refused):
    assert "defined through itself" in refused("A = %B", "B = %A", "Car.doors = %A")


def test_macro_whose_user_was_overridden_is_no_error(configured):
    configured([], ["DOORS = 2", "Car.doors = %DOORS", "Car.doors = 3"])
    assert Car().doors == 3


def test_mistyped_scope(refused):
    message = refused("Car.engine = @front/Engine()", "frnt/Engine.power = 3")
    assert "nothing uses the scope 'frnt' of Engine.power. Did you mean 'front'?" in message
    assert "This configuration uses no scope" not in message


def test_scopes_of_references_and_of_code_are_known(configured):
    configured(
        [],
        [
            "Car.engine = @front/left/Engine()",
            "front/Engine.power = 3",
            "front/left/Engine.cylinders = 2",
            "winter/Car.doors = 2",
            "winter/night/Car.name = 'owl'",
        ],
    )
    car = Car()
    assert (car.engine.power, car.engine.cylinders) == (3, 2)


def test_a_scope_that_only_an_overridden_value_opened_is_no_error(configured):
    configured([], ["Car.engine = @front/Engine()", "front/Engine.power = 3", "Car.engine = @ElectricEngine()"])
    assert isinstance(Car().engine, ElectricEngine)


def test_any_parameter_of_a_function_with_keyword_arguments(configured):
    configured([], ["build_anything.whatever = 3"])
    assert build_anything() == {"whatever": 3}


def test_ambiguous_names_are_listed(configured, refused):
    def twin(size: int = 1):
        return size

    config.configurable("twin_part", module="one.place")(twin)
    config.configurable("twin_part", module="other.place")(lambda size=1: size)
    message = refused("twin_part.size = 2")
    assert "one.place.twin_part" in message and "other.place.twin_part" in message
    configured([], ["one.place.twin_part.size = 2"])


def test_parse_failing_leaves_later_parses_whole(configured):
    with pytest.raises(UserError):
        configured([], ["Car.doors = 'x'"])
    configured([], ["Car.doors = 3"])
    assert Car().doors == 3
