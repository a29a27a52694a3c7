"""Tables in markdown files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """The lines of a table.

    Args:
        columns: the head.
        rows: cells, as many as columns.
        left: numbers of the columns that are aligned left; the others are aligned right.
    """
    rule = ["---" if number in left else "---:" for number in range(len(columns))]
    return [f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows)]
