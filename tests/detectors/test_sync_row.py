"""The SyncBN row as a whole: four replicas give the BN statistics of one device with the whole batch."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet import config
from tfdet.config import register_all

REPLICAS = 4
SIDE = 64


def moving(detector):
    return {v.path: v.numpy() for v in detector.variables if v.path.endswith(("moving_mean", "moving_variance"))}


@pytest.mark.parametrize(
    "bindings", [["WIDTH = 0.125", "DEPTH = 26"], pytest.param([], marks=pytest.mark.slow)], ids=["small", "as_it_is"]
)
def test_the_syncbn_row_on_four_replicas_has_the_statistics_of_one_device(mirrored, bindings):
    register_all()
    configuration = config.parse(["faster_r101v2_c4_syncbn.gin"], bindings)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, [REPLICAS, SIDE, SIDE, 3]).astype(np.uint8)
    # Images of different brightness: statistics of one image would be far from those of all.
    images //= np.arange(1, REPLICAS + 1, dtype=np.uint8)[:, None, None, None]
    info = np.tile(np.float32([SIDE, SIDE, 1]), [REPLICAS, 1])
    rois = np.tile(np.float32([[[0, 0, 40, 40], [16, 8, 63, 63]]]), [REPLICAS, 1, 1])

    def forward(detector, *batch):
        """The trunk, and stage 4 on given RoIs: which RoIs are drawn differs between replicas."""
        images, info, rois = batch
        first = detector.first_stage(images, info, training=True)
        detector.second_stage(first, rois, training=True)

    strategy = mirrored(REPLICAS)
    with strategy.scope():
        many = configuration.build("build_detector", num_classes=3)
    one = configuration.build("build_detector", num_classes=3)
    start = {v.path: v.numpy() for v in many.variables}
    for variable in one.variables:
        variable.assign(start[variable.path])

    parts = [
        strategy.experimental_distribute_values_from_function(
            lambda c, whole=whole: tf.constant(whole[c.replica_id_in_sync_group : c.replica_id_in_sync_group + 1])
        )
        for whole in (images, info, rois)
    ]
    tf.function(lambda *p: strategy.run(lambda *q: forward(many, *q), args=p), autograph=False)(*parts)
    tf.function(lambda *p: forward(one, *p), autograph=False)(*(tf.constant(t) for t in (images, info, rois)))

    found, expected = moving(many), moving(one)
    moved = [path for path in expected if not np.array_equal(expected[path], start[path])]
    # All but bn_data and the last BN, which keep their statistics.
    assert len(moved) == len(expected) - 4
    for path, value in expected.items():
        np.testing.assert_allclose(found[path], value, rtol=2e-4, atol=1e-5 * np.abs(value).max(), err_msg=path)
