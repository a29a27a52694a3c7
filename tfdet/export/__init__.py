"""Writes a detector as a SavedModel that needs TensorFlow alone, and checks what was written."""
