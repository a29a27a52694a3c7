"""The contact sheet of `tfdet browse --augmented`: its pictures, its words, and what it refuses."""

import base64
import html
import io
import re

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import jpeg
from tfdet.commands import browse, flags
from tfdet.data.annotations import AnnotationSet, Category, ImageAnnotation, ObjectAnnotation
from tfdet.data.convert import convert
from tfdet.data.problems import ProblemReport
from tfdet.errors import UserError

HOSTILE = "<b>a</b>\x1b[31m.jpg"


@pytest.fixture
def folder(tmp_path):
    objects = [ObjectAnnotation(4.0, 3.0, 20.0, 9.0, 3, 180.0)]
    images = [
        ImageAnnotation(
            number, HOSTILE if number == 1 else f"{number}.jpg", None, 40, 60, objects, jpeg(40, 60, number)
        )
        for number in range(1, 6)
    ]
    annotations = AnnotationSet([Category(3, "cat")], images)
    convert(annotations, tmp_path / "set", "cats & <dogs>", "test", ProblemReport(), num_workers=0)
    return tmp_path / "set"


def run(*words):
    import argparse

    parser = argparse.ArgumentParser()
    browse.add_arguments(parser)
    return browse.run(parser.parse_args(list(map(str, words))))


def test_shows_images_as_they_are_and_as_training_sees_them(folder, tmp_path, capsys):
    page = tmp_path / "sheet.html"
    lines = [
        "TrainInput.augmentation = @Augmentation()", "Augmentation.vertical_flip = 1.0", "TrainInput.flip = False",
        "TrainInput.short_side = 40", "TrainInput.long_side = 60",
    ]  # fmt: skip
    params = [f"--gin_param={line}" for line in lines]
    assert run(folder, "--augmented", *params, "--limit=2", "--draws=3", f"--output={page}") == 0
    text = page.read_text()
    figures = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)".*?<figcaption>(.*?)<br>', text, re.DOTALL)
    assert [words for _, words in figures] == (["without augmentation"] + ["upside down"] * 3) * 2
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))), int) for uri, _ in figures]
    assert pictures[0].shape == (40, 60, 3)
    below = np.s_[25:, :]  # the object and its letters are above
    assert np.abs(pictures[1][::-1][below] - pictures[0][below]).mean() < 8
    assert np.abs(pictures[1][below] - pictures[0][below]).mean() > 16
    assert "<b>a</b>" not in text and html.escape("<b>a</b>") in text and "\x1b" not in text and "1 object" in text
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == "vertical flip (p=1)" and "shows what training sees" in printed


def test_what_does_not_go_together_is_one_line(folder, monkeypatch):
    monkeypatch.setattr(flags, "configure", None)  # nothing is read before
    with pytest.raises(UserError, match="--augmented shows one data set"):
        run(folder, folder, "--augmented")
    with pytest.raises(UserError, match="go with --augmented"):
        run(folder, "--gin_file=recipes/color")
