"""Files of random values as Detectron2 lays out its detectors' tensors, transcribed from its modules."""

from __future__ import annotations

import numpy as np

UNITS = {50: (3, 4, 6, 3), 152: (3, 8, 36, 3)}


class Layout:
    """Collects the tensors of a Mask R-CNN on FPN, whose norms are "BN", "GN" or None, which is biases instead."""

    def __init__(self, seed=0):
        self.rng, self.arrays = np.random.default_rng(seed), {}

    def add(self, name, *shape):
        self.arrays[name] = self.rng.normal(size=shape).astype(np.float32)

    def conv(self, name, out, fed, side, norm=None):
        self.add(f"{name}.weight", out, fed, side, side)
        if norm is None:
            self.add(f"{name}.bias", out)
            return
        for part in ("weight", "bias", *(("running_mean", "running_var") if norm == "BN" else ())):
            self.add(f"{name}.norm.{part}", out)

    def dense(self, name, out, fed):
        self.add(f"{name}.weight", out, fed)
        self.add(f"{name}.bias", out)

    def backbone(self, norm, inner, outer, stem, depth=50, groups=1, deformable=()):
        """modeling/backbone/resnet.py: BasicStem, BottleneckBlock, DeformBottleneckBlock."""
        self.conv("backbone.bottom_up.stem.conv1", stem, 3, 7, norm)
        fed = stem
        for stage, count in enumerate(UNITS[depth], 2):
            scale = 2 ** (stage - 2)
            for unit in range(count):
                name = f"backbone.bottom_up.res{stage}.{unit}"
                if unit == 0:
                    self.conv(f"{name}.shortcut", outer * scale, fed, 1, norm)
                self.conv(f"{name}.conv1", inner * scale, fed, 1, norm)
                if stage in deformable:
                    self.conv(f"{name}.conv2_offset", 18, inner * scale, 3)
                self.add(f"{name}.conv2.weight", inner * scale, inner * scale // groups, 3, 3)
                for part in ("weight", "bias", *(("running_mean", "running_var") if norm == "BN" else ())):
                    self.add(f"{name}.conv2.norm.{part}", inner * scale)
                self.conv(f"{name}.conv3", outer * scale, inner * scale, 1, norm)
                fed = outer * scale
        return self

    def pyramid(self, norm, outer, channels):
        """modeling/backbone/fpn.py, and proposal_generator/rpn.py: StandardRPNHead."""
        for level in range(2, 6):
            self.conv(f"backbone.fpn_lateral{level}", channels, outer * 2 ** (level - 2), 1, norm)
            self.conv(f"backbone.fpn_output{level}", channels, channels, 3, norm)
        self.conv("proposal_generator.rpn_head.conv", channels, channels, 3)
        self.conv("proposal_generator.rpn_head.objectness_logits", 3, channels, 1)
        self.conv("proposal_generator.rpn_head.anchor_deltas", 12, channels, 1)
        return self

    def box_heads(self, norm, fed, convs, channels, fcs, classes, boxes, cascade=0):
        """modeling/roi_heads/box_head.py: FastRCNNConvFCHead; fast_rcnn.py: FastRCNNOutputLayers."""
        for place in [f".{k}" for k in range(cascade)] or [""]:
            head, size = f"roi_heads.box_head{place}", fed
            for k in range(1, convs + 1):
                self.conv(f"{head}.conv{k}", 256, size, 3, norm)
                size = 256
            size *= 7 * 7
            for k in range(1, fcs + 1):
                self.dense(f"{head}.fc{k}", channels, size)
                size = channels
            self.dense(f"roi_heads.box_predictor{place}.cls_score", classes + 1, size)
            self.dense(f"roi_heads.box_predictor{place}.bbox_pred", 4 * boxes, size)
        return self

    def mask_head(self, norm, channels, convs, planes):
        """modeling/roi_heads/mask_head.py: MaskRCNNConvUpsampleHead."""
        for k in range(1, convs + 1):
            self.conv(f"roi_heads.mask_head.mask_fcn{k}", channels, channels, 3, norm)
        self.conv("roi_heads.mask_head.deconv", channels, channels, 2)
        self.conv("roi_heads.mask_head.predictor", planes, channels, 1)
        return self.arrays


def normed(norm, classes=3):
    """Rows with a normalisation everywhere and "4conv1fc": `*_gn.yaml` and `*_syncbn.yaml` of configs/Misc."""
    file = Layout().backbone(norm, 8, 32, 8).pyramid(norm, 32, 8)
    return file.box_heads(norm, 8, 4, 1024, 1, classes, classes).mask_head(norm, 8, 4, classes)


def class_agnostic(classes=3):
    """`mask_rcnn_R_50_FPN_1x_cls_agnostic.yaml`: one box, one plane."""
    file = Layout().backbone("BN", 8, 32, 8).pyramid(None, 32, 8)
    return file.box_heads(None, 8, 0, 8, 2, classes, 1).mask_head(None, 8, 4, 1)


def resnext(classes=3, depth=50):
    """`cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv.yaml`."""
    file = Layout().backbone("BN", 32, 32, 8, depth, groups=32, deformable=(3, 4, 5)).pyramid(None, 32, 8)
    return file.box_heads("GN", 8, 4, 1024, 1, classes, 1, cascade=3).mask_head("GN", 8, 8, classes)
