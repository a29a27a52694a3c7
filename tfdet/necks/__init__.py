"""Necks: backbone features -> pyramid."""

from tfdet.necks.fpn import FPN
from tfdet.necks.retina import RetinaNeck

__all__ = ["FPN", "RetinaNeck"]
