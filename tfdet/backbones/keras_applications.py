"""keras.applications' networks as backbones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import keras

from tfdet.backbones.functional import FunctionalBackbone, Source
from tfdet.backbones.keras_models import MODELS, KerasModelName
from tfdet.backbones.resnet_v1 import Stage
from tfdet.config import configurable
from tfdet.config.ranges import PositiveRgb, Range, Rgb
from tfdet.errors import ParameterError, UserError
from tfdet.layers import DropPath, Norm


@configurable
class KerasBackbone(FunctionalBackbone):
    """A network of keras.applications as the backbone of a detector with a pyramid: `FPN` or `RetinaNeck`.

    Args:
        model: its name in keras.applications, such as "EfficientNetV2S"; `keras_models.MODELS` has all of them, with
            the layers that the maps are taken from.
        norm: of every batch normalisation: "frozen" (stored statistics in training too), "local", "sync" or "group".
            ConvNeXt has layer normalisation, which this leaves alone.
        drop_path: in training the probability with which the deepest residual unit of an image is left out; of those
            before it proportionally less. 0 leaves out none. EfficientNets and ConvNeXt have such units.
        recompute: stages, 1 to 4, whose activations are computed again for the gradient and not kept; () for none.
        pixel_mean, pixel_std: RGB, 0..255, with which the detector normalises; None: those of the ImageNet weights.

    Call and shapes: see `FunctionalBackbone`.

    Raises:
        ParameterError: an unknown name, or a drop_path for a network without stochastic depth.

    Example:
        ```python
        backbone = KerasBackbone("EfficientNetV2B0")
        c2, c3, c4, c5 = backbone(images)  # strides 4 to 32, channels 32, 48, 112, 192
        ```
    """

    def __init__(
        self,
        model: KerasModelName = "EfficientNetV2S",
        norm: Norm = "frozen",
        drop_path: Annotated[float, Range(least=0, below=1)] = 0.0,
        recompute: tuple[Stage, ...] = (),
        pixel_mean: Rgb | None = None,
        pixel_std: PositiveRgb | None = None,
        name: str = "backbone",
    ):
        super().__init__(name=name)
        self.model, self.norm, self.drop_path, self.recompute = model, norm, drop_path, tuple(recompute)
        known = MODELS[model]
        if drop_path and not known.drops:
            raise ParameterError(f"Expected KerasBackbone.drop_path = 0: {model} has no stochastic depth")
        self.trained_with = known.pixels.mean, known.pixels.std
        self.pixel_mean = tuple(pixel_mean or known.pixels.mean)
        self.pixel_std = tuple(pixel_std or known.pixels.std)
        source = self.source()
        self._cut(source, norm, _DropPaths(source.model, known.drops, drop_path) if drop_path else None)

    def source(self, weights: str | None = None) -> Source:
        """The network as Keras makes it, with random weights or those that `weights` names there."""
        known = MODELS[self.model]
        make = getattr(keras.applications, self.model)
        switch = {"include_preprocessing": False} if known.switch else {}
        model = make(include_top=False, weights=weights, input_shape=(None, None, 3), **switch)
        model, start, outputs = outputs_of(model)
        cuts = tuple(outputs[name] for name in known.cuts)
        return Source(model, start, cuts, *known.pixels)

    def imagenet(self) -> tuple[str, dict[str, keras.Variable]]:
        """The file of the network's ImageNet weights, and their values by the path of the backbone's variables.

        Keras downloads the file to its own cache, `~/.keras/models` or `$KERAS_HOME/models`, and checks it.

        Raises:
            UserError: it is not there and cannot be fetched.
        """
        file = MODELS[self.model].file
        path = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models" / file
        if not os.path.isfile(path) and os.environ.get("TFDET_OFFLINE", "0") not in ("", "0"):
            raise UserError(f"{path}: no such file, and TFDET_OFFLINE is set: put Keras' {file} there")
        try:
            source = self.source("imagenet")
        except Exception as error:  # Keras raises plain ones
            if "URL fetch failure" not in str(error):
                raise
            address = next((word.rstrip(":") for word in str(error).split() if "://" in word), file)
            raise UserError(
                f"{self.model}: its ImageNet weights cannot be fetched ({str(error).rpartition('--')[2].strip()}): put "
                f"{address} into {path.parent}"
            ) from error
        return str(path), self.variables_of(source)


def outputs_of(model: keras.Model) -> tuple[keras.Model, keras.KerasTensor, dict[str, keras.KerasTensor]]:
    """What a network of keras.applications computes on the way.

    Returns:
        The network with no model inside, of the same layers; its input behind the preprocessing; the output of every
        layer by its name, and of the whole by "".
    """
    outputs: dict[str, keras.KerasTensor] = {}

    def call(layer, *args, **kwargs):
        if isinstance(layer, keras.Sequential):  # a map of ConvNeXt is inside of one
            (x,) = args
            for part in layer.layers:
                outputs[part.name] = x = part(x)
            return x
        outputs[layer.name] = result = layer(*args, **kwargs)
        return result

    if any(isinstance(layer, keras.Sequential) for layer in model.layers):
        model = keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)
    else:
        outputs = {layer.name: layer.output for layer in model.layers}
    start = model.input
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization)):
            start = outputs[layer.name]
    return model, start, {**outputs, "": model.outputs[0]}


class _DropPaths:
    """`DropPath` in place of the layers of a network that are its stochastic depth, with rates up to `highest`."""

    def __init__(self, model: keras.Model, drops: str, highest: float):
        names = [layer.name for layer in model.layers if layer.name.endswith(drops)]
        self.rates = {name: highest * number / len(names) for number, name in enumerate(names, 1)}

    def __call__(self, layer: keras.layers.Layer) -> keras.layers.Layer | None:
        return DropPath(self.rates[layer.name], name=layer.name) if layer.name in self.rates else None
