"""The model for SAHI, on a stand-in of SAHI 0.12's base class: SAHI itself needs another OpenCV than the tests."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from tests.fakes import CATEGORY_IDS, CLASSES, picture
from tests.predict.color_predictor import ColorPredictor
from tfdet.adapters import sahi
from tfdet.errors import UserError
from tfdet.exported_model import DetectingModel


class Base:
    """The parts of `sahi.models.base.DetectionModel` 0.12.8 that a subclass lives on."""

    def __init__(self, model_path=None, model=None, confidence_threshold=0.3, category_mapping=None, **_):
        self.model_path, self.model = model_path, None
        self.confidence_threshold, self.category_mapping = confidence_threshold, category_mapping
        self._original_predictions = self._object_prediction_list_per_image = None
        self.set_device(None)
        self.check_dependencies()
        if model:
            self.set_model(model)
        else:
            self.load_model()

    def convert_original_predictions(self, shift_amount=None, full_shape=None):
        self._create_object_prediction_list_from_original_predictions(
            shift_amount_list=shift_amount, full_shape_list=full_shape
        )


class Colors(DetectingModel):
    """A loaded model."""

    classes, category_ids = CLASSES, CATEGORY_IDS

    def __init__(self, masks=False):
        self._predictor = ColorPredictor(masks)

    @property
    def predictor(self):
        return self._predictor


@pytest.fixture
def adapter(monkeypatch):
    """The module, beside the stand-in."""
    modules = {name: types.ModuleType(name) for name in ("sahi", "sahi.models", "sahi.models.base", "sahi.prediction")}
    modules["sahi.models.base"].DetectionModel = Base
    modules["sahi.prediction"].ObjectPrediction = lambda **fields: types.SimpleNamespace(**fields)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    sahi._model_class.cache_clear()
    yield sahi
    sahi._model_class.cache_clear()


@pytest.mark.parametrize("masks", [False, True])
def test_a_slices_objects_are_shifted_by_sahi(adapter, masks):
    model = adapter.TfdetDetectionModel(model=Colors(masks), confidence_threshold=0.9)
    assert model.category_mapping == {"90": "red", "7": "green", "13": "blue"} and model.num_categories == 3
    image = picture(64, 128, {0: (10, 8, 41, 47), 2: (60, 4, 99, 43)})
    model.perform_inference(np.dstack([image, np.zeros_like(image[..., :1])]))
    assert model.has_mask is masks
    for shift, shape in (([[300, 200]], [[800, 900]]), ([300, 200], [800, 900])):
        model.convert_original_predictions(shift, shape)
        ((only,),) = model._object_prediction_list_per_image
        assert (only.category_id, only.category_name, only.bbox) == (90, "red", [10.0, 8.0, 42.0, 48.0])
        assert (only.shift_amount, only.full_shape, only.score) == ([300, 200], [800, 900], 1.0)
        points = np.reshape(only.segmentation[0], (-1, 2)) if masks else np.reshape(only.bbox, (-1, 2))
        np.testing.assert_allclose([*points.min(0), *points.max(0)], [10, 8, 42, 48], atol=1.5)
    model.convert_original_predictions()
    assert model._object_prediction_list_per_image[0][0].full_shape == [64, 128]


def test_what_it_cannot_take_is_one_line(adapter, monkeypatch):
    with pytest.raises(UserError, match="give model_path"):
        adapter.TfdetDetectionModel()
    with pytest.raises(UserError, match="takes a model of tfdet.load"):
        adapter.TfdetDetectionModel(model=object())
    adapter._model_class.cache_clear()
    monkeypatch.setitem(sys.modules, "sahi.models.base", None)
    with pytest.raises(UserError, match=r"pip install 'tfdet\[sahi\]'"):
        adapter.TfdetDetectionModel  # noqa: B018
