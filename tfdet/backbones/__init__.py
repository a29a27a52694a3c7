"""Backbones: image -> feature maps."""

from tfdet.backbones.resnet_v1 import ResNetV1, ResNetV1Stage

__all__ = ["ResNetV1", "ResNetV1Stage"]
