"""tfdet: object detection on TensorFlow and Keras."""

__version__ = "0.1.0"
