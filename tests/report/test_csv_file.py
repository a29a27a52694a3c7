"""metrics.csv, read by pandas."""

import dataclasses

import pandas as pd
import pytest

from tests.report.test_console import progress
from tfdet.errors import UserError
from tfdet.report.csv_file import CsvReport, read_csv
from tfdet.report.curves import plot_run

EVALUATED = {"AP": 0.25, 'per_class/AP/a, "b"': 0.5, "validation_loss": 1.5, "validation/train_AP": 0.75}


def write(path, first, last, begun=0):
    """A run from one step to another, logged every 10 steps and evaluated every 20."""
    report = CsvReport(path)
    report.begun(begun)
    for step in range(first, last + 1, 10):
        report.progressed(progress(step=step, total=1.0 / step, images_per_second=None if step == 10 else 5.0))
        if step % 20 == 0:
            report.evaluated(step, EVALUATED)
    report.closed()


def test_a_row_a_step_and_a_column_a_figure(tmp_path):
    write(tmp_path / "metrics.csv", 10, 50)
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert table["step"].tolist() == [10, 20, 30, 40, 50] and table["time"].is_monotonic_increasing
    assert table["loss/total"].tolist() == pytest.approx([1 / step for step in table["step"]])
    assert table["coco/AP"].notna().tolist() == [False, True, False, True, False]
    figures = table.set_index("step").loc[20]
    assert figures['class/AP/a, "b"'] == 0.5 and figures["validation/loss/total"] == 1.5
    assert figures["validation/train_AP"] == 0.75
    assert read_csv(tmp_path / "metrics.csv")["coco/AP"] == {20: 0.25, 40: 0.25}
    plot_run(tmp_path, tmp_path / "curve.png")  # without TensorBoard's files
    assert (tmp_path / "curve.png").stat().st_size > 1000
    assert pd.isna(table["speed/images_per_second"][0]) and table["speed/images_per_second"][1] == 5.0


def test_a_run_that_goes_on_after_a_kill_has_no_row_twice(tmp_path):
    path = tmp_path / "metrics.csv"
    write(path, 10, 50)
    whole = path.read_text()
    path.write_text(whole[:-20])  # killed while it wrote
    write(path, 30, 60, begun=20)  # its last checkpoint is of step 20
    table = pd.read_csv(path)
    assert table["step"].tolist() == [10, 20, 30, 40, 50, 60]
    assert table["coco/AP"].notna().tolist() == [False, True, False, True, False, True]


def test_a_file_of_something_else_stays(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("name,price\ntea,3\n")
    with pytest.raises(UserError, match="metrics.csv is none of a run of tfdet: it stays"):
        CsvReport(path).begun(0)
    assert path.read_text() == "name,price\ntea,3\n"


def test_rows_that_could_not_be_written_come_later(tmp_path):
    folder = tmp_path / "run"
    folder.write_text("in the way")
    report = CsvReport(folder / "metrics.csv")
    for step in (10, 20):
        with pytest.raises(Exception):  # noqa: B017
            report.progressed(progress(step=step))
    folder.unlink()
    report.progressed(dataclasses.replace(progress(step=30)))
    assert pd.read_csv(folder / "metrics.csv")["step"].tolist() == [10, 20, 30]
