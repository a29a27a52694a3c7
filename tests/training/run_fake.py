"""A training program for tests that kill it: `run_fake.py MODEL_DIR STEPS REPLICAS DELAY`."""

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


def main(model_dir, steps, replicas, delay):
    kept = {"log_every": 2, "checkpoint_every": 3, "keep_checkpoints": 2}
    # SGD's rules continue in test_loop.py and test_accumulate.py.
    trainer = Trainer(steps=int(steps), replicas=int(replicas), update_rule="adamw", ema_decay=0.9, **kept)
    strategy = trainer.prepare()
    with strategy.scope():
        detector = FakeDetector(normalization="sync")
    schedule = Schedule(base_lr=0.5, warmup_steps=4, decay="cosine")
    train_input = FakeInput(delay=float(delay))
    result = train(detector, train_input, strategy, model_dir, trainer, schedule, observers=[ConsoleReport()])
    sys.stdout.flush()
    os._exit(EXIT_INTERRUPTED if result.stopped_by else 0)  # the end of a distributed iterator can stall


if __name__ == "__main__":
    main(*sys.argv[1:])
