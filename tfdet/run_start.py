"""What a run needs before it begins: data and weights that are fetched, and a batch that the GPUs have memory for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tfdet import arguments
from tfdet.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from tfdet.config import Configuration

TRAIN_DATA, EVAL_DATA = "TrainInput.data_dir", "EvalInput.data_dir"
"""The parameters with the data of a run."""

_FROM_SCRATCH = "give --gin_file=gin_configs/overlays/from_scratch.gin after the row's"


def fetch_missing(configuration: Configuration, evaluate: bool, begins: bool, console: Console | None) -> None:
    """What a run needs and is not here, before anything long begins: data sets that are published, and start weights.

    Args:
        configuration: of the run.
        evaluate: whether evaluation data are needed.
        begins: whether the run starts from weights that the configuration names.
        console: where to say it; None: nowhere.
    """
    from tfdet.data.published.fetch import fetch
    from tfdet.data.published.missing import plan_missing

    names = [TRAIN_DATA, EVAL_DATA] if evaluate else [TRAIN_DATA]
    bound = [configuration.value(name) for name in names if configuration.is_bound(name)]
    plans = plan_missing([folder for value in bound for folder in arguments.folders(value)])
    init_weights = configuration.value("Trainer.init_weights")
    if begins and init_weights:
        find_weights(init_weights)  # the smaller thing first
    for plan in plans:
        if console is not None:
            console.print(plan.describe(), highlight=False, soft_wrap=True)
        fetch(plan, console)


def find_weights(path: str) -> str | Path:
    """The file to start from, fetched where it is published and not here; Keras fetches its own by itself."""
    from tfdet import weights

    if path == weights.IMAGENET:
        return path
    try:
        return weights.find_weights(path)
    except UserError as error:
        raise UserError(f"{error}; or train from random weights: {_FROM_SCRATCH}") from error


def automatic_batch_of(configuration: Configuration, own_run: str | None, tell: Callable[[str], None]) -> int:
    """Images of an update that the GPUs have memory for; see `bench.batch_size.automatic_batch`."""
    import tensorflow as tf

    from tfdet.bench.batch_size import automatic_batch
    from tfdet.data.manifest import Manifest
    from tfdet.training.distribution import count_replicas

    classes = Manifest.load(arguments.folders(configuration.value(TRAIN_DATA))[0]).num_classes  # all have the same
    replicas, on_gpu = (
        count_replicas(configuration.value("Trainer.replicas")),
        bool(tf.config.list_physical_devices("GPU")),
    )
    return automatic_batch(configuration, classes, own_run, replicas, on_gpu, tell)
