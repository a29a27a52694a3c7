"""A folder as a person has it: drawn shapes, a small row, a run of it and its export."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import tfdet
from tfdet.commands import main
from tfdet.errors import EXIT_OK

SMALL = Path(__file__).parent.parent / "end_to_end" / "small.gin"
# Random weights are sure of nothing, and few steps change little.
BINDINGS = {"Trainer.steps": 2, "Trainer.ema_decay": 0.9, "PostProcess.score_threshold": 0.001}


@pytest.fixture(scope="package")
def place(tmp_path_factory):
    """`data/train`, `data/val`, `pictures`, `tiny.gin`, `runs/shapes` and `serving/shapes`."""
    folder = tmp_path_factory.mktemp("door")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copy(SMALL, "tiny.gin")
        sizes = ["--train_images=12", "--val_images=6", "--size=64x80"]
        assert main(["make_shapes", "--output=data", *sizes]) == EXIT_OK
        Path("data/pictures").rename("pictures")
        first = sorted(Path("pictures").iterdir())[0]
        shutil.copy(first, f"pictures/street{first.suffix}")
        film = cv2.VideoWriter("street.mp4", cv2.VideoWriter_fourcc(*"mp4v"), 5, (80, 64))
        film.write(np.zeros([64, 80, 3], np.uint8))
        film.release()
        model = tfdet.build("tiny.gin", bindings=BINDINGS)
        tfdet.train(model, "data/train", "data/val", "runs/shapes", quiet=True)
        model.export("serving/shapes", verify=False)
    return folder


@pytest.fixture
def here(place, monkeypatch):
    """The same, as the current folder."""
    monkeypatch.chdir(place)
    return place


@pytest.fixture(scope="package")
def trained(place):
    """The model of the run."""
    return tfdet.load(place / "runs/shapes")


@pytest.fixture(scope="package")
def exported(place):
    """Its export."""
    return tfdet.load(place / "serving/shapes")
