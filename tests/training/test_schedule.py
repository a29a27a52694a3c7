"""The learning rate against SimpleDet's values."""

import math

import numpy as np
import pytest

from tfdet.errors import UserError
from tfdet.training.schedule import Schedule

C4 = Schedule(base_lr=0.02, warmup_steps=750, decay_steps=(60000, 80000))
FPN = Schedule(base_lr=0.02, warmup_steps=500, warmup_from=1 / 3, scale_warmup=False)


@pytest.mark.parametrize(
    "update, expected",
    [
        (1, 0.02 / 750),
        (375, 0.01),
        (750, 0.02),
        (751, 0.02),
        (60000, 0.02),
        (60001, 0.002),
        (80000, 0.002),
        (80001, 2e-4),
    ],
)
def test_c4_row_at_the_reference_batch(update, expected):
    assert float(C4.for_batch(16)(update)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "update, expected", [(1, 0.02 / 3 + 0.04 / 3 / 500), (250, 0.04 / 3), (500, 0.02), (501, 0.02)]
)
def test_fpn_row_at_the_reference_batch(update, expected):
    assert float(FPN.for_batch(16)(update)) == pytest.approx(expected, rel=1e-6)


def test_a_smaller_batch_lowers_the_rate_and_lengthens_the_schedule():
    rate = C4.for_batch(2)
    assert (rate.base, rate.warmup_steps, rate.boundaries) == (0.0025, 6000, (480000, 640000))
    assert float(rate(3000)) == pytest.approx(0.00125, rel=1e-6)
    assert float(rate(480001)) == pytest.approx(0.00025, rel=1e-6)


def test_steps_are_divided_towards_zero():
    assert C4.for_batch(6).warmup_steps == 750 * 16 // 6 == 2000
    assert C4.for_batch(7).boundaries == (137142, 182857)


def test_fpn_warm_up_keeps_its_length():
    rate = FPN.for_batch(4)
    assert rate.warmup_steps == 500
    assert float(rate(500)) == pytest.approx(0.005, rel=1e-6)
    assert float(rate(1)) == pytest.approx(0.005 / 3 + 0.01 / 3 / 500, rel=1e-6)


def test_no_reference_batch_scales_nothing():
    rate = Schedule(base_lr=0.1, reference_batch=None, warmup_steps=10, decay_steps=(100,)).for_batch(3)
    assert (rate.base, rate.warmup_steps, rate.boundaries) == (0.1, 10, (100,))


def test_the_formula_is_shown_with_its_result():
    table = C4.describe(4)
    assert table["learning rate"] == "0.005 = 0.02 x 4 / 16"
    assert table["warm-up"] == "3000 steps from 0 (750 x 16 // 4)"
    assert table["decay"] == "x 0.1 after 240000, 320000"


@pytest.mark.parametrize(
    "name, value",
    [
        ("base_lr", 0.0),
        ("reference_batch", 0),
        ("warmup_steps", -1),
        ("warmup_from", 1.5),
        ("decay_factor", 0.0),
        ("decay_steps", (20, 10)),
        ("decay_steps", (0, 10)),
    ],
)
def test_values_outside_their_range_are_named(name, value):
    with pytest.raises(UserError, match=f"Schedule.{name}"):
        Schedule(**{name: value})


def test_cosine_from_the_end_of_the_warm_up_to_the_last_update():
    schedule = Schedule(base_lr=0.02, warmup_steps=100, warmup_from=0.5, decay="cosine", end_lr=0.1)
    rate = schedule.for_batch(8, total_steps=1200)  # base .01, warm-up over 200 updates
    for n in (1, 100, 200, 201, 450, 700, 1199, 1200, 1300):
        done = min(max((n - 200) / 1000, 0), 1)
        cosine = 0.001 + 0.009 * (1 + math.cos(math.pi * done)) / 2
        expected = 0.005 + 0.005 * n / 200 if n <= 200 else cosine
        assert float(rate(n)) == pytest.approx(expected, rel=1e-6), n
    assert schedule.describe(8, 1200)["decay"] == "cosine to 0.001 at step 1200"
    with pytest.raises(ValueError, match="total_steps"):
        schedule.for_batch(8)
    assert float(Schedule(decay="cosine", warmup_steps=0).for_batch(16, 1)(1)) == 0.0


def test_a_length_factor_moves_the_decays_and_not_the_warm_up():
    rate = Schedule(length_factor=2.0).for_batch(8)
    assert (rate.boundaries, rate.warmup_steps) == ((240000, 320000), 1500)
    assert Schedule(length_factor=0.5, decay_steps=(25,)).for_batch(16).boundaries == (12,)


@pytest.mark.parametrize(
    "arguments", [{"decay": "cos"}, {"end_lr": -0.1}, {"end_lr": 1.1}, {"length_factor": 0.0}, {"length_factor": -1.0}]
)
def test_the_further_options_are_checked(arguments):
    with pytest.raises(UserError, match=f"Schedule.{next(iter(arguments))}"):
        Schedule(**arguments)


def test_what_a_short_run_never_comes_to_is_said():
    warmup, decay = C4.warnings(2, 1230)  # two images an update: the warm-up is 6,000 steps, the first decay 480,000
    assert warmup.startswith("the warm-up of 6000 steps (750 x 16 // 2) leaves nothing of this run's 1230: ")
    assert "first decays after 480000 steps, this run has 1230" in decay
    assert C4.warnings(16, 90000) == []
    assert Schedule(decay="cosine", warmup_steps=100, scale_warmup=False).warnings(2, 1230) == []
    assert Schedule(decay_steps=(), warmup_steps=0).warnings(2, 10) == []


@pytest.mark.parametrize(
    "batch, steps, length, remedy",
    [
        (2, 1230, "6000 steps (750 x 16 // 2)", True),
        (2, 700, "6000 steps (750 x 16 // 2)", False),  # 750 would leave nothing either
        (32, 300, "375 steps (750 x 16 // 32)", False),  # unscaled it would be longer
        (16, 750, "750 steps (750 x 16 // 16)", False),
    ],
)
def test_the_warm_up_that_is_not_scaled_is_advised_where_it_helps(batch, steps, length, remedy):
    warning = C4.warnings(batch, steps)[0]
    assert f"the warm-up of {length} leaves nothing of this run's {steps}: lower Schedule.warmup_steps" in warning
    assert warning.endswith("set Schedule.scale_warmup = False: then it takes 750 at any batch") == remedy
    rate = Schedule(scale_warmup=False, warmup_steps=750).for_batch(batch)
    assert rate.warmup_steps == 750 and (rate.warmup_steps < min(steps, C4.for_batch(batch).warmup_steps)) == remedy


@pytest.mark.parametrize("schedule", [FPN, Schedule(warmup_steps=500, reference_batch=None)])
def test_a_warm_up_that_no_batch_changes_has_no_formula(schedule):
    assert schedule.warnings(2, 400)[0] == (
        "the warm-up of 500 steps leaves nothing of this run's 400: lower Schedule.warmup_steps"
    )


@pytest.mark.parametrize("run, base", [("d2_retinanet", 0.002), ("tv_retinanet", 0.005)])
def test_every_rate_is_that_of_a_run_of_the_program(golden, run, base):
    """Detectron2's WarmupMultiStepLR, torch's LinearLR with a MultiStepLR: 40 steps of warm-up, a decay after 80."""
    numbers = {"base_lr": base, "reference_batch": None, "warmup_steps": 40, "warmup_from": 0.001, "decay_steps": (80,)}
    stored = golden("torch_rates")[run].astype(np.float32)
    rate = Schedule(**numbers, warmup_counts_from=0).for_batch(2)
    np.testing.assert_array_equal([rate(update).numpy() for update in range(1, 101)], stored)
    mxnet = Schedule(**numbers).for_batch(2)
    ahead = [mxnet(update).numpy() for update in range(1, 41)]
    np.testing.assert_allclose(ahead, stored[1:41], rtol=1e-6)  # one step up the ramp


def test_python_and_the_graph_compute_one_rate():
    for schedule in (C4, Schedule(warmup_steps=8, reference_batch=None, decay="cosine", end_lr=0.1)):
        rate = schedule.for_batch(4, lengths=[(0, 60), (50, 100)])
        updates = (1, 7, 8, 9, 50, 51, 99, 100)
        assert [float(rate(n)) for n in updates] == pytest.approx([rate.at(n) for n in updates], rel=1e-6)


def test_a_cosine_goes_on_from_where_it_was():
    schedule = Schedule(base_lr=0.4, reference_batch=None, warmup_steps=10, decay="cosine")
    before, after = (schedule.for_batch(2, lengths=lengths) for lengths in ([(0, 100)], [(0, 100), (55, 200)]))
    assert before.at(55) == pytest.approx(0.2) and after.at(55) == pytest.approx(0.2)
    assert 0.199 < after.at(56) < 0.2 and after.at(200) == 0.0
    # Behind its end it begins again, lower; in the warm-up nothing was decided yet.
    restarted = schedule.for_batch(2, lengths=[(0, 100), (100, 200)])
    assert 0.0399 < restarted.at(101) < 0.04 and restarted.at(200) == 0.0
    fresh = schedule.for_batch(2, lengths=[(0, 100), (5, 200)])
    assert [fresh.at(n) for n in (6, 10, 100)] == [schedule.for_batch(2, 200).at(n) for n in (6, 10, 100)]


def test_decays_at_shares_follow_the_length_and_are_not_taken_back():
    options = {"base_lr": 0.4, "reference_batch": None, "warmup_steps": 50, "decay_factor": 0.5}
    schedule = Schedule(**options, decay_at=(0.5, 0.75), warmup_at_most=0.1)
    rate = schedule.for_batch(2, 40)
    assert (rate.warmup_steps, rate.boundaries) == (4, (20, 30))
    longer = schedule.for_batch(2, lengths=[(0, 40), (25, 80)])
    assert (longer.warmup_steps, longer.boundaries) == (4, (20, 60)) and longer.at(26) == 0.2
    assert schedule.describe(2, 40)["warm-up"] == "4 steps from 0 (10% of the run)"
    with pytest.raises(UserError, match="Schedule.decay_at must increase"):
        Schedule(decay_at=(0.5, 0.5))


def test_a_rate_that_is_not_scaled_is_that_of_any_batch():
    schedule = Schedule(base_lr=0.01, reference_batch=16, scale_lr=False)
    assert schedule.for_batch(2).base == schedule.for_batch(32).base == 0.01
    assert schedule.describe(2)["learning rate"] == "0.01"
