"""The console report, on a terminal and into a file."""

import io

import pytest
from rich.console import Console

from tfdet.report.console import ConsoleReport, duration, progress_line
from tfdet.training.observer import Progress


def progress(**changes):
    values = {
        "step": 40,
        "total_steps": 90000,
        "losses": {"rpn_cls": 0.25, "rpn_box": 0.125},
        "total": 0.375,
        "learning_rate": 0.0025,
        "gradient_norm": 1.5,
        "loss_scale": 1.0,
        "skipped_steps": 0,
        "images_per_second": 12.34,
        "data_wait": 0.071,
        "seconds_left": 7500.0,
        "gpu_memory_peak": None,
    }
    return Progress(**(values | changes))


def console(terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=200, color_system=None)


def test_a_line_holds_every_figure():
    assert progress_line(progress()) == (
        "step 40/90000 | loss 0.3750 | rpn_cls 0.2500 rpn_box 0.1250 | lr 0.0025 | 12.3 img/s | "
        "data wait 7% | 2h 05m left"
    )


def test_a_line_leaves_out_what_is_not_known():
    line = progress_line(progress(images_per_second=None, data_wait=None, seconds_left=None))
    assert line.endswith("lr 0.0025")


def test_a_line_shows_the_loss_scale_and_the_memory_where_there_are_any():
    line = progress_line(progress(loss_scale=16384.0, skipped_steps=2, gpu_memory_peak=3 * 2**30))
    assert "scale 16384 skipped 2" in line and "memory 3.0 GiB" in line


@pytest.mark.parametrize(
    "seconds, text",
    [(0, "0s"), (59.4, "59s"), (60, "1m 00s"), (3599, "59m 59s"), (3600, "1h 00m"), (100000, "1d 03h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_into_a_file_every_report_is_a_line():
    report = ConsoleReport(console(terminal=False))
    report.started({"batch": "2 images [total]", "steps": "100"})
    report.first_step(12.34)
    report.progressed(progress())
    report.progressed(progress(step=60))
    report.evaluated(60, {"AP": 0.5, "per_class/AP/cat": 0.1})
    report.warned("odd")
    report.noted("saved [the] checkpoint")
    report.closed()
    text = report.console.file.getvalue()
    assert "2 images [total]" in text
    lines = [line for line in text.splitlines() if "│" not in line]
    assert "time to the first training step: 12.3 s" in lines
    assert sum(line.startswith("step ") for line in lines) == 2
    assert "evaluation at step 60: AP 0.5000" in lines
    assert "warning: odd" in lines and "saved [the] checkpoint" in lines
    assert "\x1b" not in text


def test_on_a_terminal_the_last_line_is_renewed():
    report = ConsoleReport(console(terminal=True))
    report.progressed(progress())
    report.progressed(progress(step=60))
    report.noted("saved")
    report.closed()
    text = report.console.file.getvalue()
    assert "\x1b[2K" in text  # a line was erased and written again
    assert "step 60/90000" in text and "saved" in text
    report.closed()  # may come again, after an error
