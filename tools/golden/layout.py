"""Our maps in the layout of stored ones."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfdet.ops.proposals_portable import foreground_probability


def nchw(x: tf.Tensor) -> np.ndarray:
    """[B, H, W, C] -> [B, C, H, W]."""
    return np.asarray(x).transpose(0, 3, 1, 2)


def rpn_scores(logits: tf.Tensor) -> np.ndarray:
    """Softmax in SimpleDet's channel order, [B, 2A, H, W]."""
    foreground = nchw(foreground_probability(logits))
    return np.concatenate([1.0 - foreground, foreground], axis=1)
