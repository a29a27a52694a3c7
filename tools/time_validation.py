"""CPU seconds of an evaluation during training, without and with what `Validation` adds.

tfdet make_shapes --output=demo/data
python -m tools.time_validation demo_shapes.gin demo/data/train demo/data/val
"""

from __future__ import annotations

import sys
import time

from tfdet import config

_OPTIONS = ({}, {"loss": True}, {"train_images": 1_000_000}, {"loss": True, "train_images": 1_000_000})


def main(row: str, train_data: str, eval_data: str) -> None:
    """Prints a line for each choice: what is traced before the first step, then an evaluation, the second one."""
    config.register_all()
    lines = [f"TrainInput.data_dir = {train_data!r}", f"EvalInput.data_dir = {eval_data!r}"]
    configuration = config.parse([row], lines)
    with configuration.active():
        from tfdet.data.inputs import EvalInput, TrainInput
        from tfdet.detectors import build_detector
        from tfdet.evaluate.during_training import EvaluationDuringTraining
        from tfdet.evaluate.validation import Validation
        from tfdet.training.trainer import Trainer

        strategy = configuration.build(Trainer).prepare()
        train_input, eval_input = configuration.build(TrainInput), configuration.build(EvalInput)
        with strategy.scope():
            detector = configuration.build(build_detector, num_classes=len(train_input.manifest.classes))
        for options in _OPTIONS:
            parts = Validation(**options).of(detector, train_input, eval_input, seed=0)
            evaluation = EvaluationDuringTraining(detector, eval_input, validation=parts)
            times = [time.process_time()]
            for call in (evaluation.prepare, lambda e=evaluation: e(1), lambda e=evaluation: e(2)):
                call()
                times.append(time.process_time())
            before, second = times[1] - times[0], times[3] - times[2]
            print(f"{options}: before the first step {before:.1f} s, an evaluation {second:.1f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
