"""Sizes that no memory holds and products that 64 bits do not: an error of the op, never the end of the process."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import json
import numpy as np
import tensorflow as tf
from tfdet.ops import native

ops = native.library()
HUGE, SIDE = 1 << 40, (1 << 31) - 1


def nms(batch, boxes, classes, rows=100, sets=1):
    attributes = dict(max_detections=rows, iou_threshold=0.5, score_threshold=0.0)
    return ops.tfdet_batched_nms(tf.zeros([batch, boxes, sets, 4]), tf.zeros([batch, boxes, classes]), **attributes)


def proposals(batch, height, width, anchors, post=100):
    scores, deltas = tf.zeros([batch, height, width, anchors]), tf.zeros([batch, height, width, 4 * anchors])
    inputs = [scores], [deltas], [tf.zeros([anchors, 4])], tf.zeros([batch, 3]), tf.zeros([0, 2])
    attributes = dict(strides=[16], variants=["v1"], pre_nms_top_n=100, post_nms_top_n=post)
    return ops.tfdet_generate_proposals(*inputs, **attributes)


def match(images, boxes, gts):
    mask = tf.zeros([images, gts], tf.bool)
    shared = tf.zeros([1, boxes, 4]), tf.zeros([1, boxes], tf.bool)
    return ops.tfdet_match_boxes(*shared, tf.zeros([images, gts, 4]), mask, mask)


POOL = dict(scales=[0.25], bins_y=7, bins_x=7)


def pool(batch, rois, height=8, width=8, channels=4):
    levels = tf.zeros([batch, rois], tf.int32)
    return ops.tfdet_roi_align([tf.zeros([batch, height, width, channels])], tf.zeros([batch, rois, 4]), levels, **POOL)


def pool_gradient(shape, batch=1, rois=1, channels=4):
    pooled, levels = [batch, rois, 7, 7, channels], tf.zeros([batch, rois], tf.int32)
    upstream, winner = tf.zeros(pooled), tf.zeros(pooled, tf.uint8)
    return ops.tfdet_roi_align_grad(upstream, winner, tf.zeros([batch, rois, 4]), levels, [shape], **POOL)


DEFORM = dict(kernel=[3, 3], strides=[1, 1], padding=[1, 1], dilation=[1, 1], groups=1, offset_groups=1)


def deform(batch, height, width, channels, out=None, **options):
    out = [batch, height, width, 18] if out is None else out
    return ops.tfdet_deform_columns(
        tf.zeros([batch, height, width, channels]), tf.zeros(out), [], **DEFORM | options)


def fit(size=(8, 8), canvas=(8, 8), shape=(4, 4, 3), channels=3, window=(0, 0, 1, 1)):
    options = dict(scale=1.0, mirror=False, window=window, place=[0, 0], fill=tf.zeros([channels], tf.uint8))
    return ops.tfdet_fit_image(
        image=tf.zeros(shape, tf.uint8), size=size, canvas=canvas, T=tf.uint8, rule="simpledet", **options)


CASES = {
    "fit: canvas": lambda: fit(canvas=(SIDE, SIDE)),
    "fit: result": lambda: fit(size=(SIDE, SIDE)),
    "fit: negative": lambda: fit(canvas=(-8, -8)),
    "fit: channels": lambda: fit(shape=(0, 0, HUGE), channels=0),
    "fit: window": lambda: fit(window=(SIDE, SIDE, SIDE, SIDE)),
    "fit: rank": lambda: fit(shape=(4, 4)),
    "deform: batch": lambda: deform(HUGE, 0, 0, 4),
    "deform: side": lambda: deform(1, 0, HUGE, 4),
    "deform: offsets": lambda: deform(1 << 20, 0, 0, 4, [1 << 20, 1 << 17, 1 << 17, 0], padding=[1 << 16, 1 << 16]),
    "deform: channels of no image": lambda: deform(0, 1 << 20, 1 << 20, 1 << 20),
    "deform: taps": lambda: deform(1, 4, 4, 0, kernel=[1 << 16, 1 << 16]),
    "deform: groups": lambda: deform(1, 4, 4, 0, offset_groups=SIDE),
    "deform: options": lambda: deform(1, 4, 4, 4, padding=[SIDE, SIDE], dilation=[SIDE, SIDE]),
    "nms: batch": lambda: nms(HUGE, 0, 3),
    "nms: batch times rows": lambda: nms(SIDE, 0, 1, rows=SIDE),
    "nms: rows": lambda: nms(2, 5, 3, rows=SIDE),
    "nms: rows beyond 32 bits": lambda: nms(2, 5, 3, rows=1 << 62),
    "nms: classes": lambda: nms(0, 5, HUGE),
    "nms: boxes of no image": lambda: nms(0, HUGE, HUGE),
    "nms: rank": lambda: ops.tfdet_batched_nms(tf.zeros([3, 4]), tf.zeros([3]), max_detections=1, iou_threshold=0.5,
                                               score_threshold=0.0),
    "proposals: a map of no image": lambda: proposals(0, HUGE, HUGE, 3),
    "proposals: a map without anchors": lambda: proposals(1, HUGE, 1 << 20, 0),
    "proposals: rows": lambda: proposals(2, 4, 4, 3, post=SIDE),
    "proposals: rows beyond 32 bits": lambda: proposals(2, 4, 4, 3, post=1 << 62),
    "match: images": lambda: match(HUGE, 5, 0),
    "match: images times boxes": lambda: match(SIDE, 1000, 0),
    "match: no image": lambda: match(0, 5, HUGE),
    "pool: batch": lambda: pool(HUGE, 0, 0, 0, 0),
    "pool: batch times rois": lambda: pool(SIDE, 0, 8, 8, 0),
    "pool: side": lambda: pool(1, 1, 0, HUGE),
    "gradient: negative": lambda: pool_gradient([1, -8, 8, 4]),
    "gradient: all negative": lambda: pool_gradient([-1, -8, -8, -4]),
    "gradient: product": lambda: pool_gradient([1, 1 << 24, 1 << 24, 1 << 24], channels=1 << 24, rois=0),
    "gradient: rank": lambda: pool_gradient([1, 8, 8]),
}
FINE = {
    "fit: no channel": lambda: fit(shape=(4, 4, 0), channels=0),
    "deform: nothing": lambda: deform(0, 5, 6, 4),
    "deform: no channel": lambda: deform(2, 5, 6, 0),
    "deform: more padding than map": lambda: deform(1, 0, 0, 4, [1, 6, 6, 18], padding=[4, 4]),
    "nms: nothing": lambda: nms(2, 0, 1 << 29),
    "nms: no class": lambda: nms(2, 3, 0),
    "proposals: nothing": lambda: proposals(2, 0, 0, 3),
    "match: nothing": lambda: match(2, 0, 0),
    "pool: nothing": lambda: pool(2, 0),
    "pool: lines without pixels": lambda: pool(1 << 16, 1, 1 << 24, 0, 0),
    "gradient: lines without pixels": lambda: pool_gradient([1 << 16, 1 << 24, 0, 0], 1 << 16, 1, 0),
}


def outcome(call):
    try:
        call()
    except (tf.errors.OpError, ValueError) as error:
        return type(error).__name__
    return "fine"


print(json.dumps({"refused": {name: outcome(call) for name, call in CASES.items()},
                  "fine": {name: outcome(call) for name, call in FINE.items()},
                  "in a graph": outcome(lambda: tf.function(CASES["nms: batch"])())}))
"""


def test_sizes_beyond_every_bound_are_errors_of_the_op(custom_ops):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, env=environment, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes = json.loads(done.stdout.splitlines()[-1])
    assert set(outcomes["refused"].values()) == {"InvalidArgumentError"}, outcomes["refused"]
    assert set(outcomes["fine"].values()) == {"fine"}, outcomes["fine"]
    assert outcomes["in a graph"] == "InvalidArgumentError"
