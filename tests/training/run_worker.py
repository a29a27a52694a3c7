"""A worker of a training run, for tests: `run_worker.py JSON`, the options of `main`; the cluster is in `TF_CONFIG`."""

import json
import os
import sys
import time

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", ".."))

from fake_run import SCHEDULE, Recorder, make_record  # noqa: E402
from fakes import FakeDetector, FakeEvaluation, FakeInput  # noqa: E402

from tfdet.errors import EXIT_INTERRUPTED, EXIT_WORKER_LOST, UserError, WorkerLostError  # noqa: E402
from tfdet.report.console import ConsoleReport  # noqa: E402
from tfdet.training.loop import train  # noqa: E402
from tfdet.training.teamwork import taking_part  # noqa: E402
from tfdet.training.trainer import Trainer  # noqa: E402


def main(folder, steps, delay=0.0, poison=None, timeout=10.0, evaluate=0.0, norm="sync", **options):
    with taking_part() as workers:
        return work(workers, folder, steps, delay, poison, timeout, evaluate, norm, **options)


def work(workers, folder, steps, delay, poison, timeout, evaluate, norm, **options):
    workers.worker_timeout = timeout
    kept = {"log_every": 1, "checkpoint_every": 4}
    trainer = Trainer(steps=steps, **kept | options)
    strategy = trainer.prepare(workers.cluster)
    with strategy.scope():
        detector = FakeDetector(poison=poison, normalization=norm)
    observer = Recorder()
    evaluation = None
    if evaluate:

        def measure(step):
            time.sleep(evaluate)
            return {"AP": 0.1 + step / 100, "AP50": 0.2}

        evaluation = FakeEvaluation(measure)
    run = train(
        detector,
        FakeInput(delay=delay),
        strategy,
        folder,
        trainer,
        SCHEDULE,
        observers=[observer, ConsoleReport()],
        record=make_record(),
        workers=workers,
        evaluate=evaluation,
    )
    print(json.dumps({"step": run.step, "losses": observer.losses(), "metrics": dict(run.metrics)}), flush=True)
    return EXIT_INTERRUPTED if run.stopped_by else 0


if __name__ == "__main__":
    try:
        code = main(**json.loads(sys.argv[1]))
    except UserError as error:
        print(f"error: {error}", flush=True)
        code = EXIT_WORKER_LOST if isinstance(error, WorkerLostError) else 2
    sys.stdout.flush()
    os._exit(code)  # the end of a distributed iterator can stall
