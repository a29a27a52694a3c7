"""The benchmark of training takes the steps that training would, all options included."""

import math

import numpy as np
import pytest

from tests.detectors.small import small_detector
from tfdet.bench.training import measure_training, synthetic_batches, tame_random_weights
from tfdet.training.schedule import Schedule
from tfdet.training.trainer import Trainer


@pytest.mark.parametrize(
    "family,options",
    [
        ("c4", {"ema_decay": 0.9, "clip_norm": 1.0}),
        pytest.param("retina", {"accumulate": 2}, marks=pytest.mark.slow),
    ],
)
def test_steps_and_their_parts_are_measured(mirrored, family, options):
    strategy = mirrored(1)
    with strategy.scope():
        detector = small_detector(family)
    before = detector.backbone.conv0.kernel.numpy()
    speed = measure_training(
        detector,
        strategy,
        Trainer(**options),
        Schedule(base_lr=0.01, reference_batch=None, warmup_steps=0),
        lambda context: synthetic_batches(2, 64, 96, num_classes=3),
        images_per_replica=2,
        steps=2,
        warm_up=1,
    )
    assert math.isfinite(speed.losses["total"]) and (detector.backbone.conv0.kernel.numpy() != before).any()
    assert list(speed.parts) == ["forward", "backward", "targets", "all-reduce", "update"]
    assert speed.cpu > 0
    assert all(seconds >= 0 for seconds in speed.parts.values()) and 0 <= speed.data_wait < 1
    images = 2 * options.get("accumulate", 1)
    assert speed.images_per_second == pytest.approx(images / speed.step, rel=1.0)
    assert speed.memory_peak > 0


def test_random_weights_with_frozen_statistics_are_tamed():
    detector = small_detector("fpn", norm="frozen", depth=50)
    images = np.random.default_rng(0).normal(0, 50, [1, 64, 64, 3]).astype("f")
    before = np.std(detector.backbone(images)[-1])
    tame_random_weights(detector)
    assert 0 < np.std(detector.backbone(images)[-1]) < before / 10
