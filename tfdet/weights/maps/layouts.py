"""Named steps that turn an array of another program into tfdet's layout."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tfdet.layers import BN_EPSILON


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

    def to_chw(array: np.ndarray) -> np.ndarray:
        out = array.shape[1]
        return array.reshape(cells, cells, -1, out).transpose(3, 2, 0, 1).reshape(out, -1)

    dense_from_chw_.inverse = to_chw
    return dense_from_chw_


def first_oihw_from_bgr(array: np.ndarray) -> np.ndarray:
    """The first convolution of a network fed B, G, R, [out, 3, kh, kw] -> [kh, kw, 3, out] for R, G, B."""
    return oihw_to_hwio(array[:, ::-1])


def deconv(array: np.ndarray) -> np.ndarray:
    """Transposed convolution kernels [in, out, kh, kw] -> [kh, kw, out, in], as Keras stores them."""
    return array.transpose(2, 3, 1, 0)


def background_first(array: np.ndarray) -> np.ndarray:
    """Rows of classes with background last [C + 1, ...] -> with background first."""
    return np.concatenate([array[-1:], array[:-1]])


def dense_background_first(array: np.ndarray) -> np.ndarray:
    """`dense` of a class predictor whose background is last."""
    return dense(background_first(array))


def with_background_box(array: np.ndarray) -> np.ndarray:
    """Rows of box offsets without background [4 C, ...] -> [4 (1 + C), ...], zeros for the box of the background.

    Of a class-agnostic predictor, [4, ...] -> [8, ...], of which tfdet reads the last four, as SimpleDet does.
    """
    return np.concatenate([np.zeros_like(array[:4]), array])


def dense_with_background_box(array: np.ndarray) -> np.ndarray:
    """`dense` of a box predictor that has no box of the background."""
    return dense(with_background_box(array))


def hwio(array: np.ndarray) -> np.ndarray:
    """Kernels that are in tfdet's layout already."""
    return array


def first_hwio_from_bgr(array: np.ndarray) -> np.ndarray:
    """The first convolution of a network fed B, G, R, [kh, kw, 3, out] -> the same for R, G, B."""
    return array[:, :, ::-1]


def variance_from_epsilon(epsilon: float):
    """Variances of a BN that adds `epsilon` -> those with which tfdet's `BN_EPSILON` gives the same scale."""

    def variance_from_epsilon_(array: np.ndarray) -> np.ndarray:
        return (array.reshape(-1).astype(np.float64) + (epsilon - BN_EPSILON)).astype(np.float32)

    return variance_from_epsilon_


def fold_bias(mean: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Mean of a BN behind a convolution with a bias -> mean behind the same convolution without it."""
    return mean - bias


def hwio_to_oihw(array: np.ndarray) -> np.ndarray:
    """Convolution kernels [kh, kw, in, out] -> [out, in, kh, kw]; transposed ones too, with in and out exchanged."""
    return array.transpose(3, 2, 0, 1)


def dense_to_rows(array: np.ndarray) -> np.ndarray:
    """Fully connected weights [in, out] -> [out, in]."""
    return array.T


_INVERSES = {same: same, hwio: hwio, oihw_to_hwio: hwio_to_oihw, deconv: hwio_to_oihw, dense: dense_to_rows}


def inverse(step: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """The step back, from tfdet's layout to the other program's; ValueError for one that has none."""
    back = getattr(step, "inverse", None) or _INVERSES.get(step)
    if back is None:
        raise ValueError(f"Expected a step that can be undone. Received: {step.__name__}")
    return back
