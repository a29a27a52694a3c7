"""What the comparison with Detectron2 and torchvision must not pass: every way in which a stored array can be wrong.

tfdet's side is what is stored, so that no network runs and whatever is found was put in.
"""

import numpy as np
import pytest

from tests.golden_check.stored import as_computed, read, with_masks
from tfdet.weights.agreement import BEST
from tools.golden.noise import make_noise
from tools.golden.torch_check import judge
from tools.golden.torch_compare import input_findings

FAST, FULL, TV = "d2_trident_fast_r50_c4", "d2_trident_r50_c4", "tv_fasterrcnn_r50_fpn"
BIAS = "grad/roi_heads.box_predictor.cls_score.bias"
SAMPLED = "backbone.res4.0.conv2.weight"


@pytest.fixture(scope="module")
def folders():
    goldens = {name: read(name) for name in (FAST, FULL, TV)}
    goldens["masks"] = with_masks(goldens[TV])
    return {name: (golden, as_computed(golden)) for name, golden in goldens.items()}


@pytest.mark.parametrize("name", [FAST, FULL, TV, "masks"])
def test_what_is_stored_agrees_with_itself(folders, name):
    golden, computed = folders[name]
    verdict = judge(golden, computed)
    assert verdict.passed, (verdict.wrong, verdict.findings)
    assert judged(folders, name, lambda outputs, train: None).passed
    assert not input_findings(golden)
    stored = set(golden.outputs) | {f"train.npz {key}" for key in golden.train}
    compared = {row.name for row in verdict.maps} | {f"train.npz {row.name}" for row in verdict.training}
    compared |= {name for name in stored if name.startswith(("det_", "proposal", "train.npz nograd/"))}
    assert stored == compared | (set(verdict.not_compared) & stored)
    assert all(verdict.not_compared.values())


def rows(outputs, keep):
    for name in [name for name in outputs if name.startswith("det_") and not name.endswith("_shape")]:
        outputs[name] = keep(outputs[name])


def drop_the_best(outputs, train):
    rows(outputs, lambda array: array[1:])


def drop_the_twentieth(outputs, train):
    rows(outputs, lambda array: np.delete(array, BEST - 1, axis=0))


def drop_three_of_the_last(outputs, train):
    rows(outputs, lambda array: array[:-3])


def a_false_one_on_top(outputs, train):
    rows(outputs, lambda array: np.concatenate([array[:1], array]))
    outputs["det_boxes"][0] += [40, 0, 40, 0]
    outputs["det_scores"][0] += 1e-3


def two_rare_classes_swapped(outputs, train):
    classes, counts = np.unique(outputs["det_classes"], return_counts=True)
    rare = classes[np.argsort(counts, kind="stable")[:2]]
    assert counts.min() == 1
    a, b = (outputs["det_classes"] == number for number in rare)
    outputs["det_classes"][a], outputs["det_classes"][b] = rare[1], rare[0]


def scores_halved(outputs, train):
    outputs["det_scores"] /= 2


def scores_a_little_lower(outputs, train):
    outputs["det_scores"] -= 5e-4


def boxes_shifted(outputs, train):
    outputs["det_boxes"] += 5


def boxes_shifted_a_little(outputs, train):
    outputs["det_boxes"] += 0.1


def classes_by_one(outputs, train):
    outputs["det_classes"] += 1


def rows_of_one_array_in_another_order(outputs, train):
    outputs["det_boxes"] = outputs["det_boxes"][::-1]


def without(*names):
    def mutate(outputs, train):
        for name in names:
            del (train if "/" in name else outputs)[name]

    mutate.__name__ = f"without_{names[0]}"
    return mutate


def emptied(name):
    def mutate(outputs, train):
        outputs[name] = outputs[name][:0]

    mutate.__name__ = f"emptied_{name}"
    return mutate


def not_a_number(name):
    def mutate(outputs, train):
        array = train if "/" in name else outputs
        array[name] = array[name].copy()
        array[name].reshape(-1)[array[name].size // 2] = np.nan

    mutate.__name__ = f"nan_in_{name}"
    return mutate


def renamed(name):
    def mutate(outputs, train):
        array = train if "/" in name else outputs
        array[f"{name}_renamed"] = array.pop(name)

    mutate.__name__ = f"renamed_{name}"
    return mutate


def times(name, factor):
    def mutate(outputs, train):
        array = train if "/" in name else outputs
        array[name] = array[name] * np.float32(factor)

    mutate.__name__ = f"{name}_times_{factor}"
    return mutate


def channels_swapped(outputs, train):
    name = "rpn_logits_0" if "rpn_logits_0" in outputs else "fpn_3"
    outputs[name][:, [0, 1]] = outputs[name][:, [1, 0]]


def columns_swapped(outputs, train):
    outputs["box_cls_logits"][:, [3, 4]] = outputs["box_cls_logits"][:, [4, 3]]


def proposals_truncated(outputs, train):
    name = next(name for name in outputs if name.startswith("proposals"))
    for key in (name, name.replace("proposals", "proposal_logits")):
        if key in outputs:
            outputs[key] = outputs[key][: int(len(outputs[key]) * 0.9)]


def best_proposal_dropped(outputs, train):
    name = next(name for name in outputs if name.startswith("proposals"))
    for key in (name, name.replace("proposals", "proposal_logits")):
        if key in outputs:
            outputs[key] = outputs[key][1:]


def a_sample_of_a_gradient_changed(outputs, train):
    train[f"gradsample/{SAMPLED}"][0] += 0.5


def other_objects(outputs, train):
    outputs["gt_classes"] = outputs["gt_classes"] + 1


def a_frozen_tensor_is_trained(outputs, train):
    train["nograd/backbone.res3.0.conv1.weight"] = np.zeros(0, np.float32)


EVERYWHERE = [
    drop_the_best, drop_the_twentieth, drop_three_of_the_last, a_false_one_on_top, two_rare_classes_swapped,
    scores_halved, scores_a_little_lower, boxes_shifted, boxes_shifted_a_little, classes_by_one,
    rows_of_one_array_in_another_order, channels_swapped, columns_swapped, proposals_truncated, best_proposal_dropped,
    without("det_boxes"), without("det_scores"), without("det_classes"), without("box_cls_logits"),
    without("box_head_out"), emptied("det_scores"), emptied("box_cls_logits"), not_a_number("det_boxes"),
    not_a_number("det_scores"), not_a_number("box_head_out"), renamed("box_head_out"), times("box_head_out", 1.01),
]  # fmt: skip
OF_TRAINING = [
    times("loss/loss_cls", 2), times(BIAS, 0), times(BIAS, -1), times(f"gradsample/{SAMPLED}", -1),
    times(f"gradnorm/{SAMPLED}", 2), times(f"gradnorm/{SAMPLED}", 0), a_sample_of_a_gradient_changed,
    without("loss/loss_rpn_loc"), without(BIAS), without(f"gradnorm/{SAMPLED}"),
    without("nograd/backbone.stem.conv1.weight"), a_frozen_tensor_is_trained, other_objects, not_a_number(BIAS),
    not_a_number("loss/loss_cls"), renamed(BIAS), renamed("loss/loss_cls"),
    renamed("nograd/backbone.stem.conv1.weight"), without("proposals"),
    without("proposal_logits"), times("proposal_logits", 0.5), emptied("proposals"),
    not_a_number("proposals"), not_a_number("proposal_logits"), renamed("proposals"),
]  # fmt: skip


def judged(folders, name, mutate):
    golden, computed = folders[name]
    outputs, train = ({key: array.copy() for key, array in side.items()} for side in (golden.outputs, golden.train))
    mutate(outputs, train)
    # A mutant that hides itself: meta.json says what is now stored.
    meta = {key: value for key, value in golden.meta.items() if not key.startswith(("n_", "det_", "train_losses"))}
    return judge(golden._replace(outputs=outputs, train=train, meta=meta), computed)


@pytest.mark.parametrize("name", [FAST, FULL, TV])
@pytest.mark.parametrize("mutate", EVERYWHERE)
def test_a_wrong_folder_is_found(folders, name, mutate):
    assert not judged(folders, name, mutate).passed


@pytest.mark.parametrize("mutate", OF_TRAINING)
def test_a_wrong_training_step_is_found(folders, mutate):
    assert not judged(folders, FAST, mutate).passed


# Masks


def masks_of(outputs):
    return np.unpackbits(outputs["det_masks"], axis=-1).astype(bool)


def the_best_mask_erased(outputs, train):
    outputs["det_masks"][0] = 0


def a_late_mask_filled(outputs, train):
    outputs["det_masks"][-4:] = 255


def masks_shifted_by_one_pixel(axis):
    def mutate(outputs, train):
        outputs["det_masks"] = np.packbits(np.roll(masks_of(outputs), 1, axis=axis), axis=-1)

    mutate.__name__ = f"masks_shifted_along_{axis}"
    return mutate


def two_masks_swapped(outputs, train):
    outputs["det_masks"][[0, 1]] = outputs["det_masks"][[1, 0]]


def another_shape(outputs, train):
    outputs["det_masks_shape"][-1] -= 8


@pytest.mark.parametrize(
    "mutate",
    [
        the_best_mask_erased,
        a_late_mask_filled,
        masks_shifted_by_one_pixel(-1),
        masks_shifted_by_one_pixel(-2),
        two_masks_swapped,
        another_shape,
        without("det_masks"),
        without("det_masks_shape"),
        without("det_masks_prob"),
        emptied("det_masks"),
        times("det_masks_prob", 0.9),
        not_a_number("det_masks_prob"),
        drop_the_best,
    ],
)
def test_wrong_masks_are_found(folders, mutate):
    assert not judged(folders, "masks", mutate).passed


# Noise and meta.json


def with_noise(golden, change, samples=None):
    largest = {group: dict(floors) for group, floors in golden.noise.floors.items()}
    change(largest)
    return make_noise({"noise_max": largest, "noise_samples": samples or {"count": 8}}, "noise.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda largest: largest["maps"].pop("box_cls_logits"),
        lambda largest: largest["maps"].update(box_cls_logits=1.0),
        lambda largest: largest["maps"].update(box_cls_logits=float("nan")),
        lambda largest: largest["maps"].update(box_cls_logits=-1e-6),
        lambda largest: largest["maps"].update(box_cls_logits="1e-6"),
        lambda largest: largest["losses"].update(loss_cls=10.0),
        lambda largest: largest["gradnorm_rel"].update({SAMPLED: 2.0}),
        lambda largest: largest["gradients_rel"].update({SAMPLED: 2.0}),
        lambda largest: largest.pop("gradients_rel"),
    ],
)
def test_noise_that_is_none_is_found(folders, change):
    golden, computed = folders[FAST]
    verdict = judge(golden._replace(noise=with_noise(golden, change)), computed)
    assert not verdict.passed and all("noise" in finding for finding in verdict.findings)


def test_noise_must_be_that_of_its_runs(folders):
    golden, computed = folders[FAST]
    floor = golden.noise.floors["losses"]["loss_cls"]
    runs = {name: [value / 2] * 7 + [value] for name, value in golden.noise.floors["losses"].items()}
    whole = {"count": 8, "losses": runs}
    assert judge(golden._replace(noise=with_noise(golden, lambda _: None, whole)), computed).passed
    for wrong in ({**whole, "losses": {**runs, "loss_cls": [floor / 3] * 8}}, {**whole, "count": 1}):
        assert not judge(golden._replace(noise=with_noise(golden, lambda _: None, wrong)), computed).passed


def test_a_gradient_as_noisy_as_the_program_itself_agrees(folders):
    """Of two runs of one program the elements differ by 4.8e-3: by the measured floor that is no error."""
    golden, computed = folders[FAST]
    gradients = {name: array.copy() for name, array in computed.step.gradients.items()}
    array = gradients["roi_heads.box_predictor.cls_score.bias"]
    array[1] += 4.8e-3 * np.abs(array).max()
    moved = computed._replace(step=computed.step._replace(gradients=gradients))
    assert not judge(golden, moved).passed  # this bias is steadier

    def noisy(largest):
        largest["gradients_rel"]["roi_heads.box_predictor.cls_score.bias"] = 4.8e-3

    assert judge(golden._replace(noise=with_noise(golden, noisy)), moved).passed


def test_where_elements_prove_little_the_direction_counts(folders):
    golden, computed = folders[FAST]
    name = "roi_heads.box_predictor.cls_score.bias"

    def noisy(largest):
        largest["gradients_rel"][name] = 0.1

    golden = golden._replace(noise=with_noise(golden, noisy))
    assert judge(golden, computed).passed
    turned = computed.step.gradients[name].copy()
    turned += 0.1 * np.abs(turned).max() * np.where(np.arange(len(turned)) % 2, 1, -1)
    turned *= np.linalg.norm(computed.step.gradients[name]) / np.linalg.norm(turned)
    step = computed.step._replace(gradients={**computed.step.gradients, name: turned.astype(np.float32)})
    wrong = judge(golden, computed._replace(step=step)).wrong
    assert [row.name for row in wrong] == [f"direction of grad/{name}"]


@pytest.mark.parametrize(
    "change",
    [
        {"hw": [160, 128]},
        {"n_det": 99},
        {"n_prop": {"proposals": 1}},
        {"n_det_classes": 2},
        {"det_score_range": [0.1, 0.2]},
        {"train_losses": {"loss_cls": 1.0}},
        {"absmax_std": {"box_head_out": [1.0, 1.0]}},
        {"state_dict": {"backbone.stem.conv1.weight": [8, 3, 7, 7]}},
        {"conventions": {"num_classes": 20, "stride_on": "1x1", "frozen_bn_eps": 1e-5}},
        {"conventions": {"num_classes": 80, "stride_on": "3x3", "frozen_bn_eps": 1e-5}},
        {"config_overrides": {"MODEL.RESNETS.DEPTH": 101}},
        {"gradsample_stride": {SAMPLED: 7}},
        {"gradsample_stride": {}},
        {"n_det": "100"},
    ],
)
def test_wrong_figures_of_meta_are_found(folders, change):
    golden, computed = folders[FAST]
    assert not judge(golden._replace(meta={**golden.meta, **change}), computed).passed


@pytest.mark.parametrize(
    "name,change,finding",
    [
        (FAST, {"image": None}, "image is missing"),
        (FAST, {"fixed_rois": np.zeros([4, 5], np.float32)}, "fixed_rois is [4, 5], not [any, 4]"),
        (FAST, {"fixed_rois": np.zeros([0, 4], np.float32)}, "fixed_rois is empty"),
        (TV, {"image": np.full([3, 128, 160], np.nan, np.float32)}, "image holds NaN"),
        ("masks", {"mask_logits_classes": None}, "mask_logits_classes is missing"),
    ],
)
def test_without_its_inputs_nothing_is_computed(folders, name, change, finding):
    golden, _ = folders[name]
    outputs = {key: array for key, array in (golden.outputs | change).items() if array is not None}
    findings = input_findings(golden._replace(outputs=outputs))
    assert any(finding in line for line in findings), findings
