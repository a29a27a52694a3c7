"""What is bound, part by part and where; and in what two configurations differ."""

import pytest

import tests.config.parts  # noqa: F401 - registers the car
from tfdet import config
from tfdet.commands import main
from tfdet.config.show import DEFAULT, differences, settings


@pytest.fixture
def car(tmp_path):
    """A file with macros, a scope, and a value that it overrides."""
    file = tmp_path / "car.gin"
    file.write_text(
        "DOORS = 2\nCar.engine = @ElectricEngine()\nElectricEngine.cells = 3\nCar.doors = %DOORS\n"
        "Car.engine = @front/Engine()\nfront/Engine.power = 3\n"
    )
    return file


def test_every_value_has_the_line_that_set_it_and_leftovers_are_left_out(car):
    found = settings(config.parse([str(car)], ["Engine.cylinders = 6"]))
    assert found == [
        ("Car", "engine", "@front/Engine()", f"{car}:5"),
        ("Car", "doors", "2", f"{car}:4, DOORS in {car}:1"),
        ("Engine", "cylinders", "6", "--gin_param"),
        ("front/Engine", "power", "3", f"{car}:6"),
    ]


def test_defaults_are_named_where_they_are_asked_for(car):
    found = settings(config.parse([str(car)]), defaults=True)
    assert ("Car", "name", "'car'", DEFAULT) in found
    assert not [setting for setting in found if setting.part == "ElectricEngine"]


def test_differences_and_a_default_that_is_written_out_is_none(car):
    left, right = config.parse([str(car)]), config.parse([str(car)], ["DOORS = 3", "Car.name = 'car'", "Car.seats = 5"])
    assert [(d.part, d.parameter, d.left.value, d.right.value) for d in differences(left, right)] == [
        ("Car", "doors", "2", "3")
    ]
    assert differences(left, left) == []


def test_a_part_of_one_side_is_described_by_what_is_bound(car):
    right = config.parse([str(car)], ["Car.engine = @ElectricEngine()"])
    found = {(d.part, d.parameter): (d.left and d.left.value, d.right and d.right.value) for d in
             differences(config.parse([str(car)]), right)}  # fmt: skip
    assert found["ElectricEngine", "cells"] == (None, "3")
    assert found["Car", "engine"] == ("@front/Engine()", "@ElectricEngine()")


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["config", "show", "faster_r50v1_fpn", "--gin_param=Trainer.seed = 7"]) == 0
    text = capsys.readouterr().out
    lines = [line.split() for line in text.splitlines()]
    assert lines.index(["TwoStageDetector"]) < lines.index(["FPN"]) < lines.index(["Trainer"])
    assert ["seed", "=", "7", "--gin_param"] in lines
    depth = text[text.index("depth ") :].split()[:7]  # over two lines of a narrow terminal
    assert depth[:3] == ["depth", "=", "50"] and "DEPTH in faster_r50v1_fpn.gin:" in " ".join(depth)
    assert main(["config", "diff", "faster_r50v1_fpn", "faster_r101v1_fpn.gin"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["depth", "50", "101"] in lines and ["box_ap", "36.5", "38.7"] in lines and len(lines) < 20
    assert main(["config", "diff", "faster_r50v1_fpn", "faster_r50v1_fpn.gin"]) == 0
    assert capsys.readouterr().out == "no difference\n"


def test_the_command_takes_the_folder_of_a_run(tmp_path, capsys):
    (tmp_path / "config.gin").write_text("Trainer.seed = 9\n")
    assert main(["config", "show", str(tmp_path)]) == 0
    assert "seed   = 9" in capsys.readouterr().out
    assert main(["config", "show", str(tmp_path / "none")]) == 2
