"""A small RetinaNet through the export: every operator of it must live in a SavedModel."""

import tensorflow as tf

from tests.fakes import picture
from tfdet import config
from tfdet.config import register_all
from tfdet.data.resize import Resize
from tfdet.detectors import build_detector
from tfdet.export.saved_model import export
from tfdet.export.verify import verify
from tfdet.predict.predictors import CheckpointPredictor

SMALL = [
    "DEPTH = 18",
    "WIDTH = 0.125",
    "RetinaNeck.channels = 16",
    "RetinaHead.channels = 16",
    # Random weights: larger ones tell the boxes' scores apart, and a low threshold lets some of them be compared.
    "RetinaHead.init_std = 0.1",
    "DensePostProcess.score_threshold = 0.02",
    "DensePostProcess.pre_nms_top_n = 30",
    "DensePostProcess.max_detections = 20",
]


def test_export_finds_what_the_detector_finds(tmp_path):
    register_all()
    detector = config.parse(["families/retina_fpn.gin"], SMALL).build(build_detector, num_classes=3)
    images = [
        tf.io.encode_jpeg(picture(70, 100, {0: (10, 8, 60, 47), 1: (60, 4, 95, 43)}, noise_seed=1)).numpy(),
        tf.io.encode_png(picture(120, 80, {2: (20, 30, 70, 100)}, noise_seed=2)).numpy(),
    ]
    folder, resize = tmp_path / "model", Resize(96, 128, "torchvision")
    export(detector, folder, resize, ["a", "b", "c"], [1, 2, 3])
    for entry in verify(CheckpointPredictor(detector, resize, ["a", "b", "c"], [1, 2, 3]), str(folder), images):
        assert entry.passed(), entry
        assert entry.num_detections >= 10
