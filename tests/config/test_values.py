"""Values of a wrong type are refused at parse time; whatever could be right is not."""

from __future__ import annotations

import pytest

from tests.config import parts  # noqa: F401 - registers the parts
from tfdet import config


@pytest.mark.parametrize(
    "binding, expected",
    [
        ("Car.doors = '4'", "expected an int, got the str '4'. Leave the quotes away."),
        ("Car.doors = 4.5", "expected an int, got the float 4.5."),
        ("Car.doors = 4e0", "expected an int, got the float 4.0. Write 4."),
        ("Car.doors = True", "expected an int, got the bool True."),
        ("Car.doors = None", "expected an int, got None."),
        ("Car.doors = [4]", "expected an int, got the list [4]."),
        ("Car.doors = @Engine()", "expected int, got an instance of Engine."),
        ("Car.doors = @build_garage", "expected int, got a reference."),
        ("Engine.power = 'fast'", "expected a float, got the str 'fast'."),
        ("Engine.power = True", "expected a float, got the bool True."),
        ("Car.open_top = 1", "expected True or False, got the int 1."),
        ("Car.open_top = 'True'", "expected True or False, got the str 'True'. Leave the quotes away."),
        ("Car.name = 3", "expected a text in quotes, got the int 3."),
        ("Engine.fuel = 'petrl'", "expected one of 'petrol', 'diesel'. Did you mean 'petrol'?"),
        ("Engine.fuel = 3", "expected one of 'petrol', 'diesel'."),
        ("Car.sizes = 3", "expected a list, got the int 3. Write (3,)."),
        ("Car.sizes = '3'", "expected a list, got the str '3'."),
        ("Car.sizes = (3, 'x')", "expected an int, got the str 'x'."),
        ("Car.place = (1.0,)", "expected 2 values, got 1."),
        ("Car.place = (1.0, 'x')", "expected a float, got the str 'x'."),
        ("Car.prices = [3]", "expected a dictionary, got the list [3]."),
        ("Car.prices = {3: 3.0}", "expected a text in quotes, got the int 3."),
        ("Car.prices = {'new': 'much'}", "expected a float, got the str 'much'."),
        ("Car.folder = 3", "expected a path in quotes, got the int 3."),
        ("Car.make_wheel = 'Engine'", "expected a function or class such as @Name, got the str 'Engine'."),
        ("Car.engine = @Engine", "expected Engine, got the class itself. Write @Engine()."),
        ("Car.seats = 'five'", "expected a float, got the str 'five'."),
        ("Journey.kilometres = 'far'", "expected an int, got the str 'far'."),
        ("Journey.stops = ('a', 3)", "expected a text in quotes, got the int 3."),
        ("Car.colour = 3", "expected a text in quotes, got the int 3."),
    ],
)
def test_wrong_types(refused, binding, expected):
    message = refused(binding)
    assert expected in message
    assert f"{binding.split(' =')[0]} = " in message


@pytest.mark.parametrize(
    "binding",
    [
        "Car.doors = -4",
        "Engine.power = 5",
        "Engine.power = 1e-3",
        "Car.open_top = True",
        "Car.sizes = [15, 17]",
        "Car.sizes = ()",
        "Car.place = [1, 2.5]",
        "Car.prices = {'new': 3, 'old': 1.5}",
        "Car.prices = None",
        "Car.folder = '/tmp'",
        "Car.engine = None",
        "Car.engine = @Engine()",
        "Car.engine = @build_garage()",
        "Car.make_wheel = @Engine",
        "Car.make_wheel = @build_garage",
        "Car.make_wheel = @build_garage()",
        "Car.seats = 4.5",
        "Car.seats = None",
        "Car.owner = [1, 'anything']",
        "Journey.kilometres = None",
        "Journey.stops = ['a', 'b']",
        "build_anything.x = 'anything'",
        "Car.doors = %gin.REQUIRED",
    ],
)
def test_values_that_fit_or_may_fit(configured, binding):
    configured([], [binding])
    assert configured.now.is_bound(binding.split(" = ")[0])


def test_the_value_of_a_macro_is_checked_where_it_is_used(refused):
    message = refused("DOORS = 'two'", "Car.seats = None", "Car.doors = %DOORS")
    assert "Car.doors = %DOORS (= 'two'): expected an int, got the str 'two'." in message
    assert "expected an int, got the str 'b'" in refused("B = 'b'", "Car.sizes = [1, %B]")


def test_the_place_is_that_of_the_last_binding(tmp_path, refused):
    file = tmp_path / "car.gin"
    file.write_text("Car.doors = 2\nCar.name = 'x'\nCar.doors = 'two'\n")
    assert refused(files=[str(file)]).startswith(f"{file}:3: Car.doors = 'two'")
    file.write_text("Car.engine = @a/Engine()\na/Engine.power = 'x'\n")
    assert refused(files=[str(file)]).startswith(f"{file}:2: a/Engine.power = 'x'")


def test_a_default_that_breaks_its_own_annotation_may_be_written(configured):
    @config.configurable
    def build_odd_default(size: int = None):  # noqa: RUF013
        return size

    configured([], ["build_odd_default.size = None"])
    assert configured.now.is_bound("build_odd_default.size")
