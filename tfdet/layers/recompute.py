"""Activations computed again for the way back rather than kept."""

from __future__ import annotations

import keras
import tensorflow as tf


def recomputed(layer: keras.layers.Layer, inputs: tf.Tensor, **options) -> tf.Tensor:
    """`layer(inputs, **options)`, of which the gradient keeps the input alone and runs the layer once more.

    Outputs, gradients and the moving statistics of normalisation are those of the plain call: what the second run
    would do to the statistics is dropped.

    The weights enter as tensors (`keras.StatelessScope`). `tf.recompute_grad` finds variables by watching which are
    read, and knows neither the Keras ones under a distribution strategy nor assignments inside.

    Args:
        layer: built, with one tensor as input and one as output.
        inputs: float [B, ...].
        options: further arguments of the call, such as `training`; no tensors that need a gradient.

    Returns:
        What the layer returns.

    Source: Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
    """
    weights, others = layer.trainable_variables, layer.non_trainable_variables
    # Not `value`: within a layer's call that is the variable cast to half, and the gradient's sum would be in half.
    own_values, kept = ([tf.convert_to_tensor(v._value) for v in group] for group in (weights, others))

    def forward(x: tf.Tensor, values: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        mapping = [*zip(weights, values, strict=True), *zip(others, kept, strict=True)]
        with keras.StatelessScope(mapping) as scope:
            outputs = layer(x, **options)
        return outputs, [scope.get_current_value(variable) for variable in others]

    moved: list[tf.Tensor] = []

    @tf.custom_gradient
    def run(x, *values):
        outputs, after = forward(x, list(values))
        moved.extend(after)

        def gradient(upstream):
            # Without this order TensorFlow would run the second forward pass right after the first.
            with tf.control_dependencies([upstream]):
                again, *own = [tf.identity(tensor) for tensor in (x, *values)]
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch([again, *own])
                    second, _ = forward(again, own)
            return tape.gradient(second, [again, *own], upstream, unconnected_gradients=tf.UnconnectedGradients.ZERO)

        return outputs, gradient

    outputs = run(inputs, *own_values)
    for variable, before, after in zip(others, kept, moved, strict=True):
        if after is not before:
            variable.assign(after)
    return outputs
