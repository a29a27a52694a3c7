"""Curves of a run as one picture, for reports and for machines without TensorBoard."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from tfdet.errors import UserError
from tfdet.files import replacing
from tfdet.report.csv_file import CSV_FILE, read_csv
from tfdet.training.figures import TOTAL_LOSS, TRAIN_AP, tag_of
from tfdet.training.run_dir import RunDirectory

_LOSSES, _FIGURES = "loss/", ("AP", "AP50", "AP75")
_MORE = {TRAIN_AP: "AP, training images"}


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
    losses, figures = _losses(model_dir), _figures(model_dir)
    curves = [(tag.removeprefix(_LOSSES), losses[tag], {}) for tag in sorted(losses)]
    total = _of_evaluation(model_dir).get(tag_of(TOTAL_LOSS))
    if total:
        curves.append(("total, validation", total, {"marker": "o", "linestyle": "--"}))
    _draw(curves, [(tag, points, {}) for tag, points in figures.items()], output)


def plot_runs(model_dirs: Sequence[str | Path], output: str | Path) -> None:
    """Draws the total loss, AP and AP50 of several runs into one picture, a color a run, named by its folder.

    Args:
        model_dirs: folders of the runs.
        output: the picture to write.

    Raises:
        UserError: a run has no losses yet.
    """
    losses, figures = [], []
    for number, folder in enumerate(model_dirs):
        name, color = Path(folder).resolve().name, f"C{number}"
        losses.append((name, _losses(folder)[f"{_LOSSES}total"], {"color": color}))
        found = _figures(folder)
        figures += [
            (f"{tag}, {name}", found[tag], {"color": color, "linestyle": style})
            for tag, style in (("AP", "-"), ("AP50", "--"))
            if tag in found
        ]
    _draw(losses, figures, output)


def _losses(model_dir: str | Path) -> dict[str, dict[int, float]]:
    files = RunDirectory(model_dir)
    scalars = read_scalars(files.train_events) or read_csv(files.path / CSV_FILE)
    losses = {t: v for t, v in scalars.items() if t.startswith(_LOSSES)}
    if not losses:
        raise UserError(
            f"{files.train_events}: no event file with losses and no {CSV_FILE}; give --model_dir the folder of a "
            "training run"
        )
    return losses


def _of_evaluation(model_dir: str | Path) -> dict[str, dict[int, float]]:
    files = RunDirectory(model_dir)
    return read_scalars(files.eval_events) or read_csv(files.path / CSV_FILE)


def _figures(model_dir: str | Path) -> dict[str, dict[int, float]]:
    scalars = _of_evaluation(model_dir)
    # Runs of older versions have no groups.
    found = {name: {**scalars.get(name, {}), **scalars.get(tag_of(name), {})} for name in (*_FIGURES, *_MORE)}
    return {
        _MORE.get(name, name): {step: 100 * value for step, value in points.items()}
        for name, points in found.items()
        if points
    }


def _draw(losses: list, figures: list, output: str | Path) -> None:
    """Draws curves (label, step -> value, options of the line): losses on the left, figures on the right."""
    from matplotlib.figure import Figure  # a figure of its own: no window, no global state

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, curves, options in ((left, losses, {"linewidth": 1}), (right, figures, {"marker": "o"})):
        for label, points, own in curves:
            axes.plot(*zip(*sorted(points.items()), strict=True), label=label, **options | own)
    left.set(title="training losses", xlabel="step", yscale="log")
    right.set(title="evaluation", xlabel="step", ylim=(0, 100))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
    with replacing(output) as temporary:
        figure.savefig(temporary, dpi=100)
