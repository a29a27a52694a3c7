"""Detectors of tfdet in other programs' frames.

sahi   a detection model for SAHI, which slices images itself
"""
