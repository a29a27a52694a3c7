"""Figures of conversion, input, evaluation and several processes: that they are of what was asked for."""

import json

import pytest

from tfdet.bench import data_speed
from tfdet.commands import main
from tfdet.errors import EXIT_OK, UserError

TINY = ["--gin_param=TrainInput.short_side = 64", "--gin_param=TrainInput.long_side = 80"]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    assert main(["make_shapes", f"--output={folder}", "--train_images=12", "--val_images=2", "--size=64x80"]) == EXIT_OK
    return folder


def results(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_figures_of_drawn_boxes_are_of_as_many_as_were_asked_for(tmp_path, capsys):
    sizes = ["--drawn_images=40", "--drawn_detections=120", "--drawn_classes=5", "--drawn_objects=200"]
    output = tmp_path / "results.jsonl"
    found = []
    for most in (100, 120, 120):
        assert main(["benchmark", "evaluation", *sizes, f"--max_detections={most}", f"--results={output}"]) == EXIT_OK
        found.append(results(output)[-1])
    assert {found[0][name] for name in ("images", "detections_per_image", "classes", "objects")} == {40, 120, 5, 200}
    assert 0.1 < found[0]["AP"] < 0.9 and found[1]["AP"] == found[2]["AP"]  # drawn alike each time
    assert min(found[0][f"{part}_cpu_seconds"] for part in ("reading", "collecting", "figures")) >= 0
    assert "figures cpu seconds" in capsys.readouterr().out


def test_the_input_is_that_of_the_row_and_data(shapes, tmp_path):
    output = tmp_path / "results.jsonl"
    flags = ["--gin_file=learn/faster_fpn", f"--train_data={shapes}/train", *TINY, "--images=24", "--repeats=2"]
    assert main(["benchmark", "input", *flags, f"--results={output}"]) == EXIT_OK
    (figures,) = results(output)
    assert figures["images"] == 24 and figures["data"] == "shapes_train"
    assert figures["images_per_cpu_second"] > 1 and figures["images_per_second"] > 1


def test_what_is_no_number_or_no_model_is_one_line(capsys):
    assert main(["benchmark", "evaluation", "--drawn_images=0"]) == 2
    assert "--drawn_images 0 must be at least 1" in capsys.readouterr().err
    assert main(["benchmark", "evaluation", "--gin_file=faster_r50v1_fpn"]) == 2
    assert "give --model_dir of a run or --weights" in capsys.readouterr().err
    assert main(["benchmark", "scaling", "--train_data=data", "--processes", "0"]) == 2
    assert "--processes must be at least 1" in capsys.readouterr().err


def test_a_command_that_fails_is_named_with_its_line(tmp_path):
    with pytest.raises(UserError, match=r"tfdet convert_data ended with 2: .*nothing"):
        data_speed.benchmark_conversion(str(tmp_path / "nothing"), 1)


@pytest.mark.slow
def test_more_processes_take_larger_batches_and_send_more(shapes, tmp_path):
    output = tmp_path / "results.jsonl"
    flags = ["--gin_file=learn/faster_fpn", f"--train_data={shapes}/train", *TINY]
    flags += ["--gin_param=TrainInput.images_per_replica = 2", "--processes", "1", "2", "--steps=4"]
    assert main(["benchmark", "scaling", *flags, f"--results={output}"]) == EXIT_OK
    (figures,) = results(output)
    one, two = figures["by_processes"]["1"], figures["by_processes"]["2"]
    assert (one["batch"], two["batch"]) == (2, 4) and one["sent_mb_per_process_and_step"] == 0
    assert two["sent_mb_per_process_and_step"] == pytest.approx(figures["reduced_mb"], rel=0.01)
    assert one["images_per_second"] > 0 and two["images_per_second"] > 0
