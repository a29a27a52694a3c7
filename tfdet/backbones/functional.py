"""Keras models as backbones: cut at their feature maps into stages, which are then trained as tfdet's own are."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from tfdet.layers import (
    BatchNorm,
    ConfiguredLayer,
    GroupNorm,
    LayerScale,
    current_drop_seed,
    drop_seed,
    in_inference,
    recomputed,
)
from tfdet.layers.group_norm import GROUP
from tfdet.ops.padding import crop_to_stride, pad_to_multiple

STRIDES = (4, 8, 16, 32)
PARTS = ("conv0", "stage1", "stage2", "stage3", "stage4")
"""The parts of a backbone by the names that the ResNets have: what is before stride 4, and one for each map."""

Convert = Callable[[keras.layers.Layer], keras.layers.Layer]


class Source(NamedTuple):
    """A functional Keras model and where it is cut.

    Fields:
        model: the whole model; what it has behind the last map is left out.
        start: its input, behind whatever it does to pixels.
        cuts: five tensors: where conv0 ends (`start` where there is none), and the maps of strides 4, 8, 16 and 32. All
            that is behind one depends on it alone.
        pixel_mean, pixel_std: RGB, 0..255, of what `start` takes: `(image - mean) / std`.
        bgr: whether `start` takes blue, green, red.
    """

    model: keras.Model
    start: keras.KerasTensor
    cuts: tuple[keras.KerasTensor, ...]
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    bgr: bool = False

    def parts(self) -> list[keras.Model | None]:
        """The model in five, which share its layers; None for a conv0 that is not there."""
        ends = zip((self.start, *self.cuts[:-1]), self.cuts, strict=True)
        return [None if a is b else keras.Model(a, b) for a, b in ends]


class FunctionalBackbone(ConfiguredLayer):
    """What backbones that are made of Keras models share; `_cut` in a subclass's constructor makes the layers.

    The layers keep their names, and stand in the parts `conv0` (all before stride 4) and `stage1` to `stage4`, of which
    each ends in a map: `backbone/stage1/block2a_expand_conv/kernel`. So the names that rows freeze mean the same here.

    Of the model's layers some are replaced: batch normalisation by `BatchNorm` or `GroupNorm`, with the model's epsilon
    and tfdet's momentum; stochastic depth by `DropPath`; every other dropout by nothing.

    Attributes:
        pixel_mean, pixel_std: RGB, 0..255, which the detector takes over for its own normalisation.
        channels: of the four maps.

    Call: float [B, H, W, 3], RGB, normalised by these -> list [c2, c3, c4, c5] of [B, ceil(H/s), ceil(W/s), C], strides
    4 to 32. Images are padded at the bottom and at the right with zeros to a multiple of 32, and the maps cropped:
    models pad in different ways, and some drop what is left over, but not where every stride divides the sides.
    """

    strides = list(STRIDES)
    serves_pyramids_alone = True
    """Heads on C4 own a stage 4 of a ResNet, and dilated necks a map of stride 16 in its place."""

    def _cut(self, source: Source, norm: str, convert_others: Convert | None = None) -> None:
        """Makes the stages of a source, with weights of their own; `convert_others` may replace further layers."""
        self.bgr = source.bgr
        self.parts = []
        with keras.name_scope(self.name):
            for name, part in zip(PARTS, source.parts(), strict=True):
                with keras.name_scope(name):
                    self.parts.append(None if part is None else _copied(part, norm, convert_others or _same))
        self.channels = [part.outputs[0].shape[-1] for part in self.parts[1:]]

    def call(self, inputs: tf.Tensor, training: bool = False) -> list[tf.Tensor]:
        training = training and not in_inference()
        x = pad_to_multiple(inputs, STRIDES[-1])
        if self.bgr:
            x = x[..., ::-1]
        features = []
        for number, part in enumerate(self.parts):
            if part is None:
                continue
            if training and number in self.recompute:
                x = recomputed(_Seeded(part, current_drop_seed()), x, training=training)
            else:
                x = part(x, training=training)
            if number:
                features.append(crop_to_stride(x, inputs, STRIDES[number - 1]))
        return features

    def variables_of(self, source: Source) -> dict[str, keras.Variable]:
        """Variables of a source that is built as the backbone's own was, by the path of the backbone's variable."""
        found = {}
        for part, own in zip(source.parts(), self.parts, strict=True):
            for theirs, ours in zip(part.layers, own.layers, strict=True) if part else ():
                found |= {own_variable.path: variable for own_variable, variable in _pairs(theirs, ours)}
        return found


class _Seeded:
    """A part for `recomputed`, whose second run is outside of the first one's `drop_seed`."""

    def __init__(self, part: keras.Model, seed: tf.Tensor | None):
        self.part, self.seed = part, seed
        self.trainable_variables, self.non_trainable_variables = part.trainable_variables, part.non_trainable_variables

    def __call__(self, inputs: tf.Tensor, training: bool) -> tf.Tensor:
        with drop_seed(self.seed):
            return self.part(inputs, training=training)


def _same(layer: keras.layers.Layer) -> keras.layers.Layer | None:
    return None


def _copied(part: keras.Model, norm: str, convert_others: Convert) -> keras.Model:
    """The same computation with layers of its own, for maps of any size."""
    ((*_, channels),) = (tensor.shape for tensor in part.inputs)
    inputs = keras.Input((None, None, channels), dtype=part.inputs[0].dtype)
    convert = _Converter(norm, convert_others)
    return keras.models.clone_model(part, input_tensors=inputs, clone_function=convert, call_function=_call)


def _call(layer: keras.layers.Layer, *args, **kwargs):
    """Calls a layer without what Keras recorded of the phase and of masks in the call of the one that it stands for."""
    return layer(*args, **{name: value for name, value in kwargs.items() if name not in ("training", "mask")})


_REPLACED = (keras.layers.BatchNormalization, keras.layers.Dropout, keras.layers.SpatialDropout2D)


class _Converter:
    """A new layer in place of each layer of one part of a model."""

    def __init__(self, norm: str, convert_others: Convert):
        self.norm, self.convert_others = norm, convert_others
        self.counts: dict[str, int] = {}

    def __call__(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        if not isinstance(layer, keras.layers.Layer):  # an operation such as x + y
            return type(layer).from_config(layer.get_config())
        name = self._stable_name(layer)
        replaced = self.convert_others(layer)
        if replaced is not None:
            return replaced
        if isinstance(layer, keras.layers.BatchNormalization):
            return _norm(self.norm, layer, name)
        if type(layer).__name__ == "LayerScale":  # of keras.applications.convnext, which does not export it
            return LayerScale(layer.init_values, name=name)
        if isinstance(layer, _REPLACED):
            return keras.layers.Identity(name=name)
        copied = type(layer).from_config({**layer.get_config(), "name": name})
        for attribute, inner in list(vars(copied).items()):  # of a layer made of layers
            if isinstance(inner, _REPLACED):
                delattr(copied, attribute)
                copied._tracker.untrack(inner)  # which the deletion of an attribute does for variables alone
                setattr(copied, attribute, self(inner))
        return copied

    def _stable_name(self, layer: keras.layers.Layer) -> str:
        """The layer's name; one that Keras gave is counted within the part and not within the process."""
        kind = re.sub(r"(?<!^)(?=[A-Z])", "_", type(layer).__name__).lower().replace("2_d", "2d")
        if not re.fullmatch(rf"{kind}(_\d+)?", layer.name):
            return layer.name
        number = self.counts[kind] = self.counts.get(kind, -1) + 1
        return f"{kind}_{number}" if number else kind


def _norm(norm: str, layer: keras.layers.BatchNormalization, name: str) -> keras.layers.Layer:
    if norm == GROUP:
        return GroupNorm(name=name)
    return BatchNorm(norm, epsilon=layer.epsilon, name=name)


def _pairs(theirs: keras.layers.Layer, ours: keras.layers.Layer) -> list[tuple[keras.Variable, keras.Variable]]:
    """(ours, theirs) of the variables of two layers of one kind, by their names within the layer."""
    if len(theirs.weights) == len(ours.weights) == 1:
        return [(ours.weights[0], theirs.weights[0])]
    by_name = [{_within(variable.path, layer.name): variable for variable in layer.weights} for layer in (theirs, ours)]
    if set(by_name[0]) != set(by_name[1]):  # names that Keras counted: the same layers made theirs in the same order
        return list(zip(ours.weights, theirs.weights, strict=True))
    return [(by_name[1][name], by_name[0][name]) for name in by_name[1]]


def _within(path: str, layer: str) -> str:
    """`kernel` of `backbone/stage1/conv/kernel` in the layer `conv`."""
    parts = path.split("/")
    return "/".join(parts[parts.index(layer) + 1 :])
