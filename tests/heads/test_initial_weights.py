"""Fresh weights of the rows of Detectron2 and torchvision: distributions as their constructors have them, part by part.

The numbers are those of both programs' own constructors, three seeds each, written as the rules they come from.
"""

import math
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdet import config
from tfdet.heads import MaskHead, RetinaHead
from tfdet.necks import FPN

PYRAMID = [(1, 32, 32, 256), (1, 16, 16, 512), (1, 8, 8, 1024), (1, 4, 4, 2048)]
MAPS, ROIS, MASK_ROIS, C4_ROIS = [(1, 4, 4, 256)], (1, 7, 7, 256), (1, 14, 14, 256), (1, 14, 14, 1024)

XAVIER, BY_OUTPUTS, TORCH = "U +- sqrt(3 / inputs)", "N sqrt(2 / outputs)", "U +- 1 / sqrt(inputs)"
PRIOR = -math.log(0.99 / 0.01)
SMALL = {r"kernel": 0.01, r"bias": 0}
PYRAMIDS = {r"kernel": XAVIER, r"bias": 0}
RETINA = {r"kernel": 0.01, r"/cls/bias": ("all", PRIOR), r"bias": 0}
FULL = {r"fc\d/kernel": XAVIER, r"cls/kernel": 0.01, r"box/kernel": 0.001, r"bias": 0}
FULL_TORCH = {r"kernel": TORCH, r"bias": TORCH}
MASK = {r"logit/kernel": 0.001, r"kernel": BY_OUTPUTS, r"bias": 0}
MASK_TORCH = {r"conv\d/bias": 0, r"up/bias": TORCH, r"logit/bias": TORCH, r"kernel": BY_OUTPUTS}
STAGE = {r"gamma|moving_var": ("all", 1), r"beta|moving_mean": 0, r"cls/kernel": 0.01, r"box/kernel": 0.001}
STAGE |= {r"kernel": BY_OUTPUTS, r"bias": 0}

# (row, part, arguments, shape of its input, rule by the first pattern that is in a variable's path)
PARTS = [
    ("detectron2/mask_rcnn_r50_fpn", "FPN", {}, PYRAMID, PYRAMIDS),
    ("torchvision/maskrcnn_r50_fpn", "FPN", {}, PYRAMID, PYRAMIDS),
    ("detectron2/retinanet_r50_fpn", "RetinaNeck", {}, PYRAMID, PYRAMIDS),
    ("torchvision/retinanet_r50_fpn", "RetinaNeck", {}, PYRAMID, PYRAMIDS),
    ("detectron2/retinanet_r50_fpn", "RetinaHead", {"num_classes": 3, "num_anchors": 9}, MAPS, RETINA),
    ("torchvision/retinanet_r50_fpn", "RetinaHead", {"num_classes": 3, "num_anchors": 9}, MAPS, RETINA),
    ("detectron2/mask_rcnn_r50_fpn", "RpnHead", {"num_anchors": 3}, MAPS, SMALL),
    ("torchvision/maskrcnn_r50_fpn", "RpnHead", {"num_anchors": 3}, MAPS, SMALL),
    ("detectron2/cascade_mask_rcnn_r50_fpn", "MlpBboxHead", {"num_classes": 80}, ROIS, FULL),
    ("torchvision/fasterrcnn_r50_fpn", "MlpBboxHead", {"num_classes": 90}, ROIS, FULL_TORCH),
    ("detectron2/mask_rcnn_r50_fpn", "MaskHead", {"num_classes": 80}, MASK_ROIS, MASK),
    ("detectron2/mask_rcnn_r50_c4", "MaskHead", {"num_classes": 80}, (1, 7, 7, 2048), MASK),
    ("torchvision/maskrcnn_r50_fpn", "MaskHead", {"num_classes": 90}, MASK_ROIS, MASK_TORCH),
    ("detectron2/trident_r50_c4", "C5BboxHead", {"num_classes": 80}, C4_ROIS, STAGE),
    ("detectron2/faster_rcnn_r50_fpn", "ResNetV1", {"num_stages": 2}, (1, 32, 32, 3), STAGE),
    ("torchvision/fasterrcnn_r50_fpn", "ResNetV1", {"num_stages": 2}, (1, 32, 32, 3), STAGE),
]


def fans(kernel):
    """Inputs and outputs as torch counts them; TensorFlow stores a deconvolution's kernel as torch counts it."""
    *window, inputs, outputs = kernel.shape
    cells = math.prod(window)
    return inputs * cells, outputs * cells


def expect(rule, values, inputs, outputs, path):
    """Four standard errors of the standard deviation, and the bounds of what is uniform."""
    if rule == 0 or isinstance(rule, tuple):
        np.testing.assert_allclose(values, rule[1] if rule else 0.0, rtol=1e-4, atol=1e-30, err_msg=path)
        return
    bound = {XAVIER: math.sqrt(3 / inputs), TORCH: math.sqrt(1 / inputs)}.get(rule)
    std = bound / math.sqrt(3) if bound else math.sqrt(2 / outputs) if rule == BY_OUTPUTS else rule
    assert values.std() == pytest.approx(std, rel=4 / math.sqrt(2 * values.size)), path
    assert abs(values.mean()) < 5 * std / math.sqrt(values.size), path
    if bound:
        assert 0.9 * bound < np.abs(values).max() <= bound * (1 + 1e-6), path
    elif values.size > 1000:
        assert np.abs(values).max() > 2.5 * std, path  # normal


@pytest.mark.parametrize("row, part, arguments, shape, rules", PARTS, ids=[f"{row}-{part}" for row, part, *_ in PARTS])
def test_a_part_begins_as_in_its_program(row, part, arguments, shape, rules):
    config.register_all()
    keras.utils.set_random_seed(4)
    layer = config.parse([f"{row}.gin"]).build(part, **arguments)
    layer([tf.zeros(one) for one in shape] if isinstance(shape, list) else tf.zeros(shape))
    kernels = {v.path.rpartition("/")[0]: v for v in layer.variables if v.path.endswith("kernel")}
    first = {}
    for variable in layer.variables:
        rule = next(rule for pattern, rule in rules.items() if re.search(pattern, variable.path))
        kernel = kernels.get(variable.path.rpartition("/")[0], variable)
        inputs, outputs = (1, 1) if len(kernel.shape) < 2 else fans(kernel)
        expect(rule, variable.numpy().astype(np.float64).ravel(), inputs, outputs, variable.path)
        if variable is kernel and len(kernel.shape) > 1:
            drawn = (tuple(variable.shape), float(variable.numpy().ravel()[0]))
            assert first.setdefault(drawn, variable.path) == variable.path, "two kernels were drawn alike"
    assert kernels


def test_a_mask_begins_undecided():
    """Every pixel of every class near a half: a loss of .69, whatever the features."""
    config.register_all()
    keras.utils.set_random_seed(1)
    head = config.parse(["detectron2/mask_rcnn_r50_fpn.gin"]).build("MaskHead", num_classes=80)
    logits = head(tf.random.normal([4, 14, 14, 256]))
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.ones_like(logits), logits=logits)
    assert float(tf.reduce_mean(losses)) == pytest.approx(math.log(2), abs=0.01)


def test_every_kernel_has_a_draw_of_its_own():
    """SimpleDet's rows too: towers that begin alike would learn alike for many steps."""
    for make, shape in ((FPN, PYRAMID), (lambda: RetinaHead(3, 9), MAPS), (lambda: MaskHead(3), MASK_ROIS)):
        layer = make()
        layer([tf.zeros(one) for one in shape] if isinstance(shape, list) else tf.zeros(shape))
        kernels = [v.numpy() for v in layer.variables if v.path.endswith("kernel")]
        beginnings = {(one.shape, float(one.ravel()[0])) for one in kernels}
        assert len(beginnings) == len(kernels) > 3
