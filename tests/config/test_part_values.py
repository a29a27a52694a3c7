"""A value that a part cannot be built of is one line of a command, not a traceback."""

import pytest

from tfdet import config
from tfdet.commands import one_line


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
def test_a_value_outside_a_parts_range(configured, file, bindings, expected):
    config.register_all()
    configured([file], bindings)
    from tfdet.detectors import build_detector

    with pytest.raises(Exception) as error:
        build_detector(num_classes=3)
    line = one_line(error.value)
    assert line is not None and expected in line and "\n" not in line, line
