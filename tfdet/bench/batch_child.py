"""The process in which `batch_size` tries a number of images: a few training steps, then the end."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from tfdet.bench.batch_size import TOO_LARGE
from tfdet.errors import UserError

_STEPS = 2  # after the one that is traced: the first update allocates what the optimizer keeps


def try_steps(content: dict[str, Any], images: int) -> None:
    """Trains for some steps on random pictures that fill the canvas.

    Args:
        content: files, lines, num_classes and allow_imports, as in `batch_size.probe_batch`.
        images: per replica.

    Raises:
        tf.errors.ResourceExhaustedError: they do not fit.
    """
    from tfdet import config
    from tfdet.bench.speed import sides
    from tfdet.bench.training import measure_training, synthetic_batches, tame_random_weights
    from tfdet.detectors import build_detector
    from tfdet.training.schedule import Schedule
    from tfdet.training.trainer import Trainer

    config.register_all()
    configuration = config.parse(content["files"], content["lines"], content["allow_imports"])
    with configuration.active():
        trainer, schedule = configuration.build(Trainer), configuration.build(Schedule)
        strategy = trainer.prepare()
        with strategy.scope():
            detector = configuration.build(build_detector, num_classes=content["num_classes"])
        tame_random_weights(detector)
        canvas = sides(configuration, "TrainInput")
        if configuration.value("TrainInput.jitter") is not None:  # every image has the jitter's size then
            canvas = configuration.value("LargeScaleJitter.height"), configuration.value("LargeScaleJitter.width")

        def dataset(_):
            return synthetic_batches(images, *canvas, content["num_classes"])

        # Whether the loss is finite is no question of memory.
        measure_training(detector, strategy, trainer, schedule, dataset, images, _STEPS, warm_up=1, with_parts=False)


def main() -> int:
    """Reads the configuration from standard input; the number of images is the last argument."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import tensorflow as tf

    try:
        try_steps(json.load(sys.stdin), int(sys.argv[-1]))
    except (tf.errors.ResourceExhaustedError, MemoryError):
        return TOO_LARGE
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the end of a distributed iterator can stall
