"""The figures of an evaluation as tables for the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from tfdet.evaluate.coco import ClassResult

_MEANING = {
    "AP": "IoU .50:.95",
    "AP50": "IoU .50",
    "AP75": "IoU .75",
    "APs": "area < 32\u00b2",
    "APm": "32\u00b2 to 96\u00b2",
    "APl": "area > 96\u00b2",
    "AR1": "1 detection an image",
    "ARs": "area < 32\u00b2",
    "ARm": "32\u00b2 to 96\u00b2",
    "ARl": "area > 96\u00b2",
}


def percent(value: float) -> str:
    """A figure of 0..1 as percent with one decimal; "-" for -1, "there was nothing to measure"."""
    return "-" if value < 0 else f"{100.0 * value:.1f}"


def metrics_table(metrics: dict[str, float], title: str = "COCO box metrics, %") -> Table:
    """A table of the twelve figures.

    Args:
      metrics: figures by name, 0..1 or -1.
      title: the line above the table.

    Returns:
      A `rich.table.Table`.
    """
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("meaning", style="dim")
    for name, value in metrics.items():
        table.add_row(name, percent(value), _MEANING.get(name) or f"{name.removeprefix('AR')} detections an image")
    return table


def class_table(per_class: list[ClassResult], title: str = "per class, %") -> Table:
    """A table of the classes, best AP first; classes without ground truth last.

    Args:
      per_class: the figures of each class.
      title: the line above the table.

    Returns:
      A `rich.table.Table`.
    """
    from rich.table import Table

    from tfdet.terminal import shown

    table = Table(title=title, title_justify="left")
    table.add_column("class")
    for name in ("id", "boxes", "AP", "AP50"):
        table.add_column(name, justify="right")
    for entry in sorted(per_class, key=lambda entry: (-entry.ap, entry.name)):
        table.add_row(
            shown(entry.name), str(entry.category_id), str(entry.num_boxes), percent(entry.ap), percent(entry.ap50)
        )
    return table
