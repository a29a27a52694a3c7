"""What an update makes of the gradients, safe under MirroredStrategy and float16; and SGD with momentum exactly as
SimpleDet (MXNet) or torch applies it. AdamW has a file of its own, `adamw.py`.

One update, with the gradients g_r of R replicas, each already normalised on its replica:

    g = mean_r(g_r) / loss scale        the all-reduce comes first ...
    finite = all(isfinite(g))           ... so that every replica takes the same decision
    g = clip(g, -c, c)                  element by element, before the weight decay
    g = g * min(1, n / |g|)             or by the norm over all variables; not in SimpleDet
    m = momentum * m - lr * f * (g + decay * w)     f is the variable's factor of the learning rate, 1 by default
    w = w + m                           the learning rate is inside the buffer

or, for the last two lines, by torch's rule, where the learning rate is not in the buffer, so that a decay of the rate
acts on the momentum too:

    m = momentum * m + g + decay * w
    w = w - lr * f * m

Where the result is not finite, neither m nor w moves, on any replica.

Why not `keras.optimizers`: the `LossScaleOptimizer` of Keras 3 looks at the gradients of replica 0 before the
all-reduce, so an infinity on another replica writes NaN into every weight; its `clipvalue` too acts before
the all-reduce; and its SGD has no decay of gradients after the clip.

Source: SimpleDet core/detection_module.py and detection_train.py; MXNet `SGD` with momentum; torch.optim.SGD without
dampening and Nesterov's momentum, which Detectron2 and torchvision's recipes use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.ops.replica_mean import replica_mean
from tfdet.training.precision import LossScale
from tfdet.training.variables import zeros_beside

UpdateRule = Literal["mxnet", "torch", "adamw"]
"""SGD with the learning rate inside the momentum or outside of it, or AdamW."""


class Optimizer(tf.Module):
    """An update over a fixed list of variables: what all rules share. A subclass says how one variable moves.

    Make it under the scope of the strategy: what it keeps is mirrored as the variables are.

    Args:
        variables: the Keras variables to train, float32; their `path`s are unique.
        loss_scale: the scale that `losses` were multiplied by before differentiation.
        weight_decay: not negative.
        decayed: last parts of the paths of variables that are decayed; all others, biases and betas, are not.
        undecayed: parts of the paths of variables that are not decayed all the same.
        clip: positive limit of the absolute value of a gradient's element, or None.
        clip_norm: positive limit of the L2 norm of all gradients together, or None; acts after `clip`.
        lr_factors: parts of the paths of variables -> factor, not negative, of their learning rate; of several that
            fit a path the longest counts. MXNet's `lr_mult`.

    Attributes:
        rule: its name.
        slots: what it keeps of the past, by the name of a group in checkpoints (`SLOT_GROUPS`) and the path of a
            variable: what continues a run bit for bit.
    """

    rule: UpdateRule
    slots: dict[str, dict[str, tf.Variable]]

    def __init__(
        self,
        variables: Sequence[keras.Variable],
        loss_scale: LossScale,
        weight_decay: float = 1e-4,
        decayed: Sequence[str] = ("kernel", "gamma"),
        clip: float | None = None,
        undecayed: Sequence[str] = (),
        clip_norm: float | None = None,
        lr_factors: Mapping[str, float] | None = None,
    ):
        super().__init__(name="optimizer")
        self.variables_to_train = list(variables)
        self.loss_scale = loss_scale
        self.weight_decay = float(weight_decay)
        self.clip = None if clip is None else float(clip)
        self.clip_norm = None if clip_norm is None else float(clip_norm)
        self.is_decayed = [
            variable.path.rsplit("/", 1)[-1] in decayed and not any(part in variable.path for part in undecayed)
            for variable in self.variables_to_train
        ]
        self.lr_factors = [_factor(variable.path, lr_factors or {}) for variable in self.variables_to_train]
        _check_factors(lr_factors or {}, [variable.path for variable in self.variables_to_train])

    def dense(self, gradients: Sequence[tf.Tensor | None]) -> list[tf.Tensor]:
        """The gradients as float32 tensors, one for each variable.

        Raises:
            UserError: a variable on which no loss depends.
        """
        pairs = zip(self.variables_to_train, gradients, strict=True)
        orphans = [variable.path for variable, gradient in pairs if gradient is None]
        if orphans:
            raise UserError(
                f"No loss depends on {len(orphans)} trained variable(s), the first is {orphans[0]}: "
                "freeze them with Trainer.frozen or use them in the losses"
            )
        return [tf.cast(tf.convert_to_tensor(gradient), tf.float32) for gradient in gradients]

    def reduce(self, gradients: Sequence[tf.Tensor | None]) -> list[tf.Tensor]:
        """Mean over replicas of the unscaled gradients; call it in the replica context.

        Args:
            gradients: of `loss * loss_scale`, one for each variable.

        Returns:
            Gradients of the loss, float32, the same on every replica.

        Raises:
            UserError: a variable on which no loss depends.
        """
        reduced = replica_mean(*self.dense(gradients))
        if not self.loss_scale.tolerates_overflow:  # a scale of 1
            return list(reduced)
        scale = self.loss_scale.scale.read_value()
        return [gradient / scale for gradient in reduced]

    def apply(self, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor, finite: tf.Tensor) -> None:
        """Updates variables and slots where `finite`; call it in the replica context.

        Args:
            gradients: what `reduce` returned.
            learning_rate: float32 scalar.
            finite: bool scalar, the same on every replica.
        """
        if self.clip is not None:
            gradients = [tf.clip_by_value(gradient, -self.clip, self.clip) for gradient in gradients]
        if self.clip_norm is not None:
            factor = self.clip_norm / tf.maximum(tf.linalg.global_norm(gradients), self.clip_norm)
            gradients = [gradient * factor for gradient in gradients]

        def update():
            # On this replica's copies: every replica does the same.
            self._update(gradients, learning_rate)
            return tf.constant(True)

        tf.cond(finite, update, lambda: tf.constant(False))

    def _update(self, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor) -> None:
        """Moves every variable, and the slots. Args: as in `apply`, after the limits."""
        raise NotImplementedError

    def _rows(self, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor) -> Iterator[tuple]:
        """Of each variable: itself, its gradient, whether it decays, its own learning rate."""
        rows = zip(self.variables_to_train, gradients, self.is_decayed, self.lr_factors, strict=True)
        for variable, gradient, decayed, factor in rows:
            own_rate = learning_rate if factor == 1.0 else learning_rate * factor
            yield variable, gradient, decayed and self.weight_decay > 0, own_rate


class MomentumSGD(Optimizer):
    """SGD with momentum, the update above.

    Args:
        variables, loss_scale: of `Optimizer`.
        momentum: in [0, 1).
        rule: "mxnet" or "torch".
        options: further arguments of `Optimizer`.

    Attributes:
        momenta: dict from variable path to the momentum, float32 of the variable's shape. What is in it depends on the
            rule: one rule's momenta mean nothing to the other.
    """

    def __init__(
        self,
        variables: Sequence[keras.Variable],
        loss_scale: LossScale,
        momentum: float = 0.9,
        rule: Literal["mxnet", "torch"] = "mxnet",
        **options: Any,
    ):
        super().__init__(variables, loss_scale, **options)
        self.rule = rule
        self.momentum = float(momentum)
        self.momenta = zeros_beside(self.variables_to_train, "momentum")
        self.slots = {SLOT_GROUPS[rule]: self.momenta}

    def _update(self, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor) -> None:
        one_pass = _ONE_PASS[self.rule]
        for variable, gradient, decayed, rate in self._rows(gradients, learning_rate):
            if decayed:
                gradient += self.weight_decay * tf.convert_to_tensor(variable.value)
            # One pass over variable and momentum.
            one_pass(
                var=variable.value.handle,
                accum=self.momenta[variable.path].handle,
                lr=rate,
                grad=gradient,
                momentum=self.momentum,
            )


_ONE_PASS = {"mxnet": tf.raw_ops.ResourceApplyKerasMomentum, "torch": tf.raw_ops.ResourceApplyMomentum}

SLOT_GROUPS: dict[UpdateRule, str] = {"mxnet": "momenta", "torch": "momenta_torch", "adamw": "adam_first"}
"""By the rule, the group of a checkpoint that tells of it: what one rule keeps means nothing to another."""


def _factor(path: str, factors: Mapping[str, float]) -> float:
    fitting = [part for part in factors if part in path]
    return float(factors[max(fitting, key=len)]) if fitting else 1.0


def _check_factors(factors: Mapping[str, float], paths: Sequence[str]) -> None:
    for part in factors:
        if not any(part in path for path in paths):
            raise UserError(f"Trainer.lr_factors: no trained variable has {part!r} in its path, as {paths[0]} has")


def norm_and_finite(tensors: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """The L2 norm over all tensors, float32 scalar, and whether all their elements are finite, bool scalar.

    A norm that is a number says that all elements are: they are looked at one by one only where it is not, as it may
    overflow before they do.
    """
    norm = tf.linalg.global_norm(tensors)
    return norm, tf.cond(tf.math.is_finite(norm), lambda: tf.constant(True), lambda: all_finite(tensors))


def all_finite(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Bool scalar: no element of any tensor is infinite or NaN."""
    return tf.reduce_all(tf.stack([tf.reduce_all(tf.math.is_finite(tensor)) for tensor in tensors]))


def assign_on_replicas(targets: Sequence[tf.Variable], values: Sequence[tf.Tensor]) -> None:
    """Assigns to each replica's copy of every variable the value that this replica computed.

    Call it in the replica context. All variables cross over in one merge call, since each merge call makes
    the replicas wait for each other while the step is traced.
    """

    def assign(strategy, values):
        for target, value in zip(targets, values, strict=True):
            strategy.extended.update(target, lambda copy, new: copy.assign(new), args=(value,))

    tf.distribute.get_replica_context().merge_call(assign, args=(list(values),))
