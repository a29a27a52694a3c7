"""The maps, proposals and detections of `tools.golden.torch_folder`, under their names and in their layout."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfdet.detectors import Detector, RetinaDetector, TwoStageDetector
from tfdet.heads import ConvBboxHead
from tfdet.ops.box_coding import MAX_LOG_RATIO, decode
from tfdet.ops.boxes import CONTINUOUS
from tools.golden.layout import nchw
from tools.golden.torch_folder import TorchGolden, image_batch

_MASK_ROIS = 8
"""So many of `fixed_rois` have masks."""


def compute(detector: Detector, golden: TorchGolden) -> dict[str, np.ndarray]:
    """Our counterparts of the stored maps and proposals. Heads read the stored `fixed_rois`."""
    image, image_info = (tf.constant(array) for array in image_batch(golden))
    inputs = detector.normalize(image, image_info)
    own_input = nchw(inputs)
    outputs = {"net_input": own_input[:, ::-1] if golden.program == "detectron2" else own_input}
    name = "res{}" if golden.program == "detectron2" else "layer{}"
    offset = 2 if golden.program == "detectron2" else 1
    features = detector.backbone(inputs)
    # The programs' RetinaNets begin with the second stage.
    skipped = 1 if isinstance(detector, RetinaDetector) else 0
    outputs |= {name.format(i + offset): nchw(x) for i, x in enumerate(features) if i >= skipped}
    if isinstance(detector, RetinaDetector):
        return outputs | _retina_maps(detector, golden, inputs)
    return outputs | _two_stage_maps(detector, golden, inputs, image_info)


def detect(detector: Detector, golden: TorchGolden) -> dict[str, np.ndarray]:
    """Our detections: boxes [D, 4], scores [D], classes [D] numbered as stored, and masks [D, M, M] or None."""
    found = detector.detect(*(tf.constant(array) for array in image_batch(golden)))
    count = int(found.num_valid[0])
    first = 1 if golden.program == "torchvision" and isinstance(detector, TwoStageDetector) else 0
    return {
        "boxes": found.boxes[0, :count].numpy() + np.array([0, 0, 1, 1], np.float32),  # edges, as stored
        "scores": found.scores[0, :count].numpy(),
        "classes": found.classes[0, :count].numpy() + first,
        "masks": None if found.masks is None else found.masks[0, :count].numpy(),
    }


def _retina_maps(detector: RetinaDetector, golden: TorchGolden, inputs: tf.Tensor) -> dict[str, np.ndarray]:
    pyramid = detector.feature_maps(inputs, training=False)
    predictions = detector.head(pyramid)
    if golden.program == "detectron2":
        outputs = {f"fpn_p{level}": nchw(x) for level, x in enumerate(pyramid, 3)}
        for i, (logits, deltas) in enumerate(predictions):
            outputs |= {f"cls_logits_{i}": nchw(logits), f"bbox_deltas_{i}": nchw(deltas)}
        return outputs
    names = ("fpn_0", "fpn_1", "fpn_2", "fpn_p6", "fpn_p7")
    outputs = {name: nchw(x) for name, x in zip(names, pyramid, strict=True)}
    # torchvision puts all anchors of all levels in one row: row, column, anchor.
    logits = [np.reshape(logits, [1, -1, detector.num_classes]) for logits, _ in predictions]
    deltas = [np.reshape(deltas, [1, -1, 4]) for _, deltas in predictions]
    outputs |= {"cls_logits": np.concatenate(logits, axis=1), "bbox_regression": np.concatenate(deltas, axis=1)}
    outputs["anchors"] = np.concatenate(detector.anchors.grid([x for x, _ in predictions]))
    return outputs


def _two_stage_maps(detector: TwoStageDetector, golden, inputs, image_info) -> dict[str, np.ndarray]:
    first = detector.first_stage_from_input(inputs, training=False)
    outputs = {}
    if detector.neck is not None:
        names = ["fpn_p2", "fpn_p3", "fpn_p4", "fpn_p5", "fpn_p6"]
        if golden.program == "torchvision":
            names = ["fpn_0", "fpn_1", "fpn_2", "fpn_3", "fpn_pool"]
        outputs |= {name: nchw(x) for name, x in zip(names, first.features, strict=True)}
    for i, (logits, deltas) in enumerate(first.rpn):
        outputs |= {f"rpn_logits_{i}": nchw(logits), f"rpn_deltas_{i}": nchw(deltas)}
    branches = first.rpn[0][0].shape[0]
    rois = tf.repeat(tf.constant(golden.outputs["fixed_rois"])[None], branches, axis=0)
    proposals = detector.propose(first, image_info, training=False)
    for branch in range(branches):
        suffix = f"_branch{branch}" if branches > 1 else ""
        exists = np.isfinite(proposals.scores[branch])
        outputs[f"proposals{suffix}"] = proposals.boxes[branch].numpy()[exists]
        if golden.program == "detectron2":  # torchvision keeps them to itself
            outputs[f"proposal_logits{suffix}"] = proposals.scores[branch].numpy()[exists]
    pooled = detector.roi_extractor(first.roi_features, rois)
    if len(detector.stages) > 1:
        outputs |= {"box_pooled": nchw(pooled)} | _cascade_maps(detector, golden, first, pooled, rois, image_info)
    else:
        outputs |= _head_maps(detector.bbox_head, pooled, golden, "")
    if detector.masks is not None:
        outputs |= _mask_maps(detector, golden, first, rois)
    return outputs


def _head_maps(head, pooled: tf.Tensor, golden: TorchGolden, suffix: str) -> dict[str, np.ndarray]:
    """One box head on RoI features [R, P, P, C]."""
    outputs = {}
    if getattr(head, "has_map", False):
        stage4 = head.stage4(pooled)
        hidden = tf.reduce_mean(stage4, [1, 2])
        outputs = {"box_pooled_first4": nchw(pooled[:4]), "res5_out_first4": nchw(stage4[:4])}
    else:
        if isinstance(head, ConvBboxHead):
            hidden = head.hidden(pooled)
        else:
            hidden = tf.nn.relu(head.fc2(tf.nn.relu(head.fc1(tf.reshape(pooled, [pooled.shape[0], -1])))))
        outputs = {} if suffix else {"box_pooled": nchw(pooled)}
    logits, deltas = (t.numpy() for t in head.predictor(hidden))
    outputs[f"box_head_out{suffix}"] = hidden.numpy()
    outputs[f"box_cls_logits{suffix}"] = _logits(logits, golden)
    outputs[f"box_deltas{suffix}"] = _deltas(deltas, golden)
    return outputs


def _cascade_maps(detector, golden, first, pooled, rois, image_info) -> dict[str, np.ndarray]:
    outputs = {}
    for k, stage in enumerate(detector.stages):
        outputs |= _head_maps(stage.head, pooled, golden, f"_stage{k}")
        logits, deltas = detector.second_stage(first, rois, training=False, head=stage.head)
        outputs[f"cascade_rois_stage{k}"] = rois[0].numpy()
        outputs[f"cascade_cls_logits_stage{k}"] = _logits(logits[0].numpy(), golden)
        outputs[f"cascade_deltas_stage{k}"] = _deltas(deltas[0].numpy(), golden)
        std = stage.targets.box_std
        rois = detector.postprocess.decode(rois, deltas, image_info, class_agnostic=True, box_std=std)[:, :, 0]
    # The last stage's boxes are stored before they are clipped.
    last = decode(
        outputs[f"cascade_rois_stage{len(detector.stages) - 1}"],
        deltas[0, :, -4:],
        std=detector.postprocess.box_std,
        convention=CONTINUOUS,
        max_log_ratio=MAX_LOG_RATIO,
    )
    outputs["cascade_final_boxes"] = last.numpy()
    return outputs


def _mask_maps(detector: TwoStageDetector, golden: TorchGolden, first, rois: tf.Tensor) -> dict[str, np.ndarray]:
    branch, rois = detector.masks, rois[:1, :_MASK_ROIS]
    if branch.shares_box_features:
        features = detector.bbox_head.stage4(detector.roi_extractor(first.roi_features, rois))
    else:
        features = branch.roi_extractor(first.roi_features, rois)
    planes = nchw(branch.head(features))
    # Both count the planes of the checkpoint, torchvision's with the one of the background.
    return {"mask_pooled": nchw(features), "mask_logits": planes[:, golden.outputs["mask_logits_classes"]]}


def _logits(logits: np.ndarray, golden: TorchGolden) -> np.ndarray:
    """Class logits [R, 1 + C] with the background where the program has it."""
    return np.roll(logits, -1, axis=-1) if golden.program == "detectron2" else logits


def _deltas(deltas: np.ndarray, golden: TorchGolden) -> np.ndarray:
    """Box offsets [R, 4 (1 + C)] without the background's where the program has none."""
    return deltas[..., 4:] if golden.program == "detectron2" else deltas
