"""One exported model for all tests of the folder: writing it takes seconds."""

import pytest

from tests.fakes import CATEGORY_IDS, CLASSES, ColorDetector
from tfdet.data.resize import Resize
from tfdet.export.saved_model import export
from tfdet.predict.predictors import CheckpointPredictor

RESIZE = Resize(64, 128)


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
