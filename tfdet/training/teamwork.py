"""What a run does otherwise where several workers train it: they agree, have one state, and end together."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from tfdet.cluster import Team, Workers, find_cluster
from tfdet.errors import DivergedError, UserError, WorkerLostError
from tfdet.ops import native
from tfdet.training.checkpoint import latest_step
from tfdet.training.distribution import abort_collectives, device_names
from tfdet.training.evaluation import Evaluation
from tfdet.training.plan import RunPlan
from tfdet.training.run_dir import RunDirectory
from tfdet.training.run_record import RunRecord
from tfdet.training.stopping import Stopped, StopSignals

# What each machine may have otherwise: where data lie, and how they are read. The weights come from worker 0.
_OWN = tuple(
    f"{part}.{name}" for part in ("TrainInput", "EvalInput") for name in ("data_dir", "num_parallel_calls", "prefetch")
) + ("Trainer.init_weights",)


def files_of(workers: Workers, model_dir: str) -> RunDirectory:
    """Where this worker writes its run: into the run's folder on worker 0, elsewhere into one for the meantime."""
    return RunDirectory(model_dir) if workers.is_chief else _Meantime()


class _Meantime(RunDirectory):
    """The folder of a run that nobody needs: it goes when the lock does."""

    def __init__(self) -> None:
        super().__init__(tempfile.mkdtemp(prefix="tfdet-worker-"))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        try:
            with super().locked():
                yield
        finally:
            shutil.rmtree(self.path, ignore_errors=True)


@contextlib.contextmanager
def ending_together(workers: Workers) -> Iterator[None]:
    """While entered, the end of this worker by an error ends the others, and theirs ends this one.

    Raises:
        WorkerLostError: another worker ended or does not answer.
    """
    if isinstance(workers, Team):
        workers.on_lost = lambda: abort_collectives(workers.lost or "")
    try:
        yield
    except (WorkerLostError, DivergedError) as error:
        # All find the same loss; who is first must not hide it from the others.
        workers.fail(str(error))
        raise
    except BaseException as error:
        # An error of all is their own, even where another has already ended by it.
        if isinstance(workers, Team) and error is not workers.shared_error:
            # A collective fails before worker 0 has told who is the cause.
            failed = isinstance(error, tf.errors.OpError) and not isinstance(error, tf.errors.ResourceExhaustedError)
            lost = workers.verdict() if failed else workers.lost
            if lost is not None:
                workers.close()
                raise WorkerLostError(lost) from (None if isinstance(error, (tf.errors.OpError, UserError)) else error)
        workers.fail(str(error).partition("\n")[0] or type(error).__name__)
        raise


@contextlib.contextmanager
def taking_part() -> Iterator[Workers]:
    """The workers of the cluster that the environment names, met and watched while entered; or this process alone.

    Raises:
        UserError: the environment's cluster is none, or a worker of it did not come.
        WorkerLostError: another worker ended or does not answer.
    """
    cluster = find_cluster()
    if cluster is None:
        yield Workers()
        return
    team = Team(cluster, lambda text: print(f"tfdet: {text}", file=sys.stderr, flush=True))
    with ending_together(team):
        yield team
    team.close()


def agree(
    workers: Workers,
    model_dir: str,
    strategy: tf.distribute.Strategy,
    record: RunRecord,
    plan: RunPlan,
    evaluation: Evaluation | None,
) -> None:
    """`UserError` on all workers where one would train otherwise than worker 0, or has the newer checkpoint.

    Args:
        workers: of the run.
        model_dir: the run's folder, as this worker has it.
        strategy, record, plan, evaluation: of the run, as this worker has them.
    """
    if workers.count == 1:
        return
    values = {name: value for name, value in record.values.items() if name not in _OWN and not name.startswith("Row.")}
    facts = {
        "data set": f"{record.data_name} ({record.data[:12]})",
        "classes": record.listed(),
        "evaluation data": "none" if evaluation is None else evaluation.data[:12],
        "replicas": ", ".join(name.partition(":")[0] for name in device_names(strategy)),
        "operators": native.describe(),
        "steps": str(plan.total_steps),
        "images of an update": str(plan.total_batch),
        **values,
    }
    workers.agree("configuration", facts)
    steps = workers.gather("folders", latest_step(model_dir) or 0)

    def compare() -> None:
        for number, step in enumerate(steps):
            if step > steps[0]:
                raise UserError(
                    f"{model_dir} of worker {number} has a checkpoint of step {step}, and that of worker 0, from which "
                    f"all go on, {f'one of step {steps[0]}' if steps[0] else 'none'}: start the machines in the order "
                    "of before, or give a folder that all of them see"
                )

    workers.of_chief("newest checkpoint", compare)


def share_state(workers: Workers, strategy: tf.distribute.Strategy, variables: Mapping[str, Any]) -> None:
    """Gives every variable of a run, on every worker, the value that it has on worker 0.

    So the checkpoint and the weights to start from need lie on that machine alone, and no worker can begin with others.

    Args:
        workers: of the run.
        strategy: whose replicas hold the variables.
        variables: distributed variables by name, the same on all workers.
    """
    if workers.count == 1:
        return
    copies = {name: strategy.experimental_local_results(variable) for name, variable in variables.items()}
    arrays = workers.arrays_of_chief("state", lambda: {name: own[0].numpy() for name, own in copies.items()})
    if workers.is_chief:
        return
    for name, own in copies.items():
        for copy in own:
            copy.assign(arrays[name])


def stop_signals(workers: Workers) -> StopSignals:
    """What ends a run early: signals to this process, or to any of several workers."""
    return TeamStop(workers) if isinstance(workers, Team) else StopSignals()


class TeamStop(StopSignals):
    """The first SIGTERM, SIGINT or SIGHUP to any worker ends the run on all of them after the same step.

    Only at the beginning of a step and in an evaluation does a worker stop: wherever else it stood, the others might
    wait for it in a collective.

    Args:
        team: the workers of the run.
    """

    def __init__(self, team: Team):
        super().__init__()
        self._team = team
        self._abort = team.on_lost

    @property
    def requested(self) -> str | None:
        """Name of the signal and the worker that received it, once all have agreed on where to stop; or None."""
        return self._team.gate.reason

    def __enter__(self) -> TeamStop:
        super().__enter__()
        if self._previous:
            main = threading.main_thread().ident

            def wake() -> None:
                # The handler below finds out what happened; signals reach the main thread wherever it waits.
                signal.pthread_kill(main, signal.SIGTERM)

            def lost() -> None:
                if self._abort is not None:
                    self._abort()
                wake()

            self._team.on_lost, self._team.on_stop = lost, wake
        return self

    def __exit__(self, *exception: object) -> None:
        self._team.on_lost, self._team.on_stop = self._abort, None
        super().__exit__(*exception)

    def check(self) -> None:
        """`WorkerLostError` where a worker is lost; a stop waits for the next step."""
        self._team.check()

    def may_begin(self, step: int) -> bool:
        return self._team.may_begin(step)

    def start_at(self, step: int) -> None:
        self._team.gate.start_at(step)

    @contextlib.contextmanager
    def preparing(self) -> Iterator[None]:
        self.check()
        yield

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        self._interruptible = True
        try:
            self._raise()
            yield
        finally:
            self._interruptible = False

    def _receive(self, number: int, frame: object) -> None:
        if self._team.lost is None and self._team.gate.last is None:
            self._interrupts += number == signal.SIGINT
            if self._interrupts > 1:
                raise KeyboardInterrupt
            self._team.ask_to_stop(f"{signal.Signals(number).name} to worker {self._team.number}")
        elif self._interruptible:
            self._raise()

    def _raise(self) -> None:
        self._team.check()
        if self.requested is not None:
            raise Stopped(self.requested)
