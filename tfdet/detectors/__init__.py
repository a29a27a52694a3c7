"""Detectors: parts wired into models with `losses(batch, seed)` and `detect(images, image_info)`."""

from tfdet.detectors.dense_postprocess import DensePostProcess
from tfdet.detectors.detector import Detector, build_detector
from tfdet.detectors.masks import MaskBranch
from tfdet.detectors.postprocess import PostProcess
from tfdet.detectors.retina import RetinaDetector
from tfdet.detectors.two_stage import TwoStageDetector

__all__ = [
    "DensePostProcess",
    "Detector",
    "MaskBranch",
    "PostProcess",
    "RetinaDetector",
    "TwoStageDetector",
    "build_detector",
]
