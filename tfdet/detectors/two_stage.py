"""Faster, Cascade and Mask R-CNN, TridentNet: backbone, neck, RPN, RoI features and heads, wired together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import keras
import tensorflow as tf

from tfdet.config import configurable
from tfdet.config.ranges import NonNegativeFloat, NumClasses, PositiveRgb, Rgb, Side
from tfdet.detectors.branches import ScaleBranches
from tfdet.detectors.detector import MSRA_PIXEL_MEAN, Detector
from tfdet.detectors.masks import MaskBranch
from tfdet.detectors.postprocess import PostProcess
from tfdet.errors import ParameterError
from tfdet.heads.proposals import AnchorGenerator, ProposalGenerator
from tfdet.heads.roi_extractor import RoiExtractor
from tfdet.heads.rpn import flatten_levels
from tfdet.layers import drop_seed, on_existing
from tfdet.losses.bbox import BoxLoss
from tfdet.losses.rpn import RpnLoss
from tfdet.ops.boxes import CONTINUOUS, LEGACY, Convention, box_scale
from tfdet.structures import Batch, Candidates, Detections, Proposals
from tfdet.targets.assigners import RoiTargetSampler, RpnTargetAssigner


class RpnOutputs(NamedTuple):
    """What the first stage computes for a batch."""

    features: list[tf.Tensor]  # maps the RPN reads, finest first
    rpn: list[tuple[tf.Tensor, tf.Tensor]]  # per level (cls_logits [B,H,W,2A or A], deltas [B,H,W,4A])
    roi_features: list[tf.Tensor]  # maps the RoIs are pooled from, finest first


class BoxStage(NamedTuple):
    """One box head with what it learns; Faster R-CNN has one, Cascade R-CNN several, each on the boxes of the last."""

    name: str  # of its losses: "" for the only one, else "_1st", "_2nd", ...
    head: keras.layers.Layer
    targets: RoiTargetSampler
    loss_weight: float


@configurable
class TwoStageDetector(Detector):
    """A detector of two stages: Faster R-CNN, by its parts Cascade or Mask R-CNN, TridentNet, on a C4, C5 or FPN trunk.

    Training: `losses(batch, seed)` returns a dict of float32 scalars of this replica, each already normalised and
    weighted: `rpn_cls`, `rpn_box`, `bbox_cls`, `bbox_reg` (in a cascade `bbox_cls_1st`, ...), with masks `mask`; the
    total is their sum.
    Testing: `detect(images, image_info)` returns `Detections` in pixels of the original images.

    Args:
        num_classes: C, without background.
        backbone: layer, image -> list of feature maps, with `strides`.
        rpn_head: called with `num_anchors`, returns the RPN layer.
        bbox_head: called with `num_classes` (and, in a cascade, `name`), returns the second-stage layer.
        anchors, proposals, roi_extractor, rpn_targets, postprocess: the parts without weights.
        roi_targets: what the box head learns. A list makes a cascade: one box head for each, the first on the
            proposals, the next on the boxes of the one before.
        stage_loss_weights: of the heads' losses, one a stage.
        stage_scores: what a cascade's scores are the mean of: what all heads say about the RoIs of the last
            ("last_rois"), or each about its own ("own_rois", Detectron2).
        roi_gradient_scale: of the gradient from a box head into the maps (Detectron2's cascade: 1 / stages).
        rpn_loss, box_loss: the losses of the two stages; by default SimpleDet's.
        neck: layer, list of maps -> pyramid with `strides`; None leaves the backbone's maps. Where two maps have the
            same stride the RPN reads that of `rpn_map` and the RoIs are pooled from the last.
        masks: called with `num_classes`, `roi_extractor` and `bbox_head`, returns the `MaskBranch`; None: boxes alone.
            In a cascade it learns on the first stage's RoIs, and is tested on the last one's boxes.
        branches: for a backbone with branches (TridentNet), what each branch is responsible for; else None.
        pixel_mean, pixel_std: RGB, 0..255.
        size_divisor, convention: see `Detector`. Continuous boxes need an `RpnHead` of sigmoids.
        rpn_map: which of two maps with the same stride the RPN reads: the "first" (SimpleDet's dilated C5) or the
            "last" (Detectron2's).

    Example:
        ```python
        detector = build_detector(num_classes=80)  # parts from a gin file
        detections = detector.detect(images, image_info)  # uint8 [B, H, W, 3], float32 [B, 3] (height, width, scale)
        detections.boxes[0, : detections.num_valid[0]]  # x1, y1, x2, y2
        ```
    """

    def __init__(
        self,
        num_classes: NumClasses,
        backbone: keras.layers.Layer,
        rpn_head: Callable[..., keras.layers.Layer],
        bbox_head: Callable[..., keras.layers.Layer],
        anchors: AnchorGenerator,
        proposals: ProposalGenerator,
        roi_extractor: RoiExtractor,
        rpn_targets: RpnTargetAssigner,
        roi_targets: RoiTargetSampler | Sequence[RoiTargetSampler],
        postprocess: PostProcess,
        neck: keras.layers.Layer | None = None,
        masks: Callable[..., MaskBranch] | None = None,
        branches: ScaleBranches | None = None,
        stage_loss_weights: tuple[NonNegativeFloat, ...] = (1.0,),
        stage_scores: Literal["last_rois", "own_rois"] = "last_rois",
        roi_gradient_scale: NonNegativeFloat = 1.0,
        rpn_loss: RpnLoss | None = None,
        box_loss: BoxLoss | None = None,
        pixel_mean: Rgb = MSRA_PIXEL_MEAN,
        pixel_std: PositiveRgb = (1.0, 1.0, 1.0),
        size_divisor: Side = 1,
        convention: Convention = LEGACY,
        rpn_map: Literal["first", "last"] = "first",
    ):
        super().__init__(num_classes, backbone, neck, pixel_mean, pixel_std, size_divisor, convention)
        self.stage_scores, self.roi_gradient_scale, self.rpn_map = stage_scores, roi_gradient_scale, rpn_map
        self.rpn_loss, self.box_loss = rpn_loss or RpnLoss(), box_loss or BoxLoss()
        self.rpn_head = rpn_head(num_anchors=anchors.num_anchors)
        if convention == CONTINUOUS and getattr(self.rpn_head, "objectness", "sigmoid") != "sigmoid":
            raise ParameterError(
                "Expected RpnHead.objectness = 'sigmoid' with TwoStageDetector.convention = 'continuous'"
            )
        self.anchors, self.roi_extractor = anchors, roi_extractor
        self.proposals, self.rpn_targets, self.postprocess = (
            self.in_own_convention(part) for part in (proposals, rpn_targets, postprocess)
        )
        roi_targets = roi_targets if isinstance(roi_targets, (list, tuple)) else [roi_targets]
        samplers = [self.in_own_convention(sampler) for sampler in roi_targets]
        self.stages = _make_stages(num_classes, bbox_head, samplers, stage_loss_weights, postprocess)
        self.bbox_heads = [stage.head for stage in self.stages]
        self.branches = branches
        if bool(self._dilations(True)) != (branches is not None):
            raise ParameterError("Expected TwoStageDetector.branches for a backbone with branches, and for no other")
        if branches is not None:
            branches.check(len(self._dilations(True)), len(self._dilations(False)), postprocess)
        self.masks = self.mask_head = None
        if masks is not None:
            if len(self._dilations(False)) > 1:
                raise ParameterError(
                    "Expected one branch at test where TwoStageDetector.masks is set: the final boxes of several "
                    "branches do not say whose features their masks are in"
                )
            self.masks = masks(num_classes=num_classes, roi_extractor=roi_extractor, bbox_head=self.bbox_head)
            self.mask_head = self.masks.head  # as an attribute of the model: Keras sees its variables

    @property
    def mask_paste(self) -> str:
        return super().mask_paste if self.masks is None else self.masks.paste

    @property
    def bbox_head(self) -> keras.layers.Layer:
        """The box head, of a cascade the first."""
        return self.bbox_heads[0]

    def first_stage(self, images: tf.Tensor, image_info: tf.Tensor, training: bool) -> RpnOutputs:
        """Features and RPN predictions of images [B, H, W, 3] with `image_info` [B, 3 or 4], see `Batch`."""
        return self.first_stage_from_input(self.normalize(images, image_info), training)

    def first_stage_from_input(self, inputs: tf.Tensor, training: bool) -> RpnOutputs:
        """As `first_stage`, from normalised float images [B, H, W, 3]. With k branches the maps have k B images."""
        features, strides = self.pyramid(inputs, training)
        maps = list(zip(strides, features, strict=True))  # of equal strides the later one stays
        by_stride = dict(maps if self.rpn_map == "last" else reversed(maps))
        rpn_features = [by_stride[s] for s in self.anchors.strides]
        roi_features = self.roi_extractor.select(features, strides)
        return RpnOutputs(rpn_features, self.rpn_head(rpn_features), roi_features)

    def second_stage(
        self, first: RpnOutputs, rois: tf.Tensor, training: bool, head: keras.layers.Layer | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """(cls_logits [B, R, 1 + C], deltas [B, R, K]) of RoIs [B, R, 4] by `head`, by default the only one."""
        return _classify(head or self.bbox_head, self._roi_features(first, rois, training), rois, training)

    def _roi_features(self, first: RpnOutputs, rois: tf.Tensor, training: bool) -> tf.Tensor:
        features = self.roi_extractor(first.roi_features, rois)
        if training and self.roi_gradient_scale != 1.0:
            features = _scale_gradient(features, self.roi_gradient_scale)
        return features

    def propose(self, first: RpnOutputs, image_info: tf.Tensor, training: bool) -> Proposals:
        """Proposals of the first stage; with k branches k B rows."""
        area_range = self._area_range(image_info) if training else None
        return self.proposals(first.rpn, self.anchors, self._repeat(image_info, training), training, area_range)

    def losses(self, batch: Batch, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """Losses of one replica's batch.

        Args:
            batch: see `Batch`.
            seed: int32 [2]; the randomness of the samplers and of stochastic depth is a function of it alone.
        """
        seeds = tf.random.experimental.stateless_split(seed, 2)
        with drop_seed(tf.random.experimental.stateless_fold_in(seed, 2)):
            first = self.first_stage(batch.images, batch.image_info, training=True)
        rpn_cls, rpn_box = self._rpn_losses(first, batch, seeds[0])
        with tf.name_scope("proposals"):
            proposals = self.propose(first, batch.image_info, training=True)
        return {"rpn_cls": rpn_cls, "rpn_box": rpn_box, **self._box_losses(first, proposals, batch, seeds[1])}

    def assign_targets(self, maps: list[tf.Tensor], rois: tf.Tensor, batch: Batch, seed: tf.Tensor):
        boxes, classes, rois = (self._repeat(t, training=True) for t in (batch.boxes, batch.classes, rois))
        area_range = self._area_range(batch.image_info)
        of_rois = [stage.targets(rois, boxes, classes, seed, area_range) for stage in self.stages]
        return self._rpn_targets(maps, batch, seed), of_rois

    def _rpn_targets(self, maps: list[tf.Tensor], batch: Batch, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        anchors = tf.concat(self.anchors.grid(maps), axis=0)
        ranges = None
        if self.branches is not None:
            ranges = self.branches.network_ranges(batch.image_info, len(self._dilations(True)))
        return self.rpn_targets(anchors, batch.image_info, batch.boxes, batch.classes, seed, ranges)

    def _rpn_losses(self, first: RpnOutputs, batch: Batch, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.name_scope("rpn_targets"):
            labels, box_targets = self._rpn_targets(first.features, batch, seed)
        with tf.name_scope("rpn_losses"):
            logits, deltas = flatten_levels(first.rpn)
            anchors = tf.concat(self.anchors.grid(first.features), axis=0)
            batch_per_image = self.rpn_targets.batch_per_image
            return self.rpn_loss(logits, deltas, labels, box_targets, batch_per_image, anchors, self.convention)

    def _box_losses(
        self, first: RpnOutputs, proposals: Proposals, batch: Batch, seed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """The losses of all box heads; each head after the first learns on the boxes that the one before made."""
        image_info, boxes, classes, *edges = (
            self._repeat(t, training=True)
            for t in (batch.image_info, batch.boxes, batch.classes, batch.edges, batch.edge_owners)
        )
        losses, rois, area_range = {}, proposals.boxes, self._area_range(batch.image_info)
        for index, (name, head, targets, weight) in enumerate(self.stages):
            own_seed = seed if index == 0 else tf.random.experimental.stateless_fold_in(seed, index)
            with tf.name_scope("roi_targets"):
                samples = targets(rois, boxes, classes, own_seed, area_range)
            with tf.name_scope("roi_align"):
                features = self._roi_features(first, samples.boxes, training=True)
            with_mask = index == 0 and self.masks is not None
            shares = with_mask and self.masks.shares_box_features
            cls_logits, deltas, *box_map = _classify(
                head, features, samples.boxes, training=True, return_map=shares, exists=samples.classes >= -1
            )
            with tf.name_scope("box_losses"):
                bbox_cls, bbox_reg = self.box_loss(
                    cls_logits, deltas, samples, head.class_agnostic, targets.box_std, self.convention
                )
            losses |= {f"bbox_cls{name}": weight * bbox_cls, f"bbox_reg{name}": weight * bbox_reg}
            if with_mask:
                foreground = targets.max_foreground(samples.boxes.shape[1])
                losses["mask"] = self.masks.loss(first.roi_features, samples, foreground, *edges, image_info, *box_map)
            if index + 1 < len(self.stages):
                with tf.name_scope("roi_targets"):
                    rois = self._refine(samples.boxes, deltas, image_info, targets)
        return losses

    def predict_boxes(self, first: RpnOutputs, rois: tf.Tensor, image_info: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Boxes [B, R, 1 or 1 + C, 4] in pixels of the network input and scores [B, R, 1 + C] of proposals.

        Of a cascade: the last head's boxes, and the mean of what the heads say, see `stage_scores`.
        """
        outputs = []
        for stage in self.stages[:-1]:
            outputs.append(self.second_stage(first, rois, training=False, head=stage.head))
            rois = self._refine(rois, outputs[-1][1], image_info, stage.targets)
        features = self.roi_extractor(first.roi_features, rois)
        if self.stage_scores == "own_rois":
            outputs.append(_classify(self.bbox_heads[-1], features, rois, training=False))
        else:
            outputs = [_classify(head, features, rois, training=False) for head in self.bbox_heads]
        scores = tf.add_n([tf.nn.softmax(cls_logits) for cls_logits, _ in outputs]) / len(outputs)
        boxes = self.postprocess.decode(rois, outputs[-1][1], image_info, self.bbox_head.class_agnostic)
        return boxes, scores

    def detect_whole(self, images: tf.Tensor, image_info: tf.Tensor) -> Detections:
        first, candidates = self._first_stage_and_candidates(images, image_info)
        found = self.suppress(candidates, image_info)
        return self.finish(found if self.masks is None else self._with_masks(first, found, image_info))

    def candidates(self, images: tf.Tensor, image_info: tf.Tensor) -> Candidates:
        return self._first_stage_and_candidates(images, image_info)[1]

    def suppress(self, candidates: Candidates, image_info: tf.Tensor) -> Detections:
        if self._branches_first:
            return self.branches.suppress(candidates, self.postprocess, self.num_classes)
        return self.postprocess.suppress(candidates, image_info)

    def suppression_pixels(self, image_info: tf.Tensor) -> tf.Tensor:
        return super().suppression_pixels(image_info) if self._branches_first else self.postprocess.pixels(image_info)

    def predict_masks(self, images: tf.Tensor, image_info: tf.Tensor, found: Detections) -> tf.Tensor:
        """The masks float32 [B, D, M, M] of detections that `suppress` made, from the features of these images."""
        return self._with_masks(self.first_stage(images, image_info, training=False), found, image_info).masks

    @property
    def _branches_first(self) -> bool:
        return self.branches is not None and self.branches.suppression == "each_first"

    def _with_masks(self, first: RpnOutputs, found: Detections, image_info: tf.Tensor) -> Detections:
        rois = found.boxes * box_scale(image_info)[:, None]
        return found._replace(masks=self.masks.predict(first.roi_features, rois, found.classes))

    def _first_stage_and_candidates(self, images, image_info) -> tuple[RpnOutputs, Candidates]:
        first = self.first_stage(images, image_info, training=False)
        proposals = self.propose(first, image_info, training=False)
        own_info = self._repeat(image_info, training=False)
        boxes, scores = self.predict_boxes(first, proposals.boxes, own_info)
        # Some proposals may be missing for good: their zero boxes must not become detections.
        scores = tf.where(tf.math.is_inf(proposals.scores)[..., None], 0.0, scores)
        if self._branches_first:
            found = self.postprocess(boxes, scores, own_info)
            return first, self.branches.join_detections(found, tf.shape(image_info)[0])
        if self.branches is not None:
            boxes, scores = self.branches.merge(boxes, scores, image_info)
        return first, self.postprocess.candidates(boxes, scores, image_info)

    def run_layers(self, images: tf.Tensor, image_info: tf.Tensor) -> None:
        first = self.first_stage(images, image_info, training=False)
        rois = self._repeat(tf.constant([[[0.0, 0.0, 31.0, 31.0]]]), training=False)
        self.predict_boxes(first, rois, self._repeat(image_info, training=False))
        if self.masks is not None:
            self.masks.run_layers(first.roi_features, rois)

    def _dilations(self, training: bool) -> tuple[int, ...]:
        """The backbone's branches, () where it has none."""
        return self.backbone.dilations(training) if hasattr(self.backbone, "dilations") else ()

    def _area_range(self, image_info: tf.Tensor) -> tf.Tensor | None:
        """Sides [k B, 2] of the boxes that each branch learns, in network pixels; None where every one learns all."""
        if self.branches is None or self.branches.valid_ranges is None:
            return None
        return tf.reshape(self.branches.network_ranges(image_info, len(self._dilations(True))), [-1, 2])

    def _repeat(self, rows: tf.Tensor, training: bool) -> tf.Tensor:
        """[B, ...] -> [k B, ...], image-major, as the backbone's maps of k branches."""
        count = len(self._dilations(training))
        return tf.repeat(rows, count, axis=0) if count > 1 else rows

    def _refine(
        self, rois: tf.Tensor, deltas: tf.Tensor, image_info: tf.Tensor, targets: RoiTargetSampler
    ) -> tf.Tensor:
        """The boxes [B, R, 4] that an earlier head of a cascade makes of its RoIs, clipped to the image."""
        boxes = self.postprocess.decode(rois, deltas, image_info, class_agnostic=True, box_std=targets.box_std)
        return tf.ensure_shape(tf.stop_gradient(boxes[:, :, 0]), rois.shape)


def _scale_gradient(values: tf.Tensor, scale: float) -> tf.Tensor:
    """`values`, whose gradient is multiplied by `scale`."""

    @tf.custom_gradient
    def identity(x):
        return tf.identity(x), lambda upstream: upstream * scale

    return identity(values)


def _classify(
    head: keras.layers.Layer,
    features: tf.Tensor,
    rois: tf.Tensor,
    training: bool,
    return_map: bool = False,
    exists: tf.Tensor | None = None,
):
    """(cls_logits [B, R, 1 + C], deltas [B, R, K]) of RoI features [B * R, P, P, C], and the head's map if wanted.

    In training `exists`, bool [B, R], says which rows are RoIs; a head with batch statistics sees no others.
    """
    options = {"return_map": True} if return_map else {}  # heads without a map do not know the argument
    if training and exists is not None and getattr(head, "takes_batch_statistics", False):
        outputs = on_existing(lambda x: head(x, training=True, **options), tf.reshape(exists, [-1]), features)
    else:
        outputs = head(features, training=training, **options)
    cls_logits, deltas, *box_map = outputs
    shape = tf.shape(rois)
    return (
        tf.reshape(cls_logits, [shape[0], shape[1], cls_logits.shape[-1]]),
        tf.reshape(deltas, [shape[0], shape[1], deltas.shape[-1]]),
        *box_map,
    )


def _make_stages(num_classes, bbox_head, targets, loss_weights, postprocess) -> list[BoxStage]:
    """The heads of a detector; `ValueError` where its parts do not fit."""
    if not targets or len(loss_weights) != len(targets):
        raise ParameterError(
            "Expected one of TwoStageDetector.stage_loss_weights for each of roi_targets. "
            f"Received: {len(loss_weights)} weights, {len(targets)} samplers"
        )
    if tuple(targets[-1].box_std) != tuple(postprocess.box_std):
        raise ParameterError(
            "Expected PostProcess.box_std to be that of the last RoiTargetSampler. "
            f"Received: {postprocess.box_std} and {targets[-1].box_std}"
        )
    if len(targets) == 1:
        return [BoxStage("", bbox_head(num_classes=num_classes), targets[0], loss_weights[0])]
    names = [f"_{i}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(i, 'th') }" for i in range(1, len(targets) + 1)]
    heads = [bbox_head(num_classes=num_classes, name=f"bbox_head{name}") for name in names]
    if not all(head.class_agnostic for head in heads):
        raise ParameterError("Expected a class-agnostic bbox_head in a cascade: its stages hand one box a RoI on")
    return [BoxStage(*fields) for fields in zip(names, heads, targets, loss_weights, strict=True)]
