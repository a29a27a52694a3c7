"""Named steps that turn an array of another program into tfdet's layout."""

from __future__ import annotations

import numpy as np


def same(array: np.ndarray) -> np.ndarray:
    """Vectors: biases and BN parameters. Folded BN is stored as (1, C, 1, 1)."""
    return array.reshape(-1)


def oihw_to_hwio(array: np.ndarray) -> np.ndarray:
    """Convolution kernels [out, in, kh, kw] -> [kh, kw, in, out]."""
    return array.transpose(2, 3, 1, 0)


def dense(array: np.ndarray) -> np.ndarray:
    """Fully connected weights [out, in] or, as a 1x1 convolution, [out, in, 1, 1] -> [in, out]."""
    return array.reshape(array.shape[0], -1).T


def dense_from_chw(cells: int):
    """Fully connected weights over a feature map flattened C, H, W -> over one flattened H, W, C.

    Args:
        cells: side of the square map.
    """

    def dense_from_chw_(array: np.ndarray) -> np.ndarray:
        out = array.shape[0]
        channels = array.size // out // cells**2
        return array.reshape(out, channels, cells, cells).transpose(2, 3, 1, 0).reshape(-1, out)

    return dense_from_chw_
