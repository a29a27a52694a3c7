"""Weights of other programs: readers, name maps, load report."""

from tfdet.weights.load import LoadReport, load
from tfdet.weights.mxnet_params import read_params, write_params

__all__ = ["LoadReport", "load", "read_params", "write_params"]
