"""Predictions and targets in, float32 scalars out; 0, never NaN, when there is nothing to learn from."""
