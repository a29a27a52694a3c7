"""AdamW: Adam whose weight decay is beside the gradient, not in it.

    d = f * lr * decay * w                  f is the variable's factor of the learning rate; 0 for what does not decay
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g^2
    w = w - d - f * lr * (m / (1 - b1^n)) / (sqrt(v / (1 - b2^n)) + epsilon)

at the n-th update that was not skipped. g is the gradient after all that `optimizer.py` says before the momentum. This
is torch.optim.AdamW, whose epsilon is added to the corrected root of v. Keras adds it to the root before the
correction, so that the same number is a larger epsilon in Keras' first updates.

Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019; torch.optim.AdamW.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdet.training.optimizer import SLOT_GROUPS, Optimizer
from tfdet.training.precision import LossScale
from tfdet.training.variables import zeros_beside


class AdamW(Optimizer):
    """The update above over a fixed list of variables.

    Args:
        variables, loss_scale: of `Optimizer`.
        betas: b1 and b2, in [0, 1).
        epsilon: positive.
        options: further arguments of `Optimizer`; by default .05 of the kernels decays.

    Attributes:
        first, second: dicts from variable path to m and v, float32 of the variable's shape.
        updates: int64 scalar, n.
    """

    rule = "adamw"

    def __init__(
        self,
        variables: Sequence[keras.Variable],
        loss_scale: LossScale,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        **options: Any,
    ):
        super().__init__(variables, loss_scale, **({"weight_decay": 0.05, "decayed": ("kernel",)} | options))
        # As the kernel has them: in float32 1 - .999 is off by 1e-5, and the corrections have to be off with it.
        self.betas = tuple(float(np.float32(beta)) for beta in betas)
        self.epsilon = float(epsilon)
        self.first = zeros_beside(self.variables_to_train, "first_moment")
        self.second = zeros_beside(self.variables_to_train, "second_moment")
        first_replica = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.updates = tf.Variable(0, dtype=tf.int64, trainable=False, name="updates", aggregation=first_replica)
        self.slots = {
            SLOT_GROUPS["adamw"]: self.first,
            "adam_second": self.second,
            "adam": {"updates": self.updates},
        }

    def _update(self, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor) -> None:
        update = self.updates.read_value() + 1
        tf.raw_ops.AssignVariableOp(resource=self.updates.handle, value=update)
        of_first, of_second = (
            1.0 - tf.constant(beta, tf.float64) ** tf.cast(update, tf.float64) for beta in self.betas
        )
        root = tf.sqrt(of_second)
        correction, epsilon = (tf.cast(value, tf.float32) for value in (root / of_first, self.epsilon * root))
        none = tf.constant(0.0)  # the powers of the betas, of which the kernel would make its own correction
        for variable, gradient, decayed, rate in self._rows(gradients, learning_rate):
            handle = variable.value.handle
            if decayed:
                lost = rate * self.weight_decay * tf.convert_to_tensor(variable.value)
                tf.raw_ops.AssignSubVariableOp(resource=handle, value=lost)
            # One pass over variable and moments.
            tf.raw_ops.ResourceApplyAdam(
                var=handle,
                m=self.first[variable.path].handle,
                v=self.second[variable.path].handle,
                beta1_power=none,
                beta2_power=none,
                lr=rate * correction,
                beta1=self.betas[0],
                beta2=self.betas[1],
                epsilon=epsilon,
                grad=gradient,
            )
