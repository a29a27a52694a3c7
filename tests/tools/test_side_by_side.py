"""Measuring side by side: interleaving, medians, differences, the report."""

import time

import numpy as np
import pytest

from tfdet.bench.results import machine
from tools import side_by_side
from tools.side_by_side import Case, Measurement, Side, measure

MB = 2**20


def test_sides_run_in_turn_and_are_compared_with_the_first():
    calls = []

    def side(name, value):
        return Side(name, lambda: calls.append(name) or [np.float32([1, value]), np.zeros([0, 3])])

    told = []
    found = measure([Case("sum", (side("a", 2.0), side("b", 2.5)))], 3, told.append)
    assert told == ["sum"] and [(m.case, m.side, m.difference) for m in found] == [("sum", "a", 0), ("sum", "b", 0.5)]
    timed = calls[3:9]  # after the results that are compared; memory comes last
    assert timed == ["a", "b"] * 3


def test_results_of_other_shapes_are_no_results():
    sides = (Side("a", lambda: np.zeros(2)), Side("b", lambda: np.zeros(3)))
    with pytest.raises(ValueError, match=r"\[\(2,\)\].*\[\(3,\)\]"):
        measure([Case("sum", sides)], 1)


def test_wall_and_cpu_time_are_apart():
    def compute():
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass
        return ()

    sleeping, computing = measure(
        [Case("wait", (Side("sleep", lambda: time.sleep(0.05) or ()), Side("compute", compute)))], 3
    )
    assert sleeping.wall >= 0.05 and sleeping.cpu < 0.04
    assert computing.cpu >= 0.05


def test_the_report_names_machine_command_and_versions(tmp_path):
    measured = [
        Measurement("one", "custom op", 0.002, 0.004, 3 * MB, 0.0),
        Measurement("one", "TensorFlow", 0.03, 0.05, None, 2e-6),
        Measurement("two", "TensorFlow", 0.2, 0.25, 0, 0.0),
    ]
    path = tmp_path / "docs" / "ops.md"
    side_by_side.write_markdown(
        path, "Ops", "python -m tools.benchmark_ops", measured, {"TensorFlow": "2.20"}, ["No GPU."]
    )
    text = path.read_text()
    assert "# Ops\n\n    python -m tools.benchmark_ops\n" in text and "- TensorFlow 2.20\n- No GPU.\n" in text
    assert machine().split(",")[0] in text
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert lines[2:] == [
        "| one | custom op | 2 | 4 |  |  | 3 |  |",
        "|  | TensorFlow | 30 | 50 | 15 | 12.5 | not known | 2e-06 |",
        "| two | TensorFlow | 200 | 250 |  |  | 0 |  |",
    ]
    assert all(line.count("|") == len(side_by_side.COLUMNS) + 1 for line in lines)
