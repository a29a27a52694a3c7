"""Building blocks that backbones, necks and heads share."""

from tfdet.layers.conv import SymmetricConv2D
from tfdet.layers.dilated_conv import DilatedConv2D
from tfdet.layers.normalization import BN_EPSILON, BatchNorm

__all__ = ["BN_EPSILON", "BatchNorm", "DilatedConv2D", "SymmetricConv2D"]
