"""A forward pass of training through layers as they are in inference: what a validation loss is computed by."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

_ENTERED: contextvars.ContextVar[bool] = contextvars.ContextVar("layers_in_inference", default=False)


@contextlib.contextmanager
def layers_in_inference() -> Iterator[None]:
    """While entered, a call with `training=True` normalises by stored statistics, moves none and drops nothing.

    All else of training stays: how many proposals there are, the branches of a TridentNet, targets and samplers. It
    holds where a graph is traced, in the thread that enters it.
    """
    token = _ENTERED.set(True)
    try:
        yield
    finally:
        _ENTERED.reset(token)


def in_inference() -> bool:
    """Whether `layers_in_inference` is entered."""
    return _ENTERED.get()
