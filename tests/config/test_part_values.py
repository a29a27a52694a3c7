"""What the parts take: every choice and range is said, and a wrong value is one line where it is bound or given."""

import inspect
import typing

import pytest

from tfdet import config
from tfdet.commands import one_line
from tfdet.config import registration
from tfdet.config.annotations import evaluated, mismatch
from tfdet.config.ranges import Range
from tfdet.errors import ParameterError

config.register_all()

PARTS = {
    name: registration.entry(selector).wrapped
    for name in registration.known_names()
    for selector in registration.matching_selectors(name)
    if selector.startswith("tfdet.")
}
# Any text is right for these.
FREE_TEXT = {
    "name": "of a layer",
    "data_dir": "a folder",
    "init_weights": "a file, or a name of published weights",
    "preset": "of KerasHub, which has more of them with every release",
    "architecture": "a class of KerasHub's",
    "best_metric": "looked up among the figures of the evaluation, which name the classes",
    "classes": "of the data set, which is asked",
    "decayed": "parts of the paths of variables",
    "undecayed": "parts of the paths of variables",
    "frozen": "parts of the paths of variables",
    "lr_factors": "parts of the paths of variables",
    "title": "of a row",
    "source": "of a row's figures",
    "setting": "of a row's figures",
}

WRONG = [
    ("AnchorGenerator.ratios", (0.5, 0.0)),
    ("AnchorGenerator.scales", (8, -2)),
    ("AnchorGenerator.sizes", ((32.0,), (-64.0,))),
    ("AnchorGenerator.strides", (4, 0)),
    ("AnchorGenerator.style", "torch"),
    ("Augmentation.quarter_turns", 1.5),
    ("BoxLoss.box_loss", "iou"),
    ("BoxLoss.box_weight", -1.0),
    ("BoxLoss.sigma", 0.0),
    ("C5BboxHead.depth", 34),
    ("C5BboxHead.strides", 3),
    ("C5BboxHead.stride_on", "2x2"),
    ("C5V2BboxHead.norm", "batch"),
    ("C5V2BboxHead.width", 0),
    ("ColorJitter.hue", (-0.6, 0.1)),
    ("ConvBboxHead.num_convs", -1),
    ("CopyPaste.max_objects", 0),
    ("DensePostProcess.clip", "all"),
    ("DensePostProcess.max_detections", 0),
    ("DensePostProcess.nms_method", "guassian"),
    ("DensePostProcess.pre_nms_top_n", -1),
    ("DensePostProcess.vote_iou_threshold", 1.5),
    ("EvalInput.images_per_batch", 0),
    ("EvalInput.resize", "pil"),
    ("FPN.channels", 0),
    ("FPN.norm", "batch"),
    ("KerasBackbone.drop_path", 1.0),
    ("KerasBackbone.model", "EfficientNetV2XL"),
    ("KerasHubBackbone.norm", "batch"),
    ("LargeScaleJitter.max_scale", 0.0),
    ("LargeScaleJitter.padding", (123.0, 117.0, 256.0)),
    ("MaskBranch.paste", "opencv"),
    ("MaskBranch.pool_size", 0),
    ("MaskHead.norm", "batch"),
    ("MaskHead.num_convs", -1),
    ("MlpBboxHead.initializer", "normal"),
    ("MlpBboxHead.channels", 0),
    ("Mosaic.off_for_last", 10),
    ("PostProcess.box_std", (0.1, 0.1, 0.2)),
    ("PostProcess.iou_threshold", 5.0),
    ("PostProcess.max_detections", 0),
    ("PostProcess.min_size", -1.0),
    ("PostProcess.nms_method", "guassian"),
    ("PostProcess.nms_sigma", 0),
    ("PostProcess.score_threshold", 5),
    ("PostProcess.vote_iou_threshold", 0.0),
    ("ProposalGenerator.iou_threshold", 1.7),
    ("ProposalGenerator.post_nms_top_n", (2000, 0)),
    ("ProposalGenerator.pre_nms_top_n", 2000),
    ("ProposalGenerator.variant", "v4"),
    ("ProposalGenerator.variant", ("v3", "v4")),
    ("RandomIoUCrop.min_ious", (0.1, 1.1)),
    ("ReduceNeck.kernel_size", 0),
    ("ReduceNeck.stride", -16),
    ("ResNetV1.branches", (1, 0)),
    ("ResNetV1.depth", 34),
    ("ResNetV1.epsilon", -1e-5),
    ("ResNetV1.norm", "batch"),
    ("ResNetV1.num_stages", 5),
    ("ResNetV1.recompute", (0, 1)),
    ("ResNetV1.stem_channels", 0),
    ("ResNetV1.stride_on", "2x2"),
    ("ResNetV2.depth", 49),
    ("ResNetV2.num_stages", 2),
    ("ResNetV2.variant", "caffe"),
    ("RetinaDetector.convention", "plus_one"),
    ("RetinaDetector.focal_alpha", 1.5),
    ("RetinaDetector.focal_gamma", -2.0),
    ("RetinaDetector.loss_divisor", "images"),
    ("RetinaDetector.box_loss", "iou"),
    ("RetinaDetector.pixel_std", (1.0, 1.0, 0.0)),
    ("RetinaDetector.size_divisor", 0),
    ("RetinaHead.init_std", 0.0),
    ("RetinaHead.prior", 2.0),
    ("RetinaNeck.p6_from", "c4"),
    ("RetinaTargetAssigner.low_quality_class", "last"),
    ("RetinaTargetAssigner.positive_iou", 1.5),
    ("RoiExtractor.level_rule", "log"),
    ("RoiExtractor.mode", "mean"),
    ("RoiExtractor.sampling_ratio", -1),
    ("RoiTargetSampler.bg_low", -0.1),
    ("RoiTargetSampler.fg_fraction", 2.5),
    ("RoiTargetSampler.fg_threshold", 50),
    ("RoiTargetSampler.num_rois", 0),
    ("RoiTargetSampler.pad", "zeros"),
    ("Row.box_ap", 342.0),
    ("Row.program", "detectron2"),
    ("RpnHead.channels", 0),
    ("RpnHead.objectness", "logits"),
    ("RpnLoss.box_divisor", "all"),
    ("RpnLoss.box_loss", "iou"),
    ("RpnLoss.box_weight", -1.0),
    ("RpnLoss.sigma", -3.0),
    ("RpnTargetAssigner.batch_per_image", 0),
    ("RpnTargetAssigner.fg_fraction", 1.5),
    ("RpnTargetAssigner.negative_iou", -0.3),
    ("ScaleBranches.suppression", "each"),
    ("ScaleBranches.valid_ranges", ((-1, 90), (30, -1))),
    ("Schedule.base_lr", 0.0),
    ("Schedule.decay", "linear"),
    ("Schedule.decay_steps", (0, 100)),
    ("Schedule.warmup_from", 1.5),
    ("TestTimeAugmentation.long_side", 0),
    ("TestTimeAugmentation.scales", (800, 0)),
    ("TrainInput.images_per_replica", 0),
    ("TrainInput.long_side", -1333),
    ("TrainInput.num_parallel_calls", 0),
    ("TrainInput.order", "random"),
    ("TrainInput.profile", "second_release"),
    ("TrainInput.short_side", (640, 0)),
    ("Trainer.accumulate", 0),
    ("Trainer.betas", (0.9, 1.0)),
    ("Trainer.ema_decay", 1.0),
    ("Trainer.epochs", -1.0),
    ("Trainer.loss_scale", "static"),
    ("Trainer.lr_factors", {"predictor": -0.1}),
    ("Trainer.momentum", 1.0),
    ("Trainer.precision", "float16"),
    ("TwoStageDetector.convention", "legacy"),
    ("TwoStageDetector.pixel_mean", (103.5, 116.3)),
    ("TwoStageDetector.roi_gradient_scale", -1.0),
    ("TwoStageDetector.stage_loss_weights", (1.0, -0.5)),
    ("TwoStageDetector.stage_scores", "own"),
    ("build_detector.num_classes", 0),
    # Memory that nobody has.
    ("C5BboxHead.width", 17.0),
    ("C5V2BboxHead.width", 17.0),
    ("DensePostProcess.max_detections", 100_001),
    ("DensePostProcess.pre_nms_top_n", 1_000_001),
    ("EvalInput.long_side", 16_385),
    ("EvalInput.short_side", 1_000_000),
    ("FPN.channels", 65_537),
    ("LargeScaleJitter.width", 16_385),
    ("MaskHead.channels", 65_537),
    ("MlpBboxHead.channels", 65_537),
    ("PostProcess.max_detections", 1_000_000_000),
    ("ProposalGenerator.post_nms_top_n", (2000, 1_000_001)),
    ("ProposalGenerator.pre_nms_top_n", (1_000_001, 1000)),
    ("ReduceNeck.channels", 65_537),
    ("ResNetV1.stem_channels", 65_537),
    ("ResNetV1.width", 1e9),
    ("ResNetV2.width", 17.0),
    ("RetinaHead.channels", 65_537),
    ("RetinaNeck.channels", 65_537),
    ("RpnHead.channels", 65_537),
    ("MaskBranch.pool_size", 257),
    ("MaskHead.num_convs", 101),
    ("ReduceNeck.kernel_size", 257),
    ("RetinaDetector.size_divisor", 16_385),
    ("RetinaHead.num_convs", 101),
    ("RoiExtractor.output_size", 257),
    ("TwoStageDetector.size_divisor", 16_385),
    ("build_detector.num_classes", 100_001),
    ("TestTimeAugmentation.long_side", 16_385),
    ("TestTimeAugmentation.scales", (800, 16_385)),
    ("TrainInput.long_side", 16_385),
    ("TrainInput.short_side", (640, 16_385)),
    ("Validation.train_images", -1),
]


@pytest.mark.parametrize("name, value", WRONG, ids=[f"{name}={value}" for name, value in WRONG])
def test_a_wrong_value_is_refused_with_its_place_and_by_a_call(tmp_path, refused, name, value):
    file = tmp_path / "wrong.gin"
    file.write_text(f"\n{name} = {value!r}\n")
    line = refused(files=[str(file)])
    assert line.startswith(f"{file}:2: {name} = {value!r}: expected ")
    part, parameter = name.split(".")
    with pytest.raises(ParameterError) as caught:
        PARTS[part](**{parameter: value})
    assert one_line(caught.value).endswith(line.removeprefix(f"{file}:2: "))


def test_a_wrong_value_of_every_part_is_in_the_table():
    assert {name.split(".")[0] for name, _ in WRONG} == set(PARTS)


def annotations_of(part: str) -> dict[str, tuple[inspect.Parameter, object]]:
    """The parameters of a part with their annotations, evaluated."""
    (selector,) = registration.matching_selectors(part)
    function = registration.constructor(selector)
    return {
        name: (parameter, evaluated(parameter.annotation, function))
        for name, parameter in registration.parameters(selector).items()
    }


def open_types(annotation, limited: bool = False) -> set[type]:
    """The types of numbers and texts in an annotation that are without a range or choices."""
    if annotation in (int, float, str) or annotation in (inspect.Parameter.empty, typing.Any):
        return set() if limited else {annotation}
    if typing.get_origin(annotation) is typing.Literal:
        return set()
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Annotated:
        return open_types(arguments[0], any(isinstance(part, Range) for part in arguments[1:]))
    return set().union(*(open_types(part, limited) for part in arguments))


def test_open_types_are_seen():
    number = typing.Annotated[int, Range(least=1)]
    for annotation in (int, str, int | None, tuple[float, ...], dict[str, number], typing.Annotated[int, "any"]):
        assert open_types(annotation)
    for annotation in (number, number | None, tuple[number, number], typing.Literal["a"] | None, bool):
        assert not open_types(annotation)


@pytest.mark.parametrize("part", sorted(PARTS))
def test_every_number_has_a_range_and_every_text_its_choices(part):
    found = {name: open_types(annotation) for name, (_, annotation) in annotations_of(part).items()}
    free = {name for name, types in found.items() if types and not (name in FREE_TEXT and types == {str})}
    assert not free


@pytest.mark.parametrize("part", sorted(PARTS))
def test_defaults_are_within(part):
    for name, (parameter, annotation) in annotations_of(part).items():
        if parameter.default is not parameter.empty:
            assert mismatch(parameter.default, annotation) is None, name


@pytest.mark.parametrize(
    "file, bindings, expected",
    [
        ("faster_r50v1_fpn.gin", ["PostProcess.box_std = (1.0, 1.0, 1.0, 1.0)"], "PostProcess.box_std to be that"),
        ("faster_r50v1_fpn.gin", ["TwoStageDetector.convention = 'continuous'"], "RpnHead.objectness = 'sigmoid'"),
        ("faster_r50v1_c4.gin", ["ResNetV1.recompute = (4,)"], "stages from 1 to 3 in ResNetV1.recompute"),
    ],
)
def test_values_that_do_not_go_together_are_one_line(configured, file, bindings, expected):
    configured([file], bindings)
    from tfdet.detectors import build_detector

    with pytest.raises(Exception) as error:
        build_detector(num_classes=3)
    line = one_line(error.value)
    assert line is not None and expected in line and "\n" not in line, line
