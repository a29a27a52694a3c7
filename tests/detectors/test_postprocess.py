"""The last step of a detector: which suppression it asks for."""

import numpy as np
import pytest

from tfdet.detectors.postprocess import PostProcess
from tfdet.errors import UserError

# IoU 0.8 of the first two.
BOXES = np.array([[[0, 0, 99, 99], [0, 0, 99, 79], [200, 200, 260, 260]]], np.float32)[:, :, None]
SCORES = np.array([[[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]]], np.float32)  # background first
INFO = np.array([[400, 400, 1]], np.float32)


def detect(**options):
    return PostProcess(**options)(BOXES, SCORES, INFO)


def test_hard_suppression_drops_and_soft_suppression_lowers_scores(implementation):
    assert int(detect().num_valid[0]) == 2
    np.testing.assert_allclose(detect(nms_method="linear").scores[0, :3], [0.9, 0.7, 0.8 * 0.2], rtol=1e-5)
    gaussian = detect(nms_method="gaussian", nms_sigma=0.4)
    np.testing.assert_allclose(gaussian.scores[0, :3], [0.9, 0.7, 0.8 * np.exp(-(0.8**2) / 0.4)], rtol=1e-5)


def test_gin_chooses_the_method(configured):
    configured(gin_params=["PostProcess.nms_method = 'linear'"])
    assert int(detect().num_valid[0]) == 3


def test_an_unknown_method_is_named():
    with pytest.raises(UserError, match="method.*soft"):
        detect(nms_method="soft")
