"""The cases of tools/benchmark_ops.py at tiny sizes, and the command."""

import numpy as np
import pytest

from tfdet import commands
from tfdet.errors import EXIT_OK, EXIT_USER_ERROR
from tfdet.ops import native
from tools import benchmark_ops as ops
from tools.side_by_side import measure

TINY = ops.Sizes(
    nms_boxes=60,
    nms_kept=20,
    roi_map=(12, 16),
    roi_channels=3,
    rois=5,
    deform_map=(6, 7),
    deform_channels=4,
    match_image=(64, 96),
    match_boxes=7,
    images=1,
    image=(60, 90),
    canvas=(64, 96),
    fpn_candidates=20,
    c4_candidates=50,
    proposals=10,
    photo=(12, 16),
    short_side=20,
)


@pytest.fixture(scope="module")
def cases():
    return ops.cases(TINY)


def test_the_sides_of_every_case_give_the_same(cases):
    found = measure(cases, 1)
    assert len({m.case for m in found}) == 13
    for m in found:
        assert m.difference < 1e-4, (m.case, m.side)
        assert m.wall > 0
    custom = {m.case for m in found if m.side == ops.NATIVE}
    assert len(custom) == (0 if native.state().library is None else 13)
    assert bool(custom) != any("custom ops" in note for note in ops.notes())


def test_the_cases_are_the_same_every_time(cases):
    first, again = (found[0].sides[-1].run() for found in (cases, ops.cases(TINY)))
    np.testing.assert_array_equal(first, again)
    assert (np.asarray(first) >= 0).any()


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(ops, "FULL", TINY)


def test_the_command_prints_and_writes_what_it_measured(tiny, tmp_path, capsys):
    path = tmp_path / "ops.md"
    assert (
        commands.run_module(ops, "benchmark_ops.py", ["--repeats=1", "--only=matchboxes", f"--output={path}"])
        == EXIT_OK
    )
    out, text = capsys.readouterr().out, path.read_text()
    assert "measuring MatchBoxes" in out and "peak MB" in out
    assert f"python -m tools.benchmark_ops --repeats 1 --only matchboxes --output {path}" in text
    assert text.count("| MatchBoxes, ") == 1 and "| NMS" not in text and "TensorFlow 2." in text


def test_wrong_flags_are_named(tiny, capsys):
    assert commands.run_module(ops, "benchmark_ops.py", ["--only=sorting"]) == EXIT_USER_ERROR
    assert "no such case. There are: NMS" in capsys.readouterr().err
    assert commands.run_module(ops, "benchmark_ops.py", ["--repeats=0"]) == EXIT_USER_ERROR
    assert "--repeats 0" in capsys.readouterr().err
