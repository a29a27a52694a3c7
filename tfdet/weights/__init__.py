"""Weights of other programs: readers, name maps, load report."""

from tfdet.weights.load import LoadReport, find_weights, load
from tfdet.weights.readers import read_params, read_weights, write_params

__all__ = ["LoadReport", "find_weights", "load", "read_params", "read_weights", "write_params"]
