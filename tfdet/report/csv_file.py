"""The figures of a run as a table in a file: a row for every step that has some."""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Mapping
from pathlib import Path

from tfdet.errors import UserError
from tfdet.files import replacing
from tfdet.report.figures import figures_of
from tfdet.training.figures import tag_of
from tfdet.training.observer import Observer, Progress

CSV_FILE = "metrics.csv"
STEP, TIME = "step", "time"


class CsvReport(Observer):
    """Writes `metrics.csv`: step, time in seconds since 1970, then a column for each figure, named as in TensorBoard.

    A step that is logged and evaluated is one row. A run that goes on after a kill removes the rows of the steps that
    it makes once more. The file is whole after every row: a row is appended, and a new column makes it anew.

    Args:
        path: the file.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = Path(path)
        self._columns = [STEP, TIME]
        self._rows: list[dict[str, str]] = []
        self._is_whole = False  # the file has all rows but the newest

    def begun(self, step: int) -> None:
        columns, rows = _read(self._path)
        if columns[:1] not in ([], [STEP]):
            raise UserError(f"{self._path} is none of a run of tfdet: it stays as it is")
        self._columns = columns or self._columns
        self._rows = [row for row in rows if row[STEP].isdigit() and int(row[STEP]) <= step]
        if columns:
            self._write_all()

    def progressed(self, progress: Progress) -> None:
        self._add(progress.step, figures_of(progress))

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        self._add(step, {tag_of(name): value for name, value in metrics.items()})

    def _add(self, step: int, figures: Mapping[str, float]) -> None:
        row = {STEP: str(step), TIME: f"{time.time():.3f}"} | {name: f"{value:.9g}" for name, value in figures.items()}
        same = bool(self._rows) and self._rows[-1][STEP] == row[STEP]
        known = set(self._columns)
        self._columns += [name for name in row if name not in known]
        if same:
            self._rows[-1] |= row
        else:
            self._rows.append(row)
        appends = self._is_whole and not same and len(self._columns) == len(known) and os.path.exists(self._path)
        self._is_whole = False
        if appends:
            with open(self._path, "a", encoding="utf-8", newline="") as file:
                file.write(self._text([row]))
        else:
            self._write_all()
        self._is_whole = True

    def _write_all(self) -> None:
        with replacing(self._path) as temporary:
            header = dict(zip(self._columns, self._columns, strict=True))
            temporary.write_text(self._text([header, *self._rows]), encoding="utf-8", newline="")

    def _text(self, rows: list[dict[str, str]]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, self._columns, restval="", lineterminator="\n").writerows(rows)
        return text.getvalue()


def read_csv(path: str | os.PathLike) -> dict[str, dict[int, float]]:
    """The figures of a `metrics.csv`: name -> step -> value; none where there is no such file."""
    columns, rows = _read(Path(path))
    found: dict[str, dict[int, float]] = {}
    for name in columns[2:]:
        points = {int(row[STEP]): float(row[name]) for row in rows if row[name]}
        if points:
            found[name] = points
    return found


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and whole rows of a file; none where there is no file. A row that is cut short is left out."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return [], []
    lines = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1])))
    columns = lines[0] if lines else []
    return columns, [dict(zip(columns, line, strict=True)) for line in lines[1:] if len(line) == len(columns)]
