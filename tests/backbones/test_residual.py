"""Units by their description: ResNeXt, dilated C5, deformable units, branches that begin in the second unit."""

import numpy as np
import pytest
import tensorflow as tf

from tfdet.backbones import Residuals, ResNetV1
from tfdet.backbones.residual import UNITS

NARROW = 1 / 16


def test_channels_and_units_of_the_published_networks():
    """Xie et al., table 1: 3x3 of 256 channels in stage 1 of ResNeXt 32x8d, outputs as of a ResNet."""
    resnext = Residuals(101, groups=32, width_per_group=8)
    first, last = resnext.units_of(1, 1)[0], resnext.units_of(4, 2)[0]
    assert (first.inner, first.outer, last.inner, last.outer) == (256, 256, 2048, 2048)
    assert {spec.groups for spec in resnext.units_of(3, 2)} == {32}
    assert [len(Residuals(152).units_of(stage, 1)) for stage in (1, 2, 3, 4)] == list(UNITS[152]) == [3, 8, 36, 3]
    dilated = Residuals(50).units_of(4, 1, dilation=2)
    assert [(spec.strides, spec.dilation, spec.project) for spec in dilated] == [(1, 2, True)] + [(1, 2, False)] * 2


@pytest.mark.parametrize(
    "deformable, found",
    [((0, 0, 3), [0, 0, 3, 0]), ((0, -1, -1, -1), [0, 4, 6, 3]), ((), [0, 0, 0, 0])],
)
def test_the_last_units_of_a_stage_are_deformable(deformable, found):
    residuals = Residuals(50, deformable=deformable, offset_groups=4)
    groups = [[spec.offset_groups for spec in residuals.units_of(stage, 1)] for stage in (1, 2, 3, 4)]
    assert [sum(map(bool, own)) for own in groups] == found
    assert all(own == sorted(own) for own in groups)  # ordinary ones first


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"depth": 18, "groups": 2}, "groups = 1, width_per_group = 64 and deformable = \\(\\) at depth 18"),
        ({"groups": 32, "width_per_group": 4, "width": 0.1}, "cannot be parted in groups=32"),
        ({"deformable": (1,), "offset_groups": 5}, "offset_groups=5"),
        ({"deformable": (0, 5)}, "at most 4 units of stage 2"),
        ({"deformable": (0,) * 5}, "up to 4 stages"),
        ({"depth": 18, "dilate_c5": True}, "units with a bottleneck"),
        ({"num_stages": 3, "branches": (1, 2), "test_branches": (1,), "stride_on": "3x3"}, "from the second unit on"),
        ({"num_stages": 3, "branches": (1, 2), "test_branches": (1,), "deformable": (0, 0, 1)}, "none of them deform"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResNetV1(**({"depth": 50, "num_stages": 4} | arguments))


def picture(size=(64, 96)):
    return tf.constant(np.random.default_rng(0).normal(size=(1, *size, 3)), tf.float32)


def copy_by_path(source, target):
    values = {variable.path: variable.numpy() for variable in source.weights}
    for variable in target.weights:
        if variable.path in values:
            variable.assign(values.pop(variable.path))
    assert not values


def test_offsets_of_zero_are_an_ordinary_network():
    options = {"depth": 50, "num_stages": 4, "width": NARROW, "groups": 2, "width_per_group": 32}
    plain, deformable = ResNetV1(**options), ResNetV1(**options, deformable=(0, -1, 2, 1), initializer="detectron2")
    expected = plain(picture())
    deformable(picture())
    copy_by_path(plain, deformable)
    for ours, theirs in zip(deformable(picture()), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
    moved = [variable for variable in deformable.weights if variable.path.endswith("offset/bias")]
    assert len(moved) == 4 + 2 + 1
    moved[0].assign(moved[0] + 0.5)
    assert np.abs(deformable(picture())[1] - expected[1]).max() > 1e-3 * np.abs(expected[1]).max()


@pytest.mark.parametrize("program, biased", [("simpledet", False), ("detectron2", True)])
def test_offsets_begin_as_the_program_lets_them(program, biased):
    backbone = ResNetV1(50, 3, width=NARROW, deformable=(0, 0, 1), offset_groups=4, initializer=program)
    backbone(picture())
    offsets = {v.path.rpartition("/")[2]: v.numpy() for v in backbone.weights if "/offset/" in v.path}
    assert set(offsets) == ({"kernel", "bias"} if biased else {"kernel"})
    assert offsets["kernel"].shape == (3, 3, 16, 72)
    expected = 0.0 if biased else np.sqrt(2 / (9 * 16))
    np.testing.assert_allclose(offsets["kernel"].std(), expected, rtol=0.05)
    # N(0, sqrt(2 / fan_out)) of Detectron2 concerns the deformable kernel as any other.
    kernel = next(v for v in backbone.weights if v.path.endswith("stage3/unit6/conv2/kernel"))
    np.testing.assert_allclose(kernel.numpy().std(), np.sqrt(2 / (9 * 16)), rtol=0.1)


def test_dilated_c5_keeps_the_stride_and_dilates_every_unit():
    backbone = ResNetV1(50, 4, width=NARROW, dilate_c5=True)
    c4, c5 = backbone(picture())[2:]
    assert backbone.strides == [4, 8, 16, 16] and c5.shape[1:3] == c4.shape[1:3] == (4, 6)
    assert [unit.conv2.dilation_rate for unit in backbone.stages[3].units] == [(2, 2)] * 3
    assert [unit.conv2.dilation_rate for unit in backbone.stages[2].units] == [(1, 1)] * 6


def test_branches_from_the_second_unit_stride_in_the_first_one():
    """SimpleDet's TridentNet on v1b: the branch of dilation 1 is the network without branches."""
    options = {"depth": 50, "num_stages": 3, "width": NARROW, "stride_on": "3x3"}
    plain = ResNetV1(**options)
    trident = ResNetV1(**options, branches=(1, 2), test_branches=(1, 2), branches_from=2)
    expected = plain(picture())
    trident(picture())
    copy_by_path(plain, trident)
    c3, c4 = trident(picture())[1:]
    assert c3.shape[0] == 1 and c4.shape == (2, 4, 6, 64)
    np.testing.assert_allclose(c4[:1], expected[2], atol=1e-5 * np.abs(expected[2]).max())
    assert np.abs(c4[1:] - expected[2]).max() > 1e-2 * np.abs(expected[2]).max()
