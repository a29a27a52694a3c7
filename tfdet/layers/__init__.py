"""Building blocks that backbones, necks and heads share."""

from tfdet.layers.configured import CompositeLayer, ConfiguredLayer
from tfdet.layers.conv import INIT_STD, SymmetricConv2D
from tfdet.layers.conv_norm import convolve_and_normalize
from tfdet.layers.deform_conv import DeformConv2D
from tfdet.layers.dilated_conv import DilatedConv2D
from tfdet.layers.drop_path import DropPath, current_drop_seed, drop_seed
from tfdet.layers.existing import on_existing
from tfdet.layers.group_norm import (
    GroupNorm,
    HeadNorm,
    Norm,
    make_final_norm,
    make_head_norms,
    make_norm,
    make_norms,
    takes_batch_statistics,
)
from tfdet.layers.inference import in_inference, layers_in_inference
from tfdet.layers.initial import Program, TorchDense, draw_by_outputs, draw_each, torch_bias
from tfdet.layers.layer_scale import LayerScale
from tfdet.layers.normalization import BN_EPSILON, BatchNorm, BatchNormMode
from tfdet.layers.recompute import recomputed

__all__ = [
    "BN_EPSILON",
    "INIT_STD",
    "BatchNorm",
    "BatchNormMode",
    "CompositeLayer",
    "ConfiguredLayer",
    "DeformConv2D",
    "DilatedConv2D",
    "DropPath",
    "GroupNorm",
    "HeadNorm",
    "LayerScale",
    "Norm",
    "Program",
    "SymmetricConv2D",
    "TorchDense",
    "convolve_and_normalize",
    "current_drop_seed",
    "draw_by_outputs",
    "draw_each",
    "drop_seed",
    "in_inference",
    "layers_in_inference",
    "make_final_norm",
    "make_head_norms",
    "make_norm",
    "make_norms",
    "on_existing",
    "recomputed",
    "takes_batch_statistics",
    "torch_bias",
]
