"""Weights of other programs: file formats, name maps, loading and converting."""

from tfdet.weights.formats import read_params, read_weights, write_params
from tfdet.weights.load import IMAGENET, LoadReport, find_weights, load

__all__ = ["IMAGENET", "LoadReport", "find_weights", "load", "read_params", "read_weights", "write_params"]
