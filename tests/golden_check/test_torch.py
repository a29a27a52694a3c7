"""Stored maps, detections, losses and gradients of Detectron2 and torchvision."""

from __future__ import annotations

import numpy as np
import pytest

from tests.golden_check.stored import GOLDEN, read
from tfdet.config import register_all
from tfdet.errors import UserError
from tools.golden import torch_check, torch_folder

FOLDERS = sorted(path.parent.name for path in (GOLDEN / "torch_small").glob("*/meta.json"))


@pytest.fixture(autouse=True)
def registered():
    register_all()


@pytest.mark.parametrize("name", FOLDERS)
def test_all_that_is_stored_agrees(name):
    golden = read(name)
    verdict = torch_check.check(golden)
    assert verdict.wrong == [] and verdict.findings == []
    assert verdict.passed
    assert bool(verdict.training) == bool(golden.train)


def test_a_wrong_weight_is_found():
    golden = read("d2_trident_r50_c4")
    name = "backbone.res4.2.conv2.weight"
    golden.arrays[name] = golden.arrays[name][..., ::-1]
    verdict = torch_check.check(golden)
    assert not verdict.passed
    assert {row.name for row in verdict.wrong} >= {"rpn_logits_0", "box_cls_logits"}


def test_a_checkpoint_with_a_tensor_too_few_or_too_many_does_not_fit():
    golden = read("d2_trident_r50_c4")
    golden.arrays["stranger"] = golden.arrays.pop("proposal_generator.rpn_head.conv.bias")
    golden.arrays["proposal_generator.anchor_generator.cell_anchors.0"] = np.zeros([15, 4])  # some files have it
    with pytest.raises(UserError, match=r"1 variables left.*rpn_head/conv/bias.*1 in the file and not used \(stranger"):
        torch_folder.build_like(golden)


def test_a_folder_that_does_not_name_the_epsilon_is_refused_in_words():
    golden = read("d2_trident_r50_c4")
    del golden.meta["conventions"]["frozen_bn_eps"]
    with pytest.raises(UserError, match="meta.json has no conventions.frozen_bn_eps"):
        torch_folder.build_like(golden)
