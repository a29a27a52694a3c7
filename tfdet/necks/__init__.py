"""Necks: backbone features -> pyramid."""

from tfdet.necks.fpn import FPN
from tfdet.necks.reduce import ReduceNeck
from tfdet.necks.retina import RetinaNeck

__all__ = ["FPN", "ReduceNeck", "RetinaNeck"]
