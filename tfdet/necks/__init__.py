"""Necks: backbone features -> pyramid."""

from tfdet.necks.fpn import FPN

__all__ = ["FPN"]
