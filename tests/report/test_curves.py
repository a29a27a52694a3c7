import numpy as np
import pytest
from PIL import Image

from tfdet.errors import UserError
from tfdet.report.curves import plot_run, plot_runs, read_scalars
from tfdet.report.tensorboard import EventWriter


def write(folder, values):
    writer = EventWriter(folder)
    for step, scalars in values.items():
        writer.scalars(step, scalars)
    writer.close()


def test_scalars_come_back_by_tag_and_step(tmp_path):
    write(tmp_path, {1: {"loss/total": 2.0}, 5: {"loss/total": 1.5, "AP": 0.25}})
    assert read_scalars(tmp_path) == {"loss/total": {1: 2.0, 5: 1.5}, "AP": {5: 0.25}}


def test_the_picture_shows_losses_and_figures(tmp_path):
    losses = {step: {"loss/total": 1 / (step + 1), "speed/images_per_second": 3.0} for step in range(9)}
    write(tmp_path / "train", losses)
    plot_run(tmp_path, tmp_path / "without.png")
    write(tmp_path / "eval", {4: {"AP": 0.2, "AP50": 0.5}, 8: {"AP": 0.4, "AP50": 0.7}})
    plot_run(tmp_path, tmp_path / "with.png")
    without, whole = (np.asarray(Image.open(tmp_path / name).convert("RGB")) for name in ("without.png", "with.png"))
    assert whole.shape == without.shape
    half = whole.shape[1] // 2
    assert (whole[:, half:] != without[:, half:]).any()  # the evaluation is the right half
    assert len(np.unique(whole[:, :half].reshape(-1, 3), axis=0)) > 10
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["with.png", "without.png"]


def test_several_runs_stand_beside_each_other(tmp_path):
    for name, loss in (("plain", 2.0), ("tuned", 1.0)):
        write(tmp_path / name / "train", {step: {"loss/total": loss / (step + 1)} for step in range(5)})
    runs = [tmp_path / "plain", tmp_path / "tuned"]
    plot_runs(runs[:1], tmp_path / "one.png")
    plot_runs(runs, tmp_path / "two.png")
    write(runs[1] / "eval", {4: {"AP": 0.2, "AP50": 0.5}})
    plot_runs(runs, tmp_path / "evaluated.png")
    names = ("one.png", "two.png", "evaluated.png")
    one, two, evaluated = (np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(int) for name in names)
    half = one.shape[1] // 2
    assert (one[:, :half] != two[:, :half]).any() and (two[:, half:] != evaluated[:, half:]).any()
    orange = np.abs(evaluated - [255, 127, 14]).sum(axis=-1) < 30  # the second run's colour, in both halves
    assert orange[:, :half].any() and orange[:, half:].any()
    with pytest.raises(UserError, match="no event file with losses"):
        plot_runs([runs[0], tmp_path / "absent"], tmp_path / "x.png")


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(UserError, match="no event file with losses"):
        plot_run(tmp_path, tmp_path / "x.png")
