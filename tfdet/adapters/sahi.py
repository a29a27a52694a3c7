"""A detection model for SAHI (github.com/obss/sahi), from version 0.12 on; needs `pip install 'tfdet[sahi]'`.

from sahi.predict import get_sliced_prediction
from tfdet.adapters.sahi import TfdetDetectionModel

model = TfdetDetectionModel(model_path="runs/cars", confidence_threshold=0.4)
result = get_sliced_prediction("large.jpg", model, slice_height=800, slice_width=800)
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tfdet.errors import UserError
from tfdet.exported_model import DetectingModel
from tfdet.model import load
from tfdet.predict.float32 import in_float32
from tfdet.predict.formats import outline_of
from tfdet.predict.found import Found


def __getattr__(name: str) -> Any:
    """`TfdetDetectionModel`, whose base class is SAHI's: this module can be imported without it."""
    if name == "TfdetDetectionModel":
        return _model_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _model_class() -> type:
    try:
        from sahi.models.base import DetectionModel
    except ImportError as error:
        raise UserError(f"{error}: pip install 'tfdet[sahi]' installs what tfdet.adapters.sahi needs") from error
    return type("TfdetDetectionModel", (SahiMethods, DetectionModel), {"__doc__": SahiMethods.__doc__})


class SahiMethods:
    """What SAHI calls for each slice; `TfdetDetectionModel` is this on SAHI's base class.

    Args of SAHI's base class that count: `model_path`, what `tfdet.load` takes (a run, an export, published weights);
    or `model`, a model that it gave; `confidence_threshold`; `category_remapping`. Category ids are those of the
    training data. The device is TensorFlow's, the size of test images the model's.
    """

    required_packages: list[str] = []
    model: Any
    model_path: str | None
    confidence_threshold: float
    _original_predictions: Any

    def check_dependencies(self, packages: list[str] | None = None) -> None:
        """TensorFlow is here already."""

    def set_device(self, device: Any = None) -> None:
        """Not chosen here: TensorFlow detects on its first GPU, else on the CPU."""
        self.device = "tensorflow"

    def load_model(self) -> None:
        """Loads `model_path` by `tfdet.load`."""
        if not self.model_path:
            raise UserError("TfdetDetectionModel: give model_path, a run or an export, or model, of tfdet.load")
        self.set_model(load(self.model_path))

    def set_model(self, model: Any, **kwargs: Any) -> None:
        """Takes a model of `tfdet.load`."""
        if not isinstance(model, DetectingModel):
            raise UserError(f"TfdetDetectionModel takes a model of tfdet.load. Received: a {type(model).__name__}")
        self.model = model
        names = zip(model.category_ids, model.classes, strict=True)
        self.category_mapping = {str(number): name for number, name in names}

    def unload_model(self) -> None:
        """Forgets the model."""
        self.model = None

    @property
    def num_categories(self) -> int:
        """The number of classes."""
        return len(self.model.classes)

    @property
    def category_names(self) -> list[str]:
        """Names by class."""
        return list(self.model.classes)

    @property
    def has_mask(self) -> bool:
        """Whether the last image had masks."""
        found = self._original_predictions
        return bool(found) and found[0].mask_probabilities is not None

    def perform_inference(self, image: np.ndarray) -> None:
        """Detects on one image, uint8 [H, W, 3], RGB."""
        image = np.ascontiguousarray(np.asarray(image)[..., :3])
        with in_float32():
            self._original_predictions = [self.model.predictor(image)]

    def _create_object_prediction_list_from_original_predictions(
        self, shift_amount_list: Any = None, full_shape_list: Any = None
    ) -> None:
        """Fills `_object_prediction_list_per_image`; of one image or of each a shift `[x, y]` and `[height, width]`."""
        shifts, shapes = _each(shift_amount_list), _each(full_shape_list)
        self._object_prediction_list_per_image = [
            self._objects(found, shifts[place] if shifts else [0, 0], shapes[place] if shapes else None)
            for place, found in enumerate(self._original_predictions)
        ]

    def _objects(self, found: Found, shift: list, full_shape: list | None) -> list:
        from sahi.prediction import ObjectPrediction

        found = found.above(float(self.confidence_threshold))
        masked = found.mask_probabilities is not None
        rows = zip(found.boxes.tolist(), found.category_ids, found.class_names, found.scores.tolist(), strict=True)
        return [
            ObjectPrediction(
                bbox=box,
                category_id=category,
                category_name=name,
                # SAHI takes polygons, and the box of their points in place of the given one.
                segmentation=[outline_of(found, number).ravel().tolist()] if masked else None,
                score=score,
                shift_amount=shift,
                full_shape=full_shape or list(found.image.shape[:2]),
            )
            for number, (box, category, name, score) in enumerate(rows)
        ]


def _each(given: Any) -> list:
    """A list of pairs; SAHI hands over a single pair too."""
    if given is None or not len(given):
        return []
    return [list(given)] if np.isscalar(given[0]) else [list(pair) for pair in given]
