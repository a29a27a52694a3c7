"""The flags that commands share, and the configuration they lead to."""

from __future__ import annotations

import argparse
import re

import gin
import pytest

from tests.config.parts import Car
from tfdet import config
from tfdet.commands import flags, main
from tfdet.errors import EXIT_USER_ERROR, UserError


@pytest.fixture
def inputs(monkeypatch):
    """The input classes are registered, without an import of the whole package."""
    import tfdet.data.inputs  # noqa: F401

    monkeypatch.setattr(config, "register_all", lambda: None)


def parsed(*argv: str) -> argparse.Namespace:
    """The arguments of a command with every shared flag."""
    parser = argparse.ArgumentParser()
    flags.add_config(parser)
    flags.add_model_dir(parser, required=False)
    flags.add_train_data(parser)
    flags.add_eval_data(parser)
    return parser.parse_args(argv)


def test_files_and_parameters_may_be_repeated(tmp_path, inputs):
    for number in (1, 2):
        (tmp_path / f"{number}.gin").write_text(f"Car.doors = {number}\nCar.seats = {number}\n")
    args = parsed(
        f"--gin_file={tmp_path}/1.gin", "--gin_file", f"{tmp_path}/2.gin", "--gin_param=Car.name='a'",
        "--gin_param", "Car.seats = 9",
    )  # fmt: skip
    car = flags.configure(args).build(Car)
    assert (car.doors, car.seats, car.name) == (2, 9, "a")


def test_data_flags_set_the_inputs_whatever_the_folder_is_called(tmp_path, inputs):
    folder = tmp_path / 'it\'s "data"'
    folder.mkdir()
    chosen = flags.configure(parsed("--gin_param=Car.doors = 2", f"--train_data={folder}", f"--eval_data={folder}"))
    assert chosen.value("TrainInput.data_dir") == chosen.value("EvalInput.data_dir") == str(folder)


def test_several_data_sets_and_addresses(tmp_path, inputs, monkeypatch):
    """What is kept of a run are whole paths; addresses stay as they are."""
    import tfdet.training.trainer  # noqa: F401
    from tfdet.training.run_paths import check_still_there, with_whole_paths

    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    given = ("--train_data=a", "--train_data=gs://bucket/b", "--eval_data=https://host/c")
    chosen = flags.configure(parsed("--gin_param=Car.doors = 2", *given))
    assert chosen.value("TrainInput.data_dir") == ("a", "gs://bucket/b")
    whole = with_whole_paths(chosen)
    assert whole.value("TrainInput.data_dir") == (str(tmp_path / "a"), "gs://bucket/b")
    assert whole.value("EvalInput.data_dir") == "https://host/c"
    check_still_there(whole, evaluate=True)
    (tmp_path / "a").rmdir()
    with pytest.raises(UserError, match="the run's data .*/a are not there: say with --train_data"):
        check_still_there(whole, evaluate=True)
    with pytest.raises(UserError, match="--train_data: b is not a folder"):
        flags.configure(parsed("--gin_param=Car.doors = 2", "--train_data=gs://bucket/b", "--train_data=b"))


def test_data_folder_that_is_none(tmp_path, inputs):
    with pytest.raises(UserError, match="--eval_data: .*nothing is not a folder"):
        flags.configure(parsed("--gin_param=Car.doors = 2", f"--eval_data={tmp_path}/nothing"))


def test_the_configuration_of_a_run_is_taken_from_its_folder(tmp_path, inputs):
    (tmp_path / "config.gin").write_text("Car.doors = 7\n")
    assert flags.configure(parsed(f"--model_dir={tmp_path}"), from_run=True).build(Car).doors == 7
    (tmp_path / "mine.gin").write_text("Car.doors = 8\n")
    args = parsed(f"--model_dir={tmp_path}", f"--gin_file={tmp_path}/mine.gin")
    assert flags.configure(args, from_run=True).build(Car).doors == 8


def test_no_configuration_at_all(tmp_path, inputs):
    with pytest.raises(UserError, match="--gin_file is missing"):
        flags.configure(parsed(f"--model_dir={tmp_path}"))
    with pytest.raises(UserError, match="config.gin not found"):
        flags.configure(parsed(f"--model_dir={tmp_path}"), from_run=True)


def test_register_all_makes_the_parts_of_every_package_known():
    config.register_all()
    for name in ("build_detector", "ResNetV1", "FPN"):
        assert gin.config._REGISTRY.matching_selectors(name), name


@pytest.mark.parametrize(
    "argv",
    [
        ["train", "--gin_file=x.gin", "--model_dir=gs://bucket/run"],
        ["evaluate", "--model_dir=runs/a", "--annotations=http://host/a.json"],
        ["predict", "--saved_model=gs://b/m", "a.jpg"],
        ["predict", "--model_dir=runs/a", "gs://b/a.jpg"],
        ["export", "--model_dir=runs/a", "--output=gs://b/m"],
        ["convert_data", "--coco", "gs://b/a.json", "gs://b/images", "--output=out"],
        ["convert_data", "--from_records=gs://b/*", "--output=out"],
        ["convert_data", "--check=gs://b/data"],
        ["make_shapes", "--output=file:///data"],
        ["plot_run", "--model_dir=runs/a", "--compare", "gs://b/run"],
        ["convert_weights", "gs://b/a.pth"],
        ["config", "show", "gs://b/a.gin"],
    ],
)
def test_addresses_are_refused_in_every_flag(argv, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == EXIT_USER_ERROR
    assert re.search(r"^tfdet: error: \S* ?\w+://\S+ is an address", capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []
