"""What `tfdet` has for data of one's own: the presets, and anchors that fit."""

from __future__ import annotations

import argparse
import re

import pytest

from tests.data.test_near_duplicates import encoded, photo
from tests.report.test_browse import write_split
from tfdet.commands import flags, main
from tfdet.config.files import gin_configs_folder
from tfdet.data.annotations import AnnotationSet, Category, ImageAnnotation
from tfdet.data.convert import convert
from tfdet.data.problems import ProblemReport
from tfdet.errors import EXIT_OK, EXIT_USER_ERROR

PRESETS = sorted(path.stem for path in (gin_configs_folder() / "own_data").glob("*.gin"))


def parser_of_rows() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    flags.add_config(parser)
    return parser


def configured(*argv: str):
    return flags.configure(parser_of_rows().parse_args(argv))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_has_what_small_data_needs(preset):
    chosen = configured(f"--preset={preset}")
    assert (chosen.value("TrainInput.data_dir"), chosen.value("EvalInput.data_dir")) == ("data/train", "data/val")
    assert len(chosen.value("TrainInput.short_side")) > 3, "several scales"
    assert chosen.value("Trainer.ema_decay") == 0.998
    assert chosen.value("Schedule.decay") == "cosine"
    assert chosen.value("Validation.loss") and chosen.value("Validation.train_images") > 0
    assert ("MaskHead.channels" in chosen.text()) == ("masks" in preset)


def test_what_follows_a_preset_overrides_it(tmp_path):
    (tmp_path / "mine.gin").write_text("Trainer.ema_decay = 0.5\n")
    chosen = configured("--preset=own_data_cpu", f"--gin_file={tmp_path}/mine.gin", "--gin_param=Trainer.steps = 7")
    assert (chosen.value("Trainer.ema_decay"), chosen.value("Trainer.steps")) == (0.5, 7)


def test_the_help_names_every_preset():
    named = re.findall(r"own_data_\w+", re.sub(r"\s+", " ", parser_of_rows().format_help()))
    assert sorted(set(named)) == PRESETS


def test_a_preset_that_is_none_is_answered_with_those_there_are(capsys):
    assert main(["train", "--preset=own_data_cup"]) == EXIT_USER_ERROR
    told = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert "--preset own_data_cup: there is no such preset. Did you mean 'own_data_cpu' or" in told
    assert all(preset in told for preset in PRESETS)


@pytest.fixture(scope="module")
def tall(tmp_path_factory):
    """Objects of 10 x 40 pixels, whom an anchor of ratio 4 alone fits."""
    folder = tmp_path_factory.mktemp("anchors") / "train"
    return write_split(folder, [1, 2], boxes=((10, 10, 10, 40, 1), (60, 30, 10, 40, 2)))


def test_anchors_are_proposed_as_a_gin_file_that_a_row_takes(tall, tmp_path, capsys):
    written = tmp_path / "anchors.gin"
    assert main(["anchors", str(tall), "--preset=own_data_cpu", f"--output={written}"]) == EXIT_OK
    told = capsys.readouterr().out
    assert "Anchors and the 4 objects" in told
    present, proposed = (re.search(rf"{name}.*? (\d\.\d+) ", told) for name in ("present", "proposed"))
    assert float(proposed[1]) > float(present[1]) + 0.1
    ratios = configured("--preset=own_data_cpu", f"--gin_file={written}").value("AnchorGenerator.ratios")
    assert min(abs(ratio - 4) for ratio in ratios) < 0.5, ratios


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--num_scales=0", "--preset=own_data_cpu"], "num_scales"),
        (["--preset=own_data_cpu", f"--output={__file__}/anchors.gin"], "anchors.gin"),
        ([], "--gin_file is missing"),
    ],
)
def test_mistakes_of_anchors_are_one_line(tall, argv, message, capsys):
    assert main(["anchors", str(tall), *argv]) == EXIT_USER_ERROR
    assert message in capsys.readouterr().err


def test_anchors_for_data_without_objects(tmp_path, capsys):
    images = [ImageAnnotation(1, "a.jpg", None, 120, 160, [], encoded(photo(1, (160, 120))))]
    convert(
        AnnotationSet([Category(1, "cat")], images), tmp_path / "none", "none", "test", ProblemReport(), num_workers=0
    )
    assert main(["anchors", str(tmp_path / "none"), "--preset=own_data_cpu"]) == EXIT_USER_ERROR
    assert "has no object to fit anchors to" in capsys.readouterr().err
