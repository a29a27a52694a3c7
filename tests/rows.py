"""Building the detectors of many gin files in little time, for tests of their names and bindings."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import keras
import pytest
import tensorflow as tf

from tfdet.config import Configuration

_OTHER_PARTS = re.compile(r"^(Row|Trainer|Schedule|TrainInput|EvalInput|WeightsSource)\..*\n", re.MULTILINE)


def model_text(configuration: Configuration) -> str:
    """The bindings of the detector alone: rows that differ in training, data or depth have one model."""
    return _OTHER_PARTS.sub("", configuration.text())


@contextlib.contextmanager
def zeros_for_random_weights() -> Iterator[None]:
    """Drawing them is half the time of building a detector."""
    kinds = (keras.initializers.VarianceScaling, keras.initializers.RandomNormal, keras.initializers.RandomUniform)
    with pytest.MonkeyPatch.context() as patch:
        for kind in kinds:
            patch.setattr(kind, "__call__", lambda self, shape, dtype=None: tf.zeros(shape, dtype or "float32"))
        yield
