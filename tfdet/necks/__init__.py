"""Necks: backbone features -> pyramid."""

from tfdet.necks.fpn import FPN
from tfdet.necks.reduce import ReduceNeck

__all__ = ["FPN", "ReduceNeck"]
