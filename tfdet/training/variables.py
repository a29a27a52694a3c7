"""Which variables of a detector are trained, and which move without being trained."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.layers import BatchNorm


def select_trained(detector, frozen: Sequence[str]) -> list[keras.Variable]:
    """The trainable variables whose path holds none of the strings: SimpleDet's rule of frozen parameters.

    Args:
        detector: Keras model.
        frozen: parts of variable paths, such as `backbone/stage1` or `gamma`.

    Raises:
        UserError: a string is in no path, or nothing is left to train.

    Source: SimpleDet core/detection_module.py, `fixed_param`.
    """
    paths = [variable.path for variable in detector.variables]
    for part in frozen:
        if not any(part in path for path in paths):
            words = sorted({word for path in paths for word in path.split("/")})
            near = difflib.get_close_matches(part.rsplit("/", 1)[-1], words, 1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise UserError(f"Trainer.frozen: no variable of the detector has '{part}' in its path{hint}")
    trained = [v for v in detector.trainable_variables if not any(part in v.path for part in frozen)]
    if not trained:
        raise UserError("Trainer.frozen freezes every variable of the detector: nothing is left to train")
    return trained


def moving_statistics(detector) -> list[keras.Variable]:
    """The float32 variables that a forward pass in training moves by itself.

    Statistics of normalisation whose layer moves them, and whatever else is not trained, such as
    `RetinaDetector.moving_foreground`. Not among them are the statistics that a layer holds still: those of a frozen
    `BatchNorm`, and of Keras' own layer where it is not trainable.

    Args:
        detector: Keras model, built.
    """
    still: set[str] = set()
    for layer in filter(lambda layer: layer.built, detector._flatten_layers()):
        if isinstance(layer, BatchNorm):
            moving = layer.moving_statistics
        elif isinstance(layer, keras.layers.BatchNormalization):
            moving = [layer.moving_mean, layer.moving_variance] if layer.trainable else []
        else:
            continue
        still |= {variable.path for variable in layer.variables} - {variable.path for variable in moving}
    variables = [variable for variable in detector.non_trainable_variables if variable.dtype == "float32"]
    return [variable for variable in variables if variable.path not in still]


def frozen_at_random(detector, trained: Sequence[keras.Variable], left: Sequence[str] | None) -> list[str]:
    """A warning where variables that only training could have filled are frozen; none where there are none.

    Args:
        detector: Keras model.
        trained: what `select_trained` returned.
        left: paths of the variables that no file filled; None: nothing was loaded.
    """
    learning = {variable.path for variable in trained}
    frozen = [v.path for v in detector.trainable_variables if v.path not in learning]
    if left is not None:
        frozen = [path for path in frozen if path in left]
    if not frozen:
        return []
    shown = ", ".join(frozen[:3]) + (", ..." if len(frozen) > 3 else "")
    return [
        f"{len(frozen)} variables are frozen at their initial values ({shown}): change Trainer.frozen, or start from "
        "weights that have them (Trainer.init_weights)"
    ]


def describe(detector, trained: Sequence[keras.Variable]) -> dict[str, str]:
    """Counts of parameters, as rows of the start-up table."""

    def count(variables) -> str:
        return f"{sum(math.prod(variable.shape) for variable in variables):,} in {len(variables)} tensors"

    names = {variable.path for variable in trained}
    return {
        "parameters trained": count(trained),
        "parameters frozen": count([variable for variable in detector.variables if variable.path not in names]),
    }


def zeros_beside(variables: Sequence[keras.Variable], name: str) -> dict[str, tf.Variable]:
    """A float32 variable of zeros for each variable, by its path: momenta, averages. Make them under the scope.

    Args:
        variables: Keras variables; their paths are unique.
        name: of each new variable.
    """
    return {
        variable.path: tf.Variable(
            tf.zeros(variable.shape, tf.float32),
            trainable=False,
            name=name,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        for variable in variables
    }
