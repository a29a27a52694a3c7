"""RoI targets against SimpleDet and by property."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfdet.errors import UserError
from tfdet.ops.box_coding import decode
from tfdet.ops.iou import pairwise_iou
from tfdet.targets.roi import roi_targets

SEED = [21, 22]
STD = (0.1, 0.1, 0.2, 0.2)


def ground_truth(z):
    labels = z["gt_boxes"][..., 4]
    return z["gt_boxes"][..., :4], np.where(labels >= 0, labels - 1, -1).astype(np.int32)


def rows(array):
    return Counter(map(tuple, np.asarray(array).tolist()))


def joining(gt, classes, ranges, image):
    """The boxes that join the proposals: all, or with ranges (ProposalTarget_v2) those of the branch."""
    side = np.sqrt((gt[:, 2] - gt[:, 0] + 1) * (gt[:, 3] - gt[:, 1] + 1))
    low, high = (0, np.inf) if ranges is None else ranges[image]
    return (classes >= 0) & (side >= low) & (side <= high)


def slot_targets(z, image):
    """SimpleDet's targets [R, 4] of each RoI's own slot."""
    label = z["label"][image].astype(int)
    slots = z["bbox_target"][image].reshape(len(label), -1, 4)
    own = np.minimum(label, 1) if slots.shape[1] == 2 else label
    return slots[np.arange(len(label)), own]


@pytest.mark.parametrize("operator", ["proposal_target", "proposal_target_v2"])
@pytest.mark.parametrize("heads", ["agnostic", "perclass"])
def test_undrawn_targets_equal_simpledet(implementation, golden, heads, operator):
    z = golden(f"{operator}_{heads}_nosample")
    num_rois, fraction, ranges = int(z["image_rois"]), float(z["fg_fraction"]), z.get("valid_ranges")
    samples = roi_targets(z["rois"], *ground_truth(z), SEED, num_rois, fraction, pad="repeat", area_range=ranges)
    for image in range(2):
        boxes, expected = samples.boxes[image].numpy(), z["out_rois"][image]
        foreground = int((z["label"][image] > 0).sum())
        proposals = z["rois"][image][z["rois"][image][:, 3] > 0]
        gt, classes = (a[image] for a in ground_truth(z))
        drawn = len(proposals) + int(
            joining(gt, classes, ranges, image).sum()
        )  # every candidate is foreground or background
        assert 0 < foreground < drawn < num_rois
        np.testing.assert_array_equal(boxes[:drawn], expected[:drawn])
        np.testing.assert_array_equal(samples.classes[image] + 1, z["label"][image])
        np.testing.assert_allclose(samples.box_targets[image], slot_targets(z, image), atol=1e-6)
        own = gt[samples.matched[image].numpy()[:drawn]][None]
        iou = np.diagonal(pairwise_iou(boxes[None, :drawn], own).numpy()[0])
        np.testing.assert_allclose(iou, z["match_gt_iou"][image][:drawn], atol=1e-6)
        # The gap holds the background again and again: the same boxes, in an order of chance.
        assert set(rows(boxes[drawn:])) <= set(rows(boxes[foreground:drawn]))
        np.testing.assert_array_equal(
            sorted(rows(boxes[foreground:]).values()), sorted(rows(expected[foreground:]).values())
        )


@pytest.mark.parametrize("operator", ["proposal_target", "proposal_target_v2"])
@pytest.mark.parametrize("heads", ["agnostic", "perclass"])
def test_drawn_targets_have_simpledets_counts(implementation, golden, heads, operator):
    z = golden(f"{operator}_{heads}_sampled")
    (gt, classes), ranges = ground_truth(z), z.get("valid_ranges")
    fraction = float(z["fg_fraction"])
    samples = roi_targets(z["rois"], gt, classes, SEED, int(z["image_rois"]), fraction, area_range=ranges)
    assert samples.boxes.shape == z["out_rois"].shape
    for image in range(2):
        np.testing.assert_array_equal(samples.classes[image] >= 0, z["label"][image] > 0)
        candidates = np.concatenate([z["rois"][image], gt[image][joining(gt[image], classes[image], ranges, image)]])
        assert not rows(samples.boxes[image]) - rows(candidates)
        foreground = samples.classes[image].numpy() >= 0
        iou = pairwise_iou(samples.boxes[image][None], gt[image][classes[image] >= 0][None]).numpy()[0].max(axis=1)
        np.testing.assert_array_equal(iou >= 0.5, foreground)


def scene(rng, images=2, proposals=40, slots=5):
    corner = rng.uniform(0, 200, (images, slots, 2))
    gt = np.concatenate([corner, corner + rng.uniform(20, 90, (images, slots, 2))], axis=-1)
    near = gt[:, rng.integers(0, max(slots, 1), proposals // 2)] if slots else np.zeros([images, 0, 4])
    near = near + rng.normal(0, 4, near.shape)
    corner = rng.uniform(0, 200, (images, proposals - near.shape[1], 2))
    far = np.concatenate([corner, corner + rng.uniform(5, 90, corner.shape)], axis=-1)
    return np.concatenate([near, far], axis=1).astype(np.float32), gt.astype(np.float32)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 2**31 - 1), st.integers(0, 5), st.booleans(), st.sampled_from(["resize", "repeat"]), st.booleans()
)
def test_samples_obey_their_rules(implementation, seed, slots, append_gt, pad, crowded):
    rng = np.random.default_rng(seed)
    proposals, gt = scene(rng, proposals=60 if crowded else 10, slots=slots)
    classes = rng.integers(-1, 4, (2, slots)).astype(np.int32)
    samples = roi_targets(proposals, gt, classes, [seed, 1], 24, append_gt=append_gt, pad=pad)
    for image in range(2):
        boxes, labels, targets, matched = (a[image].numpy() for a in samples)
        real = classes[image] >= 0
        foreground = labels >= 0
        count = int(foreground.sum())
        assert count <= 6 and foreground[:count].all()  # foreground first
        np.testing.assert_array_equal(labels[:count], classes[image][matched[:count]])
        np.testing.assert_array_equal(targets[count:], 0)
        candidates = np.concatenate([proposals[image], gt[image][real]]) if append_gt else proposals[image]
        assert set(rows(boxes)) <= set(rows(candidates))
        if not real.any():
            assert (matched == -1).all() and count == 0
            continue
        assert (matched >= 0).all() and real[matched].all()
        iou = pairwise_iou(boxes[None], gt[image][None]).numpy()[0]
        np.testing.assert_array_equal(iou[np.arange(24), matched], iou[:, real].max(axis=1))
        assert (iou[np.arange(24), matched][:count] >= 0.5).all()
        back = decode(boxes, targets, std=STD).numpy()[:count]
        np.testing.assert_allclose(back, gt[image][matched[:count]], atol=0.05)
        if crowded:
            assert max(rows(boxes[count:]).values(), default=1) == 1  # enough: nothing comes twice


def test_padding_of_the_two_revisions(implementation):
    """Three foreground, two background proposals, eight rows."""
    gt = np.array([[[0, 0, 99, 99]]], np.float32)
    proposals = np.array(
        [[[0, 0, 99, 98], [0, 0, 99, 97], [0, 0, 99, 96], [200, 0, 240, 30], [300, 0, 340, 30], [0] * 4]], np.float32
    )
    arguments = (proposals, gt, np.array([[7]]), SEED, 8)
    resized = roi_targets(*arguments, append_gt=False, pad="resize")
    np.testing.assert_array_equal(resized.classes, [[7, 7] + [-1] * 6])
    x = resized.boxes.numpy()[0, :, 0]
    np.testing.assert_array_equal(x[2:4], [200, 300])
    np.testing.assert_array_equal(sorted(x[4:6]), [200, 300])  # the background once more ...
    np.testing.assert_array_equal(resized.boxes[0, 6:], proposals[0, [0, 0]])  # ... then the first proposal
    repeated = roi_targets(*arguments, append_gt=False, pad="repeat")
    assert rows(repeated.boxes.numpy()[0, 2:, :1]) == Counter({(200.0,): 3, (300.0,): 3})


def test_missing_and_broken_proposals_take_no_part(implementation):
    proposals = np.zeros([1, 6, 4], np.float32)
    proposals[0, 1] = [np.nan, 0, 50, 50]
    proposals[0, 2] = [0, 0, np.inf, 50]
    gt = np.array([[[10, 10, 60, 60], [-1, -1, -1, -1]]], np.float32)
    samples = roi_targets(proposals, gt, np.array([[3, -1]]), SEED, 4)
    np.testing.assert_array_equal(samples.classes, [[3, -1, -1, -1]])
    np.testing.assert_array_equal(samples.boxes[0], np.tile(gt[0, :1], [4, 1]))
    np.testing.assert_array_equal(samples.box_targets, np.zeros([1, 4, 4]))


def test_missing_proposals_may_be_kept_as_background():
    """ProposalTarget_v2 of the first release, TridentNet's, does not drop them."""
    proposals = np.zeros([1, 6, 4], np.float32)
    proposals[0, 0] = [10, 10, 60, 60]
    gt = np.array([[[10, 10, 60, 60]]], np.float32)
    samples = roi_targets(proposals, gt, np.array([[3]]), SEED, 4, append_gt=False, keep_missing=True)
    np.testing.assert_array_equal(samples.classes, [[3, -1, -1, -1]])
    np.testing.assert_array_equal(samples.boxes[0, 1:], np.zeros([3, 4]))


def test_all_rois_are_kept_and_put_in_order():
    """The later stages of a cascade in the first release: `image_rois = -1`."""
    gt = np.array([[[0, 0, 99, 99]]], np.float32)
    far, near = [200, 0, 240, 30], [0, 0, 99, 98]
    proposals = np.array([[far, near, [300, 0, 340, 30], near]], np.float32)
    samples = roi_targets(proposals, gt, np.array([[7]]), SEED, num_rois=None, fg_threshold=0.7, bg_high=0.7)
    np.testing.assert_array_equal(samples.boxes, proposals[:, [1, 3, 0, 2]])
    np.testing.assert_array_equal(samples.classes, [[7, 7, -1, -1]])


@pytest.mark.parametrize("pad", ["resize", "repeat"])
@pytest.mark.parametrize("proposals", [0, 5])
def test_no_proposals_and_no_boxes_give_empty_background_rows(implementation, pad, proposals):
    samples = roi_targets(
        np.zeros([2, proposals, 4], np.float32), np.zeros([2, 0, 4]), np.zeros([2, 0], int), SEED, 6, pad=pad
    )
    np.testing.assert_array_equal(samples.boxes, np.zeros([2, 6, 4]))
    np.testing.assert_array_equal(samples.classes, np.full([2, 6], -1))
    np.testing.assert_array_equal(samples.matched, np.full([2, 6], -1))


def test_a_seed_gives_one_draw():
    proposals, gt = scene(np.random.default_rng(0), proposals=200)
    draws = [roi_targets(proposals, gt, np.zeros([2, 5], int), s, 32).boxes.numpy() for s in (SEED, SEED, [9, 9])]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


def test_an_unknown_padding_is_named():
    with pytest.raises(UserError, match="pad.*wrap"):
        roi_targets(np.zeros([1, 1, 4]), np.zeros([1, 1, 4]), np.zeros([1, 1], int), SEED, 2, pad="wrap")
