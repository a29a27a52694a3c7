"""The mask branch on every trunk, against a plain transcription of SimpleDet's flow (models/maskrcnn/builder.py)."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tests.detectors.small import random_batch, small_detector, small_masks, small_v2_detector, with_diamonds
from tfdet.detectors import masks
from tfdet.detectors.masks import rows_in_use, target_rule
from tfdet.ops.mask_targets import mask_targets

SEED = tf.constant([7, 3], tf.int32)
TRUNKS = ("fpn", "c4", "c4_v2", "cascade")


def build(trunk, norm="local"):
    """Masks from RoI features of their own on FPN and C5 (a cascade there), from the box head's stage 4 on C4."""
    if trunk == "fpn":
        return small_detector("fpn", norm=norm, masks=small_masks())
    if trunk == "c4":
        return small_detector("c4", norm=norm, masks=small_masks(None, num_convs=0))
    if trunk == "c4_v2":
        return small_v2_detector("c4", norm=norm, masks=small_masks(None, num_convs=0, background_plane=False))
    return small_v2_detector("cascade", norm=norm, masks=small_masks())


@pytest.mark.parametrize("trunk", TRUNKS)
def test_losses_reach_every_variable(trunk):
    detector, batch = build(trunk), with_diamonds(random_batch([6, 9], 9))
    with tf.GradientTape() as tape:
        losses = detector.losses(batch, SEED)
        total = tf.add_n(list(losses.values()))
    assert losses["mask"].dtype == tf.float32 and 0.05 < losses["mask"] < 5
    gradients = tape.gradient(total, detector.trainable_variables)
    without = [v.path for v, g in zip(detector.trainable_variables, gradients, strict=True) if g is None]
    assert without == []
    heads = [g for v, g in zip(detector.trainable_variables, gradients, strict=True) if "mask_head" in v.path]
    assert len(heads) >= 4 and all(np.isfinite(g).all() and np.any(g) for g in heads)


def test_the_targets_are_whose_the_branch_says():
    detector = small_detector("fpn", masks=functools.partial(small_masks(), targets="torchvision"))
    batch, losses = with_diamonds(random_batch([6, 9], 9)), {}
    for rule in ("bound", "torchvision", "detectron2", "simpledet"):
        if rule != "bound":
            detector.masks.draw_targets = target_rule(rule)
        losses[rule] = float(detector.losses(batch, SEED)["mask"])
    assert losses["bound"] == losses["torchvision"] and len(set(losses.values())) == 3
    assert max(losses.values()) < 1.2 * min(losses.values()) < 5


@pytest.mark.parametrize("trunk", TRUNKS)
def test_detections_have_masks(trunk):
    detector, batch = build(trunk, norm="frozen"), random_batch([0, 0], 1)
    detector.postprocess.score_threshold = 0.1
    info = tf.constant([[96.0, 128.0, 1.0], [48.0, 64.0, 0.5]])
    detect = tf.function(
        detector.detect,
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8), tf.TensorSpec([None, 3], tf.float32)],
        autograph=False,
    )
    found = detect(batch.images, info)
    side = 14 if trunk.startswith("c4") else 28
    assert found.masks.shape == (2, 10, side, side) and found.masks.dtype == tf.float32
    used = found.classes.numpy() >= 0
    masks = found.masks.numpy()
    assert used.any()
    assert masks[used].any() and (masks >= 0).all() and (masks <= 1).all() and not masks[~used].any()


@pytest.mark.parametrize("trunk", ["fpn", "c4", "cascade"])
def test_loss_is_the_transcribed_one(trunk):
    detector, batch = build(trunk, norm="frozen"), with_diamonds(random_batch([6, 9], 9))
    detector.stages[0].targets.append_gt = True
    losses = detector.losses(batch, SEED)
    first = detector.first_stage(batch.images, batch.image_info, training=True)
    proposals = detector.propose(first, batch.image_info, training=True).boxes
    draw = tf.random.experimental.stateless_split(SEED, 2)[1]
    samples = detector.stages[0].targets(proposals, batch.boxes, batch.classes, draw)
    total, count = 0.0, 0
    for image in range(2):
        for r in np.flatnonzero(samples.classes[image].numpy() >= 0):
            rois = tf.tile(samples.boxes[image : image + 1, r : r + 1], [2, 1, 1])
            if trunk == "c4":
                features = detector.bbox_head.stage4(detector.roi_extractor(first.roi_features, rois))
            else:
                features = detector.masks.roi_extractor(first.roi_features, rois)
            kind, own = int(samples.classes[image, r]), int(samples.matched[image, r])
            logits = detector.mask_head(features)[image, ..., kind + 1].numpy().astype(float)
            target = mask_targets(
                rois[:1], [[own]], batch.edges[image : image + 1], batch.edge_owners[image : image + 1], logits.shape[0]
            )[0, 0].numpy()
            assert target.any()
            total += np.logaddexp(0, np.where(target > 0, -logits, logits)).sum()
            count += target.size
    assert count > 0
    np.testing.assert_allclose(losses["mask"], total / count, rtol=1e-3)


@pytest.mark.parametrize(
    ("counts", "slots", "rows"),
    [([0, 0], 40, 1), ([1, 0], 40, 8), ([3, 8], 40, 8), ([9, 2], 40, 16), ([33, 35], 36, 36), ([5, 5], 8, 8)],
)
def test_rows_in_use_hold_every_object(counts, slots, rows):
    classes = np.full([2, slots], -1, np.int32)
    for image, count in enumerate(counts):
        classes[image, :count] = 3
    assert rows_in_use(tf.constant(classes)) == rows


@pytest.mark.parametrize("trunk", ["fpn", "c4"])
def test_rows_not_in_use_change_neither_loss_nor_gradient(trunk, monkeypatch):
    detector, batch = build(trunk, norm="frozen"), with_diamonds(random_batch([4, 2], 4))
    targets = detector.stages[0].targets
    targets.num_rois, targets.fg_fraction, targets.append_gt = 96, 0.5, True

    def loss_and_gradients():
        with tf.GradientTape() as tape:
            loss = detector.losses(batch, SEED)["mask"]
        variables = [variable.value for variable in detector.trainable_variables]
        gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [loss, *gradients]

    seen = []
    monkeypatch.setattr(masks, "rows_in_use", lambda classes: seen.append(rows_in_use(classes)) or seen[-1])
    some = loss_and_gradients()
    monkeypatch.setattr(masks, "rows_in_use", lambda classes: tf.shape(classes)[1])
    every = loss_and_gradients()
    assert seen and all(rows < 48 for rows in seen)
    for part, whole in zip(some, every, strict=True):
        np.testing.assert_allclose(part, whole, atol=1e-6 + 1e-5 * np.abs(whole).max())


def test_masks_are_of_the_final_boxes_and_classes():
    detector, batch = build("fpn", norm="frozen"), random_batch([0, 0], 1)
    detector.postprocess.score_threshold = 0.0
    info = tf.constant([[96.0, 128.0, 1.0], [96.0, 128.0, 0.5]])
    found = detector.detect(batch.images, info)
    first = detector.first_stage(batch.images, info, training=False)
    rois = found.boxes * tf.constant([1.0, 0.5])[:, None, None]
    features = detector.masks.roi_extractor(first.roi_features, rois)
    every = tf.reshape(tf.sigmoid(detector.mask_head(features)), [2, 10, 28, 28, 4])
    assert set(found.num_valid.numpy()) == {10}
    for image in range(2):
        for d in range(10):
            own = every[image, d, ..., int(found.classes[image, d]) + 1]
            np.testing.assert_allclose(found.masks[image, d], own, atol=1e-5)
    padded = detector.masks.predict(
        first.roi_features, rois, tf.concat([found.classes[:, :4], -tf.ones([2, 6], tf.int32)], 1)
    )
    np.testing.assert_allclose(padded[:, :4], found.masks[:, :4], atol=1e-5)
    assert not padded[:, 4:].numpy().any()


def test_without_objects_or_edges_the_loss_is_zero():
    detector = build("fpn", norm="frozen")
    for batch in (with_diamonds(random_batch([0, 0], 3)), random_batch([3, 2], 3), random_batch([0, 0], 0)):
        losses = detector.losses(batch, SEED)
        assert losses["mask"] == 0 and all(np.isfinite(v) for v in losses.values())


def test_an_object_without_edges_is_left_out_of_the_mask_loss_alone():
    detector, batch = build("fpn", norm="frozen"), with_diamonds(random_batch([4, 4], 4))
    some = batch._replace(edge_owners=tf.concat([batch.edge_owners[:1], -tf.ones_like(batch.edge_owners[1:])], axis=0))
    one, both = detector.losses(some, SEED), detector.losses(batch, SEED)
    assert one["mask"] > 0 and one["mask"] != both["mask"]
    assert one["bbox_cls"] == both["bbox_cls"]


def test_one_branch_at_test_may_have_masks():
    fast = small_v2_detector("trident_fast", norm="frozen", masks=small_masks(None, num_convs=0))
    fast.stages[0].targets.append_gt = True
    batch = with_diamonds(random_batch([5, 4], 5))
    assert fast.losses(batch, SEED)["mask"] > 0
    assert fast.detect(batch.images, batch.image_info).masks.shape == (2, 10, 14, 14)


def test_refuses_parts_that_do_not_fit():
    with pytest.raises(ValueError, match="one branch at test"):
        small_v2_detector("trident", masks=small_masks(None))
    with pytest.raises(ValueError, match="MaskBranch.pool_size = 14"):
        small_detector("fpn", masks=small_masks(None))


def test_boxes_may_be_suppressed_in_network_pixels():
    detector, batch = small_detector("fpn", norm="frozen"), random_batch([0], 1)
    detector.postprocess.score_threshold = 0.0
    whole = tf.constant([[96.0, 128.0, 1.0]])
    reference = detector.detect(batch.images, whole)
    detector.postprocess.in_network_pixels = True
    found = detector.detect(batch.images, tf.constant([[96.0, 128.0, 0.25]]))
    np.testing.assert_allclose(found.boxes, reference.boxes * 4, rtol=1e-5)
    np.testing.assert_array_equal(found.classes, reference.classes)
