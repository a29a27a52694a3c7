"""Heads: features -> predictions."""

from tfdet.heads.bbox import C5BboxHead, C5V2BboxHead, ConvBboxHead, MlpBboxHead
from tfdet.heads.mask import MaskHead
from tfdet.heads.retina import RetinaHead
from tfdet.heads.roi_extractor import RoiExtractor
from tfdet.heads.rpn import RpnHead

__all__ = [
    "C5BboxHead",
    "C5V2BboxHead",
    "ConvBboxHead",
    "MaskHead",
    "MlpBboxHead",
    "RetinaHead",
    "RoiExtractor",
    "RpnHead",
]
