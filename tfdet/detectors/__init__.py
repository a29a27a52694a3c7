"""Detectors: parts wired into models with `losses(batch, seed)` and `detect(images, image_info)`."""

from tfdet.detectors.postprocess import PostProcess
from tfdet.detectors.two_stage import TwoStageDetector, build_detector

__all__ = ["PostProcess", "TwoStageDetector", "build_detector"]
