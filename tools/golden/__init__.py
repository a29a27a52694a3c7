"""Compares detectors that the gin files build with stored outputs of SimpleDet, Detectron2 and torchvision."""
