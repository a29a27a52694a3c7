"""Curves of a run as one picture, for reports and for machines without TensorBoard."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from tfdet.errors import UserError
from tfdet.files import replacing

_LOSSES, _FIGURES = "loss/", ("AP", "AP50", "AP75")


def read_scalars(folder: str | Path) -> dict[str, dict[int, float]]:
    """Scalars of the event files in a folder: tag -> step -> value; of a step written twice the later value counts."""
    import tensorflow as tf

    scalars = defaultdict(dict)
    for path in sorted(Path(folder).glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars" or value.WhichOneof("value") == "simple_value":
                    scalars[value.tag][event.step] = float(tf.make_ndarray(value.tensor))
    return dict(scalars)


def plot_run(model_dir: str | Path, output: str | Path) -> None:
    """Draws the losses and the COCO figures of a run over its steps.

    Args:
        model_dir: folder of the run.
        output: the picture to write, such as `curve.png`.

    Raises:
        UserError: the run has no losses yet.
    """
    losses = {t: v for t, v in read_scalars(Path(model_dir) / "train").items() if t.startswith(_LOSSES)}
    if not losses:
        raise UserError(f"{model_dir}/train: no event file with losses; give --model_dir the folder of a training run")
    figures = {t: v for t, v in read_scalars(Path(model_dir) / "eval").items() if t in _FIGURES}

    from matplotlib.figure import Figure  # a figure of its own: no window, no global state

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for tag in sorted(losses):
        points = sorted(losses[tag].items())
        left.plot(*zip(*points, strict=True), label=tag.removeprefix(_LOSSES), linewidth=1)
    left.set(title="training losses", xlabel="step", yscale="log")
    for tag in _FIGURES:
        if tag in figures:
            points = sorted(figures[tag].items())
            right.plot(*zip(*points, strict=True), label=tag, marker="o")
    right.set(title="evaluation", xlabel="step", ylim=(0, 1))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
    with replacing(output) as temporary:
        figure.savefig(temporary, dpi=100)
