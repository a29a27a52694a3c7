"""Runs a detector over a data set and measures its detections with COCO's figures."""
