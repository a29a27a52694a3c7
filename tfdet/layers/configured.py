"""Layers that Keras makes again of their arguments."""

from __future__ import annotations

import inspect
from typing import Any

import keras


class CompositeLayer(keras.layers.Layer):
    """A layer of layers, which are made in its constructor and get their variables when they are called first.

    Keras would otherwise trace every level once to build it: of a unit in a stage in a backbone, all that is done once
    would be done four times.
    """

    def build(self, input_shape: Any) -> None:
        """Nothing: the layers inside build themselves."""
        self.built = True


class ConfiguredLayer(CompositeLayer):
    """A layer that keeps each argument of its constructor under the argument's name: they are its config.

    Keras' own recording sees what the caller gave and not what gin did.
    """

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments by name; `type(layer).from_config` makes the same layer of them."""
        _, *names = inspect.signature(type(self).__init__).parameters
        return {name: getattr(self, name) for name in names}
