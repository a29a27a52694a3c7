"""The console report, on a terminal and into a file."""

import io
import shlex

import pytest
from rich.console import Console

from tfdet.report.console import ConsoleReport, closing_lines, duration, evaluation_line, progress_line
from tfdet.training.best_metric import BestMetric
from tfdet.training.observer import Best, Ending, Progress


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
    return Console(file=io.StringIO(), force_terminal=terminal, width=80, color_system=None)


def test_a_line_has_room_in_80_columns():
    assert progress_line(progress()) == "step 40/90000  loss 0.3750  lr 0.0025  12.3 img/s  2h 05m left"
    crowded = progress(
        step=89980, learning_rate=1.25e-5, loss_scale=16384.0, skipped_steps=2, data_wait=0.31, gpu_memory_peak=2**33
    )
    assert progress_line(crowded) == "step 89980/90000  loss 0.3750  12.3 img/s  data wait 31%  2h 05m left"
    wide = progress_line(crowded, 200)
    assert "scale 16384 skipped 2" in wide and "8.0 GiB" in wide and "lr 1.25e-05" in wide


def test_a_line_leaves_out_what_is_not_known():
    line = progress_line(progress(images_per_second=None, data_wait=None, seconds_left=None))
    assert line.endswith("lr 0.0025")


FIGURES = {
    "AP": 0.451, "AP50": 0.678, "AP75": 0.44, "APs": 0.1, "images_per_second": 33.0, "validation_loss": 0.5123,
    "validation/train_AP": 0.68, "validation/gap_AP": 0.229, "per_class/AP/cat": 0.1,
}  # fmt: skip


def test_an_evaluation_is_one_line_of_ap_from_0_to_100():
    best = Best(400, BestMetric("AP"), 0.451, "run/best/ckpt-400")
    assert evaluation_line(400, {"AP": 0.1234}, None) == "evaluation at step 400: AP 12.3"
    assert (
        evaluation_line(400, {"AP": 0.1234, "AP50": 1.0}, best) == "evaluation at step 400: AP 12.3  AP50 100.0  best"
    )
    line = evaluation_line(89000, FIGURES, best)
    assert line == "evaluation at step 89000: AP 45.1  AP50 67.8  loss 0.5123  train AP 68.0  best"
    with_masks = evaluation_line(89000, FIGURES | {"mask_AP": 0.4}, best)
    assert len(with_masks) <= 80 and "mask AP 40.0" in with_masks and "train AP 68.0" in with_masks


def test_the_end_says_how_good_where_and_what_next(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    best = Best(400, BestMetric("AP"), 0.451, str(tmp_path / "runs/cars/best/ckpt-400"))
    lines = closing_lines(Ending("runs/cars", 1200, None, best, 760.0))
    assert lines == [
        "",
        "finished: 1200 steps in 12m 40s",
        "best box AP 45.1, at step 400: runs/cars/best/ckpt-400",
        "next:",
        "  tfdet report runs/cars",
        "  tfdet predict --model_dir=runs/cars PHOTO.jpg",
        "  tfdet export --model_dir=runs/cars --output=cars_exported",
    ]
    early = closing_lines(Ending("runs/cars", 600, "2 evaluations since gave no better AP", None, 9.0))
    assert early[1] == "finished: 600 steps in 9s, early: 2 evaluations since gave no better AP"
    assert early[2] == "checkpoints: runs/cars/checkpoints"
    assert early[4] == "  tfdet report runs/cars --data=FOLDER"


def test_commands_can_be_copied_whatever_the_folder_is_called(tmp_path):
    folder = str(tmp_path / ("deep " * 20) / "it's a run")
    lines = closing_lines(Ending(folder, 1, None, None, 1.0))
    commands = "\n".join(lines[lines.index("next:") + 1 :])
    shown = [shlex.split(command) for command in commands.replace("\\\n", " ").splitlines()]
    assert [words[1] for words in shown] == ["report", "predict", "export"]
    assert [words[2] for words in shown] == [folder, f"--model_dir={folder}", f"--model_dir={folder}"]
    assert all(len(line) <= 80 or "deep deep" in line for line in lines if "checkpoints" not in line)


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
    report.warned("a longer sentence than there is room for in one line of 80 columns, about /a/path" + "/deeper" * 12)
    report.noted("saved [the] checkpoint")
    report.closed()
    text = report.console.file.getvalue()
    assert "2 images [total]" in text
    lines = [line for line in text.splitlines() if "│" not in line]
    assert "time to the first training step: 12.3 s" in lines
    assert sum(line.startswith("step ") for line in lines) == 2
    assert "evaluation at step 60: AP 50.0" in lines
    assert "  /a/path" + "/deeper" * 12 in lines  # whole: it can be copied
    assert all(len(line) <= 80 for line in lines if "/deeper" not in line)
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
