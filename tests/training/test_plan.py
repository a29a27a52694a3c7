"""The calendar of a run."""

from fakes import FakeInput

from tfdet.training.plan import RunPlan
from tfdet.training.schedule import Schedule
from tfdet.training.trainer import Trainer


def test_sizes_count_micro_batches_as_replicas(mirrored):
    trainer = Trainer(accumulate=2, epochs=3.0)
    plan = RunPlan.make(FakeInput(), mirrored(2), trainer, Schedule(length_factor=2.0))
    assert (plan.replicas, plan.virtual_replicas, plan.total_batch) == (2, 4, 8)
    assert (plan.steps_per_epoch, plan.total_steps) == (2, 12)  # 16 images; 3 epochs, twice as long


def test_what_is_due(mirrored):
    trainer = Trainer(steps=25, log_every=4, checkpoint_every=10, evaluate_every=6)
    plan = RunPlan.make(FakeInput(), mirrored(1), trainer, Schedule())
    steps = range(1, 26)
    assert [step for step in steps if plan.evaluates(step)] == [6, 12, 18, 24, 25]
    assert [step for step in steps if plan.saves(step)] == [6, 10, 12, 18, 20, 24, 25]
    step, events = 0, []
    while step < 25:
        step += plan.steps_to_next_event(step)
        events.append(step)
    assert events == [4, 6, 8, 10, 12, 16, 18, 20, 24, 28]  # orbit ends the last loop with the run


def test_the_last_step_is_evaluated_and_saved_without_a_period(mirrored):
    plan = RunPlan.make(FakeInput(), mirrored(1), Trainer(steps=7, log_every=5), Schedule())
    assert [step for step in range(1, 8) if plan.evaluates(step)] == [7]
    assert [step for step in range(1, 8) if plan.saves(step)] == [7]
    assert plan.steps_to_next_event(3) == 2


def test_a_run_keeps_the_lengths_that_it_had(mirrored):
    schedule = Schedule(base_lr=0.4, reference_batch=None, warmup_steps=0, decay="cosine")
    plan = RunPlan.make(FakeInput(), mirrored(1), Trainer(steps=20), schedule)
    assert plan.continued(0, ()).lengths == ((0, 20),) and plan.continued(7, [(0, 20)]).lengths == ((0, 20),)
    longer = plan.continued(10, [(0, 10)])
    assert longer.lengths == ((0, 10), (10, 20))
    rate = schedule.for_batch(2, lengths=longer.lengths)
    assert longer.length_change(rate) == "20 steps in place of 10: the learning rate goes on at 0.039 and ends at 0"
