"""One exported model for all tests of the folder: writing it takes seconds."""

import pytest

from tests.fakes import CATEGORY_IDS, CLASSES, ColorDetector
from tfdet.data.resize import Resize
from tfdet.export.saved_model import export
from tfdet.predict.predictors import CheckpointPredictor

RESIZE = Resize(64, 128)
CARD = {
    "version": 1,
    "name": "colours",
    "weights": "known weights",
    "classes": [
        {"id": number, "name": name, "category_id": category}
        for number, (name, category) in enumerate(zip(CLASSES, CATEGORY_IDS), 1)
    ],
    "thresholds": {"proposed_by_class": None},
    "training_data": None,
    "start_weights": None,
    "configuration": "",
}


@pytest.fixture(scope="session")
def detector():
    return ColorDetector()


@pytest.fixture(scope="session")
def exported(detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "model"
    export(detector, folder, RESIZE, CLASSES, CATEGORY_IDS)
    return folder


@pytest.fixture(scope="session")
def predictor(detector):
    return CheckpointPredictor(detector, RESIZE, CLASSES, CATEGORY_IDS)
