"""A value that a part cannot be built of is one line of a command, not a traceback."""

import pytest

from tfdet import config
from tfdet.commands import one_line
from tfdet.commands.flags import register_all


@pytest.mark.parametrize(
    "file, bindings, expected",
    [
        ("faster_r50v1_fpn.gin", ["ResNetV1.depth = 34"], "ResNetV1.depth to be one of"),
        ("faster_r50v1_fpn.gin", ["NORM = 'batch'"], "norm to be one of"),
        ("faster_r50v1_fpn.gin", ["FPN.norm = 'frozen'"], "norm to be None or 'group'"),
        ("faster_r50v1_fpn.gin", ["PostProcess.box_std = (1.0, 1.0, 1.0, 1.0)"], "PostProcess.box_std to be that"),
        ("faster_r50v2_c4.gin", ["ResNetV2.depth = 49"], "ResNetV2.depth to be one of"),
        ("faster_r50v1_fpn.gin", ["PostProcess.convention = 'continuous'"], "one convention of boxes"),
        ("retina_r50v1_fpn.gin", ["RetinaTargetAssigner.convention = 'continuous'"], "one convention of boxes"),
        ("mask_r50v1_fpn.gin", ["MaskBranch.paste = 'opencv'"], "MaskBranch.paste to be one of"),
        ("retina_r50v1_fpn.gin", ["RetinaHead.prior = 2.0"], "RetinaHead.prior in"),
        ("retina_r50v1_fpn.gin", ["DensePostProcess.clip = 'all'"], "DensePostProcess.clip to be"),
    ],
)
def test_a_value_outside_a_parts_range(file, bindings, expected):
    register_all()
    config.parse([file], bindings)
    from tfdet.detectors import build_detector

    with pytest.raises(Exception) as error:
        build_detector(num_classes=3)
    line = one_line(error.value)
    assert line is not None and expected in line and "\n" not in line, line


def test_the_file_for_ones_own_data_changes_the_schedule_alone():
    register_all()
    config.parse(["faster_r101v2_c4_syncbn.gin", "base/finetune.gin"], [])
    from tfdet.train.loop import Trainer
    from tfdet.train.schedule import Schedule

    trainer, schedule = Trainer(), Schedule()
    assert (trainer.epochs, trainer.clip, trainer.frozen) == (12.0, 5.0, ())
    assert (schedule.base_lr, schedule.decay, schedule.warmup_steps) == (0.02, "cosine", 100)
    assert schedule.warnings(2, 1230) == []


def test_detectron2s_tridentnet_learns_as_its_configuration_says():
    """projects/TridentNet/configs/Base-TridentNet-Fast-C4.yaml of Detectron2."""
    register_all()
    config.parse(["detectron2/trident_fast_r50_c4.gin"], [])
    from tfdet.heads.proposals import ProposalGenerator
    from tfdet.targets.assigners import RoiTargetSampler

    sampler = RoiTargetSampler()
    assert (sampler.num_rois, sampler.fg_fraction, sampler.append_gt) == (128, 0.5, False)
    assert ProposalGenerator().post_nms_top_n == (500, 1000)


@pytest.mark.parametrize(
    "file, rule",
    [
        ("mask_r50v1_fpn.gin", "simpledet"),
        ("faster_r50v1_fpn.gin", "simpledet"),
        ("detectron2/cascade_mask_rcnn_r50_fpn.gin", "detectron2"),
        ("torchvision/maskrcnn_r50_fpn.gin", "torchvision"),
    ],
)
def test_masks_are_pasted_as_their_program_does(file, rule):
    register_all()
    config.parse([file], ["WIDTH = 0.125"])
    from tfdet.detectors import build_detector

    assert build_detector(num_classes=3).mask_paste == rule


@pytest.mark.parametrize("file", ["retina_r50v1_fpn.gin", "retina_r101v1_fpn.gin"])
def test_the_tiny_form_of_a_retina_row_has_no_binding_that_nobody_reads(file):
    register_all()
    config.parse([file, "base/tiny_retina.gin"], ["WIDTH = 0.125", "TrainInput.data_dir = 'unused'"])
    from tfdet.detectors import build_detector
    from tfdet.train.loop import Trainer
    from tfdet.train.schedule import Schedule

    build_detector(num_classes=3), Trainer(), Schedule()
    config.check_all_bindings_used(not_built=("EvalInput", "TrainInput"))
