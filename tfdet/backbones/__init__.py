"""Backbones: image -> feature maps."""

from tfdet.backbones.functional import FunctionalBackbone
from tfdet.backbones.keras_applications import KerasBackbone
from tfdet.backbones.keras_hub import KerasHubBackbone
from tfdet.backbones.residual import Residuals
from tfdet.backbones.resnet_v1 import ResNetV1, ResNetV1Stage
from tfdet.backbones.resnet_v2 import ResNetV2, ResNetV2Stage

__all__ = [
    "FunctionalBackbone",
    "KerasBackbone",
    "KerasHubBackbone",
    "Residuals",
    "ResNetV1",
    "ResNetV1Stage",
    "ResNetV2",
    "ResNetV2Stage",
]
