"""The hyper-parameters: their ranges, and what they set before a detector is built."""

import pytest
import tensorflow as tf
from fakes import FakeDetector, FakeInput

from tfdet.errors import UserError
from tfdet.ops.tensor_float_32 import allow_tensor_float_32
from tfdet.training.plan import RunPlan
from tfdet.training.schedule import Schedule
from tfdet.training.start_table import start_table
from tfdet.training.trainer import Trainer
from tfdet.training.update import make_parts


@pytest.fixture(autouse=True)
def tensorflows_default():
    allow_tensor_float_32(True)
    yield
    allow_tensor_float_32(False)


def test_tensor_float_32_is_off_unless_it_is_asked_for():
    for trainer, allowed in ((Trainer(replicas=1), False), (Trainer(replicas=1, tensor_float_32=True), True)):
        strategy, schedule, train_input = trainer.prepare(), Schedule(), FakeInput()
        assert tf.config.experimental.tensor_float_32_execution_enabled() == allowed
        plan = RunPlan.make(train_input, strategy, trainer, schedule)
        with strategy.scope():
            detector = FakeDetector()
        parts = make_parts(strategy, detector, trainer)
        table = start_table(detector, train_input, strategy, "run", trainer, schedule, plan, parts, "initial values")
        assert table["precision"] == ("float32, TensorFloat-32 allowed" if allowed else "float32")


def test_epochs_give_the_steps():
    assert Trainer(epochs=1.5).total_steps(8) == 12
    assert Trainer(epochs=1.5, steps=7).total_steps(8) == 7


@pytest.mark.parametrize(
    "name",
    ["steps", "replicas", "accumulate", "log_every", "checkpoint_every", "keep_checkpoints", "evaluate_every"],
)
def test_counts_are_at_least_one(name):
    with pytest.raises(UserError, match=f"Trainer.{name} = 0: expected an int from 1 up"):
        Trainer(**{name: 0})


@pytest.mark.parametrize(
    "name, value",
    [
        ("epochs", 0.0),
        ("precision", "float16"),
        ("loss_scale", "static"),
        ("loss_scale", 0.0),
        ("momentum", 1.0),
        ("weight_decay", -1.0),
        ("clip", 0.0),
        ("clip_norm", 0.0),
        ("lr_factors", {"predictor": -0.1}),
        ("seed", -1),
        ("seed", 2**31),
    ],
)
def test_values_outside_their_range_are_named(name, value):
    with pytest.raises(UserError, match=f"Trainer.{name} = "):
        Trainer(**{name: value})
