"""KerasHub's backbones with a pyramid: ResNet and ResNet-vd, CSPNet (CSPDarkNet), EfficientNet, DenseNet, MiT."""

from __future__ import annotations

import contextlib
import importlib.util

import keras

from tfdet.backbones import mix_transformer
from tfdet.backbones.functional import STRIDES, FunctionalBackbone, Source
from tfdet.backbones.resnet_v1 import Stage
from tfdet.config import configurable
from tfdet.config.ranges import PositiveRgb, Rgb
from tfdet.errors import ParameterError, UserError
from tfdet.layers import Norm

_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


@configurable
class KerasHubBackbone(FunctionalBackbone):
    """A `FeaturePyramidBackbone` of KerasHub (`pip install tfdet[keras_hub]`) as the backbone of `FPN` or `RetinaNeck`.

    Args:
        preset: name of a preset, such as "resnet_vd_50_imagenet", of which KerasHub fetches configuration and pixels'
            scale into its own cache, and, for `Trainer.init_weights = 'imagenet'`, the weights. None: `architecture`.
        architecture: name of a class of `keras_hub.models`, such as "ResNetBackbone", or a class of that interface.
        options: arguments of that class, by name.
        norm: of every batch normalisation: "frozen", "local", "sync" or "group".
        recompute: stages, 1 to 4, whose activations are computed again for the gradient and not kept; () for none.
        pixel_mean, pixel_std: RGB, 0..255, with which the detector normalises; None: those of the preset, or without
            one the usual ones of ImageNet.

    Dropout and stochastic depth are left out. Of MiT, whose layers know square images of one size alone, the same
    computation for any size is built of tfdet's layers; all its parts are in stage1 to stage4, none in conv0.

    Call and shapes: see `FunctionalBackbone`.

    Raises:
        ParameterError: neither preset nor architecture, or both; a network without maps of strides 4 to 32.
        UserError: KerasHub is not installed, or the preset cannot be had.
    """

    def __init__(
        self,
        preset: str | None = None,
        architecture: str | type | None = None,
        options: dict | None = None,
        norm: Norm = "frozen",
        recompute: tuple[Stage, ...] = (),
        pixel_mean: Rgb | None = None,
        pixel_std: PositiveRgb | None = None,
        name: str = "backbone",
    ):
        super().__init__(name=name)
        if (preset is None) == (architecture is None):
            raise ParameterError(
                "Expected one of KerasHubBackbone.preset and architecture. "
                f"Received: preset={preset!r}, architecture={architecture!r}"
            )
        self.preset, self.architecture, self.options = preset, architecture, dict(options or {})
        self.norm, self.recompute = norm, tuple(recompute)
        self.trained_with = self._pixels()
        self.pixel_mean = tuple(pixel_mean or self.trained_with[0])
        self.pixel_std = tuple(pixel_std or self.trained_with[1])
        self._cut(self.source(), norm, mix_transformer.convert)

    def source(self, weights: bool = False) -> Source:
        """The network as KerasHub makes it, with random weights or those of the preset."""
        if self.preset is not None:
            with _as_user_error(self.preset):
                pyramid = _keras_hub().models.FeaturePyramidBackbone
                model = pyramid.from_preset(self.preset, load_weights=weights, **self.options)
        else:
            model = self._class()(**self.options)
        maps = _by_stride(model)
        missing = [stride for stride in STRIDES if stride not in maps]
        if missing:
            raise ParameterError(
                f"Expected maps of strides {STRIDES} from {self.preset or self.architecture}. "
                f"Received: {tuple(sorted(maps)) or 'no pyramid_outputs'}"
            )
        stem = _end_of_stem(model, maps[4])
        return Source(model, model.inputs[0], (stem, *(maps[stride] for stride in STRIDES)), *self.trained_with)

    def imagenet(self) -> tuple[str, dict[str, keras.Variable]]:
        """The preset, and the values of its weights by the path of the backbone's variables.

        Raises:
            UserError: there is no preset, or it cannot be fetched.
        """
        if self.preset is None:
            raise UserError("KerasHubBackbone.preset has no value: an architecture alone has no published weights")
        return f"{self.preset} (KerasHub)", self.variables_of(self.source(weights=True))

    def _class(self) -> type:
        if not isinstance(self.architecture, str):
            return self.architecture
        found = getattr(_keras_hub().models, self.architecture, None)
        if found is None:
            raise ParameterError(f"KerasHubBackbone.architecture = {self.architecture!r}: not in keras_hub.models")
        return found

    def _pixels(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, std) of what the network was trained on: KerasHub scales pixels and adds an offset."""
        if self.preset is None:
            return _MEAN, _STD
        with _as_user_error(self.preset):
            converter = _keras_hub().layers.ImageConverter.from_preset(self.preset)
        scale = _triple(converter.scale, 1.0)
        offset = _triple(converter.offset, 0.0)
        return tuple(-o / s for o, s in zip(offset, scale)), tuple(1.0 / s for s in scale)


def _triple(value: float | tuple | None, default: float) -> tuple[float, float, float]:
    if value is None or not hasattr(value, "__len__"):
        value = [default if value is None else value] * 3
    first, second, third = (float(number) for number in value)
    return first, second, third


def _keras_hub():
    if importlib.util.find_spec("keras_hub") is None:
        raise UserError("KerasHubBackbone needs KerasHub: pip install 'tfdet[keras_hub]'")
    import keras_hub

    return keras_hub


@contextlib.contextmanager
def _as_user_error(preset: str):
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of KerasHub, Kaggle's client, Hugging Face's, requests
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"KerasHubBackbone.preset = {preset!r} cannot be had ({reason[:200]}); a folder with the preset may be "
            "named in its place"
        ) from error


def _by_stride(model: keras.Model) -> dict[int, keras.KerasTensor]:
    """The maps of a pyramid by their strides. Levels do not tell: P2 of CSPDarkNet has stride 2, P1 of MiT stride 4."""
    found: dict[int, keras.KerasTensor] = {}
    for tensor in getattr(model, "pyramid_outputs", {}).values():
        start = model.inputs[0]
        if start.shape[1] is not None:  # MiT is built for one size
            found[start.shape[1] // tensor.shape[1]] = tensor
        else:
            found[128 // keras.Model(start, tensor).compute_output_shape((1, 128, 128, 3))[1]] = tensor
    return found


def _end_of_stem(model: keras.Model, first_map: keras.KerasTensor) -> keras.KerasTensor:
    """The last tensor of stride 2 on which all that follows depends, or where there is none the network's input."""
    start = model.inputs[0]
    part = keras.Model(start, first_map)
    for layer in reversed(part.layers):
        if isinstance(layer, keras.layers.InputLayer) or not layer.weights and "activation" not in layer.name:
            continue
        output = layer.output
        if isinstance(output, keras.KerasTensor) and len(output.shape) == 4:
            with contextlib.suppress(ValueError):  # it is not connected by this tensor alone
                keras.Model(output, first_map)
                before = keras.Model(start, output)
                if before.compute_output_shape((1, 64, 64, 3))[1] == 32:
                    return output
    return start
