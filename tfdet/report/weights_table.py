"""What became of a file's tensors, as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from tfdet.terminal import shown
from tfdet.weights import LoadReport

_SHOWN = 8


def load_table(report: LoadReport, most: int | None = _SHOWN) -> Table:
    """A row for each of matched, missing, mis-shaped and unused tensors, with counts and names.

    Args:
        report: of `tfdet.weights.load`.
        most: names of a row; None for all.
    """
    table = Table(title=shown(f"weights from {report.source}"), title_justify="left")
    table.add_column("tensors", no_wrap=True)
    table.add_column("count", justify="right")
    table.add_column("which", overflow="fold")
    table.add_row("loaded", str(len(report.matched)), "")
    for label, names in (
        ("left at their initial values", report.missing),
        ("of another shape, left too", report.mismatched),
        ("in the file and not used", report.unused),
    ):
        table.add_row(label, str(len(names)), shown(_listed(names, most)), style="yellow" if names else "")
    if report.other_classes:
        table.add_row("", "", "another class count: all is kept but the predictors, which start anew")
    for note in report.notes:
        table.add_row("note", "", shown(note), style="yellow")
    return table


def _listed(names: Sequence[str], most: int | None) -> str:
    first = list(names if most is None else names[:most])
    return "\n".join([*first, *([f"and {len(names) - len(first)} more"] if len(first) < len(names) else [])])
