"""What the comparison with SimpleDet must not pass; its own arrays stand for what tfdet would compute."""

import re

import numpy as np
import pytest

from tests.golden_check.stored import GOLDEN
from tools.golden.simpledet_compare import compare, input_findings
from tools.golden.simpledet_folder import read_golden
from tools.golden.simpledet_rows import row_of

FOLDERS = sorted(path.parent.name for path in (GOLDEN / "simpledet").glob("*/meta.json"))


@pytest.fixture(scope="module")
def goldens():
    found = {}
    for name in FOLDERS:
        golden = read_golden(GOLDEN / "simpledet" / name, partial=True)
        own = {name.partition(":")[0] if name.startswith("HEAD") else name: x for name, x in golden.outputs.items()}
        found[name] = golden, row_of(golden)[0], own
    return found


@pytest.mark.parametrize("name", FOLDERS)
def test_what_is_stored_agrees_with_itself(goldens, name):
    golden, row, own = goldens[name]
    verdict = compare(golden, row, own)
    assert verdict.passed, (verdict.wrong, verdict.findings)
    assert set(verdict.not_compared.values()) <= {"left out of this copy"} and not input_findings(golden, row)


def head(outputs, number):
    return next(name for name in outputs if name.startswith(f"HEAD{number}:"))


def scores_halved(outputs):
    outputs[head(outputs, 3)] /= 2


def boxes_shifted_by_five_pixels(outputs):
    outputs[head(outputs, 4)] += 5


def columns_of_classes_by_one(outputs):
    name = head(outputs, 3)
    outputs[name] = np.roll(outputs[name], 1, axis=1 if outputs[name].shape[-1] == 1 else -1)


def one_box_gone(outputs):
    name = head(outputs, 4)
    outputs[name] = np.delete(outputs[name], 0, axis=-2)


def scores_missing(outputs):
    del outputs[head(outputs, 3)]


def boxes_missing(outputs):
    del outputs[head(outputs, 4)]


def boxes_renamed(outputs):
    outputs["boxes"] = outputs.pop(head(outputs, 4))


def scores_empty(outputs):
    outputs[head(outputs, 3)] = outputs[head(outputs, 3)][:0]


def a_score_that_is_no_number(outputs):
    outputs[head(outputs, 3)].reshape(-1)[0] = np.nan


FINALS = [
    scores_halved, boxes_shifted_by_five_pixels, columns_of_classes_by_one, one_box_gone, scores_missing, boxes_missing,
    boxes_renamed, scores_empty, a_score_that_is_no_number,
]  # fmt: skip
"""Wrong results of any graph."""


def another_image(outputs):
    outputs[head(outputs, 1)] += 1


def channels_swapped(outputs):
    name = next(name for name in outputs if re.match(r"(stage|P)\d", name))
    outputs[name][:, [0, 1]] = outputs[name][:, [1, 0]]


def logits_missing(outputs):
    del outputs["bbox_cls_logit" if "bbox_cls_logit" in outputs else "cls_pred"]


def a_map_renamed(outputs):
    outputs["map"] = outputs.pop(next(name for name in outputs if re.match(r"(stage|P)\d", name)))


def a_map_empty(outputs):
    name = next(name for name in outputs if re.match(r"(stage|P)\d", name))
    outputs[name] = outputs[name][:0]


def proposals_reversed(outputs):
    name = next(name for name in outputs if name.startswith(("proposal", "get_top")) and outputs[name].shape[-1] == 4)
    outputs[name] = outputs[name][:, ::-1]


def proposals_truncated(outputs):
    name = next(name for name in outputs if name.startswith(("proposal", "get_top")) and outputs[name].shape[-1] == 4)
    outputs[name] = outputs[name][:, :-1]


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize(
    "mutate",
    [
        *FINALS,
        another_image,
        channels_swapped,
        logits_missing,
        a_map_renamed,
        a_map_empty,
        proposals_reversed,
        proposals_truncated,
    ],
)
def test_a_wrong_folder_is_found(goldens, name, mutate):
    golden, row, own = goldens[name]
    outputs = {key: array.copy() for key, array in golden.outputs.items()}
    mutate(outputs)
    assert not compare(golden._replace(outputs=outputs), row, own).passed
    if mutate not in (logits_missing, a_map_renamed):  # these are found by the list of meta.json alone
        meta = {key: value for key, value in golden.meta.items() if key not in ("outputs", "heads")}
        assert not compare(golden._replace(outputs=outputs, meta=meta), row, own).passed


@pytest.mark.parametrize(
    "change",
    [
        {"heads": ["rec_id", "im_id", "im_info", "bbox_cls_score_reshape_output"]},
        {"heads": ["rec_id", "im_id", "im_info", "decode", "bbox_cls_score_reshape_output"]},
        {"heads": 5},
        {"outputs": {}},
    ],
)
def test_wrong_lists_of_meta_are_found(goldens, change):
    golden, row, own = goldens[FOLDERS[0]]
    assert not compare(golden._replace(meta=golden.meta | change), row, own).passed


@pytest.mark.parametrize("figure,value", [("absmax", 1e3), ("mean", 1e3), ("std", "much"), ("shape", [1])])
def test_wrong_figures_of_meta_are_found(goldens, figure, value):
    golden, row, own = goldens[FOLDERS[0]]
    listed = golden.meta["outputs"]
    listed = listed | {"pool0": listed["pool0"] | {figure: value}}
    assert not compare(golden._replace(meta=golden.meta | {"outputs": listed}), row, own).passed


def test_without_its_inputs_nothing_is_computed(goldens):
    golden, row, _ = goldens[FOLDERS[0]]
    read = row.reads[0]
    for inputs, outputs, finding in [
        ({"data": None}, {}, "data is missing"),
        ({"im_info": np.full([1, 3], np.nan)}, {}, "im_info holds NaN"),
        ({}, {read: None}, f"{read} is missing"),
        ({}, {read: np.zeros([1, 0, 4])}, f"{read} is empty"),
    ]:
        sides = [
            {key: array for key, array in (side | change).items() if array is not None}
            for side, change in ((golden.inputs, inputs), (golden.outputs, outputs))
        ]
        findings = input_findings(golden._replace(inputs=sides[0], outputs=sides[1]), row)
        assert any(finding in line for line in findings), findings
