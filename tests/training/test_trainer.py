"""Hyper-parameters outside their range."""

import pytest

from tfdet.errors import UserError
from tfdet.training.trainer import Trainer


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
