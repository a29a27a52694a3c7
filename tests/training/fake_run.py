"""Runs of the fake detector on the fake input, with everything that an observer hears."""

import dataclasses
import os

import tensorflow as tf
from fakes import FakeDetector, FakeEvaluation, FakeInput

from tfdet.ops.boxes import LEGACY
from tfdet.training.loop import train
from tfdet.training.observer import Observer
from tfdet.training.run_record import RunRecord
from tfdet.training.schedule import Schedule
from tfdet.training.trainer import Trainer

SCHEDULE = Schedule(base_lr=0.5, warmup_steps=4, decay_steps=(64,))  # for batches of 2: decay after 512


class Recorder(Observer):
    """Keeps every event as (name, arguments)."""

    def __init__(self):
        self.events = []
        for name in (
            "started",
            "first_step",
            "configured",
            "begun",
            "traced",
            "progressed",
            "best",
            "evaluated",
            "noted",
            "warned",
            "ended",
            "closed",
        ):
            setattr(self, name, lambda *args, name=name: self.events.append((name, args)))

    def named(self, name):
        return [args for event, args in self.events if event == name]

    def losses(self):
        return {progress.step: progress.total for (progress,) in self.named("progressed")}


def make_record(**changed):
    """The record of a run of `FakeInput`, with a configuration."""
    record = RunRecord.of(FakeInput().manifest)
    return dataclasses.replace(record, **{"config": "# every binding", "operative_config": "# every value"} | changed)


def run(
    folder,
    steps,
    train_input=None,
    poison=None,
    observer=None,
    evaluate=None,
    load_weights=None,
    convention=LEGACY,
    record=None,
    schedule=SCHEDULE,
    **options,
):
    """Trains a fresh detector and returns (result, detector, recorder); `evaluate` may be a function of the step."""
    if evaluate is not None and not isinstance(evaluate, FakeEvaluation):
        evaluate = FakeEvaluation(evaluate)
    options = {"log_every": 1, "checkpoint_every": 5, "replicas": 1} | options
    trainer = Trainer(steps=steps, **options)
    strategy = trainer.prepare()
    with strategy.scope():
        detector = FakeDetector(poison=poison, normalization="sync")
    detector.convention = convention
    observer = observer or Recorder()
    result = train(
        detector,
        train_input or FakeInput(),
        strategy,
        folder,
        trainer,
        schedule,
        load_weights=load_weights,
        evaluate=evaluate,
        observers=[observer],
        record=record or make_record(),
    )
    return result, detector, observer


def all_tensors(folder):
    """Every tensor of the newest checkpoint, momenta and counters included."""
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(os.path.join(folder, "checkpoints")))
    keys = [key for key in reader.get_variable_to_shape_map() if "save_counter" not in key and "_CHECKPOINT" not in key]
    return {key: reader.get_tensor(key) for key in keys}
