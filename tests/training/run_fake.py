"""A training program for tests that kill it: `run_fake.py STEPS REPLICAS DELAY MODEL_DIR...`."""

import os
import sys

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", ".."))

from fakes import FakeDetector, FakeInput  # noqa: E402

from tfdet.errors import EXIT_INTERRUPTED  # noqa: E402
from tfdet.report.console import ConsoleReport  # noqa: E402
from tfdet.training.loop import train  # noqa: E402
from tfdet.training.schedule import Schedule  # noqa: E402
from tfdet.training.trainer import Trainer  # noqa: E402


def main(steps, replicas, delay, *model_dirs):
    stopped = [run(model_dir, int(steps), int(replicas), float(delay)).stopped_by for model_dir in model_dirs]
    sys.stdout.flush()
    os._exit(EXIT_INTERRUPTED if any(stopped) else 0)  # the end of a distributed iterator can stall


def run(model_dir, steps, replicas, delay):
    kept = {"log_every": 2, "checkpoint_every": 3, "keep_checkpoints": 2}
    # SGD's rules continue in test_loop.py and test_accumulate.py.
    trainer = Trainer(steps=steps, replicas=replicas, update_rule="adamw", ema_decay=0.9, **kept)
    strategy = trainer.prepare()
    with strategy.scope():
        detector = FakeDetector(normalization="sync")
    schedule, observers = Schedule(base_lr=0.5, warmup_steps=4, decay="cosine"), [ConsoleReport()]
    return train(detector, FakeInput(delay=delay), strategy, model_dir, trainer, schedule, observers=observers)


if __name__ == "__main__":
    main(*sys.argv[1:])
