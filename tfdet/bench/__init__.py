"""Measurements of speed and memory, for `tfdet benchmark`."""
